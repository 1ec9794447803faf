"""Gates and recurrence in one Triton kernel each way, on CUDA tensors. Triton is imported when it is first used.

Every tensor is read where it lies, in its own type: gates and candidate are usually slices of the output of
one convolution. Inputs and hidden states are kept for the backward pass; the rest is computed again.
"""

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from forecast_cli.errors import ConfigError

BLOCK = 256  # lanes of a program, two for each thread


def triton_scan(gates: tuple[Tensor, ...], candidate: Tensor, initial: Tensor) -> Tensor:
    """See `forecast_cli.scan.scan`. Arithmetic in float32 (float64 where candidate is), hidden in candidate's type.

    The state is rounded to that type where it is stored, not where it goes on to the next frame; the backward pass
    reads what was stored.
    Raises ConfigError without triton, and off CUDA unless TRITON_INTERPRET=1 was set before triton was imported.
    """
    if not has_triton():
        raise ConfigError("model.scan: backend 'triton' needs the package triton: pip install triton, or choose auto.")
    elsewhere = {tensor.device.type for tensor in (*gates, candidate, initial)} - {"cuda"}
    if elsewhere and not _kernels().INTERPRETED:
        raise ConfigError(
            f"model.scan: backend 'triton' runs on cuda, not on {', '.join(elsewhere)}. Choose auto, or --device cuda."
        )
    # A kernel has no notion of a shape: of a smaller tensor it would read what lies behind it.
    assert initial.shape == candidate[:, 0].shape
    assert all(gate.shape == candidate.shape for gate in gates)
    hidden: Tensor = _Triton.apply(candidate, initial, *gates)
    return hidden


@cache
def has_triton() -> bool:
    """Whether triton can be imported: tried, because a package that is there may be broken."""
    try:
        _kernels()
    except ImportError:
        return False
    return True


def _kernels() -> ModuleType:
    from forecast_cli.scan import triton_kernels

    return triton_kernels


class Frames(NamedTuple):
    """A sequence in memory: its first element, and the strides [elements] of (batch, time, row, column)."""

    start: Tensor
    batch: int
    time: int
    row: int
    column: int


class Order:
    """How a frame is walked, so that neighbouring lanes read neighbouring elements of the candidate.

    Rows are channels, of pixels; in channels-last memory they are pixels, of channels. Both have one stride
    from row to row, also where a frame is a slice of a larger one.
    """

    def __init__(self, candidate: Tensor) -> None:
        self.channels_last = candidate.stride(2) < candidate.stride(4)

    def rows(self, fields: Tensor) -> Tensor:
        """(batch, time, channel, height, width) as (batch, time, row, column): a view, or a copy where there is none."""
        return fields.movedim(2, -1).flatten(2, 3) if self.channels_last else fields.flatten(3)

    def frames(self, fields: Tensor) -> Frames:
        rows = self.rows(fields)
        return Frames(rows, *rows.stride())

    def empty_like(self, fields: Tensor) -> Tensor:
        """A tensor of the shape of `fields`, dense when walked in this order."""
        if not self.channels_last:
            return torch.empty_like(fields, memory_format=torch.contiguous_format)
        return torch.empty_like(fields.movedim(2, -1), memory_format=torch.contiguous_format).movedim(-1, 2)


class _Triton(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, candidate: Tensor, initial: Tensor, *gates: Tensor) -> Tensor:
        ctx.order = order = Order(candidate)
        hidden = order.empty_like(candidate)
        _launch("scan_forward", order.rows(hidden), *_read(order, candidate, initial, gates))
        ctx.save_for_backward(candidate, initial, hidden, *gates)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_hidden: Tensor) -> tuple[Tensor, ...]:
        order: Order = ctx.order
        candidate, initial, hidden, *gates = ctx.saved_tensors
        gradients = [order.empty_like(tensor) for tensor in (candidate, initial.unsqueeze(1), *gates)]
        _launch(
            "scan_backward",
            order.rows(hidden).contiguous(),  # a copy only where a hook of the saved tensors has moved it
            order.frames(grad_hidden),
            *_read(order, candidate, initial, gates),
            *(order.rows(gradient) for gradient in gradients),
            *[None] * (2 - len(gates)),
        )
        grad_candidate, grad_initial, *grad_gates = gradients
        return grad_candidate, grad_initial.squeeze(1), *grad_gates


def _read(order: Order, candidate: Tensor, initial: Tensor, gates: Sequence[Tensor]) -> list[Frames | None]:
    """The inputs as both kernels take them; the second gate may be missing."""
    inputs = [order.frames(tensor) for tensor in (candidate, initial.unsqueeze(1), *gates)]
    return [*inputs, *[None] * (2 - len(gates))]


def _launch(kernel: str, hidden: Tensor, *others: Frames | Tensor | None) -> None:
    """Run a kernel on hidden (batch, time, row, column) with a lane for each element of (batch, row, column)."""
    kernels = _kernels()
    batch, _, rows, columns = hidden.shape
    state = kernels.tl.float64 if hidden.dtype == torch.float64 else kernels.tl.float32
    programs = -(-batch * rows * columns // BLOCK)
    # Multiply-adds are fused by default up to Triton 3.9, which warns that this will end: asked for, they stay.
    options = {"state": state, "block": BLOCK, "enable_fp_fusion": True}
    with torch.cuda.device_of(hidden):  # Triton launches on the current device, whatever the tensors are on
        getattr(kernels, kernel)[(programs,)](hidden, *others, *hidden.shape, **options)
