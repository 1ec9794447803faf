"""How far a sea bed is from explaining the waves, and which way to go: the model's rollout, its weights frozen, and backward()."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
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

    def fields(self, depth: Tensor) -> Tensor:
        """The forecast over a depth (1, 1, height, width), (sample, time, variable, height, width)."""
        static = depth.expand(len(self.start), -1, -1, -1)
        return self.model(self.start, self.observed.shape[1], static=static).fields

    def residual(self, fields: Tensor) -> Tensor:
        """(forecast - observed) / deviation, 0 where nobody looked."""
        return (self._observable(fields) - self.observed).mul_(self.weight)

    def _observable(self, fields: Tensor) -> Tensor:
        return fields if len(self.channels) == fields.shape[2] else fields[:, :, list(self.channels)]

    @torch.no_grad()
    def chi2(self, depth: Tensor) -> float:
        """The sum of squared residuals."""
        return _square(self.residual(self.fields(depth)))

    def chi2_and_slopes(self, depth: Tensor, others: Sequence[Tensor]) -> tuple[float, tuple[Tensor, ...]]:
        """The same, and half its gradient with respect to the depth and to other leaves that the model depends on."""
        observable = self._observable(self.fields(depth))
        with torch.no_grad():
            residual = (observable - self.observed).mul_(self.weight)
            found = _square(residual)
            residual.mul_(self.weight)
        return found, torch.autograd.grad(observable, (depth, *others), residual)


def _square(residual: Tensor) -> float:
    """The sum of squares, added up in float64 where there is one."""
    kind = torch.float32 if residual.device.type == "mps" else torch.float64
    return float(torch.linalg.vector_norm(residual, dtype=kind)) ** 2


FREEDOM = 0.3
"""Prior standard deviation of the logarithm of a number that is inferred beside the depth."""


@dataclass(eq=False)
class Objective:
    """Minus the logarithm of the posterior, over unknowns x: those of the depth, then the free numbers.

    chi^2 / 2 of the waves and of the soundings, and x^2 / 2 for the prior.
    """

    misfit: Misfit
    depths: Depths
    soundings: Soundings = field(default_factory=lambda: NONE)
    free: tuple[torch.nn.Parameter, ...] = ()
    evaluations: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.misfit.start.shape[-2:]

    def depth(self, x: np.ndarray) -> np.ndarray:
        """(height, width) [m]"""
        return self.depths(self._split(x)[0])

    def _split(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cells = int(np.prod(self.shape))
        return x[:cells].reshape(self.shape), x[cells:]

    def start(self) -> np.ndarray:
        return np.zeros(int(np.prod(self.shape)) + len(self.free))

    def set_numbers(self, x: np.ndarray) -> None:
        """Put the free numbers into the model."""
        for parameter, value in zip(self.free, self._split(x)[1], strict=True):
            with torch.no_grad():
                parameter.fill_(FREEDOM * float(value))

    def leaf(self, x: np.ndarray) -> Tensor:
        """The depth at x as the model takes it, (1, 1, height, width); the free numbers go into the model."""
        self.set_numbers(x)
        start = self.misfit.start
        return torch.as_tensor(self.depth(x), dtype=start.dtype, device=start.device).view(1, 1, *self.shape)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient; (inf, 0) where the waves leave the finite numbers."""
        self.evaluations += 1
        leaf = self.leaf(x).requires_grad_()
        chi2, sensitivities = self.misfit.chi2_and_slopes(leaf, self.free)
        value = chi2 / 2 + float((x**2).sum()) / 2 + self.soundings.chi2(self.depth(x)) / 2
        gradient = x + self.pulled(x, sensitivities, self.soundings.slope(self.depth(x)))
        if not np.isfinite(value) or not np.isfinite(gradient).all():
            return np.inf, np.zeros_like(x)
        return value, gradient

    def pulled(self, x: np.ndarray, sensitivities: Sequence[Tensor], of_soundings: np.ndarray) -> np.ndarray:
        """Sensitivity to x, from those to the depth (1, 1, height, width) and to the free numbers."""
        unknown, _ = self._split(x)
        to_depth = sensitivities[0][0, 0].cpu().numpy().astype(float) + of_soundings
        to_numbers = [FREEDOM * float(number) for number in sensitivities[1:]]
        return np.concatenate([self.depths.pull(to_depth, self.depths.slope(unknown)).ravel(), to_numbers])
