"""From cells to patches and back: the layers between work on patches, whose neighbourhood reaches further."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecast_cli.config import ModelConfig
from forecast_cli.domain import Boundary
from forecast_cli.errors import ConfigError


def patched_size(size: tuple[int, int], patch: int) -> tuple[int, int]:
    """Rows and columns of patches that cover a grid; fields of height 1 have patches of height 1."""
    height, width = size
    return (1 if height == 1 else -(-height // patch)), -(-width // patch)


class PatchEncoder(nn.Module):
    """Each patch of a frame as a vector, plus a learned map of where it is (`model.position`).

    A grid that the patches do not divide is continued by its edge. `size`: of the grid of patches.
    """

    def __init__(
        self, channels: int, hidden: int, size: tuple[int, int], options: ModelConfig, boundary: Boundary
    ) -> None:
        super().__init__()
        height, width = size
        patch = (1 if height == 1 else options.patch), options.patch
        self.size = patched_size(size, options.patch)
        self.padding = (0, self.size[1] * patch[1] - width, 0, self.size[0] * patch[0] - height)
        closed = boundary in ("circular", "cylinder"), boundary == "circular"
        for periodic, missing, name, length in zip(
            closed, self.padding[1::2], ("x", "y"), (width, height), strict=True
        ):
            if periodic and missing:
                raise ConfigError(
                    f"model.patch = {options.patch} does not divide the {length} cells along {name}, which closes on itself."
                )
        self.convolution = nn.Conv2d(channels, hidden, patch, stride=patch)
        self.activation = nn.Tanh() if options.encoder_tanh else nn.Identity()
        self.position = nn.Parameter(torch.zeros(hidden, *self.size)) if options.position else None

    def forward(self, frames: Tensor) -> Tensor:
        """frames: (n, channel, height, width)."""
        if any(self.padding):
            frames = F.pad(frames, self.padding, mode="replicate")
        encoded: Tensor = self.activation(self.convolution(frames))
        # The channels of a cell beside each other: convolutions on a CPU are a tenth to a third faster there, and all layers keep to it.
        encoded = encoded.to(frames.dtype).contiguous(memory_format=torch.channels_last)
        return encoded if self.position is None else encoded + self.position


class PatchDecoder(nn.Module):
    """The vector of each patch as the cells of a frame."""

    def __init__(self, hidden: int, channels: int, size: tuple[int, int], patch: int) -> None:
        super().__init__()
        self.size = size
        shape = (1 if size[0] == 1 else patch), patch
        self.convolution = nn.ConvTranspose2d(hidden, channels, shape, stride=shape)
        # Every cell of a patch is a linear function of `hidden` values, and starts as nn.Linear would.
        for parameter in self.convolution.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def start_at_zero(self) -> None:
        """Decode zeros until training says otherwise."""
        for parameter in self.convolution.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """features: (n, hidden, rows, columns) of patches. Returns (n, channel, height, width)."""
        height, width = self.size
        decoded: Tensor = self.convolution(features)
        return decoded[..., :height, :width]
