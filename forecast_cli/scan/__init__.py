"""The linear recurrence of the minimal convolutional RNNs: one signature, several backends.

    h_t = a_t h_(t-1) + (1 - a_t) g(candidate_t),    a_t in (0, 1)

elementwise over (batch, channel, height, width). The gates come as logits:

- (keep,):          a = sigmoid(keep)
- (forget, input):  a = sigmoid(forget) / (sigmoid(forget) + sigmoid(input))

and g(x) = x + 0.5 for x >= 0, sigmoid(x) for x < 0, so that every hidden value is positive.
Source: Horuz et al. (2025), arXiv 2508.03614; g after Feng et al. (2024), arXiv 2410.01201.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from forecast_cli.errors import ConfigError
from forecast_cli.native import why_unavailable
from forecast_cli.scan import native
from forecast_cli.scan.fused import fused
from forecast_cli.scan.kinds import Kind, unpacked
from forecast_cli.scan.reference import log_space, sequential
from forecast_cli.scan.triton_ import has_triton, triton_scan

__all__ = ["BACKENDS", "Gates", "Kind", "require_backend", "scan", "scan_packed"]

Gates = tuple[Tensor, ...]
Backend = Callable[[Gates, Tensor, Tensor], Tensor]


def _native(gates: Gates, candidate: Tensor, initial: Tensor) -> Tensor:
    kind: Kind = "keep" if len(gates) == 1 else "forget-input"
    return native.native_scan(torch.cat([*gates, candidate], dim=2), initial, kind)


BACKENDS: dict[str, Backend] = {
    "sequential": sequential,
    "log_space": log_space,
    "fused": fused,
    "native": _native,
    "triton": triton_scan,
}

_log = logging.getLogger(__name__)
_announced: set[str] = set()


def require_backend(name: str) -> None:
    """Raise ConfigError unless `name` is "auto" or one of BACKENDS that can run here."""
    if name != "auto" and name not in BACKENDS:
        raise ConfigError(f"model.scan: no backend '{name}'. Choose auto, {', '.join(BACKENDS)}.")
    if name == "native" and not native.is_available():
        raise ConfigError(
            f"model.scan = native: {why_unavailable()}. Set CC to a C compiler, compile where there is one "
            "(forecast benchmark --build) and share FORECAST_CACHE, or choose auto."
        )


def scan(gates: Gates, candidate: Tensor, initial: Tensor, *, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """Hidden states of the recurrence over the whole sequence, and the last of them.

    gates: logits, (keep,) or (forget, input), each (batch, time, channel, height, width).
    candidate: the candidate before g, of the same shape.
    initial: the hidden state before the first frame, (batch, channel, height, width), positive.
    backend: one of BACKENDS, or "auto" (logs what it took, once).
    Returns (hidden, last), shaped like candidate and initial; differentiable in every argument.
    Low-precision inputs are computed in float32. Raises ConfigError for a backend that is unknown or cannot run.
    """
    require_backend(backend)
    name = _chosen(candidate) if backend == "auto" else backend
    dtype = candidate.dtype
    if dtype in (torch.bfloat16, torch.float16) and name != "triton":
        # The recurrence adds up many small changes: it runs in float32 and is rounded once, at the end.
        # Triton does the same in registers, and reads half as much.
        gates = tuple(gate.float() for gate in gates)
        candidate, initial = candidate.float(), initial.float()
    hidden = BACKENDS[name](gates, candidate, initial).to(dtype)
    return hidden, hidden[:, -1]


def scan_packed(packed: Tensor, initial: Tensor, kind: Kind, *, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """The same from one tensor of gates and candidate, as a convolution gives them; native copies nothing, nor does triton in float32.

    packed: (batch, time, gates and candidate * channel, height, width), in that order along the channels; see `Kind`.
    Returns float32 for low-precision inputs.
    """
    require_backend(backend)
    name = _chosen(packed) if backend == "auto" else backend
    if name == "native" and native.can_take(packed):
        hidden = native.native_scan(packed, initial, kind)
        return hidden, hidden[:, -1]
    gates, candidate = unpacked(packed.float() if packed.dtype in (torch.bfloat16, torch.float16) else packed, kind)
    return scan(gates, candidate, initial, backend=name)


def _chosen(tensor: Tensor) -> str:
    """The fastest backend for a tensor, announced once."""
    if native.can_take(tensor) and native.is_available():
        name = "native"
    else:
        name = "triton" if tensor.is_cuda and has_triton() else "fused"
    if name not in _announced:
        _announced.add(name)
        _log.info("scan", {"backend": name})
    return name
