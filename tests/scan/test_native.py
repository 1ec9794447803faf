"""The scan in C: gates and candidate where they lie, in either order of memory, with any number of threads, as an operator of torch."""

import pytest
import torch
from torch.testing import assert_close

from forecast_cli.errors import ConfigError
from forecast_cli.scan import native, require_backend, scan_packed
from forecast_cli.scan.kinds import KINDS, parts_of

pytestmark = pytest.mark.skipif(not native.is_available(), reason="no C compiler")


def inputs(kind, *, batch=2, length=5, channels=3, size=(4, 5), last=True, dtype=torch.float32, strength=1.0):
    generator = torch.Generator().manual_seed(0)
    shape = (batch, length, *size, parts_of(kind) * channels)
    packed = (strength * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype).movedim(-1, 2)
    initial = torch.rand(batch, channels, *size, generator=generator, dtype=torch.float64).to(dtype) + 0.1
    packed = packed if last else packed.contiguous()
    return packed.requires_grad_(), initial.requires_grad_()


def both_ways(packed, initial, kind, backend):
    hidden, _ = scan_packed(packed, initial, kind, backend=backend)
    weights = torch.linspace(-1, 1, hidden.numel(), dtype=torch.float64).reshape(hidden.shape).to(hidden.dtype)
    return hidden, *torch.autograd.grad(hidden, (packed, initial), weights)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
@pytest.mark.parametrize("size", [(1, 1), (4, 5), (33, 40)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_agrees_with_the_oracle_wherever_it_lies(kind, size, last, threads):
    packed, initial = inputs(kind, size=size, last=last)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = both_ways(packed, initial, kind, "native")
    finally:
        torch.set_num_threads(before)
    exact = both_ways(*(t.detach().double().requires_grad_() for t in (packed, initial)), kind, "sequential")
    for a, b in zip(found, exact, strict=True):
        assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_strong_gates_stay_finite_and_exact(kind):
    packed, initial = inputs(kind, strength=1.0)
    packed = (120 * packed.detach().sign()).requires_grad_()
    found = both_ways(packed, initial, kind, "native")
    exact = both_ways(*(t.detach().double().requires_grad_() for t in (packed, initial)), kind, "sequential")
    for a, b in zip(found, exact, strict=True):
        assert torch.isfinite(a).all()
        assert_close(a.double(), b, rtol=1e-5, atol=1e-5 * float(b.detach().abs().max().clamp(min=1)))


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_read_and_the_state_is_float32(kind):
    """The hidden states to float32; the gradient of the gates to the 8 bits that it is stored in."""
    packed, initial = inputs(kind, dtype=torch.bfloat16, length=40)
    found = both_ways(packed, initial, kind, "native")
    assert found[0].dtype == torch.float32
    assert found[1].dtype == torch.bfloat16
    exact = both_ways(*(t.detach().double().requires_grad_() for t in (packed, initial)), kind, "sequential")
    assert_close(found[0].double(), exact[0], rtol=1e-5, atol=1e-5)
    assert_close(found[1].double(), exact[1], rtol=2**-8, atol=2**-8 * float(exact[1].abs().max()))


@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_an_operator_of_torch(kind, last):
    packed, initial = inputs(kind, last=last)
    torch.library.opcheck(torch.ops.forecast_cli.scan.default, (packed, initial, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_its_gradient_is_that_of_differences(kind):
    packed, initial = inputs(kind, batch=1, length=3, size=(2, 2), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p, i: scan_packed(p, i, kind, backend="native")[0], (packed, initial))


def test_without_gradients_it_is_the_same():
    packed, initial = inputs("forget-input")
    with torch.inference_mode():
        alone, _ = scan_packed(packed, initial, "forget-input")
    assert_close(alone, scan_packed(packed, initial, "forget-input")[0].detach(), rtol=0, atol=0)


def test_it_is_refused_where_it_cannot_be_compiled(monkeypatch):
    monkeypatch.setattr(native, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no C compiler"):
        require_backend("native")
