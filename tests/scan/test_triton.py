"""The Triton kernels: compiled where there is a GPU, elsewhere in Triton's interpreter, which tests all but the compiler."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are first imported, which is below

from forecast_cli.errors import ConfigError
from forecast_cli.scan import scan, triton_

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZE = (2, 3, 7, 7)  # 294 lanes: a block and a part of a second; the border cuts a row of pixels, in either order


def can_run() -> bool:
    """Before Triton 3.7, the interpreter breaks with numpy 2.4 at the first loop."""
    if DEVICE == "cuda" or not triton_.has_triton():
        return triton_.has_triton()
    major, minor, *_ = triton_._kernels().triton.__version__.split(".")
    return (int(major), int(minor)) >= (3, 7)


needs_triton = pytest.mark.skipif(not can_run(), reason="needs triton, and without a GPU triton >= 3.7")


def inputs(length: int, gates: int, *, size: tuple[int, ...] = SIZE, strength: float | None = None) -> list[Tensor]:
    """[initial, candidate and gates as one tensor along channels], float64; `strength` sends the latter to +-strength."""
    generator = torch.Generator().manual_seed(0)
    batch, channel, *space = size
    joined = torch.randn(batch, length, (gates + 1) * channel, *space, generator=generator, dtype=torch.float64)
    initial = torch.rand(size, generator=generator, dtype=torch.float64) + 0.1
    return [initial, joined if strength is None else strength * joined.sign()]


def run(backend: str, initial: Tensor, joined: Tensor) -> list[Tensor]:
    """[hidden, last, gradients of initial and joined] as float64; candidate and gates are slices of `joined`."""
    initial, joined = (tensor.detach().requires_grad_() for tensor in (initial, joined))
    candidate, *gates = joined.chunk(joined.shape[2] // initial.shape[1], dim=2)
    hidden, last = scan(tuple(gates), candidate, initial, backend=backend)
    weights = torch.linspace(-1, 1, hidden.numel(), dtype=torch.float64, device=hidden.device).reshape(hidden.shape)
    loss = (hidden * weights.to(hidden.dtype)).sum() + last.square().sum()
    return [tensor.detach().double() for tensor in (hidden, last, *torch.autograd.grad(loss, [initial, joined]))]


def assert_agrees(tensors: list[Tensor], *, dtype: torch.dtype, tolerance: float) -> None:
    """Triton in `dtype` against the definition in float64, relative to the largest value."""
    tensors = [tensor.to(DEVICE, dtype) for tensor in tensors]
    oracle = run("sequential", *(tensor.double() for tensor in tensors))
    assert all(torch.isfinite(tensor).all() for tensor in oracle)
    for found, reference in zip(run("triton", *tensors), oracle, strict=True):
        assert_close(found, reference, rtol=tolerance, atol=tolerance * max(1.0, reference.abs().max().item()))


# The recurrence does not amplify errors (0 < a < 1): some roundings of 6e-8 or 1e-16, and gradients that sum over time.
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-13)]


@needs_triton
@pytest.mark.parametrize("gates", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 7, 33])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_kernels_agree_with_the_oracle_in_output_state_and_gradients(dtype, tolerance, length, gates):
    assert_agrees(inputs(length, gates), dtype=dtype, tolerance=tolerance)


@needs_triton
@pytest.mark.parametrize("gates", [1, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_saturated_gates_and_candidates_stay_finite_and_exact(dtype, tolerance, gates):
    assert_agrees(inputs(7, gates, strength=120.0), dtype=dtype, tolerance=tolerance)


@needs_triton
def test_two_closed_gates_share_as_their_logits_say():
    # sigmoid(-120) underflows in float32, and 0 / 0 would be NaN; the difference of the logits is 1, so a = sigmoid(1).
    candidate, forget, input_ = (torch.full((1, 1, 1, 2, 2), x, device=DEVICE) for x in (3.5, -119.0, -120.0))
    hidden, _ = scan((forget, input_), candidate, torch.zeros_like(candidate[:, 0]), backend="triton")
    assert_close(hidden, 4 * torch.sigmoid(torch.full_like(hidden, -1.0)))


@needs_triton
def test_a_gate_that_is_nearly_open_lets_in_its_exact_share():
    # In float32 1 - sigmoid(30) is 0; sigmoid(-30) is 9.4e-14, and all that there is when the state was 0.
    candidate = torch.full((1, 1, 1, 2, 2), 0.5, device=DEVICE)
    hidden, _ = scan((60 * candidate,), candidate, torch.zeros_like(candidate[:, 0]), backend="triton")
    # The exponential of a GPU takes 30 log2(e) = 43 rounded to 24 bits: 2e-6 of the result.
    assert_close(hidden, torch.sigmoid(-60 * candidate), rtol=1e-5, atol=0)


@needs_triton
@pytest.mark.parametrize("gates", [1, 2])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32_and_rounded_once(dtype, gates):
    tensors = [tensor.to(DEVICE, dtype) for tensor in inputs(7, gates)]
    hidden, last, *_ = run("triton", *tensors)
    exact, exact_last, *_ = run("triton", *(tensor.float() for tensor in tensors))
    # One unit in the last place for bfloat16, which the interpreter cuts off where the compiled kernel rounds (cvt.rn in
    # its PTX), and for two compiled kernels, whose float32 need not agree in the last bit; none for float16 interpreted.
    unit = 0.0 if DEVICE == "cpu" and dtype == torch.float16 else torch.finfo(dtype).eps
    assert_close(hidden, exact.to(dtype).double(), rtol=unit, atol=0)
    assert_close(last, exact_last.to(dtype).double(), rtol=unit, atol=0)
    # Rounded to 8 (bfloat16) or 11 bits: the hidden states that the backward pass reads, weights, and each gradient.
    assert_agrees(tensors, dtype=dtype, tolerance=4 * torch.finfo(dtype).eps)


@needs_triton
@pytest.mark.parametrize("gates", [1, 2])
def test_gradients_are_those_of_finite_differences(gates):
    initial, joined = (tensor.to(DEVICE).requires_grad_() for tensor in inputs(3, gates, size=(1, 1, 1, 2)))

    def hidden(initial: Tensor, joined: Tensor) -> Tensor:
        candidate, *logits = joined.chunk(gates + 1, dim=2)
        return scan(tuple(logits), candidate, initial, backend="triton")[0]

    assert torch.autograd.gradcheck(hidden, [initial, joined])


def channels_last(fields: Tensor) -> Tensor:
    return fields.movedim(-3, -1).contiguous().movedim(-1, -3)


@needs_triton
@pytest.mark.parametrize("order", [torch.clone, channels_last])
@pytest.mark.parametrize("size", [SIZE, (2, 1, 3, 5), (2, 6, 1, 1), (2, 3, 4, 1), (2, 3, 1, 4)])
def test_slices_of_one_tensor_are_read_where_they_lie(size, order):
    initial, joined = (order(tensor.to(DEVICE)) for tensor in inputs(4, 2, size=size))
    assert_agrees([initial, joined], dtype=torch.float64, tolerance=1e-13)
    candidate, forget, input_ = joined.chunk(3, dim=2)
    layout = triton_.Order(candidate)
    hidden, _ = scan((forget, input_), candidate, initial, backend="triton")
    for tensor in (candidate, forget, input_, initial.unsqueeze(1), hidden):
        assert layout.rows(tensor).data_ptr() == tensor.data_ptr()
    assert layout.rows(hidden).is_contiguous()


@needs_triton
@pytest.mark.parametrize("order", [torch.clone, channels_last])
def test_hidden_states_lie_in_memory_as_the_candidates_do(order):
    candidate, keep = order(inputs(2, 1)[1].to(DEVICE)).chunk(2, dim=2)
    hidden, _ = scan((keep,), candidate, torch.ones_like(candidate[:, 0]), backend="triton")
    assert hidden.stride() == order(candidate).stride()


@needs_triton
def test_memory_in_any_other_order_is_read_as_well():
    candidate, forget, input_ = inputs(4, 2)[1].to(DEVICE).chunk(3, dim=2)
    initial = inputs(4, 2)[0].to(DEVICE)
    expected, _ = scan((forget, input_), candidate, initial, backend="sequential")
    transposed = forget.mT.contiguous().mT
    wide = torch.nn.functional.pad(input_, (1, 2))[..., 1:-2]
    reversed_axes = candidate.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
    for memory in (candidate, channels_last(candidate), reversed_axes):
        assert_close(scan((transposed, wide), memory, initial, backend="triton")[0], expected)


@needs_triton
def test_a_gradient_without_memory_of_its_own_is_read_as_well():
    # The gradient of a sum is one number, expanded: all its strides are 0.
    found, expected = (inputs(4, 1)[1].to(DEVICE).requires_grad_() for _ in range(2))
    for backend, joined in (("triton", found), ("sequential", expected)):
        candidate, keep = joined.chunk(2, dim=2)
        scan((keep,), candidate, torch.ones_like(candidate[:, 0]), backend=backend)[0].sum().backward()
    assert_close(found.grad, expected.grad)


@needs_triton
def test_a_sequence_cut_in_two_gives_the_same_states():
    initial, joined = (tensor.to(DEVICE) for tensor in inputs(9, 1))
    candidate, keep = joined.chunk(2, dim=2)
    whole, last = scan((keep,), candidate, initial, backend="triton")
    first, middle = scan((keep[:, :4],), candidate[:, :4], initial, backend="triton")
    second, end = scan((keep[:, 4:],), candidate[:, 4:], middle, backend="triton")
    assert_close(torch.cat([first, second], dim=1), whole)
    assert_close(end, last)


@needs_triton
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_auto_takes_triton_on_a_gpu(caplog, monkeypatch):
    monkeypatch.setattr("forecast_cli.scan._announced", set())
    candidate, keep = inputs(2, 1)[1].to(DEVICE).chunk(2, dim=2)
    with caplog.at_level("INFO", logger="forecast_cli.scan"):
        scan((keep,), candidate, torch.ones_like(candidate[:, 0]))
    assert [record.getMessage() for record in caplog.records] == ["scan backend: triton"]


def test_without_triton_the_named_backend_is_refused(monkeypatch):
    monkeypatch.setattr(triton_, "has_triton", lambda: False)
    candidate, keep = inputs(2, 1)[1].chunk(2, dim=2)
    with pytest.raises(ConfigError, match=r"^model.scan: backend 'triton' needs the package triton: .*$"):
        scan((keep,), candidate, torch.ones_like(candidate[:, 0]), backend="triton")


@needs_triton
def test_off_the_gpu_the_named_backend_is_refused(monkeypatch):
    monkeypatch.setattr(triton_._kernels(), "INTERPRETED", False)
    candidate, keep = inputs(2, 1)[1].chunk(2, dim=2)
    with pytest.raises(ConfigError, match=r"^model.scan: backend 'triton' runs on cuda, not on cpu. .*$"):
        scan((keep,), candidate, torch.ones_like(candidate[:, 0]), backend="triton")


def test_neither_triton_nor_torchs_compiler_is_imported_before_it_is_used():
    """The compiler alone takes a second and a half."""
    code = "import sys, forecast_cli.models; sys.exit(bool({'triton', 'torch._dynamo'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
