"""Verification: forecasts against the truth, per variable and lead time, beside simple baselines.

Every score is taken over pairs that are present in both fields, with the area of each cell as its
weight on latitude-longitude grids. Forecasts of one call are compared at the starts and
lead times they share.
"""

import difflib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scores.continuous
import xarray as xr

from forecast_cli.data.fields import Fields, is_latitude, is_longitude, open_fields
from forecast_cli.data.roles import coordinate_of
from forecast_cli.data.times import TimeAxis, show
from forecast_cli.errors import ConfigError, DataError


def rmse(forecast: xr.DataArray, truth: xr.DataArray, weights: xr.DataArray, _: xr.DataArray | None = None) -> float:
    """Root of the weighted mean of (f - t)^2 over starts and cells, in the unit of the variable."""
    return float(scores.continuous.rmse(forecast, truth, weights=weights))


def mae(forecast: xr.DataArray, truth: xr.DataArray, weights: xr.DataArray, _: xr.DataArray | None = None) -> float:
    """Weighted mean of |f - t| over starts and cells, in the unit of the variable."""
    return float(scores.continuous.mae(forecast, truth, weights=weights))


def bias(forecast: xr.DataArray, truth: xr.DataArray, weights: xr.DataArray, _: xr.DataArray | None = None) -> float:
    """Weighted mean of f - t over starts and cells, in the unit of the variable; positive where the forecast is too high."""
    return float(scores.continuous.additive_bias(forecast, truth, weights=weights))


def acc(forecast: xr.DataArray, truth: xr.DataArray, weights: xr.DataArray, climatology: xr.DataArray | None) -> float:
    """Anomaly correlation: for each start sum(w f' t') / sqrt(sum(w f'^2) sum(w t'^2)) over cells, then the mean over starts.

    f' and t' are departures from the climatology, not centred again. NaN where an anomaly vanishes
    everywhere, as the climatology's own does. Raises ConfigError without a climatology.
    Source: Jolliffe and Stephenson (2011), Forecast Verification, the uncentred form.
    """
    if climatology is None:
        raise ConfigError(
            "--metric acc needs the climatology that `forecast rollout` writes beside the forecast; this file has none."
        )
    anomaly, true_anomaly = forecast - climatology, truth - climatology
    weights = weights.where((anomaly + true_anomaly).notnull())
    cells = [dimension for dimension in forecast.dims if dimension != "start"]
    product = (weights * anomaly * true_anomaly).sum(cells)
    norm = ((weights * anomaly**2).sum(cells) * (weights * true_anomaly**2).sum(cells)) ** 0.5
    return float((product / norm.where(norm > 0)).mean())


Metric = Callable[[xr.DataArray, xr.DataArray, xr.DataArray, xr.DataArray | None], float]

METRICS: dict[str, Metric] = {"rmse": rmse, "mae": mae, "bias": bias, "acc": acc}


@dataclass(frozen=True, eq=False)
class ForecastFile:
    """A forecast as `forecast rollout` writes it.

    outer: the dimension of the starts, init_time or sample. starts, lead_keys: what tells one start, or
    one lead time, from another.
    """

    label: str
    path: Path
    dataset: xr.Dataset
    outer: str
    variables: tuple[str, ...]

    @property
    def leads(self) -> int:
        return self.dataset.sizes["lead_time"]

    @property
    def starts(self) -> list[tuple[object, object]]:
        inits = np.atleast_1d(self.dataset["init_time"].values)
        if self.outer == "init_time":
            return [(None, init) for init in inits.tolist()]
        return [(sample, inits.tolist()[0]) for sample in self.dataset[self.outer].values.tolist()]

    @property
    def lead_keys(self) -> list[float]:
        leads = self.dataset["lead_time"].values
        seconds = leads / np.timedelta64(1, "s") if leads.dtype.kind == "m" else leads
        return [float(f"{lead:.9g}") for lead in seconds]

    def only(self, starts: Sequence[int], leads: Sequence[int]) -> "ForecastFile":
        """The forecast cut to some positions along its starts and lead times."""
        return replace(self, dataset=self.dataset.isel({self.outer: list(starts), "lead_time": list(leads)}))

    @property
    def valid_times(self) -> np.ndarray:
        """(start, lead)"""
        valid = self.dataset["valid_time"].values
        return np.broadcast_to(valid, (self.dataset.sizes[self.outer], self.leads))

    def read(self, name: str, index: Mapping[str, int | list[int]]) -> np.ndarray:
        """Values of a variable at positions along init_time or sample, and lead_time; DataError if the file is damaged."""
        return _read(self.dataset[name].variable.isel(index), str(self.path))


def open_forecast(path: Path, label: str | None = None) -> ForecastFile:
    """Open a forecast file lazily; DataError if it is not one."""
    try:
        # A plain number of days or seconds stays a number; lead_time says itself that it is a duration.
        durations = xr.coders.CFTimedeltaCoder(decode_via_units=False)
        dataset = xr.open_dataset(path, engine="netcdf4", cache=False, decode_timedelta=durations)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: not a readable NetCDF file ({str(error).splitlines()[0]}).") from error
    if dataset.attrs.get("forecast_kind") != "forecast":
        raise DataError(f"{path}: not a forecast that `forecast rollout` wrote.")
    variables = tuple(str(dataset.attrs["forecast_variables"]).split())
    outer = str(dataset[variables[0]].dims[0])
    return ForecastFile(label or str(dataset.attrs["forecast_model"]), path, dataset, outer, variables)


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

    truth_files: as `open_fields` takes them. baselines: "persistence" (the last frame), "persistence:N"
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
    truth = open_fields(truth_files, variables=forecasts[0].variables, dims=dims, select=select)
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
        grid = _grid(truth)
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
        values = _read(variable.isel(index), truth.source)
    else:
        pairs = {
            truth.roles.sample: xr.Variable("start", np.maximum(samples, 0)),
            truth.roles.time: xr.Variable("start", np.maximum(frames, 0)),
        }
        values = _read(variable.isel(pairs), truth.source)
    missing = (frames < 0) | (samples < 0)
    values = np.where(missing.reshape(-1, *(1,) * (values.ndim - 1)), np.nan, values)
    return xr.DataArray(values, dims=("start", *_grid(truth)))


def _read(variable: xr.Variable, source: str) -> np.ndarray:
    """The values of a part of a file as float64; DataError if the file is damaged there."""
    try:
        return np.asarray(variable.values, np.float64)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{source}: cannot be read to its end ({str(error).splitlines()[0]}): the file is damaged."
        ) from error


def _grid(truth: Fields) -> list[str]:
    return [name for name in (truth.roles.y, truth.roles.x) if name]


def _climatology(forecast: ForecastFile, name: str, truth: Fields) -> xr.DataArray | None:
    if f"{name}_climatology" not in forecast.dataset:
        return None
    return xr.DataArray(forecast.read(f"{name}_climatology", {}), dims=_grid(truth))


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


def cell_weights(fields: Fields) -> xr.DataArray:
    """The area of each cell relative to their mean, on the grid; 1 where the grid is not latitude-longitude.

    A cell reaches halfway to its neighbours, and no further than the pole: its area is proportional to
    the difference of the sines of its bounding latitudes.
    """
    sizes = [fields.dataset.sizes[name] for name in _grid(fields)]
    ones = xr.DataArray(np.ones(sizes), dims=_grid(fields))
    if fields.roles.y is None:
        return ones
    y, x = coordinate_of(fields.dataset, fields.roles.y, "y"), coordinate_of(fields.dataset, fields.roles.x, "x")
    if y is None or x is None or not is_latitude(y) or not is_longitude(x) or y.size < 2:
        return ones
    latitudes = y.values.astype(float)
    middles = (latitudes[1:] + latitudes[:-1]) / 2
    bounds = np.concatenate([[2 * latitudes[0] - middles[0]], middles, [2 * latitudes[-1] - middles[-1]]]).clip(-90, 90)
    areas = np.abs(np.diff(np.sin(np.deg2rad(bounds))))
    return ones * xr.DataArray(areas / areas.mean(), dims=fields.roles.y)


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
