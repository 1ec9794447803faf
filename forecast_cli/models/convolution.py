"""Convolutions that keep the size of a field and know what lies beyond its edges."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecast_cli.domain import Boundary
from forecast_cli.errors import ConfigError
from forecast_cli.models.space_norm import SpaceNorm


def pad(fields: Tensor, boundary: Boundary, *, rows: int, columns: int) -> Tensor:
    """Fields (n, channel, height, width) with `rows` and `columns` added on each side.

    zeros: nothing outside. replicate: the edge goes on. circular: both axes close on themselves.
    cylinder: the width (longitude) closes on itself, zeros beyond the height (the poles).
    """
    if boundary in ("zeros", "replicate"):
        mode = "constant" if boundary == "zeros" else "replicate"
        return F.pad(fields, (columns, columns, rows, rows), mode=mode)
    padded: Tensor = _Closed.apply(fields, rows, columns, boundary == "circular")
    return padded


class _Closed(torch.autograd.Function):
    """Padding of axes that close on themselves, in the memory order of the fields: torch's own takes ten times as long, both ways."""

    @staticmethod
    def forward(ctx: Any, fields: Tensor, rows: int, columns: int, both: bool) -> Tensor:
        ctx.margin, ctx.both = (rows, columns), both
        batch, channels, height, width = fields.shape
        is_last = fields.is_contiguous(memory_format=torch.channels_last) and not fields.is_contiguous()
        padded = torch.empty(
            (batch, channels, height + 2 * rows, width + 2 * columns),
            dtype=fields.dtype,
            device=fields.device,
            memory_format=torch.channels_last if is_last else torch.contiguous_format,
        )
        middle = padded[:, :, rows : rows + height]
        middle[..., columns : columns + width] = fields
        middle[..., :columns] = fields[..., width - columns :]
        middle[..., columns + width :] = fields[..., :columns]
        for beyond, within in (
            (slice(rows), slice(height, height + rows)),
            (slice(rows + height, None), slice(rows, 2 * rows)),
        ):
            if both:
                padded[:, :, beyond] = padded[:, :, within]
            else:
                padded[:, :, beyond] = 0
        return padded

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        rows, columns = ctx.margin
        height, width = grad.shape[2] - 2 * rows, grad.shape[3] - 2 * columns
        kept = grad[:, :, rows : rows + height]
        if ctx.both and rows:
            kept = kept.clone()
            kept[:, :, height - rows :] += grad[:, :, :rows]
            kept[:, :, :rows] += grad[:, :, rows + height :]
        found = kept[..., columns : columns + width].clone(memory_format=torch.preserve_format)
        if columns:
            found[..., width - columns :] += kept[..., :columns]
            found[..., :columns] += kept[..., columns + width :]
        return found, None, None, None


class Convolution(nn.Conv2d):
    """A convolution with an odd kernel whose output has the size of its input.

    Fields of height 1 get a kernel of height 1. `weight` and `bias` may be replaced in a call.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        size: tuple[int, int],
        kernel_size: int = 3,
        dilation: int = 1,
        boundary: Boundary = "zeros",
    ) -> None:
        if kernel_size % 2 == 0:
            raise ConfigError(f"model.kernel_size = {kernel_size}: expected an odd number.")
        height, width = size
        rows, columns = (0 if height == 1 else kernel_size // 2), kernel_size // 2
        self.margin = rows * dilation, columns * dilation
        if self.margin[0] > height or self.margin[1] > width:
            raise ConfigError(
                f"model.kernel_size = {kernel_size} with model.dilation = {dilation} reaches {self.margin[1]} cells, "
                f"beyond the grid of {height} x {width}."
            )
        super().__init__(channels_in, channels_out, (2 * rows + 1, 2 * columns + 1), dilation=dilation)
        self.boundary = boundary

    def forward(self, fields: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """fields: (n, channel, height, width)."""
        if weight is None:
            weight, bias = self.weight, self.bias
        kind = fields.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            fields = fields.to(torch.get_autocast_dtype(kind))  # before the margin is added, not after
        padding = self.margin
        if self.boundary != "zeros" and padding != (0, 0):
            fields = pad(fields, self.boundary, rows=padding[0], columns=padding[1])
            padding = (0, 0)
        return F.conv2d(fields, weight, bias, dilation=self.dilation, padding=padding)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each cell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, fields: Tensor) -> Tensor:
        """fields: (n, channel, height, width)."""
        normed: Tensor = self.norm(fields.movedim(1, -1))
        return normed.movedim(-1, 1)


def norm(name: str, channels: int, size: tuple[int, int]) -> nn.Module:
    """The normalisation called `name`: layer (over height and width, each channel by itself: it removes
    the domain mean), channel (over the channels of a cell), group (over all of a frame), none."""
    if name == "layer":
        if size == (1, 1):
            raise ConfigError("model.norm = layer removes the whole of a field of one cell. Choose channel or none.")
        return SpaceNorm(size)
    if name == "channel":
        return ChannelNorm(channels)
    if name == "group":
        return nn.GroupNorm(1, channels)
    return nn.Identity()


def over_frames(module: Callable[[Tensor], Tensor], sequence: Tensor) -> Tensor:
    """Apply a function of (n, channel, height, width) to every frame of (batch, time, channel, height, width)."""
    return module(sequence.flatten(0, 1)).unflatten(0, sequence.shape[:2])


def initial_like(sequence: Tensor, value: float) -> Tensor:
    """A constant state (batch, channel, height, width) for a sequence with a time axis."""
    return torch.full_like(sequence[:, 0], value)
