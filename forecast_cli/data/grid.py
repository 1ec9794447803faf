"""Grids that coordinates describe: on the globe or not, evenly spaced or not, closed or not."""

import numpy as np
import xarray as xr

from forecast_cli.data.roles import Roles, coordinate_of
from forecast_cli.data.times import as_meant
from forecast_cli.domain import Axis, Boundary, GridKind
from forecast_cli.errors import DataError
from forecast_cli.units import DEGREES, DIMENSIONLESS, EAST, NORTH, RADIANS, metres_per

KM_PER_DEGREE = 111.195
"""Length of a degree of latitude, and of longitude at the equator, on a sphere of 6371 km."""
_ROTATED = {"grid_latitude", "grid_longitude", "rlat", "rlon"}
"""Standard names, and names without one, of degrees that are counted from another pole."""


def places(coordinate: xr.DataArray) -> np.ndarray:
    """Return the values of a one-dimensional coordinate as float, longitudes unwrapped.

    Longitudes that jump by a turn, at Greenwich or at the dateline, go on beyond the jump: 359, 0, 1 are 359, 360, 361.
    The first value is that of the file.
    """
    values = np.asarray(coordinate.values, float)
    return unwrapped(values) if coordinate.ndim == 1 and is_longitude(coordinate) else values


def unwrapped(longitudes: np.ndarray) -> np.ndarray:
    """Return longitudes [degrees] whose steps are taken modulo 360, between -180 and 180.

    Values that then reach around the globe more than once follow no circle of latitude, and stay as they are.
    """
    steps = np.diff(longitudes)
    with np.errstate(invalid="ignore"):
        turns = np.rint(steps / 360)  # a step of 180 keeps its sign: numpy rounds halves to even
        found = longitudes - 360 * np.concatenate([[0.0], np.cumsum(turns)])
        follows = np.ptp(found) <= 360 * (1 + 1e-6) if found.size else False
    return found if follows else longitudes


def map_places(coordinate: xr.DataArray) -> np.ndarray:
    """Return the values of a coordinate as maps count them: longitudes unwrapped, and between -180 and 360 where they fit there."""
    values = places(coordinate)
    if not is_longitude(coordinate):
        return values
    for turn in (0, -360, 360):
        moved = values + turn
        if moved.min() >= -180 - 1e-6 and moved.max() <= 360 + 1e-6:
            return moved
    return values


def slack_of(values: np.ndarray) -> float:
    """Return the distance that counts as none between cells: a thousandth of the shortest step; 1e-9 for a single cell."""
    steps = np.abs(np.diff(values))
    return 1e-3 * float(steps.min()) if steps.size else 1e-9


def cells_at(coordinate: xr.DataArray, wanted: xr.DataArray) -> np.ndarray:
    """Return the positions along a coordinate at which the values of another one lie, -1 where there is none.

    Values agree within a thousandth of a cell of `wanted`, the nearest one if that is a single cell. Longitudes agree modulo 360.
    """
    values, sought = coordinate.values.astype(float), wanted.values.astype(float)
    slack = slack_of(places(wanted)) if sought.size > 1 else np.inf
    if is_longitude(coordinate) and is_longitude(wanted):
        slack, turn = min(slack, 180.0), 360.0
        values, sought = np.mod(values, turn), np.mod(sought, turn)
        order = np.argsort(values, kind="stable")
        # The circle is cut open: its ends stand once more on either side.
        order = np.concatenate([order[-1:], order, order[:1]])
        along = np.concatenate([values[order[:1]] - turn, values[order[1:-1]], values[order[-1:]] + turn])
    else:
        order = np.argsort(values, kind="stable")
        along = values[order]
    nearest = np.searchsorted((along[1:] + along[:-1]) / 2, sought)
    return np.where(np.abs(along[nearest] - sought) <= slack, order[nearest], -1)


def in_degrees(dataset: xr.Dataset) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Return the dataset with latitudes and longitudes, and the bounds of their cells, in degrees; a note where they were in radians."""
    converted: dict[str, xr.Variable] = {}
    notes = []
    for name in map(str, dataset.variables):
        variable = dataset[name]
        units = str(variable.attrs.get("units", "")).strip().lower()
        kind = next((kind for kind in ("latitude", "longitude") if _is_named(variable, kind)), None)
        if units not in RADIANS or kind is None or variable.dtype.kind != "f":
            continue
        attributes = variable.attrs | {"units": "degrees_north" if kind == "latitude" else "degrees_east"}
        converted[name] = _in_degrees(variable.variable, attributes)
        edges = str(variable.attrs.get("bounds") or variable.encoding.get("bounds") or "")
        if edges in dataset.variables:
            bounds = dataset[edges].variable
            converted[edges] = _in_degrees(
                bounds, bounds.attrs | ({"units": attributes["units"]} if "units" in bounds.attrs else {})
            )
        notes.append(f"'{name}' is in {units}: converted to degrees")
    return dataset.assign(converted), tuple(notes)


def _in_degrees(variable: xr.Variable, attributes: dict[str, object]) -> xr.Variable:
    values = np.rad2deg(variable.values.astype(float)).astype(variable.dtype)
    unpacked = {
        key: value for key, value in variable.encoding.items() if key not in ("scale_factor", "add_offset", "dtype")
    }
    return xr.Variable(variable.dims, values, attributes, unpacked)


def axis_of(dataset: xr.Dataset, dimension: str, role: str) -> Axis:
    """A dimension of space with what its coordinate says."""
    coordinate = coordinate_of(dataset, dimension, role)
    size = dataset.sizes[dimension]
    if coordinate is None or coordinate.dtype.kind not in "fiu":
        return Axis(dimension, size)
    values = places(coordinate)
    spacing = (values[-1] - values[0]) / (size - 1) if size > 1 else None
    if spacing is not None:
        rounding = min(_rounding(coordinate.values), 0.05 * abs(spacing))
        if not np.allclose(np.diff(values), spacing, rtol=1e-3, atol=max(rounding, 1e-12)):
            spacing = None
    rounded = None if spacing is None else as_meant(float(spacing), coordinate.values.astype(float))
    return Axis(dimension, size, str(coordinate.attrs.get("units", "")), float(values[0]), rounded)


def _rounding(values: np.ndarray) -> float:
    """The difference of two steps between values that float32 has rounded; 0 for values that it does not hold."""
    with np.errstate(over="ignore"):
        stored = values.astype(np.float32)
    return 2 * float(np.spacing(np.abs(stored).max())) if (stored == values).all() else 0.0


def cell_size(dataset: xr.Dataset, roles: Roles, grid: GridKind) -> tuple[float, float, str]:
    """Return the size of a cell along y and x, and its unit.

    On a globe in km at the middle latitude. Elsewhere in the unit of x, to which y is converted. Where an axis has no
    coordinate, steps that differ by more than a tenth, or a unit that cannot be converted, cells are counted: 1, 1, "cell".
    """
    x, y = coordinate_of(dataset, roles.x, "x"), coordinate_of(dataset, roles.y, "y") if roles.y else None
    dx, dy = _mean_step(x), _mean_step(y) if roles.y else 1.0
    if dx is None or dy is None or x is None:
        return 1.0, 1.0, "cell"
    if grid == "latitude-longitude" and y is not None:
        middle = float(np.cos(np.deg2rad(places(y).mean())))
        return dy * KM_PER_DEGREE, dx * KM_PER_DEGREE * max(middle, 1e-3), "km"
    units = [str(axis.attrs.get("units", "")).strip() for axis in (y, x) if axis is not None]
    if len(set(units)) > 1:
        metres = [metres_per(unit) for unit in units]
        if metres[0] is None or metres[1] is None:
            return 1.0, 1.0, "cell"
        dy *= metres[0] / metres[1]
    return dy, dx, units[-1] or "1"


def _mean_step(coordinate: xr.DataArray | None) -> float | None:
    """The mean step of a coordinate, 1 for a single cell; None where steps differ by more than a tenth of it."""
    if coordinate is None or coordinate.ndim != 1 or coordinate.dtype.kind not in "fiu":
        return None
    steps = np.diff(places(coordinate))
    if not steps.size:
        return 1.0
    mean = float(steps.mean())
    return abs(mean) if mean and np.abs(steps - mean).max() <= 0.1 * abs(mean) else None


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
        if is_latitude(coordinate) and np.abs(values).max() > 90 + 1e-3:
            raise DataError(
                f"{source}: the latitude '{coordinate.name}' reaches from {values.min():g} to {values.max():g}; expected -90 to 90 "
                "degrees. Correct it or its units, or drop the variable."
            )
        if values.size > 1 and (values == values[0]).all():
            raise DataError(
                f"{source}: the coordinate '{coordinate.name}' is {values[0]:g} in all cells. Correct it, or drop the variable."
            )
        if roles.y and (is_latitude(coordinate) or is_longitude(coordinate)) and not _runs(places(coordinate)):
            raise DataError(
                f"{source}: '{coordinate.name}' neither rises nor falls all the way along '{dimension}', so that cells have no area. "
                "Sort the data along it, or correct the coordinate."
            )


def is_scale(coordinate: xr.DataArray) -> bool:
    """Whether the numbers of a coordinate rise or fall all the way, so that fields can be drawn against them."""
    if coordinate.dtype.kind not in "fiu":
        return False
    return _runs(places(coordinate))


def _runs(values: np.ndarray) -> bool:
    """Test whether finite values rise or fall all the way."""
    steps = np.diff(values)
    return bool(np.isfinite(values).all() and np.isfinite(steps).all() and ((steps > 0).all() or (steps < 0).all()))


def kind_of(dataset: xr.Dataset, roles: Roles) -> tuple[GridKind, Boundary]:
    """The kind of grid, and the boundary that suits it: closed around the globe, periodic where the file says so."""
    x = coordinate_of(dataset, roles.x, "x")
    y = coordinate_of(dataset, roles.y, "y") if roles.y else None
    periodic = str(dataset.attrs.get("boundary_conditions", "")).lower() == "periodic"
    closes = x is not None and is_longitude(x) and _closes(places(x))
    if x is not None and y is not None and is_latitude(y) and is_longitude(x):
        return "latitude-longitude", "cylinder" if closes else "zeros"
    kind: GridKind = "index" if x is None and y is None else "cartesian"
    return kind, "circular" if periodic or (closes and not roles.y) else "zeros"


def _closes(longitudes: np.ndarray) -> bool:
    """Whether unwrapped longitudes reach around the globe: what is left between the last and the first is one step."""
    steps = np.diff(longitudes)
    if not steps.size or not ((steps > 0).all() or (steps < 0).all()):
        return False
    gap, outer = 360 - abs(longitudes[-1] - longitudes[0]), np.abs(steps[[0, -1]])
    return bool(0.5 * outer.min() < gap < 1.5 * outer.max())


def without_repeated_longitude(dataset: xr.Dataset, roles: Roles) -> tuple[xr.Dataset, tuple[str, ...]]:
    """The dataset without a last longitude that is the first again, and a note if there was one."""
    x = coordinate_of(dataset, roles.x, "x")
    if x is None or x.size < 3 or not is_longitude(x):
        return dataset, ()
    values = places(x)
    spacing = abs(values[1] - values[0])
    if not abs(abs(values[-1] - values[0]) - 360) <= 1e-3 * spacing:
        return dataset, ()
    first, last = float(x[0]), float(x[-1])
    note = f"longitude {last:g} repeats {first:g}: left out"
    return dataset.isel({roles.x: slice(0, -1)}), (note,)


def is_latitude(coordinate: xr.DataArray) -> bool:
    """Whether a coordinate holds geographical latitudes in degrees."""
    return _is(coordinate, "latitude", NORTH) and _within(coordinate, 90)


def is_longitude(coordinate: xr.DataArray) -> bool:
    """Whether a coordinate holds geographical longitudes in degrees."""
    return _is(coordinate, "longitude", EAST) and _within(coordinate, 720)


def _is(coordinate: xr.DataArray, kind: str, directed: frozenset[str]) -> bool:
    """Whether units, or with units that say degrees or nothing the CF attributes and the name, say that a coordinate is `kind`."""
    units = str(coordinate.attrs.get("units", "")).strip().lower()
    standard_name = str(coordinate.attrs.get("standard_name", coordinate.name)).lower()
    if standard_name in _ROTATED:
        return False
    return units in directed or (units in DEGREES | DIMENSIONLESS and _is_named(coordinate, kind))


def _is_named(coordinate: xr.DataArray, kind: str) -> bool:
    """Whether the standard name, or without one the name, says that a coordinate is "latitude" or "longitude"."""
    name = coordinate.attrs.get("standard_name")
    return bool(name == kind or (name is None and str(coordinate.name).lower() in (kind, kind[:3])))


def _within(coordinate: xr.DataArray, bound: float) -> bool:
    """Whether a coordinate without units has no value that degrees cannot have."""
    if str(coordinate.attrs.get("units", "")) not in DIMENSIONLESS or coordinate.dtype.kind not in "fiu":
        return True
    return bool(np.abs(coordinate.values.astype(float)).max(initial=0) <= bound)
