"""The experiment of docs/activations.md: dead units come back under SUGAR, and never under ReLU."""

import pytest
import torch
from benchmarks.revival import DEAD, MAIN, MARGIN, TASKS, Layer, revival, with_dead_units
from torch.testing import assert_close


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_units_are_dead_at_the_start_wherever_one_looks(task):
    layer = with_dead_units(task.dimensions)
    assert_close(layer.highest()[:, :DEAD], torch.full((5, DEAD), -MARGIN))
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 0.3, 1.0])] * task.dimensions).reshape(1, -1, task.dimensions)
    inputs = []
    layer(corners.expand(5, -1, -1), lambda x: inputs.append(x) or x)
    assert_close(inputs[0].amax(dim=1), layer.highest())


def test_relu_revives_no_unit_and_sugar_a_fifth_at_least_of_every_seed():
    relu, b_silu, nelu = (revival(name, TASKS[MAIN]) for name in ("relu", "sugar-bsilu", "sugar-nelu"))
    assert relu.revived.max() == 0
    assert min(b_silu.revived.min(), nelu.revived.min()) >= 0.2
    assert max(b_silu.error.mean(), nelu.error.mean()) < relu.error.mean()


def test_seeds_are_trained_apart_from_each_other(monkeypatch):
    """One seed alone comes to the same: to rounding, over a few steps."""
    together = revival("sugar-nelu", TASKS[MAIN], steps=20).error
    whole = with_dead_units(2)
    one = Layer(*(tensor.detach()[3:4].clone().requires_grad_() for tensor in whole))
    repeated = Layer(*(tensor.detach().expand(5, *tensor.shape[1:]).clone().requires_grad_() for tensor in one))
    monkeypatch.setattr("benchmarks.revival.with_dead_units", lambda _: repeated)
    assert_close(revival("sugar-nelu", TASKS[MAIN], steps=20).error[3], together[3], rtol=1e-4, atol=0)
