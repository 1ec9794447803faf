"""From where an inversion starts to the best depth, and how sure it is."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from forecast_cli.inversion.depths import smooth
from forecast_cli.inversion.descent import Descent, descend
from forecast_cli.inversion.ensemble import ensemble
from forecast_cli.inversion.misfit import Objective
from forecast_cli.inversion.noise import LEAST, told
from forecast_cli.inversion.plan import Inversion, Reporter
from forecast_cli.inversion.prepare import Prepared
from forecast_cli.inversion.uncertainty import (
    DENSE,
    Posterior,
    curvature_of,
    dense_posterior,
    likeliest_prior,
    sampled_posterior,
    scales_of,
)

SOFTENED = (20.0, 5.0)
"""Factors of the noise at first where gauges are few: the misfit of sparse gauges has valleys that lead nowhere."""
GROWING = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the record that are fitted before all of it where most cells are seen: in wider strides rough beds end in wrong valleys."""
GROWING_SHARE, GROWING_MOST = 0.03, 30
"""Share of the iterations, and iterations, that each of these may take at most: what waves have hardly reached should not be overdone."""
SOFT_SHARE = 0.2
"""Share of the iterations that each of these may take."""
SPREADS = (0.01, 1.5)
"""Between which the data choose the spread of the smooth prior."""
REFITS = 5
"""Times that the noise of data that do not say theirs is judged again from what the fit leaves."""
KEPT = 0.9
"""An estimate is kept where the residuals have at least this share of it."""


class Fit:
    """The state of an inversion between its start and its verdict; `run` takes it there.

    objective: with the noise and the prior as they are by now. length: correlation length of the prior [m], None for a white one.
    posterior: where it was last computed on the way, None before; uncertainty: that of the depth found, None unless it is known.
    """

    def __init__(self, prepared: Prepared, inversion: Inversion, reporter: Reporter, stop: Callable[[], bool]) -> None:
        self.prepared, self.inversion, self.reporter, self.stop = prepared, inversion, reporter, stop
        self.objective, self.descent = prepared.objective, Descent(prepared.start)
        self.length = prepared.lengths[0] if prepared.lengths else None
        self.posterior: Posterior | None = None
        self.uncertainty: Posterior | None = None
        self._found = False

    @property
    def stopped_on_the_way_to(self) -> str:
        """What was not reached because somebody stopped it; "" if nobody did."""
        return "" if not self.descent.stopped else "the uncertainty of the depth" if self._found else "the depth"

    @property
    def depth(self) -> np.ndarray:
        """(height, width) [m]"""
        return self.objective.depth(self.descent.x)

    def run(self) -> None:
        """Down to the best depth, then how sure it is."""
        sparse = bool(self.prepared.lengths)
        if not self.prepared.approached:
            self._approach(sparse)
        small = self.prepared.observed.grid.shape[0] * self.prepared.observed.grid.shape[1] <= DENSE
        if small and (sparse or self.prepared.forward.free):
            self._descend(self.objective, self._left // 2, 1.0)
            self._sharpen()
        else:
            self._descend(self.objective, self._left, 1.0)
        for _ in range(REFITS if self.prepared.estimated else 0):
            if self.descent.stopped or not self._quieter():
                break
            if sparse and small:
                self._sharpen()
            else:
                self._descend(self.objective, self._left, 1.0)
        self._found = self.descent.converged
        if not self.descent.stopped and self.inversion.uncertainty != "none":
            self._uncertain(small)

    def _approach(self, sparse: bool) -> None:
        """Near the best depth by easier ways: with much noise where gauges are few, else along the record as it grows.

        Waves that come a whole period too late over a wrong depth would draw it the wrong way; at first they cannot.
        """
        if sparse:
            for factor in SOFTENED:
                softened = replace(self.objective.misfit, deviation=factor * self.objective.misfit.deviation)
                self._descend(replace(self.objective, misfit=softened), self._share(SOFT_SHARE), factor, far=True)
            return
        frames = self.objective.misfit.observed.shape[1]
        for share in GROWING:
            if (count := round(share * frames)) >= 1:
                begun = replace(self.objective, misfit=self.objective.misfit.first(count))
                self._descend(begun, min(self._share(GROWING_SHARE), GROWING_MOST), 1.0, far=True)

    def _share(self, share: float) -> int:
        return max(1, round(share * self.inversion.iterations))

    @property
    def _left(self) -> int:
        return max(1, self.inversion.iterations - self.descent.iterations)

    def _descend(
        self,
        objective: Objective,
        iterations: int,
        softened: float,
        change: np.ndarray | None = None,
        *,
        far: bool = False,
    ) -> None:
        """Down by so many iterations at most. far: the curvature of single cells here says nothing of that where it leads."""
        total = self.inversion.iterations
        iterations = min(iterations, total - self.descent.iterations)
        if self.descent.stopped:
            return
        if iterations < 1:
            self.descent.converged = False
            return

        if change is None:
            change = scales_of(objective, self.descent.x, seed=self.inversion.seed, apart=not far)

        def report(descent: Descent) -> None:
            self.reporter.step("inverting", descent.iterations, total, f"iterations, chi2 {descent.chi2[-1]:.4g}")

        descend(
            objective,
            self.descent,
            iterations=iterations,
            stop=self.stop,
            report=report,
            change=change,
            softened=softened,
        )

    def _sharpen(self) -> None:
        """Down again with every direction counting alike; before it the smooth prior under which the data are likeliest."""
        curvature = None if self.descent.stopped else curvature_of(self.objective, self.descent.x, self.stop)
        if curvature is None:
            self.descent.stopped = True
            return
        if self.prepared.lengths:
            self._choose_prior(curvature)
        self.posterior = dense_posterior(self.objective, self.descent.x, curvature)
        self._descend(self.objective, self._left, 1.0, self.posterior.root)

    def _choose_prior(self, curvature: np.ndarray) -> None:
        depth = self.objective.depth(self.descent.x)
        priors = [smooth(self.prepared.observed.grid, length, 1.0) for length in self.prepared.lengths]
        chosen, spread = likeliest_prior(self.objective, self.descent.x, curvature, priors, SPREADS)
        self.objective = replace(
            self.objective, depths=replace(self.objective.depths, amplitudes=spread * priors[chosen])
        )
        self.length = self.prepared.lengths[chosen]
        self.reporter.say(f"prior likeliest by the data: smooth over {self.length:.4g} m, spread {spread:.3g}")
        self.descent.x = np.concatenate([self.objective.depths.unknowns(depth).ravel(), self.descent.x[depth.size :]])

    def _quieter(self) -> bool:
        """Whether the residuals show an estimated noise to be too large; it is then lowered to theirs."""
        residual, noise = self.residual(), self.objective.misfit.deviation.cpu().numpy().astype(float)
        shares = np.sqrt(
            np.nanmean(residual**2, axis=(0, 1, 3, 4)) / max(0.05, 1 - self.used / self.objective.misfit.count)
        )
        lowered = noise.copy()
        for channel, name in enumerate(self.prepared.observed.channels):
            if name in self.prepared.estimated and shares[channel] < KEPT:
                lowered[channel] = max(noise[channel] * shares[channel], LEAST * self.prepared.observed.spread[channel])
        if (lowered == noise).all():
            return False
        self.reporter.say(
            f"noise judged again from the residuals: {told(self.prepared.observed, lowered, self.prepared.estimated)}"
        )
        quieter = torch.as_tensor(lowered).to(self.objective.misfit.deviation)
        self.objective = replace(self.objective, misfit=replace(self.objective.misfit, deviation=quieter))
        return True

    @property
    def used(self) -> float:
        """How many residuals the depth has used up."""
        return self.posterior.determined if self.posterior else 0.0

    def _uncertain(self, small: bool) -> None:
        x = self.descent.x

        def report(unit: str, done: int, total: int) -> None:
            self.reporter.step("uncertainty", done, total, unit)

        if self.inversion.uncertainty == "ensemble":
            said = partial(report, "members")
            found = ensemble(self.objective, x, self.posterior, seed=self.inversion.seed, stop=self.stop, report=said)
        elif small and not self.objective.is_loose:
            curvature = curvature_of(self.objective, x, self.stop)
            found = None if curvature is None else dense_posterior(self.objective, x, curvature)
        else:
            said = partial(report, "samples")
            found = sampled_posterior(self.objective, x, seed=self.inversion.seed, stop=self.stop, report=said)
        if found is None:
            # Marked as unfinished, so that --resume auto comes back for it.
            self.descent.stopped, self.descent.converged = True, False
        self.uncertainty = self.posterior = found

    def residual(self) -> np.ndarray:
        """(sample, time, channel, height, width) in standard deviations, NaN where nobody looked."""
        found = self.objective.misfit.residual(self.objective.fields(self.descent.x))
        return found.masked_fill(~self.objective.misfit.seen, torch.nan).cpu().numpy().astype(float)
