"""Gates and recurrence in one pass over memory each way, in C, on a CPU: float32 or float64, or bfloat16 with the state in float32.

An operator of torch (`forecast_cli::scan`), so that torch.compile and torch.export see through it. C reads channels-first and
channels-last memory where it lies.
"""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from forecast_cli import native
from forecast_cli.scan.kinds import KINDS, Kind, parts_of

_SOURCE = Path(__file__).with_name("recurrence.c")
_STATE = {torch.float32: torch.float32, torch.float64: torch.float64, torch.bfloat16: torch.float32}
RUN = 1024
"""Elements of a run where a frame of each part is one piece of memory."""


class _Layout(ctypes.Structure):
    """See recurrence.c."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("batch", "time", "elements", "outer", "inner", "part", "run")),
        *((name, ctypes.c_int) for name in ("kind", "half", "threads")),
    )


def is_available() -> bool:
    """Whether this machine has compiled it, or can."""
    return _library() is not None


# As torch.compiler.assume_constant_result does, whose import of the compiler takes a second and a half.
is_available._dynamo_marked_constant = True  # type: ignore[attr-defined]


def can_take(packed: Tensor) -> bool:
    """Whether the operator is for such tensors."""
    return packed.device.type == "cpu" and packed.dtype in _STATE


def native_scan(packed: Tensor, initial: Tensor, kind: Kind) -> Tensor:
    """See `forecast_cli.scan.scan_packed`."""
    initial = initial.to(_STATE[packed.dtype])
    if not torch.compiler.is_compiling() and not (
        torch.is_grad_enabled() and (packed.requires_grad or initial.requires_grad)
    ):
        return _forward(packed, initial, kind)  # a dispatch of torch takes as long as a small frame
    operator = torch.ops.forecast_cli.scan if torch.compiler.is_compiling() else _Eager.apply
    hidden: Tensor = operator(packed, initial, kind)
    return hidden


class _Eager(torch.autograd.Function):
    """The operator without its wrappers, which take some 50 microseconds each way."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, initial: Tensor, kind: Kind) -> Tensor:
        hidden = _forward(packed, initial, kind)
        ctx.save_for_backward(packed, initial, hidden)
        ctx.kind = kind
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        packed, initial, hidden = ctx.saved_tensors
        return *_backward(grad, packed, initial, hidden, ctx.kind), None


def _library() -> ctypes.CDLL | None:
    return native.load(_SOURCE)


def _is_last(packed: Tensor) -> bool:
    """Whether the channels of a cell lie beside each other; where both hold, as in one cell, either is right."""
    return packed.stride(2) == 1 and packed.stride(4) != 1


def _dense(tensor: Tensor, *, last: bool) -> Tensor:
    """(..., channel, height, width) in one piece of memory of that order; itself where it is already."""
    if not last:
        return tensor.contiguous()
    return tensor.movedim(-3, -1).contiguous().movedim(-1, -3)


def _layout(packed: Tensor, kind: Kind, *, last: bool) -> _Layout:
    batch, time, _, height, width = packed.shape
    parts = parts_of(kind)
    channels = packed.shape[2] // parts
    elements = channels * height * width
    if last:
        outer, inner, part, run = height * width, channels, channels, parts * channels
    else:
        inner = min(RUN, max(elements, 1))
        outer, part, run = -(-elements // inner), elements, inner
    half, threads = packed.dtype == torch.bfloat16, torch.get_num_threads()
    return _Layout(batch, time, elements, outer, inner, part, run, KINDS.index(kind), half, threads)


def _call(name: str, layout: _Layout, *tensors: Tensor) -> None:
    library = _library()
    assert library is not None
    precision = "double" if tensors[1].dtype == torch.float64 else "float"
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
    if library[f"{name}_{precision}"](ctypes.byref(layout), *pointers):
        raise MemoryError(f"{name}: no memory")


def _forward(packed: Tensor, initial: Tensor, kind: Kind) -> Tensor:
    last = _is_last(packed)
    packed, initial = _dense(packed, last=last), _dense(initial, last=last)
    hidden = _empty(packed, kind, initial.dtype, last=last)
    _call("scan_forward", _layout(packed, kind, last=last), packed, initial, hidden)
    return hidden


def _empty(packed: Tensor, kind: Kind, dtype: torch.dtype, *, last: bool) -> Tensor:
    batch, time, channels, height, width = packed.shape
    channels //= parts_of(kind)
    if not last:
        return packed.new_empty((batch, time, channels, height, width), dtype=dtype)
    return packed.new_empty((batch, time, height, width, channels), dtype=dtype).movedim(-1, 2)


@torch.library.custom_op("forecast_cli::scan", mutates_args=(), device_types="cpu")
def _scan(packed: Tensor, initial: Tensor, kind: str) -> Tensor:
    return _forward(packed, initial, kind)  # type: ignore[arg-type]


@_scan.register_fake
def _(packed: Tensor, initial: Tensor, kind: str) -> Tensor:
    return _empty(packed, kind, initial.dtype, last=_is_last(packed))  # type: ignore[arg-type]


@torch.library.custom_op("forecast_cli::scan_backward", mutates_args=(), device_types="cpu")
def _scan_backward(grad: Tensor, packed: Tensor, initial: Tensor, hidden: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    return _backward(grad, packed, initial, hidden, kind)  # type: ignore[arg-type]


def _backward(grad: Tensor, packed: Tensor, initial: Tensor, hidden: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
    last = _is_last(packed)
    grad, packed, initial = (_dense(tensor, last=last) for tensor in (grad, packed, initial))
    grad_packed, grad_initial = torch.empty_like(packed), torch.empty_like(initial)
    layout = _layout(packed, kind, last=last)
    _call("scan_backward", layout, packed, initial, hidden, grad, grad_packed, grad_initial)
    return grad_packed, grad_initial


@_scan_backward.register_fake
def _(_grad: Tensor, packed: Tensor, initial: Tensor, _hidden: Tensor, _kind: str) -> tuple[Tensor, Tensor]:
    last = _is_last(packed)
    return torch.empty_like(_dense(packed, last=last)), torch.empty_like(_dense(initial, last=last))


def _keep(ctx: object, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
    packed, initial, ctx.kind = inputs  # type: ignore[attr-defined]
    ctx.save_for_backward(packed, initial, output)  # type: ignore[attr-defined]


def _differentiate(ctx: object, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    packed, initial, hidden = ctx.saved_tensors  # type: ignore[attr-defined]
    return *torch.ops.forecast_cli.scan_backward(grad, packed, initial, hidden, ctx.kind), None  # type: ignore[attr-defined]


_scan.register_autograd(_differentiate, setup_context=_keep)
