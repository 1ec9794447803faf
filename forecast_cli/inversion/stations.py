"""Waves out of series at stations."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from forecast_cli.data.fields import open_fields
from forecast_cli.data.times import time_axis
from forecast_cli.errors import DataError
from forecast_cli.inversion.first_frame import start_of
from forecast_cli.inversion.metric import metric_grid, seconds
from forecast_cli.inversion.observed import Observed, Source, Told
from forecast_cli.inversion.places import cells_of, once_inside
from forecast_cli.inversion.variables import found_names, variables_of


def station_dimension(dataset: xr.Dataset, name: str) -> str | None:
    """The dimension that counts stations: one along which both places are given, with none of space beside it."""
    for dimension in map(str, dataset[name].dims):
        along = {str(n).lower() for n in dataset.variables if dataset[n].dims == (dimension,)}
        along |= {
            str(dataset[n].attrs.get("standard_name", "")) for n in dataset.variables if dataset[n].dims == (dimension,)
        }
        if (
            any(set(pair) <= along for pair in (("x", "y"), ("lon", "lat"), ("longitude", "latitude")))
            or {
                "projection_x_coordinate",
                "projection_y_coordinate",
            }
            <= along
        ):
            return dimension
    return None


def at_stations(dataset: xr.Dataset, named: Mapping[str, str], source: Source, place: str, told: Told) -> Observed:
    """Series at stations on the grid of --initial-state."""
    if not source.initial_state:
        raise DataError(
            f"{place}: stations, and no grid to put them on. Give the first frame of the whole basin: --initial-state FILE."
        )
    state = open_fields(
        [source.initial_state],
        variables=[found_names(variables_of([source.initial_state]), None, source.initial_state)["eta"]],
        static=True,
    )
    if state.domain.y is None:
        raise DataError(f"--initial-state {source.initial_state}: one dimension of space; an inversion needs two.")
    grid, latitude = metric_grid(state, told)
    dimension = str(station_dimension(dataset, named["eta"]))
    along = {str(n): dataset[n] for n in dataset.variables if dataset[n].dims == (dimension,)}

    def coordinate(*known: str) -> np.ndarray:
        return next(
            np.asarray(v.values, float)
            for n, v in along.items()
            if n.lower() in known or v.attrs.get("standard_name") in known
        )

    columns = {
        "x": coordinate("x", "lon", "longitude", "projection_x_coordinate"),
        "y": coordinate("y", "lat", "latitude", "projection_y_coordinate"),
    }
    cells = cells_of(columns, ("x", "y"), (state.domain.y, state.domain.x))
    inside = once_inside(cells, place, told)
    time = next((str(d) for d in dataset[named["eta"]].dims if d != dimension), None)
    if time is None or time not in dataset.variables:
        raise DataError(f"{place}: '{named['eta']}' has no time beside its stations.")
    times = time_axis(time, dataset[time].variable, place)
    _, height, width = state.domain.shape
    frames = dataset.sizes[time]
    later = np.full((1, max(frames - 1, 0), len(named), height, width), np.nan)
    spread = np.zeros(len(named))
    for channel, ours in enumerate(named):
        series = np.asarray(dataset[named[ours]].transpose(time, dimension).values, float)
        spread[channel] = np.nanstd(series)
        for station, cell in enumerate(cells):
            if cell is not None:
                later[0, :, channel, cell[0], cell[1]] = series[1:, station]
    start = start_of(np.full((1, 3, height, width), np.nan), source, state, told)
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
        inside,
    )
