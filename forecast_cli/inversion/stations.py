"""Waves out of series at stations."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from forecast_cli.data.fields import Fields, open_fields
from forecast_cli.data.times import TimeAxis, show, time_axis
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.inversion.first_frame import start_of
from forecast_cli.inversion.metric import metric_grid, seconds
from forecast_cli.inversion.observed import Observed, Source, Told
from forecast_cli.inversion.places import cells_of, once_inside
from forecast_cli.inversion.variables import found_names, require_numbers, variables_of

PAIRS = (
    ("x", "y"),
    ("lon", "lat"),
    ("longitude", "latitude"),
    ("projection_x_coordinate", "projection_y_coordinate"),
)
"""Names, or CF standard names, of the places along x and y."""


def station_dimension(dataset: xr.Dataset, name: str) -> str | None:
    """The dimension that counts stations: one along which the places along x and y are both given."""
    for dimension in map(str, dataset[name].dims):
        known = set().union(*_names_along(dataset, dimension).values())
        if any(set(pair) <= known for pair in PAIRS):
            return dimension
    return None


def _names_along(dataset: xr.Dataset, dimension: str) -> dict[str, set[str]]:
    """Variables along a dimension alone, with what each is called: its name and its standard name."""
    along = [str(name) for name in dataset.variables if dataset[name].dims == (dimension,)]
    return {name: {name.lower(), str(dataset[name].attrs.get("standard_name", ""))} for name in along}


def at_stations(dataset: xr.Dataset, named: Mapping[str, str], source: Source, place: str, told: Told) -> Observed:
    """Series at stations on the grid of --initial-state, whose first time is that of the first frame."""
    unused = {"--gauges": source.gauges, "--mask": source.mask, "--select": source.select, "--dims": source.dims}
    if wrong := [option for option, given in unused.items() if given]:
        raise ConfigError(f"{', '.join(wrong)}: for fields; {place} holds series at stations.")
    if not source.initial_state:
        raise DataError(
            f"{place}: stations, and no grid to put them on. Give the first frame of the whole basin: --initial-state FILE."
        )
    eta = found_names(variables_of([source.initial_state]), None, source.initial_state)["eta"]
    state = open_fields([source.initial_state], variables=[eta], static=True)
    if state.domain.y is None:
        raise DataError(f"--initial-state {source.initial_state}: one dimension of space; an inversion needs two.")
    grid, latitude = metric_grid(state, told)
    dimension = str(station_dimension(dataset, named["eta"]))
    time = next((str(d) for d in dataset[named["eta"]].dims if d != dimension), None)
    if time is None or time not in dataset.variables:
        raise DataError(f"{place}: '{named['eta']}' has no time beside its stations.")
    times = time_axis(time, dataset[time].variable, place)
    _require_same_start(times, state, place)
    columns = {"x": _coordinate(dataset, dimension, 0), "y": _coordinate(dataset, dimension, 1)}
    cells = cells_of(columns, ("x", "y"), (state.domain.y, state.domain.x), degrees=latitude is not None)
    inside = once_inside(cells, place, told)
    later = np.full((1, dataset.sizes[time] - 1, len(named), *grid.shape), np.nan)
    spread = np.zeros(len(named))
    for channel, ours in enumerate(named):
        if set(dataset[named[ours]].dims) != {time, dimension}:
            raise DataError(
                f"{place}: '{named[ours]}' is not at the stations of '{named['eta']}'. Leave it out with --variable."
            )
        series = np.asarray(dataset[named[ours]].transpose(time, dimension).values, float)
        require_numbers(series, dataset[named[ours]], place)
        spread[channel] = np.nanstd(series) if np.isfinite(series).any() else 0.0
        for row, column in inside:
            here = [number for number, other in enumerate(cells) if other == (row, column)]
            later[0, :, channel, row, column] = _mean_of_seen(series[1:, here])
    start = start_of(np.full((1, 3, *grid.shape), np.nan), source, state, told)
    return Observed(
        place,
        tuple(named),
        start,
        later,
        spread,
        grid,
        seconds(times.step, place),
        times,
        state.spatial_coordinates(),
        (str(state.roles.y), state.roles.x),
        {**state.dataset.attrs, **dataset.attrs},
        latitude,
    )


def _coordinate(dataset: xr.Dataset, dimension: str, axis: int) -> np.ndarray:
    """The places of the stations along x (0) or y (1)."""
    wanted = {pair[axis] for pair in PAIRS}
    name = next(name for name, called in _names_along(dataset, dimension).items() if called & wanted)
    return np.asarray(dataset[name].values, float)


def _mean_of_seen(series: np.ndarray) -> np.ndarray:
    """The mean of the gauges in a cell (time, gauge) -> (time,), of those that have seen anything."""
    seen = np.isfinite(series)
    total, count = np.where(seen, series, 0).sum(axis=1), seen.sum(axis=1)
    return np.where(count > 0, total / count.clip(1), np.nan)


def _require_same_start(times: TimeAxis, state: Fields, place: str) -> None:
    """DataError where both say when they begin, and that differs."""
    first, other = times.values[0], state.times.values[0]
    comparable = times.attributes.get("units") == state.times.attributes.get("units") or times.is_dated
    if state.times.step.unit == "frame" and not state.times.attributes and not state.times.is_dated:
        return
    if times.is_dated == state.times.is_dated and comparable and show(first) != show(other):
        raise DataError(
            f"{place}: the series begin at the time {show(first)}, the first frame of {state.source} is of {show(other)}. "
            "They must begin together: cut the earlier one."
        )
