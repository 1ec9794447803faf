"""Verification: forecasts against the truth, per variable and lead time, beside simple baselines.

Forecasts and baselines of one call are compared over the starts, lead times and cells at which all of them
and the truth have a value, with the area of each cell as its weight on latitude-longitude grids.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from forecast_cli.data.fields import Fields
from forecast_cli.data.forecasts import ForecastFile
from forecast_cli.data.sentinels import UndeclaredFill
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.evaluation import resampling
from forecast_cli.evaluation.baselines import Baseline, Climatology, baseline, persistence
from forecast_cli.evaluation.pairing import (
    align,
    open_truth,
    require_comparable,
    require_same_times,
    shared,
    truth_frames,
    truth_of,
)
from forecast_cli.evaluation.regions import cells_of
from forecast_cli.evaluation.spectra import Rings, rings
from forecast_cli.evaluation.table import as_json, dataset_of, lead_times, note_on_pairs, with_spectra
from forecast_cli.metrics import METRICS, cell_weights

__all__ = ["Bootstrap", "as_json", "evaluate", "lead_times", "note_on_pairs", "open_truth", "rings", "truth_of"]

BLOCK_BYTES = 2**26
"""Of the forecasts and baselines of a block of starts and lead times; truth and terms of one come on top."""


@dataclass(frozen=True)
class Bootstrap:
    """Resampling of the starts: how many draws, of how many consecutive starts a block (None: few, by their number)."""

    count: int
    block: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class _Sums:
    """Terms (2, model, metric, variable, lead, region, start), pairs, and spectra or None.

    pairs: (variable, lead, start), at which all models have a value. available: (truth and models, variable, lead), at
    which the truth, or the truth and this model, have a value. power: summed over starts, (truth and models, variable,
    lead, wavenumber). power_starts: the number of these starts, (variable, lead).
    """

    terms: np.ndarray
    pairs: np.ndarray
    available: np.ndarray
    power: np.ndarray | None
    power_starts: np.ndarray


def evaluate(
    forecasts: Sequence[ForecastFile],
    truth_files: Sequence[str],
    *,
    metrics: Sequence[str] = ("rmse",),
    baselines: Sequence[str] = (),
    regions: Sequence[str] = (),
    climatology: str = "mean",
    bootstrap: Bootstrap | None = None,
    spectra: bool = False,
    dims: Mapping[str, str] | None = None,
    select: Mapping[str, str] | None = None,
    share: slice = slice(None),
    total: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> xr.Dataset:
    """Scores of the forecasts, and of baselines at the same starts: score(model, metric, variable, lead_time[, region]).

    truth_files, dims, select: as `open_truth` takes them. baselines: as `baselines.baseline` takes them.
    regions: as `regions.cells_of` takes them; "all" comes first. climatology: what the anomalies of acc depart from,
    "mean" or a cycle. share, total: which blocks of starts are for this process, and the sum of an array over all processes.
    bootstrap adds intervals and differences from the first forecast, spectra the power spectra.
    Raises ConfigError for unknown names, DataError where truth and forecast do not overlap.
    """
    metrics = tuple(dict.fromkeys(metrics))
    _require_known(metrics)
    labels = [*(forecast.label for forecast in forecasts), *baselines]
    _require_distinct(labels)
    known = [baseline(name) for name in baselines]
    if bootstrap and (bootstrap.count < 1 or (bootstrap.block is not None and bootstrap.block < 1)):
        raise ConfigError("--bootstrap and --block: expected at least 1.")
    truth = open_truth(forecasts[0], truth_files, dims=dims, select=select)
    require_comparable(forecasts, truth)
    most = max(len(forecast.starts) for forecast in forecasts)
    forecasts = shared(forecasts)
    require_same_times(forecasts, truth)
    names, weights = _weights(regions, truth)
    grid = rings(truth) if spectra else None
    found = _sums(forecasts, truth, known, metrics, weights, "" if climatology == "mean" else climatology, grid, share)
    parts = (found.terms, found.pairs, found.available, found.power, found.power_starts)
    found = _Sums(*(None if part is None else total(part) for part in parts))  # type: ignore[arg-type]
    _require_pairs(found, labels, truth)
    scores = {"score": _score(metrics, found.terms.sum(axis=-1))}
    said: dict[str, object] = {"starts": int(found.pairs.any(axis=(0, 1)).sum()), "forecast_starts": most}
    if bootstrap:
        starts, shortest = len(forecasts[0].starts), bootstrap.block or 1
        if shortest >= starts:
            raise ConfigError(
                f"--bootstrap: the forecasts share {starts} starts, which blocks of {shortest} cannot resample. Forecast from more starts."
            )
        intervals = _intervals(metrics, found.terms, forecasts[0], bootstrap)
        scores |= {
            "score_bounds": intervals.score_bounds,
            "difference": scores["score"] - scores["score"][:1],
            "difference_bounds": intervals.difference_bounds,
            "independent_starts": intervals.independent,
            "difference_independent_starts": intervals.difference_independent,
        }
        said |= {"bootstrap": bootstrap.count, "bootstrap_block": intervals.block, "bootstrap_seed": bootstrap.seed}
        said |= {"bootstrap_default_block": intervals.default, "bootstrap_notes": " ".join(intervals.notes)}
    dataset = dataset_of(
        scores,
        np.broadcast_to(found.pairs.sum(axis=-1), found.available[1:].shape),
        found.available,
        labels=labels,
        metrics=metrics,
        regions=names,
        forecasts=forecasts,
        truth=truth,
        said=said,
    )
    if grid is None or found.power is None:
        return dataset
    return with_spectra(dataset, _mean(found.power, found.power_starts), found.power_starts, grid)


def _require_known(metrics: Sequence[str]) -> None:
    for name in metrics:
        if name not in METRICS:
            match = difflib.get_close_matches(name, METRICS, n=1)
            raise ConfigError(
                f"--metric {name}: {f'did you mean {match[0]}? ' if match else ''}known are {', '.join(METRICS)}."
            )


def _require_distinct(labels: Sequence[str]) -> None:
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise ConfigError(f"two forecasts or baselines are called '{twice}'. Name the forecasts: --label A --label B.")


def _weights(regions: Sequence[str], truth: Fields) -> tuple[list[str], np.ndarray]:
    """Names of the regions, "all" first, and the weights of their cells, (region, cell)."""
    cells = dict(cells_of(text, truth) for text in regions)
    if "all" in cells or len(cells) < len(regions):
        raise ConfigError("--region: each needs a name of its own, other than all.")
    area = cell_weights(truth).values.ravel()
    return ["all", *cells], np.stack([area, *(area * inside for inside in cells.values())])


def _sums(
    forecasts: Sequence[ForecastFile],
    truth: Fields,
    baselines: Sequence[Baseline],
    metrics: Sequence[str],
    weights: np.ndarray,
    cycle: str,
    grid: Rings | None,
    share: slice,
) -> _Sums:
    """The terms of every start of a share of the blocks of starts and lead times, in one pass over them; 0 elsewhere."""
    first = forecasts[0]
    alignment, times = align(first, truth), first.valid_times
    starts, leads = alignment.valid.shape
    models = len(forecasts) + len(baselines)
    terms = np.zeros((2, models, len(metrics), len(first.variables), leads, len(weights), starts))
    pairs = np.zeros((len(first.variables), leads, starts), int)
    available = np.zeros((1 + models, len(first.variables), leads), int)
    power = np.zeros((1 + models, len(first.variables), leads, grid.count)) if grid else None
    power_starts = np.zeros((len(first.variables), leads), int)
    for v, name in enumerate(first.variables):
        fills = [UndeclaredFill(forecast.dataset[name], str(forecast.path)) for forecast in forecasts]
        usual = Climatology(first, name, cycle, "--metric acc") if "acc" in metrics else None
        climatologies = {
            b: Climatology(first, name, b.cycle, f"--baseline {b.name}") for b in baselines if not b.repeats
        }
        for rows, ahead in list(_blocks(starts, leads, models * weights.shape[1]))[share]:
            here, when = alignment.only(rows, ahead), times[rows, ahead]
            shape = (*when.shape, -1)
            true = truth_frames(truth, name, here.sample, here.valid)
            expected = usual.at(when).reshape(shape) if usual else None
            index = {first.outer: _listed(rows), "lead_time": _listed(ahead)}
            made = [forecast.read(name, index) for forecast in forecasts]
            made += [
                persistence(b.repeats, truth, name, here, here.valid - here.init[:, None])
                if b.repeats
                else climatologies[b].at(when)
                for b in baselines
            ]
            verified, pairs_of_each = _in_common(true, made)
            truth.fills[name].refuse(verified[~np.isnan(verified)])  # what is not forecast is not compared
            for fill, predicted in zip(fills, made, strict=False):
                fill.refuse(predicted)
            available[:, v, ahead] += pairs_of_each
            pairs[v, ahead, rows] = (~np.isnan(verified)).reshape(shape).sum(axis=-1).T
            for m, predicted in enumerate(made):
                flat = predicted.reshape(shape), verified.reshape(shape)
                for k, metric in enumerate(metrics):
                    found = METRICS[metric].terms(*flat, weights, expected)
                    terms[:, m, k, v, ahead, :, rows] = np.moveaxis(np.stack(found), 1, -1)
            if grid and power is not None:
                summed, counted = _over_whole_fields(np.stack([_power(field, grid) for field in (true, *made)]))
                power[:, v, ahead] += summed
                power_starts[v, ahead] += counted
    return _Sums(terms, pairs, available, power, power_starts)


def _in_common(true: np.ndarray, made: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The truth (start, lead, *grid) where all models have a value, else NaN; and the pairs of each, (truth and models, lead)."""
    known = ~np.isnan(true)
    present = [known, *(known & ~np.isnan(predicted) for predicted in made)]
    available = np.stack([np.moveaxis(part, 1, 0).reshape(true.shape[1], -1).sum(axis=1) for part in present])
    return np.where(np.logical_and.reduce(present), true, np.nan), available


def _require_pairs(found: _Sums, labels: Sequence[str], truth: Fields) -> None:
    """Raise DataError where there is no start, lead time and cell at which truth, forecasts and baselines have a value."""
    if found.pairs.any():
        return
    available = dict(zip(labels, found.available[1:].sum(axis=(1, 2)).tolist(), strict=True))
    if not any(available.values()):
        raise DataError(f"{truth.source}: has no value where the forecast has one: the truth is missing everywhere.")
    listed = ", ".join(f"{label} {count}" for label, count in available.items())
    without = [label for label, count in available.items() if not count]
    remedy = f"Leave out {' and '.join(without)}." if without else "Evaluate them one by one."
    raise DataError(
        f"{truth.source}: the models share no pair of values with the truth, so they cannot be compared; each alone has: {listed}. {remedy}"
    )


def _blocks(starts: int, leads: int, cells: int) -> Iterator[tuple[slice, slice]]:
    fields = max(1, BLOCK_BYTES // (8 * cells))
    ahead = min(leads, fields)
    rows = max(1, fields // ahead)
    for row in range(0, starts, rows):
        for lead in range(0, leads, ahead):
            yield slice(row, min(row + rows, starts)), slice(lead, min(lead + ahead, leads))


def _listed(part: slice) -> list[int]:
    return list(range(part.start, part.stop))


def _power(fields: np.ndarray, grid: Rings) -> np.ndarray:
    """The spectra of (start, lead, *grid), (start, lead, wavenumber)."""
    return grid.power(fields.reshape(-1, *grid.shape)).reshape(*fields.shape[:2], -1)


def _over_whole_fields(spectra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum spectra (field, start, lead, wavenumber) over the starts at which no field misses a value.

    Returns
    -------
    summed : array, shape (field, lead, wavenumber)
    counted : array, shape (lead,)
        Number of these starts.
    """
    whole = np.isfinite(spectra).all(axis=(0, 3))
    return np.where(whole[..., None], spectra, 0).sum(axis=1), whole.sum(axis=0)


def _mean(power: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Mean spectra (field, variable, lead, wavenumber) of summed ones; NaN where there is no start."""
    counts = np.broadcast_to(starts[..., None], power.shape)
    return np.divide(power, counts, out=np.full(power.shape, np.nan), where=counts > 0)


def _score(metrics: Sequence[str], terms: np.ndarray) -> np.ndarray:
    """(2, model, metric, ...) of summed terms to scores (model, metric, ...)."""
    return np.stack([METRICS[name].score(terms[0][:, k], terms[1][:, k]) for k, name in enumerate(metrics)], axis=1)


def _intervals(
    metrics: Sequence[str], terms: np.ndarray, forecast: ForecastFile, bootstrap: Bootstrap
) -> resampling.Intervals:
    """Intervals of the scores and of the differences from the first forecast; the starts in order of time."""
    inits = np.broadcast_to(forecast.dataset["init_time"].values, terms.shape[-1])
    order, ordered = np.argsort(inits, kind="stable"), forecast.outer == "init_time"
    return resampling.intervals(
        metrics,
        terms[..., order],
        overlaps=resampling.overlaps(inits[order], forecast.valid_times[order]) if ordered else np.ones(forecast.leads),
        count=bootstrap.count,
        block=bootstrap.block,
        seed=bootstrap.seed,
        ordered=ordered,
    )
