"""Norm and margin where the channels of a cell lie beside each other: the same functions as torch's."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from forecast_cli.models import margins, space_norm
from forecast_cli.models.margins import pad
from forecast_cli.models.space_norm import SpaceNorm

needs_c = pytest.mark.skipif(not space_norm.is_available(), reason="no C compiler")


def fields(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def last(tensor):
    return tensor.contiguous(memory_format=torch.channels_last).detach().requires_grad_()


@needs_c
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (5, 7, 9, 11), (4, 40, 16, 16), (2, 3, 40, 70)], ids=str)
@pytest.mark.parametrize("parts", [1, 2])
def test_the_norm_is_torchs_in_double_precision(shape, threads, parts):
    """Output and every gradient; 1e-5: the rounding of sums over some thousand cells."""
    norm = SpaceNorm(shape[2:])
    with torch.no_grad():
        norm.weight.copy_(1 + fields(*shape[2:], seed=1))
        norm.bias.copy_(fields(*shape[2:], seed=2))
    inputs, grad = [last(3 + 2 * fields(*shape, seed=part)) for part in range(parts)], fields(*shape, seed=9)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        mine = norm(*inputs)
        found = torch.autograd.grad(mine, [*inputs, norm.weight, norm.bias], grad)
        with torch.no_grad():
            assert torch.equal(norm(*inputs), mine)
    finally:
        torch.set_num_threads(before)
    assert mine.is_contiguous(memory_format=torch.channels_last)
    exact = [tensor.detach().double().requires_grad_() for tensor in (*inputs, norm.weight, norm.bias)]
    other = F.layer_norm(sum(exact[:parts]).contiguous(), shape[2:], exact[-2], exact[-1], norm.eps)
    wanted = torch.autograd.grad(other, exact, grad.double())
    for a, b in zip((mine, *found), (other, *wanted), strict=True):
        assert_close(a.double(), b, rtol=1e-5, atol=1e-5 * float(b.detach().abs().max()))


@needs_c
def test_a_large_mean_costs_the_norm_no_digits():
    """Two passes: one would leave 4 digits of a variance of 1 about a mean of 1000."""
    x = last(1000 + fields(2, 5, 16, 16))
    exact = F.layer_norm(x.detach().double().contiguous(), (16, 16))
    assert_close(SpaceNorm((16, 16))(x).double(), exact, rtol=0, atol=2e-4)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (0, 2), (2, 3), (5, 6)])
@pytest.mark.parametrize("boundary", ["circular", "cylinder"])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_margins_of_closed_axes_are_torchs(boundary, rows, columns, memory, dtype, rounding):
    """Forward to the bit; the gradient to the rounding of a sum of up to nine images."""
    x = fields(2, 3, 5, 6).to(dtype).contiguous(memory_format=memory).requires_grad_()
    mine = pad(x, boundary, rows=rows, columns=columns)
    exact = x.detach().double().requires_grad_()
    other = F.pad(exact, (columns, columns, 0, 0), mode="circular")
    other = F.pad(other, (0, 0, rows, rows), mode="circular" if boundary == "circular" else "constant")
    assert_close(mine.double(), other, rtol=0, atol=0)
    with torch.no_grad():
        assert torch.equal(pad(x, boundary, rows=rows, columns=columns), mine)
    grad = fields(*mine.shape, seed=1).to(dtype).contiguous(memory_format=memory)
    (found,) = torch.autograd.grad(mine, x, grad)
    (wanted,) = torch.autograd.grad(other, exact, grad.double())
    assert_close(found.double(), wanted, rtol=rounding, atol=3 * rounding)
    if margins.is_available():
        assert mine.is_contiguous(memory_format=memory)
        assert found.is_contiguous(memory_format=memory)
