"""LayerNorm over the cells of each channel, the papers' norm, where the channels of a cell lie beside each other.

torch's own normalises what lies together; here it would copy every frame there and back. C does it in place, on a CPU in float32.
"""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from forecast_cli import native

_SOURCE = Path(__file__).with_suffix(".c")


class SpaceNorm(nn.LayerNorm):
    """LayerNorm over (height, width) of each channel: it removes the domain mean. Parameters are those of torch's."""

    def forward(self, frames: Tensor, more: Tensor | None = None) -> Tensor:
        """frames: (n, channel, height, width). more: of the same shape, to be added before; the sum is not kept for the gradient."""
        ours = _can_take(frames) and (more is None or _can_take(more)) and not torch.compiler.is_compiling()
        if not (ours and is_available()):
            return super().forward(frames if more is None else frames + more)
        if not torch.is_grad_enabled():
            return _forward(frames, more, self.weight, self.bias, self.eps)[0]
        normed: Tensor = _Norm.apply(frames, more, self.weight, self.bias, self.eps)
        return normed


def _can_take(frames: Tensor) -> bool:
    is_last = frames.is_contiguous(memory_format=torch.channels_last) and not frames.is_contiguous()
    return is_last and frames.device.type == "cpu" and frames.dtype == torch.float32


def is_available() -> bool:
    """Whether this machine has compiled it, or can."""
    return _library() is not None


def _library() -> ctypes.CDLL | None:
    return native.load(_SOURCE)


def _call(name: str, tensors: tuple[Tensor | None, ...], sizes: tuple[int, int, int], *rest: object) -> None:
    library = _library()
    assert library is not None
    pointers = [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]
    if library[name](*pointers, *map(ctypes.c_long, sizes), *rest):
        raise MemoryError(f"{name}: no memory")


def _sizes(frames: Tensor) -> tuple[int, int, int]:
    """Frames, cells and channels."""
    return frames.shape[0], frames.shape[2] * frames.shape[3], frames.shape[1]


def _forward(
    frames: Tensor, more: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normed frames, and the mean and the inverse of the spread of each channel."""
    normed, mean = torch.empty_like(frames), frames.new_empty(frames.shape[:2])
    scale = torch.empty_like(mean)
    tensors = (frames, more, weight.contiguous(), bias.contiguous(), normed, mean, scale)
    threads = ctypes.c_int(torch.get_num_threads())
    _call("norm_forward", tensors, _sizes(frames), ctypes.c_double(eps), threads)
    return normed, mean, scale


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, frames: Tensor, more: Tensor | None, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        normed, mean, scale = _forward(frames, more, weight, bias, eps)
        ctx.save_for_backward(frames, more, weight.contiguous(), mean, scale)
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor, None]:
        frames, more, weight, mean, scale = ctx.saved_tensors
        threads = min(torch.get_num_threads(), len(frames))
        shares, to_frames = frames.new_zeros(threads, 2, *weight.shape), torch.empty_like(frames)
        grad = grad.contiguous(memory_format=torch.channels_last)
        tensors = (grad, frames, more, weight, mean, scale, to_frames, shares)
        _call("norm_backward", tensors, _sizes(frames), ctypes.c_int(threads))
        of_weight, of_bias = shares.sum(dim=0).unbind()
        return to_frames, None if more is None else to_frames, of_weight, of_bias, None
