"""Verification: forecasts against the truth, per variable and lead time, beside simple baselines.

Forecasts of one call are compared at the starts and lead times they share, with the area of each
cell as its weight on latitude-longitude grids.
"""

import difflib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from forecast_cli.data.fields import Fields, open_fields
from forecast_cli.data.forecasts import ForecastFile, read_values
from forecast_cli.data.times import TimeAxis, show
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.metrics import METRICS, cell_weights


@dataclass(frozen=True)
class Alignment:
    """Which frame of the truth belongs to what: sample (start,), init (start,) and valid (start, lead); -1 where there is none."""

    sample: np.ndarray
    init: np.ndarray
    valid: np.ndarray


def evaluate(
    forecasts: Sequence[ForecastFile],
    truth_files: Sequence[str],
    *,
    metrics: Sequence[str] = ("rmse",),
    baselines: Sequence[str] = (),
    dims: Mapping[str, str] | None = None,
    select: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Scores of the forecasts, and of baselines at the same starts: score(model, metric, variable, lead_time).

    truth_files, dims, select: as `open_truth` takes them. baselines: "persistence" (the last frame), "persistence:N"
    (the last N frames over and over), "climatology" (the training part's mean).
    Raises ConfigError for unknown names, DataError where truth and forecast do not overlap.
    """
    for name in metrics:
        if name not in METRICS:
            match = difflib.get_close_matches(name, METRICS, n=1)
            raise ConfigError(
                f"--metric {name}: {f'did you mean {match[0]}? ' if match else ''}known are {', '.join(METRICS)}."
            )
    cycles = {name: _baseline(name) for name in baselines}
    _require_distinct([*(forecast.label for forecast in forecasts), *baselines])
    truth = open_truth(forecasts[0], truth_files, dims=dims, select=select)
    forecasts = _shared(forecasts)
    alignment = _align(forecasts[0], truth)
    weights = cell_weights(truth)

    labels = [*(forecast.label for forecast in forecasts), *baselines]
    shape = (len(labels), len(metrics), len(forecasts[0].variables), forecasts[0].leads)
    table, counts = np.full(shape, np.nan), np.zeros((len(labels), *shape[2:]), int)
    for v, name in enumerate(forecasts[0].variables):
        climatology = _climatology(forecasts[0], name, truth)
        for lead in range(forecasts[0].leads):
            true = _truth(truth, name, alignment.sample, alignment.valid[:, lead])
            for m, label in enumerate(labels):
                if label in cycles:
                    predicted = _baseline_field(cycles[label], truth, name, alignment, lead, climatology, true)
                else:
                    values = forecasts[m].read(name, {"lead_time": lead})
                    predicted = true.copy(data=values)
                counts[m, v, lead] = int((predicted.notnull() & true.notnull()).sum())
                for k, metric in enumerate(metrics):
                    if counts[m, v, lead]:
                        with warnings.catch_warnings():
                            warnings.simplefilter("ignore", RuntimeWarning)
                            table[m, k, v, lead] = METRICS[metric](predicted, true, weights, climatology)
    if not counts[: len(forecasts)].any():
        raise DataError(f"{truth.source}: has no value where the forecast has one: the truth is missing everywhere.")
    return _scores(table, counts, labels, metrics, forecasts, truth)


def open_truth(
    forecast: ForecastFile,
    files: Sequence[str],
    *,
    dims: Mapping[str, str] | None = None,
    select: Mapping[str, str] | None = None,
) -> Fields:
    """The fields that verify a forecast, read as the ones it was made from unless dims and select say otherwise."""
    reading = forecast.reading
    chosen = {**reading["select"], **(select or {})}
    return open_fields(files, variables=forecast.variables, dims=dims or reading["dims"], select=chosen)


def _baseline(name: str) -> int:
    """Frames that a persistence baseline repeats; 0 for the climatology."""
    if name == "climatology":
        return 0
    match = re.fullmatch(r"persistence(?::([1-9]\d*))?", name)
    if not match:
        raise ConfigError(
            f"--baseline {name}: known are persistence, persistence:N (repeat the last N steps) and climatology."
        )
    return int(match[1] or 1)


def _require_distinct(labels: Sequence[str]) -> None:
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise ConfigError(f"two forecasts or baselines are called '{twice}'. Name the forecasts: --label A --label B.")


def _shared(forecasts: Sequence[ForecastFile]) -> list[ForecastFile]:
    """The forecasts, each cut to the starts and lead times that all have; DataError if there are none."""
    first = forecasts[0]
    for other in forecasts[1:]:
        if other.variables != first.variables:
            raise DataError(
                f"{other.path}: forecasts {', '.join(other.variables)}, but {first.path} {', '.join(first.variables)}."
            )
    starts = set(first.starts).intersection(*(forecast.starts for forecast in forecasts[1:]))
    leads = set(first.lead_keys).intersection(*(forecast.lead_keys for forecast in forecasts[1:]))
    if not starts or not leads:
        what = "lead time" if starts else "start (init_time and sample)"
        raise DataError(f"the forecasts share no {what}, so they cannot be compared. Evaluate them one by one.")
    cut = []
    for forecast in forecasts:
        there = {key: row for row, key in enumerate(forecast.starts)}
        rows = [there[key] for key in first.starts if key in starts]
        cut.append(forecast.only(rows, [i for i, key in enumerate(forecast.lead_keys) if key in leads]))
    return cut


def _align(forecast: ForecastFile, truth: Fields) -> Alignment:
    """Find the frames of the truth at a forecast's times; DataError if there is not one."""
    if truth.is_trajectories != (forecast.outer != "init_time"):
        raise DataError(f"{truth.source}: one of forecast and truth has trajectories, the other a series.")
    _require_same_fields(forecast, truth)
    starts = forecast.dataset.sizes[forecast.outer]
    samples = np.zeros(starts, int)
    if truth.roles.sample:
        there = {number: i for i, number in enumerate(truth.dataset[truth.roles.sample].values.tolist())}
        samples = np.array([there.get(number, -1) for number in forecast.dataset[forecast.outer].values.tolist()])
    valid = _find(truth.times, forecast.valid_times)
    init = _find(truth.times, np.broadcast_to(forecast.dataset["init_time"].values, starts))
    valid[samples < 0] = -1
    if (valid < 0).all():
        span = f"{show(forecast.valid_times[0, 0])} to {show(forecast.valid_times[-1, -1])}"
        raise DataError(
            f"{truth.source}: the truth does not overlap the forecast ({span}). Give the file that covers these times and samples."
        )
    return Alignment(samples, init, valid)


def _require_same_fields(forecast: ForecastFile, truth: Fields) -> None:
    """Raise DataError if grid or units of the forecast are not those of the truth."""
    for variable in truth.domain.variables:
        field = forecast.dataset[variable.name]
        units = str(field.attrs.get("units", ""))
        if units != variable.units:
            raise DataError(
                f"{truth.source}: the unit of '{variable.name}' is '{variable.units}', but '{units}' in {forecast.path}."
            )
        grid = truth.grid_dims
        there = [truth.dataset.sizes[name] for name in grid]
        if list(field.shape[2:]) != there:
            raise DataError(f"{truth.source}: the grid is {there}, but {list(field.shape[2:])} in {forecast.path}.")
        for theirs, ours in zip(map(str, field.dims[2:]), grid, strict=True):
            if (
                theirs in forecast.dataset.coords
                and ours in truth.dataset.coords
                and not _near(forecast.dataset[theirs].values, truth.dataset[ours].values)
            ):
                raise DataError(f"{truth.source}: the cells along '{ours}' are not where those of {forecast.path} are.")


def _near(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two coordinates agree within a thousandth of a cell; other things than numbers are not compared."""
    if first.dtype.kind not in "fiu" or second.dtype.kind not in "fiu":
        return True
    spacing = np.abs(np.diff(second.astype(float))).min(initial=np.inf)
    return np.allclose(first, second, rtol=0, atol=1e-3 * spacing if np.isfinite(spacing) else np.inf)


def _find(times: TimeAxis, wanted: np.ndarray) -> np.ndarray:
    """The frames at some times, within a thousandth of a step; -1 where there is none."""
    try:
        known, wanted = _elapsed(times.values, times.values[0]), _elapsed(wanted, times.values[0])
    except TypeError:  # dates of another calendar, or dates and numbers
        return np.full(wanted.shape, -1)
    nearest = np.searchsorted((known[1:] + known[:-1]) / 2, wanted)
    slack = 1e-3 * np.diff(known).min() if len(known) > 1 else 0.0
    return np.where(np.abs(known[nearest] - wanted) <= slack, nearest, -1)


def _elapsed(values: np.ndarray, origin: Any) -> np.ndarray:
    """Time since `origin`: seconds between dates, the axis's own unit between numbers."""
    difference = values - origin
    if difference.dtype.kind == "m":
        return np.asarray(difference / np.timedelta64(1, "s"))
    if difference.dtype.kind == "O":
        return np.vectorize(lambda delta: delta.total_seconds(), otypes=[float])(difference)
    return difference


def _truth(truth: Fields, name: str, samples: np.ndarray, frames: np.ndarray) -> xr.DataArray:
    """Fields of the truth, (start, y, x), NaN where a frame is -1."""
    variable = truth.dataset[name].variable
    index = {truth.roles.time: np.maximum(frames, 0)}
    if truth.roles.sample is None:
        values = read_values(variable.isel(index), truth.source)
    else:
        pairs = {
            truth.roles.sample: xr.Variable("start", np.maximum(samples, 0)),
            truth.roles.time: xr.Variable("start", np.maximum(frames, 0)),
        }
        values = read_values(variable.isel(pairs), truth.source)
    missing = (frames < 0) | (samples < 0)
    values = np.where(missing.reshape(-1, *(1,) * (values.ndim - 1)), np.nan, values)
    return xr.DataArray(values, dims=("start", *truth.grid_dims))


def _climatology(forecast: ForecastFile, name: str, truth: Fields) -> xr.DataArray | None:
    if f"{name}_climatology" not in forecast.dataset:
        return None
    return xr.DataArray(forecast.read(f"{name}_climatology", {}), dims=truth.grid_dims)


def _baseline_field(
    cycle: int,
    truth: Fields,
    name: str,
    alignment: Alignment,
    lead: int,
    climatology: xr.DataArray | None,
    like: xr.DataArray,
) -> xr.DataArray:
    if cycle == 0:
        if climatology is None:
            raise ConfigError(
                "--baseline climatology needs the climatology that `forecast rollout` writes; this file has none."
            )
        return climatology.broadcast_like(like)
    steps = alignment.valid[:, lead] - alignment.init
    frames = alignment.init - cycle + 1 + (steps - 1) % cycle
    return _truth(truth, name, alignment.sample, np.where(alignment.init < 0, -1, frames))


def _scores(
    table: np.ndarray,
    counts: np.ndarray,
    labels: Sequence[str],
    metrics: Sequence[str],
    forecasts: Sequence[ForecastFile],
    truth: Fields,
) -> xr.Dataset:
    units = {variable.name: variable.units for variable in truth.domain.variables}
    return xr.Dataset(
        {
            "score": (
                ("model", "metric", "variable", "lead_time"),
                table,
                {"long_name": "score", "comment": "in the unit of the variable, acc without unit"},
            ),
            "pairs": (("model", "variable", "lead_time"), counts, {"long_name": "pairs of values compared"}),
        },
        coords={
            "model": list(labels),
            "metric": list(metrics),
            "variable": list(units),
            "lead_time": forecasts[0].dataset["lead_time"].variable,
            "units": ("variable", [units[name] for name in units], {"long_name": "unit of the variable"}),
        },
        attrs={
            "forecast_kind": "scores",
            "averaging": "; ".join(
                f"{name}: {' '.join((METRICS[name].__doc__ or '').split(chr(10))[0].split())}" for name in metrics
            ),
            "weights": "cell area" if truth.domain.grid == "latitude-longitude" else "equal",
            "starts": len(forecasts[0].starts),
            "truth": truth.source,
            "forecasts": " ".join(str(forecast.path) for forecast in forecasts),
        },
    )


def lead_times(dataset: xr.Dataset) -> tuple[list[float], str]:
    """Lead times of a score or forecast file as numbers, and their unit."""
    variable = dataset["lead_time"]
    if variable.dtype.kind != "m":
        return variable.values.astype(float).tolist(), str(variable.attrs.get("units", "1"))
    seconds = variable.values / np.timedelta64(1, "s")
    unit, size = next(
        ((u, s) for u, s in (("days", 86400), ("hours", 3600), ("minutes", 60)) if (seconds % s == 0).all()),
        ("seconds", 1),
    )
    return (seconds / size).tolist(), unit


def as_json(dataset: xr.Dataset) -> dict[str, object]:
    """The scores as plain lists; a score that does not exist is None."""
    leads, units = lead_times(dataset)
    table: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    for model in dataset["model"].values.tolist():
        for metric in dataset["metric"].values.tolist():
            for variable in dataset["variable"].values.tolist():
                row = dataset["score"].sel(model=model, metric=metric, variable=variable).values
                table.setdefault(model, {}).setdefault(metric, {})[variable] = [
                    None if np.isnan(x) else float(x) for x in row
                ]
    return {"lead_time": leads, "lead_time_units": units, "scores": table}


def truth_of(forecast: ForecastFile, truth: Fields, variable: str, start: int, leads: Sequence[int]) -> np.ndarray:
    """The truth (lead, y, x) of one forecast at some lead times, NaN where it has no frame."""
    alignment = _align(forecast.only([start], range(forecast.leads)), truth)
    return _truth(truth, variable, np.repeat(alignment.sample, len(leads)), alignment.valid[0, list(leads)]).values
