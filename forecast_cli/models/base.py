"""The contract of every model: a context of true frames in, a closed-loop forecast and a state out."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from forecast_cli.domain import Domain
from forecast_cli.errors import ConfigError

State = tuple[Tensor, ...]


class Forecast(NamedTuple):
    """What a model returns, in physical units.

    fitted: (batch, context - 1, channel, height, width), one-step predictions of context frames 1 and on.
    fields: (batch, steps, channel, height, width), the closed-loop forecast after the context.
    state: has consumed everything but the last forecast frame; opaque to callers.
    """

    fitted: Tensor
    fields: Tensor
    state: State


class ForecastModel(nn.Module):
    """A forecaster of the fields of a domain, in physical units: normalisation lives inside.

    Buffers, all in physical units and float32, saved with the weights (`set_statistics`):
    mean, scale: (channel, 1 | height, 1 | width), the training part's mean and standard deviation.
    change: (channel, 1, 1), standard deviation of the change from one frame to the next.
    climatology: (channel, height, width), the training part's mean over time.

    Laws (tests/test_laws.py): forecasting m + n steps equals m, then n more from the returned state,
    with the last forecast frame as context; the context may be cut anywhere in the same way.
    """

    mean: Tensor
    scale: Tensor
    change: Tensor
    climatology: Tensor

    def __init__(self, domain: Domain, *, pointwise: bool = False) -> None:
        super().__init__()
        self.domain = domain
        channel, height, width = domain.shape
        shape = (channel, height, width) if pointwise else (channel, 1, 1)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("change", torch.ones(channel, 1, 1))
        self.register_buffer("climatology", torch.zeros(channel, height, width))

    def set_statistics(self, **statistics: Tensor) -> None:
        """Copy mean, scale, change and climatology of the training part into the buffers."""
        for name, value in statistics.items():
            self.get_buffer(name).copy_(value)

    def normalize(self, fields: Tensor) -> Tensor:
        """Fields in units of the training part's spread; the last three axes are (channel, height, width)."""
        return (fields - self.mean) / self.scale

    def denormalize(self, fields: Tensor) -> Tensor:
        """The inverse of `normalize`, in float32 at least."""
        return fields.to(torch.promote_types(fields.dtype, torch.float32)) * self.scale + self.mean

    def forward(
        self,
        context: Tensor,
        steps: int,
        *,
        static: Tensor | None = None,
        forcing: Tensor | None = None,
        state: State | None = None,
    ) -> Forecast:
        """Forecast `steps` frames after `context`.

        context: (batch, time, channel, height, width), at least one frame.
        static: (batch, k, height, width), fields that do not change.
        forcing: (batch, context + steps, k, height | 1, width | 1), known ahead.
        state: of an earlier call that this context continues.
        Raises ConfigError where the model has no use for static or forcing.
        """
        raise NotImplementedError


def refuse(**inputs: Tensor | None) -> None:
    """Raise ConfigError for an input that the calling model has no use for."""
    for name, value in inputs.items():
        if value is not None:
            raise ConfigError(f"this model takes no {name} fields.")
