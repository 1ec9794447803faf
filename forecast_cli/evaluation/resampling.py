"""Intervals of scores: starts drawn again in blocks, spread as widely as the autocorrelation of the starts demands.

Neighbouring starts share the weather, so the mean over n starts is as uncertain as that over fewer independent ones.
Blocks of a length that suits a record of tens of starts do not show all of this: the 95 % interval then holds the true
score in far fewer than 95 of 100 records. So the draws give the shape of an interval, and its width is that of

- the larger of the standard error that the draws show and that of a first-order autoregressive series, whose
  autocorrelation is estimated from the change of the score by each start and corrected for its bias,
- times the quantile of Student's t for the number of independent starts, over that of the normal distribution.

References
----------
Politis and Romano (1992): the circular block bootstrap. Politis and White (2004), corrected by Patton et al. (2009),
and Andrews (1991), for an autoregressive series: the length of blocks. Kendall (1954), Marriott and Pope (1954): the
bias of the autocorrelation. Zwiers and von Storch (1995): the number of independent starts. Efron and Tibshirani
(1993): the jackknife, and Student's t for intervals of few values.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from forecast_cli.metrics import METRICS, Metric

LEVEL = 0.95
"""Share of the resampled scores between the bounds."""

NORMAL = float(special.ndtri((1 + LEVEL) / 2))
"""Standard errors between a score and either bound where scores are normally distributed."""

FEWEST = 6
"""Independent starts that an interval needs: with fewer, it holds the true score too rarely, as its width is unsure."""

ROUNDING = 1e-12
"""Changes of a score by one start, relative to the score, that are rounding errors."""


def default_block(starts: int, *, overlap: int = 1, autocorrelation: float = 0.0) -> int:
    """Length of blocks without --block, at most half of the starts.

    Parameters
    ----------
    starts : int
    overlap : int
        Consecutive starts whose forecasts share valid times.
    autocorrelation : float
        Of the changes of the score by consecutive starts.

    Returns
    -------
    int
        The largest of: the square root of the number of starts, of the order that tests of a mean ask for (Sun,
        Phillips and Jin, 2008); the overlap; and the length of least mean square error of the variance for a
        first-order autoregressive series, (6 (a / (1 - a^2))^2 starts)^(1/3) (Politis and White, 2004).
    """
    ratio = autocorrelation / (1 - autocorrelation**2)
    longest = max(math.sqrt(starts), overlap, (6 * ratio**2 * starts) ** (1 / 3))
    return max(1, min(math.ceil(longest - 1e-9), starts // 2))


def overlaps(inits: np.ndarray, valid_times: np.ndarray) -> np.ndarray:
    """The most consecutive starts that a forecast overlaps, itself included, up to each lead time.

    Parameters
    ----------
    inits : array, shape (start,)
        Initialization times, rising.
    valid_times : array, shape (start, lead)
    """
    own = np.arange(len(inits))[:, None]
    later = np.searchsorted(inits, valid_times.ravel()).reshape(valid_times.shape)
    most: np.ndarray = np.maximum(later - own, 1).max(axis=0)
    return most


def draws(starts: int, *, count: int, block: int, seed: int) -> np.ndarray:
    """How often each start is drawn, (count, starts): blocks of consecutive starts on a circle, as many as fill a record."""
    generator = np.random.default_rng(seed)
    first = generator.integers(starts, size=(count, math.ceil(starts / block)))
    drawn = ((first[..., None] + np.arange(block)) % starts).reshape(count, -1)[:, :starts]
    return np.stack([np.bincount(row, minlength=starts) for row in drawn]).astype(float)


@dataclass(frozen=True, eq=False)
class Record:
    """Changes of scores by each start, in order of time, and what they say of the uncertainty of the scores.

    Parameters
    ----------
    changes : array, shape (..., start)
        The score of all starts minus that without the start; NaN where the start has no value.
    ordered : bool
        False for trajectories: samples without order in time, taken as independent.
    """

    changes: np.ndarray
    ordered: bool = True

    @property
    def starts(self) -> np.ndarray:
        """Number of starts with a value."""
        counted: np.ndarray = np.isfinite(self.changes).sum(axis=-1)
        return counted

    @property
    def departures(self) -> np.ndarray:
        """Changes minus their mean, (..., start); 0 where the start has no value."""
        present = np.isfinite(self.changes)
        values = np.where(present, self.changes, 0)
        mean = values.sum(axis=-1, keepdims=True) / np.maximum(present.sum(axis=-1, keepdims=True), 1)
        return np.where(present, values - mean, 0)

    @property
    def autocorrelation(self) -> np.ndarray:
        """Autocorrelation of consecutive starts: corrected for its bias, (n r + 1) / (n - 3), and never negative.

        It is limited so that two independent starts are left.
        """
        n, departures = self.starts, self.departures
        if not self.ordered:
            return np.zeros(n.shape)
        square, product = (departures**2).sum(axis=-1), (departures[..., 1:] * departures[..., :-1]).sum(axis=-1)
        biased = np.divide(product, square, out=np.zeros(n.shape), where=square > 0)
        corrected = np.where((n > 3) & (square > 0), (n * biased + 1) / np.maximum(n - 3, 1), 0)
        return corrected.clip(0, np.maximum((n - 2) / (n + 2), 0))

    @property
    def independent(self) -> np.ndarray:
        """Number of independent starts, n (1 - a) / (1 + a); NaN without a start."""
        a = self.autocorrelation
        return np.where(self.starts > 0, self.starts * (1 - a) / (1 + a), np.nan)

    @property
    def standard_error(self) -> np.ndarray:
        """Of the score if the changes are a first-order autoregressive series: the jackknife, with fewer starts."""
        n, a = self.starts, self.autocorrelation
        longer = (1 + a) / (1 - a)
        square = (self.departures**2).sum(axis=-1)
        return (n - 1) * np.sqrt(square * longer / np.maximum(n * (n - longer), 1))

    @property
    def student(self) -> np.ndarray:
        """Quantile of Student's t for the independent starts over that of the normal distribution; NaN for one start."""
        freedom = np.where(self.starts > 1, self.independent - 1, np.nan)
        ratio: np.ndarray = special.stdtrit(freedom, (1 + LEVEL) / 2) / NORMAL
        return ratio


def record(metric: Metric, sums: np.ndarray, weights: np.ndarray, *, ordered: bool = True) -> Record:
    """Compute the changes of a score by each start, from the terms of each start, (..., start)."""
    score = metric.score(sums.sum(-1), weights.sum(-1))[..., None]
    rest = metric.score(sums.sum(-1, keepdims=True) - sums, weights.sum(-1, keepdims=True) - weights)
    changes = np.nan_to_num(score - rest)  # of a start that is alone: 0
    return _without_rounding(np.where(weights > 0, changes, np.nan), score, ordered)


def _without_rounding(changes: np.ndarray, score: np.ndarray, ordered: bool) -> Record:
    """The record of changes (..., start) of a score (..., 1), of which rounding errors count as 0."""
    return Record(np.where(np.abs(changes) <= ROUNDING * np.abs(score), 0, changes), ordered)


def resampled(
    metric: Metric, sums: np.ndarray, weights: np.ndarray, drawn: np.ndarray, *, ordered: bool = True
) -> np.ndarray:
    """Scores of each draw, (..., draw), from the terms of each start, (..., start), as wide as their record demands."""
    scores = metric.score(sums @ drawn.T, weights @ drawn.T)
    score = metric.score(sums.sum(-1), weights.sum(-1))
    return _widened(scores, score, record(metric, sums, weights, ordered=ordered)).clip(*metric.limits)


def _widened(scores: np.ndarray, score: np.ndarray, record: Record) -> np.ndarray:
    """Scores of draws (..., draw), moved away from the score of all starts to the width that their record demands.

    Draws that are all alike cannot be widened: NaN, unless the starts are alike as well.
    """
    away = scores - score[..., None]
    spread = np.diff(bounds(away))[..., 0] / (2 * NORMAL)
    wide = record.student * np.maximum(spread, record.standard_error)
    alike = np.where(record.standard_error > 0, np.nan, 1.0)
    factor = np.divide(wide, spread, out=alike, where=spread > 0)
    return score[..., None] + factor[..., None] * away


def bounds(scores: np.ndarray) -> np.ndarray:
    """Lower and upper bound over the draws, (..., 2); NaN where a score does not exist in most draws."""
    margin = (1 - LEVEL) / 2
    usable = np.isfinite(scores).mean(axis=-1) > 0.5
    filled = np.where(usable[..., None], scores, 0.0)
    found = np.moveaxis(np.nanquantile(filled, [margin, 1 - margin], axis=-1), 0, -1)
    return np.where(usable[..., None], found, np.nan)


@dataclass(frozen=True, eq=False)
class Intervals:
    """Intervals of scores and of differences from the first model, (model, metric, variable, lead, region, bound).

    independent, difference_independent: number of independent starts, (model, metric, variable, lead, region).
    block: length of the blocks drawn. default: the length that overlap and autocorrelation of the starts demand.
    """

    score_bounds: np.ndarray
    difference_bounds: np.ndarray
    independent: np.ndarray
    difference_independent: np.ndarray
    block: int
    default: int

    @property
    def notes(self) -> list[str]:
        """Sentences on intervals that are not reliable."""
        notes = []
        if self.block < self.default:
            notes.append(
                f"Blocks of {self.block} are shorter than overlap and autocorrelation of the starts demand: {self.default}."
            )
        scores, differences = self.independent, self.difference_independent[1:]
        few = [
            f"{int((numbers < FEWEST).sum())} of {int(np.isfinite(numbers).sum())} {what}"
            for what, numbers in (("scores (marked ?)", scores), ("differences (no *)", differences))
            if (numbers < FEWEST).any()
        ]
        if few:
            notes.append(
                f"The record is too short for the intervals of {' and '.join(few)}: overlap and autocorrelation leave "
                f"fewer than {FEWEST} independent starts."
            )
        return notes


def intervals(
    metrics: Sequence[str],
    terms: np.ndarray,
    *,
    overlaps: np.ndarray,
    count: int,
    block: int | None = None,
    seed: int = 0,
    ordered: bool = True,
) -> Intervals:
    """Compute the intervals of the scores of several models, and of the differences from the first one.

    Parameters
    ----------
    metrics : names of metrics.METRICS
    terms : array, shape (2, model, metric, variable, lead, region, start)
        Sums and weights, the starts in order of time.
    overlaps : array, shape (lead,)
        Consecutive starts whose forecasts share valid times, up to each lead time.
    count, block, seed
        Draws, consecutive starts of a block (default: as long as overlap and autocorrelation demand), and their seed.
    ordered : bool
        False for trajectories, which are independent.
    """
    _, models, _, variables, leads, regions, starts = terms.shape
    parts = [
        _part(METRICS[name], terms[:, :, k, v], ordered) for k, name in enumerate(metrics) for v in range(variables)
    ]
    largest = max(float(record.autocorrelation.max()) for part in parts for record in (part.record, part.difference))
    default = default_block(starts, overlap=int(overlaps.max()), autocorrelation=largest) if ordered else 1
    block = block or default
    drawn = draws(starts, count=count, block=block, seed=seed)
    shape = (len(metrics), variables, models, leads, regions)

    def gathered(values: Iterable[np.ndarray]) -> np.ndarray:
        """Values of each part, (model, lead, region[, bound]), as (model, metric, variable, lead, region[, bound])."""
        stacked = np.stack(list(values))
        return np.moveaxis(stacked.reshape(*shape, *stacked.shape[4:]), 2, 0)

    pairs = [part.bounds(drawn) for part in parts]
    return Intervals(
        gathered(score for score, _ in pairs),
        gathered(difference for _, difference in pairs),
        gathered(_independent(part.record, overlaps) for part in parts),
        gathered(_independent(part.difference, overlaps) for part in parts),
        block,
        default,
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """One metric of one variable: terms (model, lead, region, start), and the records of scores and of differences."""

    metric: Metric
    sums: np.ndarray
    weights: np.ndarray
    score: np.ndarray
    record: Record
    difference: Record

    def bounds(self, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the scores and of the differences from the first model, over the same draws."""
        scores = self.metric.score(self.sums @ drawn.T, self.weights @ drawn.T)
        apart = _widened(scores - scores[:1], self.score - self.score[:1], self.difference)
        return bounds(_widened(scores, self.score, self.record).clip(*self.metric.limits)), bounds(apart)


def _part(metric: Metric, terms: np.ndarray, ordered: bool) -> _Part:
    sums, weights = terms
    score = metric.score(sums.sum(-1), weights.sum(-1))
    changes = record(metric, sums, weights, ordered=ordered)
    return _Part(metric, sums, weights, score, changes, _difference(changes, score))


def _difference(changes: Record, score: np.ndarray) -> Record:
    """The record of the differences of scores (model, ...) from the first model's."""
    first = changes.changes[:1]
    absent = np.isnan(first) & np.isnan(changes.changes)
    apart = np.where(absent, np.nan, np.nan_to_num(changes.changes) - np.nan_to_num(first))
    size = np.fmax(np.abs(score), np.abs(score[:1]))[..., None]
    return _without_rounding(apart, size, changes.ordered)


def _independent(record: Record, overlaps: np.ndarray) -> np.ndarray:
    """The number of independent starts, (model, lead, region), also where the record is shorter than two blocks of overlapping ones."""
    overlap = overlaps[:, None]
    apart = np.where(record.starts < 2 * overlap, record.starts / overlap, np.inf)
    return np.minimum(record.independent, apart)
