"""Which frame of the truth verifies which frame of a forecast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forecast_cli.data.coordinates import coordinates_of, first_difference
from forecast_cli.data.fields import Fields, open_fields
from forecast_cli.data.forecasts import ForecastFile, read_values
from forecast_cli.data.roles import Roles
from forecast_cli.data.times import show
from forecast_cli.errors import DataError
from forecast_cli.units import same_time_unit, same_unit


@dataclass(frozen=True)
class Alignment:
    """Which frame of the truth belongs to what: sample (start,), init (start,) and valid (start, lead); -1 where there is none."""

    sample: np.ndarray
    init: np.ndarray
    valid: np.ndarray

    def only(self, rows: slice, leads: slice) -> "Alignment":
        """The alignment of some starts and lead times."""
        return Alignment(self.sample[rows], self.init[rows], self.valid[rows, leads])


def open_truth(
    forecast: ForecastFile,
    files: Sequence[str],
    *,
    dims: Mapping[str, str] | None = None,
    select: Mapping[str, str] | None = None,
) -> Fields:
    """The fields that verify a forecast, read as the ones it was made from unless dims and select say otherwise."""
    reading = forecast.reading
    return open_fields(
        files,
        variables=forecast.variables,
        dims=dims or reading.dims,
        select={**reading.select, **(select or {})},
        time_as_steps=reading.time_as_steps,
    )


def shared(forecasts: Sequence[ForecastFile]) -> list[ForecastFile]:
    """The forecasts, each cut to the starts and lead times that all have; DataError if there are none."""
    first = forecasts[0]
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


def require_comparable(forecasts: Sequence[ForecastFile], truth: Fields) -> None:
    """Raise DataError unless every forecast has the variables of the first, and units, grid, level and time units of the truth."""
    first = forecasts[0]
    for forecast in forecasts:
        if forecast.variables != first.variables:
            raise DataError(
                f"{forecast.path}: forecasts {', '.join(forecast.variables)}, but {first.path} {', '.join(first.variables)}."
            )
        _require_same_fields(forecast, truth)


def require_same_times(forecasts: Sequence[ForecastFile], truth: Fields) -> None:
    """Raise DataError where equal starts and lead times of two forecasts stand for other times."""
    expected = align(forecasts[0], truth)
    for forecast in forecasts[1:]:
        actual = align(forecast, truth)
        if not all(np.array_equal(getattr(expected, part), getattr(actual, part)) for part in ("init", "valid")):
            raise DataError(
                f"{forecast.path}: its times are not those of {forecasts[0].path} at the same starts and lead times. "
                "Evaluate the forecasts one by one."
            )


def align(forecast: ForecastFile, truth: Fields) -> Alignment:
    """Find the frames of the truth at a forecast's times; DataError if there is not one."""
    _require_same_fields(forecast, truth)
    starts = forecast.dataset.sizes[forecast.outer]
    samples = np.zeros(starts, int)
    if truth.roles.sample:
        there = {number: i for i, number in enumerate(truth.dataset[truth.roles.sample].values.tolist())}
        samples = np.array([there.get(number, -1) for number in forecast.dataset[forecast.outer].values.tolist()])
    valid = truth.times.find(forecast.valid_times)
    init = truth.times.find(np.broadcast_to(forecast.dataset["init_time"].values, starts))
    valid[samples < 0] = -1
    if (valid < 0).all():
        span = f"{show(forecast.valid_times[0, 0])} to {show(forecast.valid_times[-1, -1])}"
        raise DataError(
            f"{truth.source}: the truth does not overlap the forecast ({span}). Give the file that covers these times and samples."
        )
    return Alignment(samples, init, valid)


def _require_same_fields(forecast: ForecastFile, truth: Fields) -> None:
    """Raise DataError if grid, level or units of the forecast are not those of the truth."""
    if truth.is_trajectories != (forecast.outer != "init_time"):
        raise DataError(f"{truth.source}: one of forecast and truth has trajectories, the other a series.")
    for variable in truth.domain.variables:
        field = forecast.dataset[variable.name]
        units = str(field.attrs.get("units", ""))
        if not same_unit(units, variable.units):
            raise DataError(
                f"{truth.source}: the unit of '{variable.name}' is '{variable.units}', but '{units}' in {forecast.path}."
            )
        grid = truth.grid_dims
        there = [truth.dataset.sizes[name] for name in grid]
        if list(field.shape[2:]) != there:
            raise DataError(f"{truth.source}: the grid is {there}, but {list(field.shape[2:])} in {forecast.path}.")
    _require_same_cells(forecast, truth)
    _require_same_time_units(forecast, truth)


def _require_same_cells(forecast: ForecastFile, truth: Fields) -> None:
    """Raise DataError where a coordinate of the grid, or a level, height or member, is another."""
    dims = [str(dimension) for dimension in forecast.dataset[forecast.variables[0]].dims[2:]]
    sample = None if forecast.outer == "init_time" else forecast.outer
    roles = Roles("lead_time", dims[0] if len(dims) > 1 else None, dims[-1], sample)
    difference = first_difference(coordinates_of(forecast.dataset, roles), truth.coordinates)
    if difference is None:
        return
    name, expected, actual = difference
    if any(name == f"'{one.name}'" and one.dims for one in truth.coordinates):
        raise DataError(
            f"{truth.source}: the cells along {name} are not where those of {forecast.path} are: {actual}, but {expected} there."
        )
    raise DataError(f"{truth.source}: {name} is {actual}, but {expected} in {forecast.path}.")


def _require_same_time_units(forecast: ForecastFile, truth: Fields) -> None:
    """Raise DataError where both have plain numbers as times, in units that differ."""
    valid = forecast.dataset["valid_time"]
    if truth.times.is_dated or valid.dtype.kind not in "fiu":
        return
    expected, actual = str(valid.attrs.get("units", "")), str(truth.times.attributes.get("units", ""))
    if not same_time_unit(expected, actual):
        raise DataError(
            f"{truth.source}: the times '{truth.times.name}' are in '{actual}', but '{expected}' in {forecast.path}. "
            "Convert them to one unit."
        )


def truth_frames(truth: Fields, name: str, samples: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Fields of the truth as float64: samples (start,) and frames (start, lead) to (start, lead, *grid), NaN where either is -1."""
    grid = [truth.dataset.sizes[dimension] for dimension in truth.grid_dims]
    found = np.full((*frames.shape, *grid), np.nan)
    for sample in np.unique(samples[samples >= 0]):
        rows = samples == sample
        needed = np.unique(frames[rows])
        needed = needed[needed >= 0]
        if not needed.size:
            continue
        index: dict[str, int | np.ndarray] = {truth.roles.time: needed}
        if truth.roles.sample:
            index[truth.roles.sample] = int(sample)
        # Windows overlap: each frame is read once, however many starts it verifies.
        values = read_values(truth.dataset[name].variable.isel(index), truth.source)
        there = rows[:, None] & (frames >= 0)
        found[there] = values[np.searchsorted(needed, frames[there])]
    return found


def truth_of(forecast: ForecastFile, truth: Fields, variable: str, start: int, leads: Sequence[int]) -> np.ndarray:
    """The truth (lead, y, x) of one forecast at some lead times, NaN where it has no frame."""
    alignment = align(forecast.only([start], range(forecast.leads)), truth)
    found: np.ndarray = truth_frames(truth, variable, alignment.sample, alignment.valid[:, list(leads)])[0]
    return found
