"""What a fit has come to: its numbers, the verdict on them, and everything that the output says of itself."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from forecast_cli.inversion.checks import scored
from forecast_cli.inversion.fit import Fit
from forecast_cli.inversion.output import Result
from forecast_cli.inversion.plan import Outcome
from forecast_cli.inversion.verdict import CHANCE, NETWORK, PHYSICS, Verdict, judge

EARTHLY = (9.76, 9.84)
"""Gravity at sea level from the equator to the poles is between these [m s-2]."""
TOO_QUIET = 0.2
"""How far reduced chi^2 may lie below 1, where chance does not allow for more."""


def judged(fit: Fit, seconds: float) -> tuple[Result, Outcome]:
    """The result and what to tell of it."""
    prepared, descent = fit.prepared, fit.descent
    observed, forward = prepared.observed, prepared.forward
    depth, residual = fit.depth, fit.residual()
    freedom = max(1.0, fit.objective.misfit.count - fit.used)
    chi2 = float(np.nansum(residual**2)) / freedom
    deviation = fit.uncertainty.deviation if fit.uncertainty else None
    if deviation is not None:
        deviation = widened(deviation, chi2)
    noise = fit.objective.misfit.deviation.cpu().numpy().astype(float)
    soundings = fit.objective.soundings
    verdict = judge(
        converged=descent.converged,
        stopped=fit.stopped_on_the_way_to,
        chi2=chi2,
        freedom=freedom,
        residual=residual,
        noise_known=not prepared.estimated,
        noise_share=float((noise / observed.spread).max()),
        sparse=not observed.is_dense,
        taylor=prepared.taylor,
        depth=depth,
        bounds=(forward.lower, forward.upper),
        deviation=deviation,
        chi2_soundings=soundings.chi2(depth),
        soundings=len(soundings.depth),
        doubts=(*prepared.doubts, *_unearthly(fit)),
        blame=PHYSICS if forward.settled["model"] == "finn" else NETWORK,
    )
    gravity = float(forward.settled.get("gravity", 9.81))
    crossing = max(axis.size * (axis.spacing or 0.0) for axis in observed.grid.axes) / math.sqrt(
        gravity * float(depth.mean())
    )
    warnings = list(prepared.warnings)
    record = observed.later.shape[1] * observed.interval
    if record < crossing:
        warnings.append(
            f"the record is {record / crossing:.2g} of the time in which waves cross the basin: little of the depth has been seen"
        )
    if descent.converged and not prepared.estimated and chi2 < 1 - max(TOO_QUIET, CHANCE * math.sqrt(2 / freedom)):
        warnings.append(f"chi2 {chi2:.3g}, expected 1: the noise is less than --noise says, and depth_std too large")
    waves = torch.cat([fit.objective.first(descent.x), fit.objective.fields(descent.x)], dim=1)
    whole = waves.cpu().numpy().astype(float)
    scores = scored(depth, deviation, prepared.truth) | _numbers(fit)
    attributes = _attributes(fit, verdict, chi2, warnings, seconds) | scores
    result = Result(
        depth,
        prepared.objective.depth(prepared.start),
        deviation,
        prepared.truth,
        whole,
        residual,
        descent.values,
        descent.chi2,
        noise,
        verdict,
        attributes,
    )
    outcome = Outcome(verdict, descent.stopped, chi2, descent.iterations, seconds, scores, tuple(warnings))
    return result, outcome


def widened(deviation: np.ndarray, chi2: float) -> np.ndarray:
    """Multiply a standard deviation by the root of reduced chi^2 above 1: what the model cannot explain makes the depth less sure."""
    return deviation * math.sqrt(max(1.0, chi2))


def _numbers(fit: Fit) -> dict[str, float]:
    """What was inferred beside the depth, with its standard deviation if that is known."""
    found, forward = {}, fit.prepared.forward
    for number, (name, parameter) in enumerate(zip(fit.inversion.physics.free, forward.free, strict=True)):
        found[name] = float(forward.settled[name]) * math.exp(float(parameter.detach()))
        if fit.uncertainty:
            found[f"{name}_std"] = found[name] * float(fit.uncertainty.numbers[number])
    return found


def _unearthly(fit: Fit) -> list[str]:
    """A doubt where gravity was inferred that no place on Earth has: soundings off together, or another fault that it absorbs."""
    found = _numbers(fit)
    value, deviation = found.get("gravity", EARTHLY[0]), found.get("gravity_std", 0.0)
    if EARTHLY[0] - 3 * deviation <= value <= EARTHLY[1] + 3 * deviation:
        return []
    return [f"gravity {value:.4g} m s-2 is not that of the Earth: something else is wrong, and it has absorbed that"]


def _attributes(fit: Fit, verdict: Verdict, chi2: float, warnings: Sequence[str], seconds: float) -> dict[str, Any]:
    """Every physical and numerical choice, and the verdict."""
    plan, prepared, posterior = fit.inversion, fit.prepared, fit.uncertainty
    observed, forward = prepared.observed, prepared.forward
    noise = fit.objective.misfit.deviation.cpu().numpy()
    found: dict[str, Any] = dict(forward.settled)
    found |= {"waves": observed.source, "observed_variables": ",".join(observed.channels)}
    found |= {f"noise_{name}": float(size) for name, size in zip(observed.channels, noise, strict=True)}
    found |= {
        "noise_estimated": ",".join(prepared.estimated) or "none",
        "min_depth": forward.lower,
        "max_depth": forward.upper,
    }
    found["prior"] = "white" if fit.length is None else "smooth"
    if fit.length is not None:
        found["prior_length"] = fit.length
    found |= {
        "start": prepared.origin,
        "soundings": len(fit.objective.soundings.depth),
        "seed": plan.seed,
        "dtype": str(plan.dtype).removeprefix("torch."),
    }
    found |= {"uncertainty": plan.uncertainty if posterior else "none", "taylor_order": prepared.taylor}
    found |= {
        "iterations": fit.descent.iterations,
        "reduced_chi2": chi2,
        "observations": fit.objective.misfit.count,
        "seconds": seconds,
    }
    found |= {"converged": int(verdict.converged), "trustworthy": int(verdict.trustworthy)}
    found["reasons"] = "; ".join(verdict.reasons) or "none"
    if warnings:
        found["warnings"] = "; ".join(warnings)
    return found
