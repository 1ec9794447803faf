"""The stack that all convolutional RNNs share: encoder, blocks of a recurrent cell, decoder.

    frames -> patches -> for each layer: y = y + cell(norm(y)), y = y + mlp(norm(y)) -> decoder -> next frames

or, as in the paper, y = norm(y + cell(y)) (`model.norm_position`), with patches of one cell and no MLP.

Only the cell differs between models. A cell takes the whole sequence at once: the minimal ones compute
it in parallel over time, the classical ones loop inside. Source: Horuz et al. (2025), arXiv 2508.03614.
"""

from typing import Protocol, cast

import torch
from torch import Tensor, nn

from forecast_cli.config import ModelConfig, RunConfig
from forecast_cli.domain import Boundary, Domain
from forecast_cli.models.base import Forecast, ForecastModel, State, filled, last_known
from forecast_cli.models.cell import Cell, Kernels
from forecast_cli.models.convolution import norm, over_frames
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
            self.mlp = nn.Sequential(nn.Conv2d(hidden, inner, 1), nn.GELU(), nn.Conv2d(inner, hidden, 1))
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


class RecurrentForecaster(ForecastModel):
    """A stack of recurrent cells behind the contract of `ForecastModel`.

    Inputs of a step: the frame, the change that led to it, what came one season before the frame to be predicted,
    where the frame is missing, static fields, and the forcing of the frame to be predicted.
    """

    def __init__(self, config: RunConfig, domain: Domain, cell: CellFactory) -> None:
        super().__init__(domain, pointwise=config.data.normalize == "pointwise", masked=config.data.masked)
        options, widths = config.model, config.model.hidden
        variables, height, width = domain.shape
        boundary = domain.boundary if options.boundary == "auto" else options.boundary
        self.predict, self.increments, self.state_size = options.predict, options.increments, cell.state_size
        self.lag = options.seasonal_lag

        channels = (
            variables * (1 + self.increments + 2 * bool(self.lag) + self.masked)
            + len(domain.static)
            + len(domain.forcing)
        )
        self.encoder = PatchEncoder(channels, widths[0], (height, width), options, boundary)
        size = self.encoder.size
        self.blocks = nn.ModuleList(
            Block(
                cell(before, hidden, size=size, config=config, boundary=boundary),
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

    def forward(
        self,
        context: Tensor,
        steps: int,
        *,
        static: Tensor | None = None,
        forcing: Tensor | None = None,
        state: State | None = None,
    ) -> Forecast:
        self.require_inputs(static, forcing)
        known = context.shape[1]
        # The forcing of step t is that of the frame it predicts, t + 1.
        ahead = None if forcing is None else (forcing - self.forcing_mean) / self.forcing_scale
        steady = None if static is None else ((static - self.static_mean) / self.static_scale).unsqueeze(1)
        kernels = [cast(Block, block).cell.kernels() for block in self.blocks]
        predicted, state = self._advance(
            context, state, steady, None if ahead is None else ahead[:, 1 : known + 1], kernels
        )
        fitted, fields = predicted[:, :-1], [predicted[:, -1:]]
        for time in range(known + 1, known + steps):
            predicted, state = self._advance(
                fields[-1], state, steady, None if ahead is None else ahead[:, time : time + 1], kernels
            )
            fields.append(predicted)
        return Forecast(fitted, torch.cat(fields, dim=1), state)

    def _advance(
        self,
        frames: Tensor,
        state: State | None,
        static: Tensor | None,
        forcing: Tensor | None,
        kernels: list[Kernels],
    ) -> tuple[Tensor, State]:
        """For each of `frames` the prediction of the next one, and the state that has consumed them all."""
        inputs, carried = self._inputs(frames, state, static, forcing)
        base = frames
        if self.masked and self.predict == "tendency":
            base = last_known(frames, self.mean.expand_as(frames[:, 0]) if state is None else state[len(carried)])
            carried += (base[:, -1],)
        features = over_frames(self.encoder, inputs)
        for block, of_cell in zip(self.blocks, kernels, strict=True):
            start = len(carried)
            before = state[start : start + self.state_size] if state is not None else None
            features, last = block(features, before, of_cell)
            carried += last

        decoded = over_frames(self.decoder, features)
        if self.predict == "tendency":
            return self.blank(base + decoded * self.change), carried
        return self.denormalize(decoded), carried

    def _inputs(
        self, frames: Tensor, state: State | None, static: Tensor | None, forcing: Tensor | None
    ) -> tuple[Tensor, State]:
        """All input channels of each frame, normalised, (batch, time, channels, height, width); and what the next call needs.

        Before the first frame of all there was, as far as the model knows, that frame all along.
        """
        inputs, carried = [self.normalize(frames)], []
        if self.increments:
            previous = frames[:, :1] if state is None else state[0].unsqueeze(1)
            change = (frames - torch.cat([previous, frames[:, :-1]], dim=1)) / self.change
            inputs.append(filled(change) if self.masked else change)
            carried.append(frames[:, -1])
        if self.lag:
            before = frames[:, :1].expand(-1, self.lag, -1, -1, -1) if state is None else state[len(carried)]
            record, time = torch.cat([before, frames], dim=1), frames.shape[1]
            then, after = record[:, :time], record[:, 1 : time + 1]
            inputs += [filled((after - frames) / self.scale), filled((after - then) / self.change)]
            carried.append(record[:, -self.lag :])
        if self.masked:
            inputs.append((~frames.isnan()).to(frames.dtype))
        batch, time, _, height, width = frames.shape
        inputs += [given.expand(batch, time, -1, height, width) for given in (static, forcing) if given is not None]
        return torch.cat(inputs, dim=2), tuple(carried)
