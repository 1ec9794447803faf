"""`--select`: the part of a dataset at a value, or over a range, of one dimension."""

import numpy as np
import xarray as xr

from forecast_cli.data.grid import is_longitude
from forecast_cli.data.roles import Roles, coordinate_of, nearest
from forecast_cli.data.times import TimeAxis, bounds, without_times
from forecast_cli.errors import DataError


def select(dataset: xr.Dataset, roles: Roles, dimension: str, choice: str, source: str) -> xr.Dataset:
    """`dataset` at a value, or over start:stop, of one dimension.

    A single value is the coordinate's where there is one, else a position. A range is of dates along
    time, of positions (stop excluded) along sample and where there is no coordinate, else of coordinate values
    in either order; of longitudes it may cross the file's edge.
    """
    known = {"sample": roles.sample, "time": roles.time, "y": roles.y, "x": roles.x}
    if dimension not in dataset.dims:
        dimension = known.get(dimension) or dimension
    if dimension in dataset.variables and not dataset[dimension].ndim:
        return _already_selected(dataset, dimension, choice, source)
    if dimension not in dataset.dims:
        raise DataError(
            f"{source}: --select {dimension}={choice}: no such dimension{nearest(dimension, map(str, dataset.dims))}. "
            f"Dimensions: {', '.join(map(str, dataset.dims))}."
        )
    role = next((role for role, name in known.items() if name == dimension), "")
    coordinate = coordinate_of(dataset, dimension, "" if role == "sample" else role)
    try:
        selected = _selected(dataset, dimension, role, coordinate, choice)
    except ValueError as error:
        raise DataError(f"--select {dimension}={choice}: expected a value or start:stop.") from error
    if selected.sizes[dimension] == 0:
        here = (
            f"its values run from {coordinate.values[0]} to {coordinate.values[-1]}"
            if coordinate is not None
            else f"it has {dataset.sizes[dimension]} entries"
        )
        raise DataError(f"{source}: --select {dimension}={choice} selects nothing: {here}.")
    return selected


def _already_selected(dataset: xr.Dataset, dimension: str, choice: str, source: str) -> xr.Dataset:
    """`dataset`, whose level, member or the like is a single number; DataError where it is another than the choice."""
    value = dataset[dimension].values
    try:
        same = bool(np.isclose(float(value), float(choice))) if value.dtype.kind in "fiu" else str(value) == choice
    except ValueError as error:
        raise DataError(f"--select {dimension}={choice}: expected a value, as '{dimension}' has one only.") from error
    if not same:
        raise DataError(f"{source}: --select {dimension}={choice} selects nothing: its value is {value}.")
    return dataset


def _selected(
    dataset: xr.Dataset, dimension: str, role: str, coordinate: xr.DataArray | None, choice: str
) -> xr.Dataset:
    start, colon, stop = choice.partition(":")
    if role == "time" and coordinate is not None:
        frame = without_times("", 1).step
        axis = TimeAxis(dimension, _comparable(coordinate), frame, encoding=dict(coordinate.encoding))
        frames = axis.period(*bounds(choice))
        return dataset.isel({dimension: slice(frames.start, frames.stop)})
    if colon and (role == "sample" or coordinate is None):
        return dataset.isel({dimension: slice(int(start or 0), int(stop or dataset.sizes[dimension]))})
    if coordinate is None:
        return dataset.isel({dimension: slice(int(choice), int(choice) + 1)})
    if colon:
        return _between(dataset, dimension, coordinate, float(start or "-inf"), float(stop or "inf"))
    values = coordinate.values
    if is_longitude(coordinate):
        turned = (values.astype(float) - float(choice) + 180) % 360 - 180
        return dataset.isel({dimension: np.flatnonzero(np.isclose(turned, 0, atol=1e-5 * max(1, abs(float(choice)))))})
    match = np.isclose(values, float(choice)) if values.dtype.kind in "fiu" else values.astype(str) == choice
    return dataset.isel({dimension: np.flatnonzero(match)})


def _between(dataset: xr.Dataset, dimension: str, coordinate: xr.DataArray, low: float, high: float) -> xr.Dataset:
    """The part between two coordinates; longitudes from the western bound eastwards, whatever range the file counts in."""
    values = coordinate.values.astype(float)
    within = (values >= min(low, high)) & (values <= max(low, high))
    outside = low < values.min() or high > values.max() or low > high
    if not is_longitude(coordinate) or not np.isfinite(high - low) or not outside:
        return dataset.isel({dimension: within})
    east = (values - low) % 360
    reach = min(high - low, 360 - 1e-9) if high > low else (high - low) % 360
    cells = np.argsort(east, kind="stable")[: int((east <= reach).sum())]
    moved = coordinate[cells].copy(data=(low + east[cells]).astype(coordinate.dtype))
    return dataset.isel({dimension: cells}).assign_coords({str(coordinate.name): moved.variable})


def _comparable(coordinate: xr.DataArray) -> np.ndarray:
    values = coordinate.values
    return values.astype("datetime64[ns]") if values.dtype.kind == "M" else values
