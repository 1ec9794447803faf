"""Swin: attention within windows that every second layer shifts by half. Source: Liu et al. (2021), arXiv 2103.14030.

On an axis that closes on itself a shifted window reaches over the seam, as over any other place; on others what
comes together from both ends does not see each other. A grid that the windows do not divide is filled up with
cells that nothing sees.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecast_cli.config import ModelConfig
from forecast_cli.domain import Boundary
from forecast_cli.models.backbones import ChannelMLP, Residual

HEAD = 16
"""Channels of a head, where they divide those of the layer."""


class Swin(nn.Sequential):
    """Blocks of window attention and channel MLP at full resolution, each with a residual and a norm."""

    def __init__(
        self, channels: int, widths: tuple[int, ...], *, size: tuple[int, int], options: ModelConfig, boundary: Boundary
    ) -> None:
        layers = []
        for number, (before, width) in enumerate(pairwise((channels, *widths))):
            attention = WindowAttention(
                before, width, size=size, window=options.attention_window, shifted=number % 2 == 1, boundary=boundary
            )
            layers += [
                Residual(attention, before, width, size=size, options=options),
                Residual(ChannelMLP(width, width, options), width, width, size=size, options=options),
            ]
        super().__init__(*layers)
        self.channels_out = widths[-1]


class WindowAttention(nn.Module):
    """softmax(q k^T / sqrt(d) + b) v among the cells of each window; b depends on where they lie to each other, for each head."""

    place: Tensor
    apart: Tensor | None

    def __init__(
        self, channels: int, width: int, *, size: tuple[int, int], window: int, shifted: bool, boundary: Boundary
    ) -> None:
        super().__init__()
        self.heads = next(heads for heads in range(max(1, width // HEAD), 0, -1) if width % heads == 0)
        self.size = size
        self.window = min(window, size[0]), min(window, size[1])
        shift = tuple(
            side // 2 if shifted and side < cells else 0 for side, cells in zip(self.window, size, strict=True)
        )
        closed = boundary == "circular", boundary in ("circular", "cylinder")
        # A closed axis is rolled before it is filled up, so that its ends meet; an open one after, so that its start stays in one window.
        self.roll_closed = tuple(-by * is_closed for by, is_closed in zip(shift, closed, strict=True))
        self.roll_open = tuple(-by * (not is_closed) for by, is_closed in zip(shift, closed, strict=True))
        self.beyond = tuple(-cells % side for side, cells in zip(self.window, size, strict=True))

        self.qkv = nn.Linear(channels, 3 * width)
        self.output = nn.Linear(width, width)
        rows, columns = self.window
        self.bias = nn.Parameter(0.02 * torch.randn(self.heads, (2 * rows - 1) * (2 * columns - 1)))
        y, x = (axis.flatten() for axis in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
        place = (y[:, None] - y + rows - 1) * (2 * columns - 1) + x[:, None] - x + columns - 1
        self.register_buffer("place", place, persistent=False)
        self.register_buffer(
            "apart", self._apart() if any(self.beyond) or any(self.roll_open) else None, persistent=False
        )

    def forward(self, features: Tensor) -> Tensor:
        """features: (n, channels, height, width)."""
        windows = self._cut(features.permute(0, 2, 3, 1))
        projected = self.qkv(windows).unflatten(-1, (3, self.heads, -1))
        query, key, value = projected.permute(3, 0, 1, 4, 2, 5)  # each (n, window, head, cell, d)
        bias = self.bias[:, self.place]
        if self.apart is not None:
            bias = bias + self.apart
        weights = torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias, dim=-1)
        mixed: Tensor = self.output((weights @ value).transpose(2, 3).flatten(3))
        return self._joined(mixed).permute(0, 3, 1, 2)

    def _apart(self) -> Tensor:
        """-inf between cells that come together in a window but do not see each other, else 0; (window, 1, cell, cell)."""
        below, behind = (torch.arange(cells) < -rolled for cells, rolled in zip(self.size, self.roll_open, strict=True))
        # Cells rolled from the start of an axis to its end, of each axis, of both, all others; and 0 where it was filled up.
        kind = self._cut((1.0 + 2.0 * below[:, None] + behind)[None, :, :, None])
        return torch.zeros(()).where(kind == kind.transpose(-1, -2), -torch.inf).transpose(0, 1)

    def _cut(self, cells: Tensor) -> Tensor:
        """(n, height, width, k) as (n, window, cell, k)."""
        cells = _rolled(cells, self.roll_closed)
        if any(self.beyond):
            cells = F.pad(cells, (0, 0, 0, self.beyond[1], 0, self.beyond[0]))
        cells = _rolled(cells, self.roll_open)
        rows, columns = self.window
        windows = cells.unflatten(2, (-1, columns)).unflatten(1, (-1, rows)).transpose(2, 3)
        return windows.flatten(3, 4).flatten(1, 2)

    def _joined(self, windows: Tensor) -> Tensor:
        """The inverse of `_cut`."""
        height, width = self.size
        rows, columns = self.window
        grid = windows.unflatten(2, (rows, columns)).unflatten(1, (-1, (width + self.beyond[1]) // columns))
        cells = _rolled(grid.transpose(2, 3).flatten(3, 4).flatten(1, 2), tuple(-by for by in self.roll_open))
        return _rolled(cells[:, :height, :width], tuple(-by for by in self.roll_closed))


def _rolled(cells: Tensor, by: tuple[int, ...]) -> Tensor:
    """(n, height, width, k), rolled along height and width."""
    return torch.roll(cells, by, (1, 2)) if any(by) else cells
