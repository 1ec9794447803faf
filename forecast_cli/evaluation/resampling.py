"""How sure a score is: the starts drawn again, in blocks, as neighbours in time share the weather."""

import math

import numpy as np

from forecast_cli.metrics import Metric

LEVEL = 0.95
"""Share of the resampled scores between the bounds."""


def default_block(starts: int) -> int:
    """Starts a block where the user says nothing: the cube root of their number, the order that theory asks for."""
    return max(1, math.ceil(starts ** (1 / 3)))


def draws(starts: int, *, count: int, block: int, seed: int) -> np.ndarray:
    """How often each start is drawn, (count, starts): blocks of consecutive starts on a circle, as many as fill a record.

    Source: Politis and Romano (1992), the circular block bootstrap.
    """
    generator = np.random.default_rng(seed)
    first = generator.integers(starts, size=(count, math.ceil(starts / block)))
    drawn = ((first[..., None] + np.arange(block)) % starts).reshape(count, -1)[:, :starts]
    return np.stack([np.bincount(row, minlength=starts) for row in drawn]).astype(float)


def resampled(metric: Metric, sums: np.ndarray, weights: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Scores of each draw, (..., draw), from the terms of each start, (..., start)."""
    return metric.score(sums @ drawn.T, weights @ drawn.T)


def bounds(scores: np.ndarray) -> np.ndarray:
    """Lower and upper bound over the draws, (..., 2); NaN where a score does not exist in most draws."""
    margin = (1 - LEVEL) / 2
    usable = np.isfinite(scores).mean(axis=-1) > 0.5
    filled = np.where(usable[..., None], scores, 0.0)
    found = np.moveaxis(np.nanquantile(filled, [margin, 1 - margin], axis=-1), 0, -1)
    return np.where(usable[..., None], found, np.nan)
