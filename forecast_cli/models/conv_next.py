"""ConvNeXt: a depthwise convolution, then an MLP over the channels of each cell.

Without layer scale, as in its second version. Sources: Liu et al. (2022), arXiv 2201.03545; Woo et al. (2023), arXiv 2301.00808.
"""

from itertools import pairwise

from torch import nn

from forecast_cli.config import ModelConfig
from forecast_cli.domain import Boundary
from forecast_cli.models.backbones import ChannelMLP, Residual, convolution
from forecast_cli.models.convolution import norm


class ConvNeXt(nn.Sequential):
    """Blocks y + mlp(norm(depthwise(y))), or norm(y + mlp(depthwise(y))): `model.norm_position`."""

    def __init__(
        self, channels: int, widths: tuple[int, ...], *, size: tuple[int, int], options: ModelConfig, boundary: Boundary
    ) -> None:
        inner, outer = (options.norm, "none") if options.norm_position == "before" else ("none", options.norm)
        blocks = []
        for before, width in pairwise((channels, *widths)):
            branch = nn.Sequential(
                convolution(before, before, size=size, options=options, boundary=boundary, groups=before),
                norm(inner, before, size),
                ChannelMLP(before, width, options),
            )
            around = options.model_copy(update={"norm": outer})
            blocks.append(Residual(branch, before, width, size=size, options=around))
        super().__init__(*blocks)
        self.channels_out = widths[-1]
