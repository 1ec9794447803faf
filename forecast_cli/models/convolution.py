"""Convolutions that keep the size of a field and know what lies beyond its edges."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from forecast_cli.domain import Boundary
from forecast_cli.errors import ConfigError
from forecast_cli.models.margins import pad
from forecast_cli.models.space_norm import SpaceNorm

_HAS_ONEDNN = torch.backends.mkldnn.is_available()


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
        groups: int = 1,
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
        kernel = 2 * rows + 1, 2 * columns + 1
        super().__init__(channels_in, channels_out, kernel, dilation=dilation, groups=groups)
        self.boundary = boundary

    def forward(self, fields: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """fields: (n, channel, height, width)."""
        if weight is None:
            weight, bias = self.weight, self.bias
        kind = fields.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            fields = fields.to(torch.get_autocast_dtype(kind))  # before the margin is added, not after
        if self.boundary == "zeros" or self.margin == (0, 0):
            return self._convolved(fields, weight, bias, self.margin)
        padded = pad(fields, self.boundary, rows=self.margin[0], columns=self.margin[1])
        if not torch.is_grad_enabled() or kind != "cpu" or torch.compiler.is_compiling():
            return self._convolved(padded, weight, bias, (0, 0))
        # The gradient needs the padded fields; the fields are kept anyway, and their margins are made anew in no time.
        before, place = fields.detach(), padded.data_ptr()
        with saved_tensors_hooks(lambda kept: before if kept.data_ptr() == place else kept, self._padded_again(before)):
            return self._convolved(padded, weight, bias, (0, 0))

    def _convolved(self, fields: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        if fields.device.type == "cpu" and len(fields) == 1 and fields.dtype == torch.float32 and _HAS_ONEDNN:
            # Left alone, torch takes a way for a single small frame that is two thirds as fast.
            return torch.mkldnn_convolution(fields, weight, bias, padding, (1, 1), self.dilation, self.groups)
        return F.conv2d(fields, weight, bias, dilation=self.dilation, groups=self.groups, padding=padding)

    def _padded_again(self, fields: Tensor) -> Callable[[Tensor], Tensor]:
        def unpack(kept: Tensor) -> Tensor:
            return pad(kept, self.boundary, rows=self.margin[0], columns=self.margin[1]) if kept is fields else kept

        return unpack


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
