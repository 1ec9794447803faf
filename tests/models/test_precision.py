"""Convolutions in bfloat16, and compiled models: near, and equal, to what they replace."""

from copy import deepcopy

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
    """8 bits in each convolution in the place of 24: at most 2^17 times as far from the truth as float32, twice what one step would be."""
    model = model_of(name, "auto", SETTINGS)
    whole = model(frames(5), 3)
    exact = deepcopy(model).double()(frames(5).double(), 3)
    with computing_in("bf16", "cpu"):
        half = model(frames(5), 3)
    assert {t.dtype for t in (half.fitted, half.fields, *half.state)} == {torch.float32}
    assert not torch.equal(half.fields, whole.fields)
    rounding, difference = ((mine.fields - exact.fields).detach().abs().max() for mine in (whole, half))
    assert difference < 2**17 * rounding


@pytest.mark.parametrize("name", SIZES)
def test_a_model_compiles_in_one_piece_and_is_the_same(name):
    """Without inductor, which takes half a minute: what the graph holds is what counts. In float64, where roundings are none of it."""
    torch.compiler.reset()  # torch gives up on a function that it has compiled for eight models
    model = model_of(name, "auto", SETTINGS).double()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    context = frames(4).double()
    plain, other = model(context, 2), compiled(context, 2)
    assert_close(other.fields, plain.fields, rtol=1e-9, atol=1e-9)
    parameters = list(model.parameters())
    for a, b in zip(
        torch.autograd.grad(other.fields.square().sum(), parameters),
        torch.autograd.grad(plain.fields.square().sum(), parameters),
        strict=True,
    ):
        assert_close(a, b, rtol=1e-9, atol=1e-9)
