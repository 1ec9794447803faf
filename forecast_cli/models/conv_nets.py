"""Convolutional networks: a plain stack, a ResNet, a U-Net.

Sources: VGG, Simonyan and Zisserman (2014), arXiv 1409.1556; ResNet with the activation before the convolution, He et al. (2016),
arXiv 1603.05027; U-Net, Ronneberger et al. (2015), arXiv 1505.04597.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecast_cli.config import ModelConfig
from forecast_cli.domain import Boundary
from forecast_cli.errors import ConfigError
from forecast_cli.models.activations import activation
from forecast_cli.models.backbones import Residual, convolution
from forecast_cli.models.convolution import norm


class PlainStack(nn.Sequential):
    """Layers of convolution, norm and activation, one after the other, at full resolution."""

    def __init__(
        self, channels: int, widths: tuple[int, ...], *, size: tuple[int, int], options: ModelConfig, boundary: Boundary
    ) -> None:
        layers = []
        for before, width in pairwise((channels, *widths)):
            layers += [
                convolution(before, width, size=size, options=options, boundary=boundary),
                norm(options.norm, width, size),
                activation(options.activation),
            ]
        super().__init__(*layers)
        self.channels_out = widths[-1]


class ResNet(nn.Sequential):
    """Residual blocks of two convolutions: y + conv(act(norm(conv(act(norm(y))))))."""

    def __init__(
        self, channels: int, widths: tuple[int, ...], *, size: tuple[int, int], options: ModelConfig, boundary: Boundary
    ) -> None:
        blocks = []
        for before, width in pairwise((channels, *widths)):
            branch = nn.Sequential(
                activation(options.activation),
                convolution(before, width, size=size, options=options, boundary=boundary),
                norm(options.norm, width, size),
                activation(options.activation),
                convolution(width, width, size=size, options=options, boundary=boundary),
            )
            blocks.append(Residual(branch, before, width, size=size, options=options))
        super().__init__(*blocks)
        self.channels_out = widths[-1]


class UNet(nn.Module):
    """A level of a U-Net, which holds the next one on a grid of half the size; `widths` are those of this level and the deeper ones.

    A residual block on the way down and one on the way up: pairs of plain convolutions, as published, did worse (docs/models.md).
    A grid of odd size is continued by one row or column before it is halved, and cropped after it was enlarged: on an axis
    that closes on itself by its first cell, on others by its last.
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...], *, size: tuple[int, int], options: ModelConfig, boundary: Boundary
    ) -> None:
        super().__init__()
        self.channels_out, deeper = widths[0], widths[1:]
        self.down = ResNet(channels, widths[:1], size=size, options=options, boundary=boundary)
        self.inner: UNet | None = None
        if not deeper:
            return
        half = (size[0] + 1) // 2, (size[1] + 1) // 2
        reach = options.kernel_size // 2 * options.dilation
        if size == (1, 1) or half[1] < reach or 1 < half[0] < reach:
            raise ConfigError(
                f"model.hidden: a level of {widths[0]} channels has {size[0]} x {size[1]} cells, too few to halve "
                f"for a convolution that reaches {reach}. Give fewer levels, or a smaller model.kernel_size."
            )
        self.halves = (2 if size[0] > 1 else 1), 2
        self.closed = boundary == "circular", boundary in ("circular", "cylinder")
        self.inner = UNet(widths[0], deeper, size=half, options=options, boundary=boundary)
        joined = widths[0] + self.inner.channels_out
        self.up = ResNet(joined, widths[:1], size=size, options=options, boundary=boundary)

    def forward(self, features: Tensor) -> Tensor:
        """features: (n, channels, height, width)."""
        features = self.down(features)
        if self.inner is None:
            return features
        height, width = features.shape[-2:]
        deeper = self.inner(F.avg_pool2d(self._even(features), self.halves))
        rows, columns = self.halves
        larger = F.interpolate(deeper, scale_factor=(float(rows), float(columns)))[..., :height, :width]
        joined: Tensor = self.up(torch.cat([features, larger], dim=1))
        return joined

    def _even(self, features: Tensor) -> Tensor:
        """Features with a row or column more where their number is odd."""
        for dim, halves, closed in zip((-2, -1), self.halves, self.closed, strict=True):
            if features.shape[dim] % halves:
                edge = features.narrow(dim, 0 if closed else features.shape[dim] - 1, 1)
                features = torch.cat([features, edge], dim=dim)
        return features
