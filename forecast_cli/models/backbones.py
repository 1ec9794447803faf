"""What the networks of the direct forecasters share: their form, the residual, the channel MLP.

A backbone maps encoded windows (n, channels, height, width) to features (n, channels_out, height, width) of the same grid.
"""

from typing import Protocol

from torch import Tensor, nn

from forecast_cli.config import ModelConfig
from forecast_cli.domain import Boundary
from forecast_cli.models.activations import activation
from forecast_cli.models.convolution import Convolution, norm

MLP = 4.0
"""Width of the channel MLP of ConvNeXt and Swin, in units of the layer's, where `model.mlp` says nothing."""


class Backbone(Protocol):
    """Makes the network between encoder and decoder, with layers of `widths` channels; it says how many come out in `channels_out`."""

    def __call__(
        self, channels: int, widths: tuple[int, ...], *, size: tuple[int, int], options: ModelConfig, boundary: Boundary
    ) -> nn.Module: ...


def convolution(
    channels: int, width: int, *, size: tuple[int, int], options: ModelConfig, boundary: Boundary, groups: int = 1
) -> Convolution:
    """A convolution with the reach that the configuration says."""
    return Convolution(
        channels,
        width,
        size=size,
        kernel_size=options.kernel_size,
        dilation=options.dilation,
        groups=groups,
        boundary=boundary,
    )


class ChannelMLP(nn.Sequential):
    """Two layers over the channels of each cell."""

    def __init__(self, channels: int, width: int, options: ModelConfig) -> None:
        inner = max(1, round((options.mlp or MLP) * width))
        super().__init__(nn.Linear(channels, inner), activation(options.activation), nn.Linear(inner, width))

    def forward(self, features: Tensor) -> Tensor:
        """features: (n, channels, height, width)."""
        return super().forward(features.movedim(1, -1)).movedim(-1, 1)


class Residual(nn.Module):
    """y + branch(norm(y)), or norm(y + branch(y)): `model.norm_position`."""

    def __init__(
        self, branch: nn.Module, channels: int, width: int, *, size: tuple[int, int], options: ModelConfig
    ) -> None:
        super().__init__()
        self.norm_first = options.norm_position == "before"
        self.branch = branch
        self.norm = norm(options.norm, channels if self.norm_first else width, size)
        # Where the number of channels changes, the residual goes through a 1x1 convolution.
        self.shortcut = nn.Identity() if channels == width else nn.Conv2d(channels, width, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """features: (n, channels, height, width)."""
        if self.norm_first:
            summed: Tensor = self.shortcut(features) + self.branch(self.norm(features))
            return summed
        normed: Tensor = self.norm(self.shortcut(features) + self.branch(features))
        return normed
