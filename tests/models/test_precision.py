"""Convolutions in bfloat16, and compiled models: near, and equal, to what they replace."""

import pytest
import torch
from torch.testing import assert_close

from forecast_cli.benchmark import Settings
from forecast_cli.benchmark.steps import SIZES, model_of
from forecast_cli.devices import computing_in

SETTINGS = Settings(grid=8, hidden=(6, 6))


def frames(count):
    return torch.randn(2, count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SIZES)
def test_bfloat16_is_near_and_everything_that_adds_up_stays_in_float32(name):
    """8 bits in each convolution: a few hundredths of the spread after two layers and three steps."""
    model = model_of(name, "auto", SETTINGS)
    whole = model(frames(5), 3)
    with computing_in("bf16", "cpu"):
        half = model(frames(5), 3)
    assert {t.dtype for t in (half.fitted, half.fields, *half.state)} == {torch.float32}
    assert not torch.equal(half.fields, whole.fields)
    difference = (half.fields - whole.fields).detach().abs().max()
    assert difference < 0.1 * whole.fields.detach().std()


@pytest.mark.parametrize("name", SIZES)
def test_a_model_compiles_in_one_piece_and_is_the_same(name):
    """Without inductor, which takes half a minute: what the graph holds is what counts."""
    torch.compiler.reset()  # torch gives up on a function that it has compiled for eight models
    model = model_of(name, "auto", SETTINGS)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    plain, other = model(frames(4), 2), compiled(frames(4), 2)
    assert_close(other.fields, plain.fields, rtol=1e-6, atol=3e-6)
    parameters = list(model.parameters())
    for a, b in zip(
        torch.autograd.grad(other.fields.square().sum(), parameters),
        torch.autograd.grad(plain.fields.square().sum(), parameters),
        strict=True,
    ):
        assert_close(a, b, rtol=1e-5, atol=5e-5)
