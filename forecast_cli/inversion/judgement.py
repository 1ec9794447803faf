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
from forecast_cli.inversion.verdict import Verdict, judge


def judged(fit: Fit, seconds: float) -> tuple[Result, Outcome]:
    """The result and what to tell of it."""
    prepared, descent = fit.prepared, fit.descent
    observed, forward = prepared.observed, prepared.forward
    depth, residual = fit.depth, fit.residual()
    freedom = max(1.0, fit.objective.misfit.count - fit.used)
    chi2 = float(np.nansum(residual**2)) / freedom
    deviation = fit.uncertainty.deviation if fit.uncertainty else None
    if deviation is not None:
        # What the model cannot explain makes the depth less sure.
        deviation = deviation * math.sqrt(max(1.0, chi2))
    noise = fit.objective.misfit.deviation.cpu().numpy().astype(float)
    verdict = judge(
        converged=descent.converged,
        stopped=descent.stopped,
        chi2=chi2,
        freedom=freedom,
        residual=residual,
        noise_known=not prepared.estimated,
        noise_share=float((noise / observed.spread).max()),
        taylor=prepared.taylor,
        depth=depth,
        bounds=(forward.lower, forward.upper),
        deviation=deviation,
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
    with torch.no_grad():
        fields = fit.objective.misfit.fields(fit.objective.leaf(descent.x))
        whole = torch.cat([fit.objective.misfit.start, fields], dim=1).cpu().numpy().astype(float)
    scores = scored(depth, deviation, prepared.truth)
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


def _attributes(fit: Fit, verdict: Verdict, chi2: float, warnings: Sequence[str], seconds: float) -> dict[str, Any]:
    """Every physical and numerical choice, and the verdict."""
    plan, prepared, posterior = fit.inversion, fit.prepared, fit.uncertainty
    observed, forward = prepared.observed, prepared.forward
    noise = fit.objective.misfit.deviation.cpu().numpy()
    found: dict[str, Any] = dict(forward.settled)
    for number, (name, parameter) in enumerate(zip(plan.physics.free, forward.free, strict=True)):
        value = float(forward.settled[name]) * math.exp(float(parameter.detach()))
        found[name] = value
        if posterior:
            found[f"{name}_std"] = value * float(posterior.numbers[number])
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
