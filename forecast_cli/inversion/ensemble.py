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

    posterior: an earlier one, whose root shows the way down, and how many unknowns the data determine.
    """
    generator, drawn = np.random.default_rng([seed, 3]), []
    misfit, depths, soundings, cells = (
        objective.misfit,
        objective.depths,
        objective.soundings,
        int(np.prod(objective.shape)),
    )
    for member in range(MEMBERS):
        noise = torch.as_tensor(generator.standard_normal(tuple(misfit.observed.shape))).to(misfit.observed)
        disturbed = replace(misfit, observed=misfit.observed + noise * misfit.deviation.view(-1, 1, 1))
        shift = generator.standard_normal(len(x))
        centre = depths.centre + depths.smoothed(shift[:cells].reshape(objective.shape))
        sounded = soundings.depth + soundings.deviation * generator.standard_normal(len(soundings.depth))
        other = replace(
            objective,
            misfit=disturbed,
            depths=replace(depths, centre=centre),
            soundings=replace(soundings, depth=sounded),
        )
        descent = descend(
            other,
            Descent(x - shift),
            iterations=MEMBER_ITERATIONS,
            stop=stop,
            report=lambda _: None,
            change=posterior.root if posterior else None,
        )
        if descent.stopped:
            return None
        drawn.append((other.depth(descent.x), FREEDOM * (descent.x[cells:] + shift[cells:])))
        report(member + 1, MEMBERS)
    deviation = np.std([depth for depth, _ in drawn], axis=0, ddof=1)
    numbers = np.std([numbers for _, numbers in drawn], axis=0, ddof=1)
    return Posterior(deviation, numbers, posterior.determined if posterior else 0.0)
