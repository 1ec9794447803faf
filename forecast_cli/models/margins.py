"""Margins about a field: what a convolution sees beyond the edges.

Where axes close on themselves, torch's own padding takes ten times as long as a copy, both ways; C does it on a CPU.
"""

import ctypes
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from forecast_cli import native
from forecast_cli.domain import Boundary

_SOURCE = Path(__file__).with_suffix(".c")
_TYPES = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "half"}


def pad(fields: Tensor, boundary: Boundary, *, rows: int, columns: int) -> Tensor:
    """Fields (n, channel, height, width) with `rows` and `columns` added on each side.

    zeros: nothing outside. replicate: the edge goes on. circular: both axes close on themselves.
    cylinder: the width (longitude) closes on itself, zeros beyond the height (the poles).
    """
    if boundary in ("zeros", "replicate"):
        mode = "constant" if boundary == "zeros" else "replicate"
        return F.pad(fields, (columns, columns, rows, rows), mode=mode)
    both = boundary == "circular"
    ours = fields.device.type == "cpu" and fields.dtype in _TYPES and not torch.compiler.is_compiling()
    if not (ours and is_available()):
        padded = F.pad(fields, (columns, columns, 0, 0), mode="circular")
        return F.pad(padded, (0, 0, rows, rows), mode="circular" if both else "constant") if rows else padded
    if not (torch.is_grad_enabled() and fields.requires_grad):
        return _forward(fields, rows, columns, both)
    closed: Tensor = _Closed.apply(fields, rows, columns, both)
    return closed


def is_available() -> bool:
    """Whether this machine has compiled it, or can."""
    return _library() is not None


def _library() -> ctypes.CDLL | None:
    return native.load(_SOURCE)


class _Margins(ctypes.Structure):
    """See margins.c."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("planes", "height", "width", "cell", "rows", "columns")),
        *((name, ctypes.c_int) for name in ("both", "bytes", "threads")),
    )


class _Closed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fields: Tensor, rows: int, columns: int, both: bool) -> Tensor:
        ctx.margins = rows, columns, both
        return _forward(fields, rows, columns, both)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        rows, columns, both = ctx.margins
        batch, channels, height, width = grad.shape
        grad, is_last = _dense(grad)
        fields = _empty(grad, (batch, channels, height - 2 * rows, width - 2 * columns), is_last)
        _call(f"margins_backward_{_TYPES[grad.dtype]}", grad, fields, fields, rows, columns, both, is_last)
        return fields, None, None, None


def _forward(fields: Tensor, rows: int, columns: int, both: bool) -> Tensor:
    batch, channels, height, width = fields.shape
    fields, is_last = _dense(fields)
    padded = _empty(fields, (batch, channels, height + 2 * rows, width + 2 * columns), is_last)
    _call("margins_forward", fields, padded, fields, rows, columns, both, is_last)
    return padded


def _dense(fields: Tensor) -> tuple[Tensor, bool]:
    """Fields in one piece of memory, in their own order where they are, and whether the channels of a cell lie beside each other."""
    if fields.is_contiguous():
        return fields, False
    is_last = fields.is_contiguous(memory_format=torch.channels_last)
    return (fields if is_last else fields.contiguous()), is_last


def _empty(like: Tensor, shape: tuple[int, ...], is_last: bool) -> Tensor:
    memory = torch.channels_last if is_last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=memory)


def _call(
    name: str, source: Tensor, target: Tensor, bare: Tensor, rows: int, columns: int, both: bool, is_last: bool
) -> None:
    """bare: the one of both without margins."""
    library = _library()
    assert library is not None
    batch, channels, height, width = bare.shape
    planes, cell = (batch, channels) if is_last else (batch * channels, 1)
    margins = _Margins(planes, height, width, cell, rows, columns, both, bare.element_size(), torch.get_num_threads())
    library[name](ctypes.byref(margins), ctypes.c_void_p(source.data_ptr()), ctypes.c_void_p(target.data_ptr()))
