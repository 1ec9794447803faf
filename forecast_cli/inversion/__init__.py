"""The sea bed from the waves above it: the depth that makes a forward model with frozen weights reproduce them.

observed -> physics (the model and the bounds of the depth) -> guess -> descent -> uncertainty -> verdict -> output.
Source: Horuz et al. (2024), arXiv 2408.10649.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from forecast_cli.data.forecasts import open_written
from forecast_cli.data.noise import Noise
from forecast_cli.data.output import refuse_overwrite, require_writable
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.inversion import guess
from forecast_cli.inversion.depths import Depths, smooth, white
from forecast_cli.inversion.descent import Descent, descend
from forecast_cli.inversion.given import depth_of, first_depth, soundings_of
from forecast_cli.inversion.misfit import FREEDOM, NONE, Misfit, Objective
from forecast_cli.inversion.noise import LEAST, deviations
from forecast_cli.inversion.observed import CHANNELS, Observed, Source, read_waves
from forecast_cli.inversion.output import KIND, Result, write
from forecast_cli.inversion.physics import Forward, Physics, settle
from forecast_cli.inversion.uncertainty import (
    DENSE,
    Posterior,
    curvature_of,
    dense_posterior,
    likeliest_prior,
    sampled_posterior,
)
from forecast_cli.inversion.verdict import Verdict, judge

__all__ = ["Inversion", "Outcome", "Physics", "Reporter", "Source", "invert"]

SOFTENED = (20.0, 5.0)
"""Factors of the noise at first where gauges are few: the misfit of sparse gauges has valleys that lead nowhere."""
GROWING = (0.05, 0.1, 0.2, 0.4, 0.7)
"""Shares of the record that are fitted before all of it where most cells are seen."""
GROWING_SHARE = 0.06
"""Share of the iterations that each of these may take."""
SOFT_SHARE = 0.2
"""Share of the iterations that each of these may take."""
SMOOTH_SPREAD, SPREADS = 0.15, (0.01, 1.5)
"""Spread of the smooth prior before the data have chosen theirs, and between which."""
LENGTHS = (1 / 16, 1 / 32, 1 / 8, 1 / 4, 1 / 2)
"""Correlation lengths that the data choose the smooth prior's from, as shares of the basin's shorter side; the first to start with."""
REFITS = 5
"""Times that the noise of data that do not say theirs is judged again from what the fit leaves."""
KEPT = 0.9
"""An estimate is kept where the residuals have at least this share of it."""
MEMBERS, MEMBER_ITERATIONS = 16, 40
"""Of an ensemble: fits to waves and priors with further noise."""
DIRECTIONS = 3
"""In which the gradient is checked."""
UNCERTAINTIES = ("gauss-newton", "ensemble", "none")


@dataclass(frozen=True)
class Inversion:
    """What to do, as the user says it; see `forecast invert-topography --help`.

    noise: by channel, estimated where not given. initial: "auto", metres, or a file. prior: "auto", "white", "smooth" or "smooth:LENGTH".
    soundings, truth: files, or None.
    """

    source: Source
    physics: Physics = field(default_factory=Physics)
    noise: Mapping[str, Noise] = field(default_factory=dict)
    initial: str = "auto"
    prior: str = "auto"
    soundings: str | None = None
    truth: str | None = None
    iterations: int = 500
    uncertainty: str = "gauss-newton"
    seed: int = 0
    dtype: torch.dtype = torch.float64
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ConfigError(f"--iterations {self.iterations}: expected at least 1.")
        if self.uncertainty not in UNCERTAINTIES:
            raise ConfigError(f"--uncertainty {self.uncertainty}: expected {', '.join(UNCERTAINTIES)}.")
        if self.prior.partition(":")[0] not in ("auto", "white", "smooth"):
            raise ConfigError(f"--prior {self.prior}: expected white, smooth, or smooth:LENGTH in metres.")


class Reporter(Protocol):
    """Who watches: the command line, or nobody."""

    def say(self, text: str) -> None: ...
    def step(self, what: str, done: int, total: int, detail: str) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What came of it. scores: relative_l2, relative_l2_inner [1] and coverage_95, where the truth is known."""

    verdict: Verdict
    stopped: bool
    chi2: float
    iterations: int
    seconds: float
    scores: Mapping[str, float]
    warnings: tuple[str, ...]


def invert(
    inversion: Inversion, output: Path, *, overwrite: bool, resume: str, reporter: Reporter, stop: Callable[[], bool]
) -> Outcome:
    """Infer the sea bed and write it to `output`, also when `stop` ends the descent early.

    resume: "auto" goes on from an `output` that has not converged, and replaces it; "never" starts anew.
    Raises ForecastErrors for what is wrong with input or options; nothing is written then.
    """
    started = time.monotonic()
    before = _unfinished(output) if resume == "auto" else None
    if before is None:
        refuse_overwrite(output, overwrite)
    require_writable(output)
    work = _Work(inversion, reporter, stop)
    work.prepare(None if before is None else before)
    work.fit()
    result, outcome = work.judged(time.monotonic() - started)
    write(output, work.observed, result, overwrite=overwrite or before is not None)
    return outcome


def _unfinished(output: Path) -> np.ndarray | None:
    """The depth in an output that has not converged; None without one. DataError for one that has."""
    if not output.exists():
        return None
    try:
        with open_written(output) as dataset:
            if dataset.attrs.get("forecast_kind") != KIND:
                raise DataError(f"{output} exists and is no result of invert-topography. Choose another name.")
            if int(dataset.attrs["converged"]):
                raise DataError(
                    f"{output} has converged: there is nothing to go on with. Start anew with --overwrite --resume never."
                )
            return np.asarray(dataset["depth"].values, float)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise DataError(
            f"{output}: cannot be gone on with ({str(error).splitlines()[0]}). Choose another name, or --overwrite --resume never."
        ) from error


class _Work:
    """One inversion from its files to its verdict."""

    observed: Observed
    forward: Forward
    objective: Objective
    descent: Descent
    posterior: Posterior | None = None

    def __init__(self, inversion: Inversion, reporter: Reporter, stop: Callable[[], bool]) -> None:
        self.inversion, self.reporter, self.stop = inversion, reporter, stop
        self.warnings: list[str] = []

    # --- before the descent ---------------------------------------------------------------------------------------------

    def prepare(self, before: np.ndarray | None) -> None:
        """Read, check, and find a place to start from: `before` where an earlier run has come to."""
        plan, device = self.inversion, torch.device(self.inversion.device)
        self.observed = observed = read_waves(plan.source)
        self.forward = forward = settle(plan.physics, observed, plan.dtype, device)
        self.truth = None if plan.truth is None else depth_of(plan.truth, observed, "--truth")
        first = first_depth(plan.initial, observed)
        noise, self.estimated = deviations(observed, plan.noise)
        self.soundings, told = soundings_of(plan.soundings, observed) if plan.soundings else (NONE, "")
        self.lengths = self._lengths()
        self.misfit = self._misfit(noise)
        # Everything is read and checked; only now is there something to tell.
        for text in filter(None, (*observed.notes, *forward.notes, told)):
            self.reporter.say(text)
        self._tell_noise(noise, "estimated from the data" if self.estimated else "as given")
        self._warn()
        constant = guess.best_constant(self.misfit, forward.lower, forward.upper)
        centre, start, self.origin = (
            np.full(observed.grid.shape, constant),
            None,
            f"{constant:.4g} m, the best of constant depths",
        )
        if first is not None:
            centre, self.origin = first, f"--initial {plan.initial}"
        elif forward.settled.get("steps_per_frame") == 1:
            linear = guess.of_continuity(observed, constant, upwind=forward.settled["scheme"] == "upwind")
            if linear is not None and self._is_better(linear, constant):
                start, self.origin = linear, "least squares of continuity"
        self.length = self.lengths[0] if self.lengths else None
        amplitudes = white() if self.length is None else smooth(observed.grid, self.length, SMOOTH_SPREAD)
        depths = Depths.around(centre, forward.lower, forward.upper, amplitudes)
        if before is not None:
            start, self.origin = before, "where the earlier run had come to"
        self.objective = Objective(self.misfit, depths, self.soundings, forward.free)
        x = self.objective.start()
        if start is not None:
            x[: start.size] = depths.unknowns(start).ravel()
        self.descent, self.initial, self.resumed = Descent(x), self.objective.depth(x), before is not None
        self.taylor = taylor_order(self.objective, x, np.random.default_rng([plan.seed, 1]))
        said = "white" if self.length is None else f"smooth over {self.length:.4g} m"
        self.reporter.say(
            f"depth between {forward.lower:.4g} and {forward.upper:.4g} m, prior {said}; start: {self.origin}"
        )
        self.reporter.say(f"gradient checked: Taylor order {self.taylor:.2f} (2 is exact)")

    def _misfit(self, noise: np.ndarray) -> Misfit:
        """The misfit of the frames after those that the model sees first."""
        observed, context = self.observed, self.forward.context
        start = observed.start[:, None]
        if context > 1:
            # A model that needs more than one frame needs them whole, with all their variables.
            if observed.channels != CHANNELS or np.isnan(observed.later[:, : context - 1]).any():
                raise DataError(
                    f"{observed.source}: the model of the run sees {context} whole frames first, and some of eta, u, v are missing in them."
                )
            start = np.concatenate([start, observed.later[:, : context - 1]], axis=1)
        later = observed.later[:, context - 1 :]
        kind: dict[str, Any] = {"dtype": self.inversion.dtype, "device": self.inversion.device}
        channels = tuple(CHANNELS.index(name) for name in observed.channels)
        return Misfit(
            self.forward.model,
            torch.as_tensor(start, **kind),
            torch.as_tensor(later, **kind),
            torch.as_tensor(noise, **kind),
            channels,
        )

    def _lengths(self) -> tuple[float, ...]:
        """Correlation lengths of the prior to choose from [m]; none for a white one, which is for waves that are seen in most cells."""
        kind, _, length = self.inversion.prior.partition(":")
        if kind == "white" or (kind == "auto" and self.observed.is_dense):
            return ()
        sides = [axis.size * (axis.spacing or 0.0) for axis in self.observed.grid.axes]
        if not length:
            return tuple(share * min(sides) for share in LENGTHS)
        try:
            value = float(length)
        except ValueError:
            value = math.nan
        if not 0 < value < max(sides):
            raise ConfigError(
                f"--prior {self.inversion.prior}: expected a length in metres, between 0 and the basin's {max(sides):g}."
            )
        return (value,)

    def _is_better(self, depth: np.ndarray, constant: float) -> bool:
        """Whether a first guess explains the waves better than a constant does."""
        start, shape = self.misfit.start, (1, 1, *depth.shape)
        bounded = depth.clip(1.001 * self.forward.lower, 0.999 * self.forward.upper)
        with torch.no_grad():
            mine = self.misfit.chi2(torch.as_tensor(bounded, dtype=start.dtype, device=start.device).view(shape))
            return mine < self.misfit.chi2(start.new_full(shape, constant))

    def _tell_noise(self, noise: np.ndarray, how: str) -> None:
        units = {"eta": "m"}
        told = [
            f"{name} {size:.3g} {units.get(name, 'm s-1')} ({size / spread:.2%} of its spread)"
            for name, size, spread in zip(self.observed.channels, noise, self.observed.spread, strict=True)
        ]
        self.reporter.say(f"noise {how}: {', '.join(told)}")

    def _warn(self) -> None:
        observed, forward = self.observed, self.forward
        self.warnings += [*observed.warnings, *forward.warnings]
        frames = observed.later.shape[1] + 1
        if frames < 10:
            self.warnings.append(f"{frames} frames only: the depth gains by more of them")
        if forward.free and observed.channels == ("eta",):
            self.warnings.append(
                "gravity is free and only eta is observed: waves tell gravity times depth, not the depth"
            )
        for text in self.warnings:
            self.reporter.say(f"warning: {text}")

    # --- the descent ----------------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """Down to the best depth, then how sure it is."""
        sparse = bool(self.lengths)
        if not self.resumed:
            self._approach(sparse)
        small = self.observed.grid.shape[0] * self.observed.grid.shape[1] <= DENSE
        if small and (sparse or self.forward.free):
            self._descend(self.objective, self._left // 2, 1.0)
            self._sharpen()
        else:
            self._descend(self.objective, self._left, 1.0)
        for _ in range(REFITS if self.estimated else 0):
            if self.descent.stopped or not self._quieter():
                break
            if sparse and small:
                self._sharpen()
            else:
                self._descend(self.objective, self._left, 1.0)
        if not self.descent.stopped and self.inversion.uncertainty != "none":
            self._uncertain(small)

    def _approach(self, sparse: bool) -> None:
        """Near the best depth by easier ways: with much noise where gauges are few, else along the record as it grows.

        Waves that come a whole period too late over a wrong depth would draw it the wrong way; at first they cannot.
        """
        if sparse:
            for factor in SOFTENED:
                softened = replace(self.misfit, deviation=factor * self.misfit.deviation)
                self._descend(replace(self.objective, misfit=softened), self._share(SOFT_SHARE), factor)
            return
        frames = self.misfit.observed.shape[1]
        for share in GROWING:
            if (count := round(share * frames)) >= 1:
                begun = replace(self.objective, misfit=self.misfit.first(count))
                self._descend(begun, self._share(GROWING_SHARE), 1.0)

    def _share(self, share: float) -> int:
        return max(1, round(share * self.inversion.iterations))

    @property
    def _left(self) -> int:
        return max(1, self.inversion.iterations - self.descent.iterations)

    def _root(self) -> np.ndarray | None:
        return self.posterior.root if self.posterior else None

    def _descend(
        self, objective: Objective, iterations: int, softened: float, change: np.ndarray | None = None
    ) -> None:
        if self.descent.stopped:
            return
        total = self.inversion.iterations

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
        if self.lengths:
            self._choose_prior(curvature)
        self.posterior = dense_posterior(self.objective, self.descent.x, curvature)
        self._descend(self.objective, self._left, 1.0, self.posterior.root)

    def _choose_prior(self, curvature: np.ndarray) -> None:
        depth = self.objective.depth(self.descent.x)
        priors = [smooth(self.observed.grid, length, 1.0) for length in self.lengths]
        chosen, spread = likeliest_prior(self.objective, self.descent.x, curvature, priors, SPREADS)
        self.objective = replace(
            self.objective, depths=replace(self.objective.depths, amplitudes=spread * priors[chosen])
        )
        self.length = self.lengths[chosen]
        self.reporter.say(f"prior likeliest by the data: smooth over {self.length:.4g} m, spread {spread:.3g}")
        self.descent.x = np.concatenate([self.objective.depths.unknowns(depth).ravel(), self.descent.x[depth.size :]])

    def _quieter(self) -> bool:
        """Whether the residuals show an estimated noise to be too large; it is then lowered to theirs."""
        residual, noise = self._residual(), self.misfit.deviation.cpu().numpy().astype(float)
        shares = np.sqrt(np.nanmean(residual**2, axis=(0, 1, 3, 4)) / max(0.05, 1 - self._used / self.misfit.count))
        lowered = noise.copy()
        for channel, name in enumerate(self.observed.channels):
            if name in self.estimated and shares[channel] < KEPT:
                lowered[channel] = max(noise[channel] * shares[channel], LEAST * self.observed.spread[channel])
        if (lowered == noise).all():
            return False
        self._tell_noise(lowered, "judged again from the residuals")
        self.misfit = replace(
            self.misfit, deviation=torch.as_tensor(lowered, dtype=self.inversion.dtype, device=self.inversion.device)
        )
        self.objective = replace(self.objective, misfit=self.misfit)
        return True

    @property
    def _used(self) -> float:
        """How many residuals the depth has used up."""
        return self.posterior.determined if self.posterior else 0.0

    # --- after it -------------------------------------------------------------------------------------------------------

    def _uncertain(self, small: bool) -> None:
        x, kind = self.descent.x, self.inversion.uncertainty
        if kind == "ensemble":
            found = self._ensemble()
        elif small:
            curvature = curvature_of(self.objective, x, self.stop)
            found = None if curvature is None else dense_posterior(self.objective, x, curvature)
        else:

            def report(done: int, total: int) -> None:
                self.reporter.step("uncertainty", done, total, "samples")

            found = sampled_posterior(self.objective, x, seed=self.inversion.seed, stop=self.stop, report=report)
        if found is None:
            # Marked as unfinished, so that --resume auto comes back for it.
            self.descent.stopped, self.descent.converged = True, False
        self.posterior = found

    def _ensemble(self) -> Posterior | None:
        """The spread of fits to waves with further noise of the same size, and to priors drawn anew."""
        generator, x, drawn = np.random.default_rng([self.inversion.seed, 3]), self.descent.x, []
        cells = self.initial.size
        base = self.objective.depth(x)
        root = self._root()
        for member in range(MEMBERS):
            noise = torch.as_tensor(
                generator.standard_normal(tuple(self.misfit.observed.shape)), dtype=self.misfit.observed.dtype
            )
            scaled = noise.to(self.misfit.observed.device) * self.misfit.deviation.view(-1, 1, 1)
            disturbed = replace(self.misfit, observed=self.misfit.observed + scaled)
            shift = generator.standard_normal(len(x))
            depths = self.objective.depths
            centre = depths.centre + depths.smoothed(shift[:cells].reshape(base.shape))
            known = replace(
                self.soundings,
                depth=self.soundings.depth
                + self.soundings.deviation * generator.standard_normal(len(self.soundings.depth)),
            )
            objective = replace(
                self.objective, misfit=disturbed, depths=replace(depths, centre=centre), soundings=known
            )
            descent = Descent(x - shift)
            descend(
                objective, descent, iterations=MEMBER_ITERATIONS, stop=self.stop, report=lambda _: None, change=root
            )
            if descent.stopped:
                return None
            drawn.append((objective.depth(descent.x), FREEDOM * (descent.x[cells:] + shift[cells:])))
            self.reporter.step("uncertainty", member + 1, MEMBERS, "members")
        deviation = np.std([depth for depth, _ in drawn], axis=0, ddof=1)
        numbers = np.std([numbers for _, numbers in drawn], axis=0, ddof=1)
        return Posterior(deviation, numbers, self._used)

    def _residual(self) -> np.ndarray:
        """(sample, time, channel, height, width) in standard deviations, NaN where nobody looked."""
        with torch.no_grad():
            found = self.misfit.residual(self.misfit.fields(self.objective.leaf(self.descent.x)))
        return found.masked_fill(~self.misfit.seen, torch.nan).cpu().numpy().astype(float)

    def judged(self, seconds: float) -> tuple[Result, Outcome]:
        """The result and what to tell of it."""
        observed, forward, descent = self.observed, self.forward, self.descent
        depth, residual = self.objective.depth(descent.x), self._residual()
        freedom = max(1.0, self.misfit.count - self._used)
        chi2 = float(np.nansum(residual**2)) / freedom
        deviation = self.posterior.deviation if self.posterior else None
        if deviation is not None:
            # What the model cannot explain makes the depth less sure.
            deviation = deviation * math.sqrt(max(1.0, chi2))
        noise = self.misfit.deviation.cpu().numpy().astype(float)
        verdict = judge(
            converged=descent.converged,
            stopped=descent.stopped,
            chi2=chi2,
            freedom=freedom,
            residual=residual,
            noise_known=not self.estimated,
            noise_share=float((noise / observed.spread).max()),
            taylor=self.taylor,
            depth=depth,
            bounds=(forward.lower, forward.upper),
            deviation=deviation,
        )
        gravity = float(forward.settled.get("gravity", 9.81))
        crossing = max(axis.size * (axis.spacing or 0.0) for axis in observed.grid.axes) / math.sqrt(
            gravity * float(depth.mean())
        )
        record = observed.later.shape[1] * observed.interval
        if record < crossing:
            self.warnings.append(
                f"the record is {record / crossing:.2g} of the time in which waves cross the basin: little of the depth has been seen"
            )
            self.reporter.say(f"warning: {self.warnings[-1]}")
        with torch.no_grad():
            fields = self.misfit.fields(self.objective.leaf(descent.x))
            whole = torch.cat([self.misfit.start, fields], dim=1).cpu().numpy().astype(float)
        scores = scored(depth, deviation, self.truth)
        attributes = self._attributes(verdict, chi2, noise, seconds) | scores
        result = Result(
            depth,
            self.initial,
            deviation,
            self.truth,
            whole,
            residual,
            descent.values,
            descent.chi2,
            noise,
            verdict,
            attributes,
        )
        outcome = Outcome(verdict, descent.stopped, chi2, descent.iterations, seconds, scores, tuple(self.warnings))
        return result, outcome

    def _attributes(self, verdict: Verdict, chi2: float, noise: np.ndarray, seconds: float) -> dict[str, Any]:
        """Every physical and numerical choice, and the verdict."""
        plan, forward = self.inversion, self.forward
        found: dict[str, Any] = dict(forward.settled)
        for number, (name, parameter) in enumerate(zip(plan.physics.free, forward.free, strict=True)):
            value = float(forward.settled[name]) * math.exp(float(parameter.detach()))
            found[name] = value
            if self.posterior:
                found[f"{name}_std"] = value * float(self.posterior.numbers[number])
        found |= {"waves": self.observed.source, "observed_variables": ",".join(self.observed.channels)}
        found |= {f"noise_{name}": float(size) for name, size in zip(self.observed.channels, noise, strict=True)}
        found |= {
            "noise_estimated": ",".join(self.estimated) or "none",
            "min_depth": forward.lower,
            "max_depth": forward.upper,
        }
        found["prior"] = "white" if self.length is None else "smooth"
        if self.length is not None:
            found["prior_length"] = self.length
        found |= {
            "start": self.origin,
            "soundings": len(self.soundings.depth),
            "seed": plan.seed,
            "dtype": str(plan.dtype).removeprefix("torch."),
        }
        found |= {"uncertainty": plan.uncertainty if self.posterior else "none", "taylor_order": self.taylor}
        found |= {
            "iterations": self.descent.iterations,
            "reduced_chi2": chi2,
            "observations": self.misfit.count,
            "seconds": seconds,
        }
        found |= {"converged": int(verdict.converged), "trustworthy": int(verdict.trustworthy)}
        found["reasons"] = "; ".join(verdict.reasons) or "none"
        if self.warnings:
            found["warnings"] = "; ".join(self.warnings)
        return found


def taylor_order(objective: Objective, x: np.ndarray, generator: np.random.Generator) -> float:
    """The order at which J(x + e d) - J(x) - e grad J . d falls with e along random d: 2 where the gradient is exact.

    Remainders of DIRECTIONS directions are added, e halved twice. It starts where they are a millionth of J (a thousandth in float32),
    above rounding and below the next order.
    """
    directions = generator.standard_normal((DIRECTIONS, len(x)))
    value, gradient = objective(x)
    wanted = (1e-6 if objective.misfit.start.dtype == torch.float64 else 1e-3) * value

    def remainder(size: float) -> float:
        return sum(abs(objective(x + size * d)[0] - value - size * float(gradient @ d)) for d in directions)

    size = 1e-3
    for _ in range(3):
        found = remainder(size)
        size *= float(np.clip(math.sqrt(wanted / max(found, 1e-300)), 1e-3, 1e3)) if math.isfinite(found) else 0.1
    sizes = size * np.array([1.0, 0.5, 0.25])
    remainders = [max(remainder(each), 1e-300) for each in sizes]
    objective.set_numbers(x)
    return float(np.polyfit(np.log(sizes), np.log(remainders), 1)[0])


def scored(depth: np.ndarray, deviation: np.ndarray | None, truth: np.ndarray | None) -> dict[str, float]:
    """||H - H_true|| / ||H_true||, whole and without a margin of max(2, width / 16) cells, and the share within 1.96 deviations."""
    if truth is None:
        return {}
    margin = max(2, depth.shape[1] // 16)
    inner = (slice(margin, -margin), slice(margin, -margin))

    def relative(part: Any) -> float:
        return float(np.linalg.norm((depth - truth)[part]) / np.linalg.norm(truth[part]))

    found = {
        "relative_l2": relative(...),
        "relative_l2_inner": relative(inner) if min(depth.shape) > 2 * margin else relative(...),
    }
    if deviation is not None:
        found["coverage_95"] = float((np.abs(depth - truth) <= 1.96 * deviation).mean())
    return found
