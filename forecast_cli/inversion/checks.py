"""Whether a gradient is right, and how near a bed is to the true one."""

import math
from typing import Any

import numpy as np
import torch

from forecast_cli.inversion.misfit import Objective

DIRECTIONS = 3
"""In which the gradient is checked."""
SHARES = {torch.float64: (1e-6, 1e-8, 1e-10, 1e-12), torch.float32: (1e-3, 1e-4)}
"""Remainders to begin with, as shares of the objective."""
SURE = 0.05
"""As near to 2 as needs no further sizes."""


def taylor_order(objective: Objective, x: np.ndarray, generator: np.random.Generator) -> float:
    """The order at which J(x + e d) - J(x) - e grad J . d falls with e along random d: 2 where the gradient is exact.

    Remainders of DIRECTIONS directions are added, e halved twice. It starts where they are one of SHARES of J, above rounding and below
    the next order: the order found nearest to 2 counts, for a wrong gradient has 1 at every size.
    """
    directions = generator.standard_normal((DIRECTIONS, len(x)))
    value, gradient = objective(x)

    def remainder(size: float) -> float:
        return sum(abs(objective(x + size * d)[0] - value - size * float(gradient @ d)) for d in directions)

    size, orders = 1e-3, []
    for share in SHARES[objective.misfit.start.dtype]:
        for _ in range(3):
            found = remainder(size)
            size *= (
                float(np.clip(math.sqrt(share * value / max(found, 1e-300)), 1e-3, 1e3))
                if math.isfinite(found)
                else 0.1
            )
        sizes = size * np.array([1.0, 0.5, 0.25])
        remainders = [max(remainder(each), 1e-300) for each in sizes]
        orders.append(float(np.polyfit(np.log(sizes), np.log(remainders), 1)[0]))
        if abs(orders[-1] - 2) < SURE:
            break
    objective.set_numbers(x)
    return min(orders, key=lambda order: abs(order - 2))


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
