"""The stack that all convolutional RNNs share: encoder, cells with residuals and norms, decoder.

    frames -> 1x1 encoder -> for each layer: y = y + cell(norm(y)) -> 1x1 decoder -> next frames

or, as in the paper, y = norm(y + cell(y)) (`model.norm_position`).

Only the cell differs between models. A cell takes the whole sequence at once: the minimal ones compute
it in parallel over time, the classical ones loop inside. Source: Horuz et al. (2025), arXiv 2508.03614.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from forecast_cli.config import RunConfig
from forecast_cli.domain import Boundary, Domain
from forecast_cli.models.base import Forecast, ForecastModel, State, refuse
from forecast_cli.models.convolution import norm, over_frames


class CellFactory(Protocol):
    """Makes the cell of one layer; `state_size` tensors are its recurrent state."""

    state_size: int

    def __call__(
        self, channels: int, hidden: int, *, size: tuple[int, int], config: RunConfig, boundary: Boundary
    ) -> nn.Module: ...


class RecurrentForecaster(ForecastModel):
    """A stack of recurrent cells behind the contract of `ForecastModel`."""

    def __init__(self, config: RunConfig, domain: Domain, cell: CellFactory) -> None:
        super().__init__(domain, pointwise=config.data.normalize == "pointwise")
        options = config.model
        variables, height, width = domain.shape
        size = (height, width)
        boundary = domain.boundary if options.boundary == "auto" else options.boundary
        widths = options.hidden
        self.predict, self.increments, self.norm_position = options.predict, options.increments, options.norm_position
        self.state_size = cell.state_size

        self.encoder = nn.Sequential(nn.Conv2d(variables * (1 + self.increments), widths[0], 1))
        if options.encoder_tanh:
            self.encoder.append(nn.Tanh())
        self.cells = nn.ModuleList(
            cell(before, hidden, size=size, config=config, boundary=boundary)
            for before, hidden in zip((widths[0], *widths), widths, strict=False)
        )
        # Where the number of channels changes, the residual goes through a 1x1 convolution.
        self.shortcuts = nn.ModuleList(
            nn.Identity() if before == hidden else nn.Conv2d(before, hidden, 1, bias=False)
            for before, hidden in zip((widths[0], *widths), widths, strict=False)
        )
        normed = widths if self.norm_position == "after" else (widths[0], *widths[:-1])
        self.norms = nn.ModuleList(norm(options.norm, channels, size) for channels in normed)
        self.decoder = nn.Conv2d(widths[-1], variables, 1)
        if self.predict == "tendency":
            for parameter in self.decoder.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self,
        context: Tensor,
        steps: int,
        *,
        static: Tensor | None = None,
        forcing: Tensor | None = None,
        state: State | None = None,
    ) -> Forecast:
        refuse(static=static, forcing=forcing)
        predicted, state = self._advance(context, state)
        fitted, fields = predicted[:, :-1], [predicted[:, -1:]]
        for _ in range(steps - 1):
            predicted, state = self._advance(fields[-1], state)
            fields.append(predicted)
        return Forecast(fitted, torch.cat(fields, dim=1), state)

    def _advance(self, frames: Tensor, state: State | None) -> tuple[Tensor, State]:
        """For each of `frames` the prediction of the next one, and the state that has consumed them all."""
        inputs = self.normalize(frames)
        if self.increments:
            previous = frames[:, :1] if state is None else state[0].unsqueeze(1)
            change = (frames - torch.cat([previous, frames[:, :-1]], dim=1)) / self.change
            inputs = torch.cat([inputs, change], dim=2)
        carried: State = (frames[:, -1],) if self.increments else ()

        features = over_frames(self.encoder, inputs)
        for cell, shortcut, norm_ in zip(self.cells, self.shortcuts, self.norms, strict=True):
            start = len(carried)
            before = state[start : start + self.state_size] if state is not None else None
            if self.norm_position == "before":
                remembered, last = cell(over_frames(norm_, features), before)
                features = over_frames(shortcut, features) + remembered
            else:
                remembered, last = cell(features, before)
                features = over_frames(norm_, over_frames(shortcut, features) + remembered)
            carried += last

        decoded = over_frames(self.decoder, features)
        if self.predict == "tendency":
            return frames + decoded * self.change, carried
        return self.denormalize(decoded), carried
