"""The contract of every model: a context of true frames in, a closed-loop forecast and a state out."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from forecast_cli.domain import Domain
from forecast_cli.errors import ConfigError

State = tuple[Tensor, ...]
Records = Iterator[tuple[int, Tensor]]
"""Sample and frames (time, channel, height, width) of the training part, block after block, each sample's in their order."""


class Forecast(NamedTuple):
    """What a model returns, in physical units.

    fitted: (batch, context - 1, channel, height, width), one-step predictions of context frames 1 and on.
    fields: (batch, steps, channel, height, width), the closed-loop forecast after the context.
    state: has consumed everything but the last forecast frame; opaque to callers.
    """

    fitted: Tensor
    fields: Tensor
    state: State


class LearnedFunction(NamedTuple):
    """A function that a model has learned, tabulated over the range of its inputs in the training part.

    inputs: name and unit, with the values along each. channels: of the fields that they are; None where they are others.
    outputs: name and unit.
    learned, known: (outputs, *values of the inputs), what the network gives and what the equation says itself.
    """

    name: str
    meaning: str
    inputs: list[tuple[str, str, Tensor]]
    channels: list[int] | None
    outputs: list[tuple[str, str]]
    learned: Tensor
    known: Tensor


class ForecastModel(nn.Module):
    """A forecaster of the fields of a domain, in physical units: normalisation lives inside.

    masked: values may be missing (NaN). They enter as the mean, `present` says where they never are.

    Buffers, all in physical units and float32, saved with the weights (`set_statistics`):
    mean, scale: (channel, 1 | height, 1 | width), the training part's mean and standard deviation.
    change: (channel, 1, 1), standard deviation of the change from one frame to the next.
    climatology: (channel, height, width), the training part's mean over time.
    present: (channel, height, width), whether a cell ever has a value; only if masked.
    static_mean, static_scale, forcing_mean, forcing_scale: (k, 1, 1), where the domain has such inputs.

    Laws (tests/test_laws.py): forecasting m + n steps equals m, then n more from the returned state,
    with the last forecast frame as context; the context may be cut anywhere in the same way.
    """

    fits = 0
    """Number of closed-form fits among which validation chooses; 0 for a model that is trained by gradients."""
    mean: Tensor
    scale: Tensor
    change: Tensor
    climatology: Tensor
    present: Tensor
    static_mean: Tensor
    static_scale: Tensor
    forcing_mean: Tensor
    forcing_scale: Tensor

    def __init__(self, domain: Domain, *, pointwise: bool = False, masked: bool = False) -> None:
        super().__init__()
        self.domain, self.masked = domain, masked
        channel, height, width = domain.shape
        shape = (channel, height, width) if pointwise else (channel, 1, 1)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("change", torch.ones(channel, 1, 1))
        self.register_buffer("climatology", torch.zeros(channel, height, width))
        if masked:
            self.register_buffer("present", torch.ones(channel, height, width, dtype=torch.bool))
        for kind, names in (("static", domain.static), ("forcing", domain.forcing)):
            if names:
                self.register_buffer(f"{kind}_mean", torch.zeros(len(names), 1, 1))
                self.register_buffer(f"{kind}_scale", torch.ones(len(names), 1, 1))

    def set_statistics(self, **statistics: Tensor) -> None:
        """Copy what is known of the training part into those buffers of the same names that the model has."""
        buffers = dict(self.named_buffers())
        for name in statistics.keys() & buffers.keys():
            buffers[name].copy_(statistics[name])

    def normalize(self, fields: Tensor) -> Tensor:
        """Fields in units of the training part's spread, the mean (0) where a value may be and is missing.

        The last three axes are (channel, height, width).
        """
        normalized = (fields - self.mean) / self.scale
        return filled(normalized) if self.masked else normalized

    def denormalize(self, fields: Tensor) -> Tensor:
        """The inverse of `normalize`, in float32 at least; NaN where no value ever is."""
        return self.blank(fields.to(torch.promote_types(fields.dtype, torch.float32)) * self.scale + self.mean)

    def blank(self, fields: Tensor) -> Tensor:
        """Fields with NaN where the data never have a value."""
        return torch.where(self.present, fields, torch.nan) if self.masked else fields

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
        Raises ConfigError where static or forcing is missing, or where the model has no use for it.
        """
        raise NotImplementedError

    def fit(self, records: Callable[[], Records], number: int) -> None:
        """Fit number `number` of `fits` to the training part, which `records` reads anew at each call."""
        raise NotImplementedError

    @property
    def parameter_count(self) -> int:
        """How many numbers training has chosen."""
        return sum(parameter.numel() for parameter in self.parameters())

    def learned_numbers(self) -> dict[str, tuple[float, str]]:
        """Numbers with a meaning that training has found, such as a diffusivity, with their units; by name."""
        return {}

    def learned_range(self) -> tuple[Tensor, Tensor] | None:
        """Lower and upper (channel, 1, 1) between which `learned_functions` hold; None where there are none."""
        return None

    def learned_functions(self) -> list[LearnedFunction]:
        """Functions with a meaning that training has found, such as a reaction rate."""
        return []

    def require_inputs(self, static: Tensor | None, forcing: Tensor | None) -> None:
        """Raise ConfigError unless static and forcing fields come as the domain says."""
        for kind, names, given in (("static", self.domain.static, static), ("forcing", self.domain.forcing, forcing)):
            if given is not None and not names:
                raise ConfigError(f"this model takes no {kind} fields.")
            if given is None and names:
                raise ConfigError(f"this model needs its {kind} fields: {', '.join(names)}.")


def filled(fields: Tensor, value: float = 0.0) -> Tensor:
    """Fields with `value` where they are NaN; infinite values stay, so that a divergence shows."""
    return torch.nan_to_num(fields, nan=value, posinf=torch.inf, neginf=-torch.inf)


def last_known(frames: Tensor, before: Tensor) -> Tensor:
    """Frames (batch, time, ...) with the last earlier value where they are NaN, `before` (batch, ...) the first frame."""
    record = torch.cat([before.unsqueeze(1), frames], dim=1)
    number = torch.arange(record.shape[1], device=record.device).view(1, -1, *(1,) * before[0].dim())
    # The greatest number of a frame so far that has a value; frame 0 has one everywhere.
    known = torch.where(record.isnan(), 0, number).cummax(dim=1).values
    return record.gather(1, known)[:, 1:]
