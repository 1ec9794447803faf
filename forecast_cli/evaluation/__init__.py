"""Verification: forecasts against the truth, per variable and lead time, beside simple baselines.

Forecasts of one call are compared at the starts and lead times they share, with the area of each
cell as its weight on latitude-longitude grids.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from forecast_cli.data.fields import Fields
from forecast_cli.data.forecasts import ForecastFile
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.evaluation import resampling
from forecast_cli.evaluation.baselines import Baseline, Climatology, baseline, persistence
from forecast_cli.evaluation.pairing import align, open_truth, shared, truth_frames, truth_of
from forecast_cli.evaluation.regions import cells_of
from forecast_cli.evaluation.spectra import Rings, rings
from forecast_cli.evaluation.table import as_json, dataset_of, lead_times, with_spectra
from forecast_cli.metrics import METRICS, cell_weights

__all__ = ["Bootstrap", "as_json", "evaluate", "lead_times", "open_truth", "rings", "truth_of"]

BLOCK_BYTES = 2**25
"""Of one field of a block of starts and lead times; a handful are held at once."""


@dataclass(frozen=True)
class Bootstrap:
    """Resampling of the starts: how many draws, of how many consecutive starts a block (None: few, by their number)."""

    count: int
    block: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class _Sums:
    """Terms (2, model, metric, variable, lead, region, start), pairs (model, variable, lead), and mean spectra or None."""

    terms: np.ndarray
    pairs: np.ndarray
    power: np.ndarray | None


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
    forecasts = shared(forecasts)
    names, weights = _weights(regions, truth)
    grid = rings(truth) if spectra else None
    found = _sums(forecasts, truth, known, metrics, weights, "" if climatology == "mean" else climatology, grid, share)
    found = _Sums(*(None if part is None else total(part) for part in (found.terms, found.pairs, found.power)))  # type: ignore[arg-type]
    if not found.pairs[: len(forecasts)].any():
        raise DataError(f"{truth.source}: has no value where the forecast has one: the truth is missing everywhere.")
    scores = {"score": _score(metrics, found.terms.sum(axis=-1))}
    verified = int((align(forecasts[0], truth).valid >= 0).any(axis=1).sum())
    said: dict[str, object] = {"starts": verified}
    if bootstrap:
        starts = len(forecasts[0].starts)
        block = bootstrap.block or (1 if truth.is_trajectories else resampling.default_block(starts))
        if block >= starts:
            raise ConfigError(
                f"--bootstrap: the forecasts share {starts} starts, which blocks of {block} cannot resample. Forecast from more starts."
            )
        scores |= _intervals(metrics, found.terms, scores["score"], forecasts[0], bootstrap, block)
        said |= {"bootstrap": bootstrap.count, "bootstrap_block": block, "bootstrap_seed": bootstrap.seed}
    dataset = dataset_of(
        scores,
        found.pairs,
        labels=labels,
        metrics=metrics,
        regions=names,
        forecasts=forecasts,
        truth=truth,
        said=said,
    )
    return dataset if grid is None or found.power is None else with_spectra(dataset, found.power, grid)


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
    pairs = np.zeros((models, len(first.variables), leads), int)
    power = np.zeros((1 + models, len(first.variables), leads, grid.count)) if grid else None
    for v, name in enumerate(first.variables):
        usual = Climatology(first, name, cycle, "--metric acc") if "acc" in metrics else None
        climatologies = {
            b: Climatology(first, name, b.cycle, f"--baseline {b.name}") for b in baselines if not b.repeats
        }
        for rows, ahead in list(_blocks(starts, leads, weights.shape[1]))[share]:
            here, when = alignment.only(rows, ahead), times[rows, ahead]
            shape = (*when.shape, -1)
            true = truth_frames(truth, name, here.sample, here.valid)
            expected = usual.at(when).reshape(shape) if usual else None
            for m in range(models):
                if m < len(forecasts):
                    index = {first.outer: _listed(rows), "lead_time": _listed(ahead)}
                    predicted = forecasts[m].read(name, index)
                    truth.fills[name].refuse(true[~np.isnan(predicted)])  # what is not forecast is not compared
                elif (made := baselines[m - len(forecasts)]).repeats:
                    predicted = persistence(made.repeats, truth, name, here, here.valid - here.init[:, None])
                else:
                    predicted = climatologies[made].at(when)
                flat = predicted.reshape(shape), true.reshape(shape)
                pairs[m, v, ahead] += (~np.isnan(flat[0] + flat[1])).sum(axis=(0, 2))
                for k, metric in enumerate(metrics):
                    found = METRICS[metric].terms(*flat, weights, expected)
                    terms[:, m, k, v, ahead, :, rows] = np.moveaxis(np.stack(found), 1, -1)
                if grid and power is not None:
                    power[1 + m, v, ahead] += _power(predicted, grid) / starts
            if grid and power is not None:
                power[0, v, ahead] += _power(true, grid) / starts
    return _Sums(terms, pairs, power)


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
    """The sum over starts of the spectra of (start, lead, *grid), (lead, wavenumber)."""
    found = grid.power(fields.reshape(-1, *grid.shape))
    return found.reshape(*fields.shape[:2], -1).sum(axis=0)


def _score(metrics: Sequence[str], terms: np.ndarray) -> np.ndarray:
    """(2, model, metric, ...) of summed terms to scores (model, metric, ...)."""
    return np.stack([METRICS[name].score(terms[0][:, k], terms[1][:, k]) for k, name in enumerate(metrics)], axis=1)


def _intervals(
    metrics: Sequence[str],
    terms: np.ndarray,
    score: np.ndarray,
    forecast: ForecastFile,
    bootstrap: Bootstrap,
    block: int,
) -> dict[str, np.ndarray]:
    """Bounds of the scores, the differences from the first forecast, and the bounds of these."""
    inits = np.broadcast_to(forecast.dataset["init_time"].values, terms.shape[-1])
    terms = terms[..., np.argsort(inits, kind="stable")]
    drawn = resampling.draws(terms.shape[-1], count=bootstrap.count, block=block, seed=bootstrap.seed)
    found = {"score_bounds": np.empty((*score.shape, 2)), "difference_bounds": np.empty((*score.shape, 2))}
    for k, name in enumerate(metrics):
        for v in range(terms.shape[3]):
            sums, weights = terms[:, :, k, v]
            scores = resampling.resampled(METRICS[name], sums, weights, drawn)
            found["score_bounds"][:, k, v] = resampling.bounds(scores)
            found["difference_bounds"][:, k, v] = resampling.bounds(scores - scores[:1])
    return {**found, "difference": score - score[:1]}
