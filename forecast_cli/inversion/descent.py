"""The way down: L-BFGS that says where it stands, stops when asked, and knows when further steps mean nothing."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import minimize

from forecast_cli.inversion.misfit import Objective

MEMORY = 20
WINDOW = 10
CALM = 0.002
"""At rest: WINDOW iterations lower the objective by less than this for each unknown: in the mean they move it by 0.06 of its deviation."""

LAST = 3
"""A line search that ends by itself has met rounding where so many iterations before it have hardly lowered the objective."""
SHARP = 0.05
"""The same for all unknowns together where every direction counts alike: then no direction is a laggard, and waiting costs little."""
RISE = 0.1
"""Of the objective up to a refused trial, as a share of the descent that the slope at the start promises; it must not be 0."""


@dataclass(eq=False)
class Descent:
    """Where a descent has come to. values, chi2: the objective, and the mean squared residual, at the start and after each iteration."""

    x: np.ndarray
    values: list[float] = field(default_factory=list)
    chi2: list[float] = field(default_factory=list)
    converged: bool = False
    stopped: bool = False

    @property
    def iterations(self) -> int:
        return max(0, len(self.values) - 1)


class _Enough(Exception):
    pass


@dataclass(frozen=True)
class _Evaluation:
    """The objective at a place."""

    y: np.ndarray
    value: float
    gradient: np.ndarray

    def wall(self, y: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient for a line search from here that is refused at y: it goes up there as steeply as it goes down here.

        Interpolation then leads to the middle. An infinite value would lead back to the start, where the search ends.
        """
        rise = RISE * abs(float(self.gradient @ (y - self.y)))
        return max(self.value + rise, math.nextafter(self.value, math.inf)), -self.gradient


def descend(
    objective: Objective,
    descent: Descent,
    *,
    iterations: int,
    stop: Callable[[], bool],
    report: Callable[[Descent], None],
    change: np.ndarray | None = None,
    softened: float = 1.0,
) -> Descent:
    """Up to `iterations` more from where `descent` stands, in place; `stop` is asked before every evaluation.

    change: P of the unknowns x = P y in which to go, symmetric, or its diagonal; with P the root of the posterior covariance every
    direction counts alike. softened: factor of the noise in the objective, which chi2 is cleared of.
    """
    descent.converged = descent.stopped = False
    best, steepness = (math.inf, descent.x), math.inf
    start: _Evaluation | None = None
    latest: _Evaluation | None = None
    whole = change is not None and change.ndim == 2
    first, calm = len(descent.values), SHARP if whole else CALM * len(descent.x)
    rest = 1e-9 if objective.misfit.start.dtype == torch.float64 else 1e-5

    def changed(y: np.ndarray) -> np.ndarray:
        return y if change is None else change @ y if whole else change * y

    def evaluated(y: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best, steepness, start, latest
        if stop():
            raise _Enough
        x = changed(y)
        value, gradient = objective(x)
        gradient = changed(gradient)
        if value < best[0]:
            best, steepness = (value, x.copy()), float((gradient**2).sum())
        if not descent.values:
            record()
        if not math.isfinite(value):
            return start.wall(y) if start else (value, gradient)
        latest = _Evaluation(y.copy(), value, gradient.copy())
        start = start or latest
        return value, gradient

    def record() -> None:
        descent.values.append(best[0])
        descent.chi2.append(softened**2 * (2 * best[0] - float((best[1] ** 2).sum())) / objective.misfit.count)
        descent.x = best[1]

    def after(_: np.ndarray) -> None:
        nonlocal start
        start = latest
        record()
        report(descent)
        if len(descent.values) - first > WINDOW and descent.values[-1 - WINDOW] - best[0] < calm:
            descent.converged = True
            raise _Enough

    y = descent.x if change is None else np.linalg.solve(change, descent.x) if whole else descent.x / change
    options = {
        "maxcor": MEMORY,
        "maxiter": iterations,
        "maxfun": 20 * iterations,
        "ftol": 0.0,
        "gtol": 0.0,
        "maxls": 40,
    }
    try:
        minimize(evaluated, y, jac=True, method="L-BFGS-B", callback=after, options=options)
    except _Enough:
        descent.stopped = not descent.converged
    else:
        # The prior alone curves the objective by 1, so that no more than this is left to be gained; or rounding hides it.
        since = descent.values[first:]
        rounding = len(since) > LAST and since[-1 - LAST] - since[-1] < rest * since[-1]
        descent.converged = steepness / 2 < calm or rounding
    descent.x = best[1]
    return descent
