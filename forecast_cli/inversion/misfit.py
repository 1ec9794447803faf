"""How far a sea bed is from explaining the waves, and which way to go: the model's rollout, its weights frozen, and backward()."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from forecast_cli.inversion.depths import Depths
from forecast_cli.models.base import ForecastModel


@dataclass(frozen=True, eq=False)
class Soundings:
    """Depths that are known: `depth` [m] and its standard deviation at cells (row, column)."""

    rows: np.ndarray
    columns: np.ndarray
    depth: np.ndarray
    deviation: np.ndarray

    def chi2(self, depth: np.ndarray) -> float:
        """The sum of squared residuals of a sea bed (height, width)."""
        return float((((depth[self.rows, self.columns] - self.depth) / self.deviation) ** 2).sum())

    def slope(self, depth: np.ndarray) -> np.ndarray:
        """The gradient of chi2 / 2, (height, width)."""
        found = np.zeros_like(depth)
        np.add.at(found, (self.rows, self.columns), (depth[self.rows, self.columns] - self.depth) / self.deviation**2)
        return found

    def weights(self, shape: tuple[int, ...]) -> np.ndarray:
        """The curvature of chi2 / 2, which is diagonal: (height, width)."""
        found = np.zeros(shape)
        np.add.at(found, (self.rows, self.columns), 1 / self.deviation**2)
        return found


NONE = Soundings(np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Misfit:
    """chi^2 of the waves over a sea bed.

    start: known frames before the forecast (sample, context, variable, height, width). observed: (sample, time, channel, height, width)
    from the next frame on, NaN where nobody looked, unless `seen` says where somebody did. deviation: standard deviation of the noise,
    (channel,). channels: which variables of the model are observed.
    """

    model: ForecastModel
    start: Tensor
    observed: Tensor
    deviation: Tensor
    channels: tuple[int, ...]
    seen: Tensor = field(default_factory=lambda: torch.empty(0))
    weight: Tensor = field(init=False)
    count: int = field(init=False)
    """How many values were observed."""

    def __post_init__(self) -> None:
        if not self.seen.numel():
            object.__setattr__(self, "seen", ~self.observed.isnan())
            object.__setattr__(self, "observed", self.observed.nan_to_num(0.0))
        object.__setattr__(self, "weight", self.seen / self.deviation.view(-1, 1, 1))
        object.__setattr__(self, "count", int(self.seen.sum()))

    def first(self, count: int) -> "Misfit":
        """The same of the first `count` frames."""
        return replace(self, observed=self.observed[:, :count], seen=self.seen[:, :count])

    def fields(self, depth: Tensor, start: Tensor | None = None) -> Tensor:
        """The forecast over a depth (1, 1, height, width), (sample, time, variable, height, width). start: another than its own."""
        static = depth.expand(len(self.start), -1, -1, -1)
        return self.model(self.start if start is None else start, self.observed.shape[1], static=static).fields

    def residual(self, fields: Tensor) -> Tensor:
        """(forecast - observed) / deviation, 0 where nobody looked."""
        return (self._observable(fields) - self.observed).mul_(self.weight)

    def _observable(self, fields: Tensor) -> Tensor:
        return fields if len(self.channels) == fields.shape[2] else fields[:, :, list(self.channels)]

    @torch.no_grad()
    def chi2(self, depth: Tensor) -> float:
        """The sum of squared residuals."""
        return self.chi2_of(self.fields(depth))

    def chi2_of(self, fields: Tensor) -> float:
        """The same of a forecast."""
        return _square(self.residual(fields))

    def chi2_and_slopes(self, fields: Tensor, leaves: Sequence[Tensor]) -> tuple[float, tuple[Tensor, ...]]:
        """That, and half its gradient with respect to what the forecast depends on."""
        observable = self._observable(fields)
        with torch.no_grad():
            residual = (observable - self.observed).mul_(self.weight)
            found = _square(residual)
            residual.mul_(self.weight)
        return found, torch.autograd.grad(observable, tuple(leaves), residual)


def _square(residual: Tensor) -> float:
    """The sum of squares, added up in float64 where there is one."""
    kind = torch.float32 if residual.device.type == "mps" else torch.float64
    return float(torch.linalg.vector_norm(residual, dtype=kind)) ** 2


FREEDOM = 0.3
"""Prior standard deviation of the logarithm of a number that is inferred beside the depth."""


@dataclass(eq=False)
class Objective:
    """Minus the logarithm of the posterior, over unknowns x: those of the depth, the free numbers, and a first frame that is noisy.

    chi^2 / 2 of the waves and of the soundings, and x^2 / 2 for the prior. loose: standard deviation of the noise in each variable of
    the first frame, 0 where it is exact. mean: of the prior, 0 but for the members of an ensemble.
    """

    misfit: Misfit
    depths: Depths
    soundings: Soundings = field(default_factory=lambda: NONE)
    free: tuple[torch.nn.Parameter, ...] = ()
    loose: tuple[float, ...] = ()
    mean: np.ndarray | float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.misfit.start.shape[-2:]

    @property
    def is_loose(self) -> bool:
        """Whether the first frame is among the unknowns."""
        return any(self.loose)

    @property
    def _loose_channels(self) -> list[int]:
        return [channel for channel, deviation in enumerate(self.loose) if deviation]

    def depth(self, x: np.ndarray) -> np.ndarray:
        """(height, width) [m]"""
        return self.depths(self._split(x)[0])

    def _split(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unknowns of the depth (height, width), of the numbers, and of the first frame (sample, loose variable, height, width)."""
        cells, numbers = int(np.prod(self.shape)), len(self.free)
        rest = x[cells + numbers :].reshape(len(self.misfit.start), len(self._loose_channels), *self.shape)
        return x[:cells].reshape(self.shape), x[cells : cells + numbers], rest

    def start(self) -> np.ndarray:
        """The unknowns where the prior is largest."""
        cells = int(np.prod(self.shape))
        return np.zeros(cells + len(self.free) + len(self.misfit.start) * len(self._loose_channels) * cells)

    def numbers(self, x: np.ndarray) -> np.ndarray:
        """The unknowns of the free numbers."""
        return self._split(x)[1]

    def pooled(self, x: np.ndarray, cells: int) -> np.ndarray:
        """Each map among the unknowns averaged over `cells` a side; 0: over all of it."""
        depth, numbers, first = self._split(x)

        def mean(maps: np.ndarray) -> np.ndarray:
            if not cells:
                return np.broadcast_to(maps.mean(axis=(-2, -1), keepdims=True), maps.shape).ravel()
            return np.asarray(uniform_filter(maps, cells, mode="nearest", axes=(-2, -1))).ravel()

        return np.concatenate([mean(depth), numbers, mean(first)])

    def set_numbers(self, x: np.ndarray) -> None:
        """Put the free numbers into the model."""
        for parameter, value in zip(self.free, self.numbers(x), strict=True):
            with torch.no_grad():
                parameter.fill_(FREEDOM * float(value))

    def leaf(self, x: np.ndarray) -> Tensor:
        """The depth at x as the model takes it, (1, 1, height, width); the free numbers go into the model."""
        self.set_numbers(x)
        return self.like(self.depth(x)).view(1, 1, *self.shape)

    def first(self, x: np.ndarray) -> Tensor:
        """The first frame at x, (sample, context, variable, height, width)."""
        start = self.misfit.start
        if not self.is_loose:
            return start
        shift = np.zeros(start[:, 0].shape)
        for place, channel in enumerate(self._loose_channels):
            shift[:, channel] = self.loose[channel] * self._split(x)[2][:, place]
        return start + self.like(shift).unsqueeze(1)

    def like(self, values: np.ndarray) -> Tensor:
        """Values where the model computes, in its precision."""
        return torch.as_tensor(values, dtype=self.misfit.start.dtype, device=self.misfit.start.device)

    @torch.no_grad()
    def fields(self, x: np.ndarray) -> Tensor:
        """The forecast at x, (sample, time, variable, height, width)."""
        return self.misfit.fields(self.leaf(x), self.first(x))

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient; (inf, 0) where the waves leave the finite numbers."""
        leaves = self.leaves(x)
        chi2, sensitivities = self.misfit.chi2_and_slopes(
            self.misfit.fields(leaves[0], leaves[-1]), self.moving(leaves)
        )
        value = chi2 / 2 + float(((x - self.mean) ** 2).sum()) / 2 + self.soundings.chi2(self.depth(x)) / 2
        gradient = x - self.mean + self.pulled(x, sensitivities, self.soundings.slope(self.depth(x)))
        if not np.isfinite(value) or not np.isfinite(gradient).all():
            return np.inf, np.zeros_like(x)
        return value, gradient

    def leaves(self, x: np.ndarray) -> tuple[Tensor, ...]:
        """What the forecast at x depends on: the depth, the free numbers, the first frame."""
        first = self.first(x)
        return self.leaf(x).requires_grad_(), *self.free, first.requires_grad_() if self.is_loose else first

    def moving(self, leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Those of the leaves that are unknown."""
        return tuple(leaves) if self.is_loose else tuple(leaves[:-1])

    def pulled(self, x: np.ndarray, sensitivities: Sequence[Tensor], of_soundings: np.ndarray) -> np.ndarray:
        """Sensitivity to x, from those to the depth (1, 1, height, width), to the free numbers and to the first frame."""
        unknown = self._split(x)[0]
        to_depth = sensitivities[0][0, 0].cpu().numpy().astype(float) + of_soundings
        to_numbers = [FREEDOM * float(number) for number in sensitivities[1 : 1 + len(self.free)]]
        found = [self.depths.pull(to_depth, self.depths.slope(unknown)).ravel(), np.array(to_numbers)]
        if self.is_loose:
            to_first = sensitivities[-1][:, 0].cpu().numpy().astype(float)
            scaled = [self.loose[channel] * to_first[:, channel] for channel in self._loose_channels]
            found.append(np.stack(scaled, axis=1).ravel())
        return np.concatenate(found)
