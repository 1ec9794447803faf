"""LayerNorm over the cells of each channel, the papers' norm, where the channels of a cell lie beside each other.

torch's own normalises what lies together; here it would copy every frame there and back. C does it in place, on a CPU in float32.
"""

import ctypes
from pathlib import Path

import torch
from torch import Tensor, nn

from forecast_cli import native


class SpaceNorm(nn.LayerNorm):
    """LayerNorm over (height, width) of each channel: it removes the domain mean. Parameters are those of torch's."""

    def forward(self, frames: Tensor) -> Tensor:
        """frames: (n, channel, height, width)."""
        is_last = frames.is_contiguous(memory_format=torch.channels_last) and not frames.is_contiguous()
        if not (is_last and frames.device.type == "cpu" and frames.dtype == torch.float32 and is_available()):
            return super().forward(frames)
        normed, _, _ = torch.ops.forecast_cli.space_norm(frames, self.weight, self.bias, self.eps)
        return normed


@torch.compiler.assume_constant_result
def is_available() -> bool:
    """Whether this machine has compiled it, or can."""
    return _library() is not None


def _library() -> ctypes.CDLL | None:
    return native.load(Path(__file__).with_suffix(".c"))


def _call(name: str, tensors: tuple[Tensor, ...], sizes: tuple[int, int, int], *rest: object) -> None:
    library = _library()
    assert library is not None
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
    if library[name](*pointers, *map(ctypes.c_long, sizes), *rest):
        raise MemoryError(f"{name}: no memory")


def _sizes(frames: Tensor) -> tuple[int, int, int]:
    """Frames, cells and channels."""
    return frames.shape[0], frames.shape[2] * frames.shape[3], frames.shape[1]


@torch.library.custom_op("forecast_cli::space_norm", mutates_args=(), device_types="cpu")
def _norm(frames: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    normed, mean = torch.empty_like(frames), frames.new_empty(frames.shape[:2])
    scale = torch.empty_like(mean)
    tensors = (frames, weight.contiguous(), bias.contiguous(), normed, mean, scale)
    threads = ctypes.c_int(torch.get_num_threads())
    _call("norm_forward", tensors, _sizes(frames), ctypes.c_double(eps), threads)
    return normed, mean, scale


@_norm.register_fake
def _(frames: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001
    mean = frames.new_empty(frames.shape[:2])
    return torch.empty_like(frames), mean, torch.empty_like(mean)


@torch.library.custom_op("forecast_cli::space_norm_backward", mutates_args=(), device_types="cpu")
def _norm_backward(
    grad: Tensor, frames: Tensor, weight: Tensor, mean: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    grad = grad.contiguous(memory_format=torch.channels_last)
    threads = min(torch.get_num_threads(), len(frames))
    shares = frames.new_zeros(threads, 2, *weight.shape)
    to_frames = torch.empty_like(frames)
    tensors = (grad, frames, weight.contiguous(), mean, scale, to_frames, shares)
    _call("norm_backward", tensors, _sizes(frames), ctypes.c_int(threads))
    of_weight, of_bias = shares.sum(dim=0).unbind()
    return to_frames, of_weight.clone(), of_bias.clone()


@_norm_backward.register_fake
def _(
    grad: Tensor,  # noqa: ARG001
    frames: Tensor,
    weight: Tensor,
    mean: Tensor,  # noqa: ARG001
    scale: Tensor,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(frames), torch.empty_like(weight), torch.empty_like(weight)


def _keep(ctx: object, inputs: tuple[Tensor, Tensor, Tensor, float], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(inputs[0], inputs[1], output[1], output[2])  # type: ignore[attr-defined]
    ctx.mark_non_differentiable(output[1], output[2])  # type: ignore[attr-defined]


def _differentiate(ctx: object, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    return *torch.ops.forecast_cli.space_norm_backward(grad, *ctx.saved_tensors), None  # type: ignore[attr-defined]


_norm.register_autograd(_differentiate, setup_context=_keep)
