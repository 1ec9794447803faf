"""What a network on the cells of a grid sees of the fields, and how its output becomes the next frame."""

import torch
from torch import Tensor

from forecast_cli.config import RunConfig
from forecast_cli.domain import Domain
from forecast_cli.models.base import Forecast, ForecastModel, State, filled, last_known
from forecast_cli.models.cell import Kernels


class GridForecaster(ForecastModel):
    """A network from the inputs of each frame to the next frame, behind the contract of `ForecastModel`.

    Inputs of a step: the frame, the change that led to it, what came one season before the frame to be predicted,
    where the frame is missing, static fields, and the forcing of the frame to be predicted; `channels` in all.
    A subclass is the network: it gives `network`, and `kernels` where its weights are to be made ready.
    """

    def __init__(self, config: RunConfig, domain: Domain) -> None:
        super().__init__(domain, pointwise=config.data.normalize == "pointwise", masked=config.data.masked)
        options = config.model
        self.predict, self.increments, self.lag = options.predict, options.increments, options.seasonal_lag
        self.boundary = domain.boundary if options.boundary == "auto" else options.boundary
        seen = 1 + self.increments + 2 * bool(self.lag) + self.masked
        self.channels = domain.shape[0] * seen + len(domain.static) + len(domain.forcing)

    def kernels(self) -> tuple[Kernels, ...]:
        """What `network` takes, from the present weights: made once for a whole rollout."""
        return ()

    def network(self, inputs: Tensor, state: State | None, kernels: tuple[Kernels, ...]) -> tuple[Tensor, State]:
        """The next frames, normalised, or by what they differ in units of `change`; and the state after the last.

        inputs: (batch, time, channels, height, width). state: of the network, after the frame before; None at the start.
        """
        raise NotImplementedError

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
        kernels = self.kernels()
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
        kernels: tuple[Kernels, ...],
    ) -> tuple[Tensor, State]:
        """For each of `frames` the prediction of the next one, and the state that has consumed them all."""
        inputs, carried = self._inputs(frames, state, static, forcing)
        base = frames
        if self.masked and self.predict == "tendency":
            base = last_known(frames, self.mean.expand_as(frames[:, 0]) if state is None else state[len(carried)])
            carried += (base[:, -1],)
        output, last = self.network(inputs, None if state is None else state[len(carried) :], kernels)
        if self.predict == "tendency":
            return self.blank(base + output * self.change), carried + last
        return self.denormalize(output), carried + last

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
