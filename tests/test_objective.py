import numpy as np
import pytest
import torch
from torch.testing import assert_close

from forecast_cli.config import load_config
from forecast_cli.models import Forecast
from forecast_cli.objective import input_noise, learning_rate, loss_weights, weighted_loss


def test_the_loss_is_a_weighted_mean_over_frames_in_units_of_scale():
    fitted, fields = torch.full((1, 3, 1, 2, 2), 2.0), torch.full((1, 2, 1, 2, 2), 6.0)
    weights = loss_weights(4, 2, 3.0, torch.device("cpu"))
    loss = weighted_loss(Forecast(fitted, fields, ()), torch.zeros(1, 5, 1, 2, 2), torch.tensor(2.0), weights)
    assert loss.item() == pytest.approx((3 * 1.0 + 2 * 3.0 * 9.0) / (3 + 2 * 3.0))


@pytest.mark.parametrize(
    ("options", "step", "expected"),
    [
        ({"schedule": "cosine"}, 0, 1.0),
        ({"schedule": "cosine"}, 50, 0.5),
        ({"schedule": "cosine"}, 100, 0.0),
        ({"schedule": "constant"}, 99, 1.0),
        ({"schedule": "constant", "warmup": 9}, 0, 0.1),
        ({"schedule": "constant", "warmup": 9}, 4, 0.5),
        ({"schedule": "constant", "warmup": 9}, 50, 1.0),
    ],
)
def test_learning_rate_schedules(options, step, expected):
    training = load_config(
        options={"training.learning_rate": 1.0} | {f"training.{key}": value for key, value in options.items()}
    ).training
    assert learning_rate(training, step=step, steps=100, reductions=0) == pytest.approx(expected)
    assert learning_rate(training, step=step, steps=100, reductions=1) == pytest.approx(
        expected * (1 if options["schedule"] == "cosine" else 0.5)
    )


def test_input_noise_depends_on_seed_epoch_and_window_alone_and_has_its_size():
    context = torch.zeros(2, 50, 1, 20, 20)
    scale = torch.full((1, 1, 1), 3.0)
    both = input_noise(context, scale, deviation=0.1, seed=0, epoch=2, indices=np.array([7, 3]))
    alone = input_noise(context[:1], scale, deviation=0.1, seed=0, epoch=2, indices=np.array([3]))
    assert_close(both[1], alone[0], rtol=0, atol=0)
    assert both.std().item() == pytest.approx(0.3, rel=0.02)
    assert not torch.equal(both, input_noise(context, scale, deviation=0.1, seed=0, epoch=3, indices=np.array([7, 3])))
