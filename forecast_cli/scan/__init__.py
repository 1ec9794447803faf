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
from forecast_cli.scan.fused import fused
from forecast_cli.scan.reference import log_space, sequential
from forecast_cli.scan.triton_ import has_triton, triton_scan

__all__ = ["BACKENDS", "Gates", "require_backend", "scan"]

Gates = tuple[Tensor] | tuple[Tensor, Tensor]
Backend = Callable[[Gates, Tensor, Tensor], Tensor]

BACKENDS: dict[str, Backend] = {
    "sequential": sequential,
    "log_space": log_space,
    "fused": fused,
    "triton": triton_scan,
}

_log = logging.getLogger(__name__)
_announced: set[str] = set()


def require_backend(name: str) -> None:
    """Raise ConfigError unless `name` is "auto" or one of BACKENDS."""
    if name != "auto" and name not in BACKENDS:
        raise ConfigError(f"model.scan: no backend '{name}'. Choose auto, {', '.join(BACKENDS)}.")


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
    if backend == "auto":
        backend = "triton" if candidate.is_cuda and has_triton() else "fused"
        if backend not in _announced:
            _announced.add(backend)
            _log.info("scan backend: %s", backend)
    dtype = candidate.dtype
    if dtype in (torch.bfloat16, torch.float16) and backend != "triton":
        # The recurrence adds up many small changes: it runs in float32 and is rounded once, at the end.
        # Triton does the same in registers, and reads half as much.
        gates = tuple(gate.float() for gate in gates)  # type: ignore[assignment]
        candidate, initial = candidate.float(), initial.float()
    hidden = BACKENDS[backend](gates, candidate, initial).to(dtype)
    return hidden, hidden[:, -1]
