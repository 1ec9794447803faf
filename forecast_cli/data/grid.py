"""What kind of grid the coordinates describe: on the globe or not, evenly spaced or not, closed or not."""

import numpy as np
import xarray as xr

from forecast_cli.data.roles import Roles, coordinate_of
from forecast_cli.data.times import as_meant
from forecast_cli.domain import Axis, Boundary, GridKind
from forecast_cli.errors import DataError


def axis_of(dataset: xr.Dataset, dimension: str, role: str) -> Axis:
    """A dimension of space with what its coordinate says."""
    coordinate = coordinate_of(dataset, dimension, role)
    size = dataset.sizes[dimension]
    if coordinate is None or coordinate.dtype.kind not in "fiu":
        return Axis(dimension, size)
    values = coordinate.values.astype(float)
    spacing = (values[-1] - values[0]) / (size - 1) if size > 1 else None
    if spacing is not None and not np.allclose(np.diff(values), spacing, rtol=1e-3, atol=1e-12):
        spacing = None
    rounded = None if spacing is None else as_meant(float(spacing), values)
    return Axis(dimension, size, str(coordinate.attrs.get("units", "")), float(values[0]), rounded)


def require_places(dataset: xr.Dataset, roles: Roles, source: str) -> None:
    """DataError where a coordinate of space is missing or infinite somewhere, or the same everywhere: nothing lies anywhere then."""
    for dimension, role in ((roles.y, "y"), (roles.x, "x")):
        coordinate = coordinate_of(dataset, dimension, role) if dimension else None
        if coordinate is None or coordinate.dtype.kind not in "fiu":
            continue
        values = coordinate.values.astype(float)
        if not np.isfinite(values).all():
            cell = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(
                f"{source}: the coordinate '{coordinate.name}' is {values[cell]} at cell {cell}. Correct it, or drop the variable."
            )
        if values.size > 1 and (values == values[0]).all():
            raise DataError(
                f"{source}: the coordinate '{coordinate.name}' is {values[0]:g} in all cells. Correct it, or drop the variable."
            )


def is_scale(coordinate: xr.DataArray) -> bool:
    """Whether the numbers of a coordinate rise or fall all the way, so that fields can be drawn against them."""
    if coordinate.dtype.kind not in "fiu":
        return False
    values = coordinate.values.astype(float)
    steps = np.diff(values)
    return bool(np.isfinite(values).all() and np.isfinite(steps).all() and ((steps > 0).all() or (steps < 0).all()))


def kind_of(dataset: xr.Dataset, roles: Roles) -> tuple[GridKind, Boundary]:
    """The kind of grid, and the boundary that suits it: closed around the globe, periodic where the file says so."""
    x = coordinate_of(dataset, roles.x, "x")
    y = coordinate_of(dataset, roles.y, "y") if roles.y else None
    periodic = str(dataset.attrs.get("boundary_conditions", "")).lower() == "periodic"
    if x is not None and y is not None and is_latitude(y) and is_longitude(x):
        values = x.values.astype(float)
        spacing = abs(values[-1] - values[0]) / max(1, len(values) - 1)
        closes = abs(spacing * len(values) - 360) < 0.5 * spacing
        return "latitude-longitude", "cylinder" if closes else "zeros"
    kind: GridKind = "index" if x is None and y is None else "cartesian"
    return kind, "circular" if periodic else "zeros"


def without_repeated_longitude(dataset: xr.Dataset, roles: Roles) -> tuple[xr.Dataset, tuple[str, ...]]:
    """The dataset without a last longitude that is the first again, and a note if there was one."""
    x = coordinate_of(dataset, roles.x, "x")
    if x is None or x.size < 3 or not is_longitude(x):
        return dataset, ()
    values = x.values.astype(float)
    spacing = abs(values[1] - values[0])
    if not abs(abs(values[-1] - values[0]) - 360) <= 1e-3 * spacing:
        return dataset, ()
    note = f"longitude {values[-1]:g} repeats {values[0]:g}: left out"
    return dataset.isel({roles.x: slice(0, -1)}), (note,)


def is_latitude(coordinate: xr.DataArray) -> bool:
    """Whether a coordinate holds geographical latitudes in degrees."""
    return _is(coordinate, "latitude", units={"degrees_north", "degree_north"}, names={"lat", "latitude"})


def is_longitude(coordinate: xr.DataArray) -> bool:
    """Whether a coordinate holds geographical longitudes in degrees."""
    return _is(coordinate, "longitude", units={"degrees_east", "degree_east"}, names={"lon", "longitude"})


def _is(coordinate: xr.DataArray, standard_name: str, *, units: set[str], names: set[str]) -> bool:
    """Whether CF attributes, or without a standard name the name, say that a coordinate is `standard_name`."""
    said = coordinate.attrs.get("standard_name")
    by_name = said is None and str(coordinate.name).lower() in names
    return said == standard_name or coordinate.attrs.get("units") in units or by_name
