import pytest
import torch
from torch.testing import assert_close

from forecast_cli.errors import ConfigError
from forecast_cli.scan import BACKENDS as ALL
from forecast_cli.scan import native, scan

NEEDS = {"native": pytest.mark.skipif(not native.is_available(), reason="no C compiler")}
BACKENDS = [
    pytest.param(name, marks=NEEDS.get(name, ()))
    for name in ALL
    if name != "triton"  # needs a GPU, or its interpreter: test_triton.py
]

# Largest absolute error allowed in float32 against the float64 oracle. Linear space does not lose digits with
# length. The prefix sum in log space does: the cumulated logarithms grow to T |log a|, of which float32 keeps 7 digits.
TOLERANCE = {"sequential": 1e-5, "fused": 1e-5, "native": 1e-5, "log_space": 2e-3}
# With gates at +-120 the cumulated logarithms reach 1.2e5 at T = 1000 and nothing is left of the gradients in float32
# (measured: off by 57 where the truth is 0). There the formula of log_space is tested, in float64; docs/models.md says so.
STRONG = dict.fromkeys(("sequential", "fused", "native"), (torch.float32, 1e-5)) | {"log_space": (torch.float64, 1e-6)}

LENGTHS = [1, 2, 63, 64, 1000]


def inputs(length: int, gates: int, *, strength: float = 1.0, seed: int = 0) -> list[torch.Tensor]:
    """[candidate, initial, *gates] in float64; `strength` sends gates and candidates to +-strength."""
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(2, length, 3, 2, 2, generator=generator, dtype=torch.float64) for _ in range(gates + 1)]
    if strength != 1.0:
        tensors = [strength * tensor.sign() for tensor in tensors]
    initial = torch.rand(2, 3, 2, 2, generator=generator, dtype=torch.float64) + 0.1
    return [tensors[0], initial, *tensors[1:]]


def run(backend: str, tensors: list[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    """[hidden, last, gradients of candidate, initial and gates], as float64."""
    leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in tensors]
    candidate, initial, *gates = leaves
    hidden, last = scan(tuple(gates), candidate, initial, backend=backend)
    weights = torch.linspace(-1, 1, hidden.numel(), dtype=torch.float64).reshape(hidden.shape).to(dtype)
    ((hidden * weights).sum() + last.square().sum()).backward()
    return [tensor.double() for tensor in (hidden.detach(), last.detach(), *(leaf.grad for leaf in leaves))]


def assert_agrees(found: list[torch.Tensor], oracle: list[torch.Tensor], tolerance: float) -> None:
    for tensor, reference in zip(found, oracle, strict=True):
        assert_close(tensor, reference, rtol=tolerance, atol=tolerance * max(1.0, reference.abs().max().item()))


@pytest.mark.parametrize("gates", [1, 2])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_agree_with_the_oracle_in_output_state_and_gradients(backend, length, gates):
    tensors = inputs(length, gates)
    oracle = run("sequential", tensors, torch.float64)
    assert_agrees(run(backend, tensors, torch.float32), oracle, TOLERANCE[backend])
    assert_agrees(run(backend, tensors, torch.float64), oracle, 1e-10)


@pytest.mark.parametrize("gates", [1, 2])
@pytest.mark.parametrize("length", [2, 64, 1000])
@pytest.mark.parametrize("backend", BACKENDS)
def test_saturated_gates_and_candidates_stay_finite_and_exact(backend, length, gates):
    tensors = inputs(length, gates, strength=120.0)
    oracle = run("sequential", tensors, torch.float64)
    assert all(torch.isfinite(tensor).all() for tensor in oracle)
    dtype, tolerance = STRONG[backend]
    assert_agrees(run(backend, tensors, dtype), oracle, tolerance)


@pytest.mark.parametrize("gates", [1, 2])
@pytest.mark.parametrize("length", [63, 1000])
@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16_is_computed_in_float32_and_rounded_once(backend, length, gates):
    tensors = [tensor.bfloat16().double() for tensor in inputs(length, gates)]
    oracle = run("sequential", tensors, torch.float64)
    # bfloat16 keeps 8 bits, so one rounding is 2^-9 of a value; the gradient of `last` is rounded before it flows back.
    for tensor, reference in zip(run(backend, tensors, torch.bfloat16), oracle, strict=True):
        assert_close(tensor, reference, rtol=2**-7, atol=2**-7 * reference.abs().max().item())


@pytest.mark.parametrize("gates", [1, 2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_are_those_of_finite_differences(backend, gates):
    candidate, initial, *logits = inputs(5, gates)
    leaves = [tensor.requires_grad_() for tensor in (candidate, initial, *logits)]
    assert torch.autograd.gradcheck(lambda c, h, *g: scan(g, c, h, backend=backend), leaves)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sequence_cut_in_two_gives_the_same_states(backend):
    candidate, initial, forget, input_ = inputs(20, 2)
    whole, last = scan((forget, input_), candidate, initial, backend=backend)
    first, middle = scan((forget[:, :7], input_[:, :7]), candidate[:, :7], initial, backend=backend)
    second, end = scan((forget[:, 7:], input_[:, 7:]), candidate[:, 7:], middle, backend=backend)
    assert_close(torch.cat([first, second], dim=1), whole)
    assert_close(end, last)


def test_an_open_gate_keeps_and_a_closed_gate_replaces():
    candidate, initial, _ = inputs(4, 1)
    kept, _ = scan((torch.full_like(candidate, 50.0),), candidate, initial)
    replaced, _ = scan((torch.full_like(candidate, -50.0),), candidate, initial)
    assert_close(kept, initial.unsqueeze(1).expand_as(kept))
    assert_close(replaced, torch.where(candidate >= 0, candidate + 0.5, torch.sigmoid(candidate)))


def test_an_unknown_backend_is_refused_with_the_known_ones():
    candidate, initial, keep = inputs(2, 1)
    with pytest.raises(ConfigError, match="sequential, log_space, fused, native"):
        scan((keep,), candidate, initial, backend="fast")


def test_auto_says_what_it_chose(caplog, monkeypatch):
    monkeypatch.setattr("forecast_cli.scan._announced", set())
    candidate, initial, keep = inputs(2, 1)
    with caplog.at_level("INFO", logger="forecast_cli.scan"):
        scan((keep,), candidate, initial)
        scan((keep,), candidate, initial)
    assert [(record.msg, record.args) for record in caplog.records] == [
        ("scan", {"backend": "native" if native.is_available() else "fused"})
    ]
