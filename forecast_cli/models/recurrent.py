"""The stack that all convolutional RNNs share: encoder, blocks of a recurrent cell, decoder.

    frames -> patches -> for each layer: y = y + cell(norm(y)), y = y + mlp(norm(y)) -> decoder -> next frames

or, as in the paper, y = norm(y + cell(y)) (`model.norm_position`), with patches of one cell and no MLP.

Only the cell differs between models. A cell takes the whole sequence at once: the minimal ones compute
it in parallel over time, the classical ones loop inside. Source: Horuz et al. (2025), arXiv 2508.03614.
"""

from typing import Protocol, cast

from torch import Tensor, nn

from forecast_cli.config import ModelConfig, RunConfig
from forecast_cli.domain import Boundary, Domain
from forecast_cli.models.activations import activation
from forecast_cli.models.base import State
from forecast_cli.models.cell import Cell, Kernels
from forecast_cli.models.convolution import norm, over_frames
from forecast_cli.models.grid_forecaster import GridForecaster
from forecast_cli.models.patches import PatchDecoder, PatchEncoder
from forecast_cli.models.space_norm import SpaceNorm


class CellFactory(Protocol):
    """Makes the cell of one layer; `state_size` tensors are its recurrent state."""

    state_size: int

    def __call__(
        self, channels: int, hidden: int, *, size: tuple[int, int], config: RunConfig, boundary: Boundary
    ) -> Cell: ...


class Block(nn.Module):
    """A recurrent cell and, if asked for, a channel MLP, each with a residual and a norm."""

    def __init__(self, cell: Cell, channels: int, hidden: int, *, size: tuple[int, int], options: ModelConfig) -> None:
        super().__init__()
        self.norm_first = options.norm_position == "before"
        self.cell = cell
        self.norm = norm(options.norm, channels if self.norm_first else hidden, size)
        # Where the number of channels changes, the residual goes through a 1x1 convolution.
        self.shortcut = nn.Identity() if channels == hidden else nn.Conv2d(channels, hidden, 1, bias=False)
        self.mlp, self.mlp_norm = None, None
        if options.mlp:
            inner = max(1, round(options.mlp * hidden))
            self.mlp = nn.Sequential(
                nn.Conv2d(hidden, inner, 1), activation(options.activation), nn.Conv2d(inner, hidden, 1)
            )
            self.mlp_norm = norm(options.norm, hidden, size)

    def forward(self, features: Tensor, state: State | None, kernels: Kernels) -> tuple[Tensor, State]:
        """features: (batch, time, channel, height, width). kernels: the cell's. Returns the features and the cell's last state."""
        if self.norm_first:
            remembered, last = self.cell(over_frames(self.norm, features), state, kernels)
            features = over_frames(self.shortcut, features) + remembered
        else:
            remembered, last = self.cell(features, state, kernels)
            features = self._normed(over_frames(self.shortcut, features), remembered)
        return over_frames(self._mix, features) if self.mlp else features, last

    def _normed(self, features: Tensor, remembered: Tensor) -> Tensor:
        """The norm of their sum."""
        if isinstance(self.norm, SpaceNorm):
            return self.norm(features.flatten(0, 1), remembered.flatten(0, 1)).unflatten(0, features.shape[:2])
        return over_frames(self.norm, features + remembered)

    def _mix(self, frames: Tensor) -> Tensor:
        """The MLP over the channels of each cell of (n, channel, height, width)."""
        assert self.mlp is not None
        assert self.mlp_norm is not None
        if self.norm_first:
            return frames + self.mlp(self.mlp_norm(frames))
        mixed: Tensor = self.mlp_norm(frames + self.mlp(frames))
        return mixed


class RecurrentForecaster(GridForecaster):
    """A stack of recurrent cells between an encoder and a decoder of patches."""

    def __init__(self, config: RunConfig, domain: Domain, cell: CellFactory) -> None:
        super().__init__(config, domain)
        options, widths = config.model, config.model.hidden
        variables, height, width = domain.shape
        self.state_size = cell.state_size
        self.encoder = PatchEncoder(self.channels, widths[0], (height, width), options, self.boundary)
        size = self.encoder.size
        self.blocks = nn.ModuleList(
            Block(
                cell(before, hidden, size=size, config=config, boundary=self.boundary),
                before,
                hidden,
                size=size,
                options=options,
            )
            for before, hidden in zip((widths[0], *widths), widths, strict=False)
        )
        self.decoder = PatchDecoder(widths[-1], variables, (height, width), options.patch)
        if self.predict == "tendency":
            self.decoder.start_at_zero()

    def kernels(self) -> tuple[Kernels, ...]:
        """Those of each block's cell."""
        return tuple(cast(Block, block).cell.kernels() for block in self.blocks)

    def network(self, inputs: Tensor, state: State | None, kernels: tuple[Kernels, ...]) -> tuple[Tensor, State]:
        features, last = self.recur(over_frames(self.encoder, inputs), state, kernels)
        return over_frames(self.decoder, features), last

    def recur(self, features: Tensor, state: State | None, kernels: tuple[Kernels, ...]) -> tuple[Tensor, State]:
        """From the encoded frames to those to be decoded, (batch, time, channel, rows, columns), and the blocks' last states."""
        after: State = ()
        for number, (block, of_cell) in enumerate(zip(self.blocks, kernels, strict=True)):
            start = number * self.state_size
            before = None if state is None else state[start : start + self.state_size]
            features, last = block(features, before, of_cell)
            after += last
        return features, after
