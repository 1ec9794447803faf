"""Uncertainty from further fits, each to waves with more noise, soundings with more error, and another draw of the prior."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from forecast_cli.inversion.descent import Descent, descend
from forecast_cli.inversion.misfit import FREEDOM, Objective
from forecast_cli.inversion.uncertainty import Posterior

MEMBERS, MEMBER_ITERATIONS = 16, 40
"""Of an ensemble: fits to waves and priors with further noise."""


def ensemble(
    objective: Objective,
    x: np.ndarray,
    posterior: Posterior | None,
    *,
    seed: int,
    stop: Callable[[], bool],
    report: Callable[[int, int], None],
) -> Posterior | None:
    """The spread of MEMBERS fits around the best unknowns x; None if stopped on the way.

    Each has its own noise, and a prior around a draw of the prior. posterior: an earlier one, whose root shows the way down.
    """
    generator, drawn = np.random.default_rng([seed, 3]), []
    misfit, soundings = objective.misfit, objective.soundings
    for member in range(MEMBERS):
        noise = torch.as_tensor(generator.standard_normal(tuple(misfit.observed.shape))).to(misfit.observed)
        sounded = soundings.depth + soundings.deviation * generator.standard_normal(len(soundings.depth))
        other = replace(
            objective,
            misfit=replace(misfit, observed=misfit.observed + noise * misfit.deviation.view(-1, 1, 1)),
            soundings=replace(soundings, depth=sounded),
            mean=generator.standard_normal(len(x)),
        )
        descent = descend(
            other,
            Descent(x.copy()),
            iterations=MEMBER_ITERATIONS,
            stop=stop,
            report=lambda _: None,
            change=posterior.root if posterior else None,
        )
        if descent.stopped:
            return None
        drawn.append(descent.x)
        report(member + 1, MEMBERS)
    objective.set_numbers(x)
    depths = np.std([objective.depth(member) for member in drawn], axis=0, ddof=1)
    numbers = FREEDOM * np.std([objective.numbers(member) for member in drawn], axis=0, ddof=1)
    determined = len(x) - float(np.var(drawn, axis=0, ddof=1).sum())
    return Posterior(depths, numbers, max(0.0, determined))
