"""Whether a gradient is right, and how near a bed is to the true one."""

import math
from typing import Any

import numpy as np
import torch

from forecast_cli.inversion.misfit import Objective

DIRECTIONS = 3
"""In which the gradient is checked."""


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
