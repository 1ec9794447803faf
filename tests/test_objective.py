import numpy as np
import pytest
import torch
from torch.testing import assert_close

from forecast_cli.config import load_config
from forecast_cli.data.windows import Part, Windows
from forecast_cli.models import Forecast
from forecast_cli.objective import input_noise, learning_rate, loss_weights, weighted_loss
from forecast_cli.trainer.optimizer import make_optimizer


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
        ({"schedule": "cosine"}, 150, 0.0),
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


@pytest.mark.parametrize(
    ("optimizer", "decay", "gradient", "expected"),
    [
        # The decay is apart from the gradient: w (1 - rate decay), then a first step of rate times the gradient's sign.
        ("adamw", 0.3, 0.0, 2 * (1 - 0.1 * 0.3)),
        ("adamw", 0.3, 5.0, 2 * (1 - 0.1 * 0.3) - 0.1),
        ("adamw", 0.3, -5.0, 2 * (1 - 0.1 * 0.3) + 0.1),
        ("adamw", 0.0, 5.0, 2 - 0.1),
        # The decay is part of the gradient, of which a first step takes the sign alone.
        ("adam", 0.3, 0.0, 2 - 0.1),
        ("adam", 0.3, -5.0, 2 + 0.1),
        ("adam", 0.0, 0.0, 2.0),
    ],
)
def test_the_first_step_of_an_optimizer_is_that_of_its_formula(optimizer, decay, gradient, expected):
    options = {"optimizer": optimizer, "weight_decay": decay, "learning_rate": 0.1}
    training = load_config(options={f"training.{key}": value for key, value in options.items()}).training
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    stepper = make_optimizer([weight], training, torch.device("cpu"))
    weight.grad = torch.tensor([gradient])
    stepper.step()
    assert weight.item() == pytest.approx(expected, rel=1e-6)


def test_the_default_weight_decay_is_the_documented_one():
    training = load_config().training
    stepper = make_optimizer([torch.nn.Parameter(torch.ones(1))], training, torch.device("cpu"))
    assert (training.optimizer, stepper.param_groups[0]["weight_decay"]) == ("adamw", 1e-4)


class Numbered:
    """Frames whose values are their numbers."""

    def window(self, _: int, start: int, length: int) -> torch.Tensor:
        return torch.arange(start, start + length)


@pytest.mark.parametrize(("seed", "epoch", "index"), [(0, 0, 0), (0, 0, 5), (3, 2, 1)])
def test_noise_is_drawn_from_another_stream_than_windows(seed, epoch, index):
    """Window draws use the stream of (seed, epoch, index): the noise is neither that stream nor a part of it."""
    windows = Windows(Numbered(), Part(range(6), range(1000)), length=5, is_trajectories=True, seed=seed)
    of_windows = np.random.default_rng([seed, epoch, index])
    assert windows.place(index, epoch)[1] == of_windows.integers(996)
    noise = input_noise(
        torch.zeros(1, 400, 1, 5, 5),
        torch.ones(1, 1, 1),
        deviation=1.0,
        seed=seed,
        epoch=epoch,
        indices=np.array([index]),
    )
    values = noise.numpy().ravel()
    for skipped in range(3):
        same = np.random.default_rng([seed, epoch, index])
        same.integers(996, size=skipped)
        assert np.abs(values - same.standard_normal(values.size, np.float32)).max() > 1
    # Of 10,000 independent pairs the correlation has a standard deviation of 0.01.
    assert (
        abs(np.corrcoef(values, np.random.default_rng([seed, epoch, index]).standard_normal(values.size))[0, 1]) < 0.05
    )


def test_a_frame_without_values_gives_its_weight_to_the_others():
    """Errors of 1, 2 and 3 in units of scale; the second frame has no truth, and the third half of its cells."""
    fitted, fields = torch.tensor([2.0, 4.0]).view(1, 2, 1, 1, 1), torch.tensor([6.0]).view(1, 1, 1, 1, 1)
    truth = torch.zeros(1, 3, 1, 1, 2)
    truth[0, 1], truth[0, 2, ..., 1] = torch.nan, torch.nan
    forecast = Forecast(fitted.expand(-1, -1, -1, -1, 2), fields.expand(-1, -1, -1, -1, 2), ())
    weights = loss_weights(3, 1, 3.0, torch.device("cpu"))
    loss = weighted_loss(forecast, truth, torch.tensor(2.0), weights)
    assert loss.item() == pytest.approx((1 * 1.0 + 3 * 9.0) / (1 + 3))
