"""Coordinates of a grid as plain values, and the first difference between those of two data sets.

Files of one series, a run and the data of a rollout, a forecast and its truth, and a mask or static field and the fields must
agree in where their cells are and on which level, height or member they lie. All compare by `first_difference`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from forecast_cli.data.grid import is_latitude, is_longitude
from forecast_cli.data.roles import Roles, coordinate_of, role_by_attributes
from forecast_cli.domain import Axis, Domain
from forecast_cli.units import same_unit, scale

TOLERANCE = 1e-3
"""Share of the distance between cells by which two coordinates of the same cell may differ."""
_FLOAT32 = 2.0**-23
"""Relative rounding of numbers that a file stores as float32."""
_SCALAR = 1e-5
"""Relative difference between two values of the same level, height or member."""

_LATITUDES, _LONGITUDES = {"nav_lat"}, {"nav_lon"}
_VERTICAL = re.compile(
    r"(model_|pressure_)?lev(el)?s?|level_number|plev|pressure|isobaric\w*|height\w*|altitude|depth\w*|z|hybrid|sigma"
)
_MEMBER = re.compile(r"members?|ens(emble)?(_member)?|number|reali[sz]ation")


@dataclass(frozen=True, kw_only=True, eq=False)
class Coordinate:
    """Positions of the cells of a grid, or the level, height or member of fields that have one of each.

    quantity: latitude, longitude, y, x, vertical or member.
    dims: axes of the grid along which the values change: "y", "x", "yx", or "" for a scalar.
    is_axis: belongs to the dimension itself; other coordinates stand beside it, such as lat(y, x).
    """

    name: str
    quantity: str
    dims: str
    units: str
    values: np.ndarray
    is_axis: bool = False

    @property
    def axis(self) -> str:
        return {"latitude": "y", "longitude": "x"}.get(self.quantity, self.quantity)

    @property
    def grid_values(self) -> np.ndarray:
        """The values in a shape that goes with (height, width)."""
        return self.values[:, None] if self.dims == "y" else self.values


class Difference(NamedTuple):
    """The name of what differs, and both values as text."""

    name: str
    expected: str
    actual: str


def grid_coordinates(dataset: xr.Dataset, roles: Roles) -> tuple[Coordinate, ...]:
    """Collect the numeric coordinates along the dimensions y and x, also two-dimensional ones."""
    axes = [(axis, dimension) for axis, dimension in (("y", roles.y), ("x", roles.x)) if dimension]
    letters = {dimension: axis for axis, dimension in axes}
    found: dict[str, Coordinate] = {}
    for axis, dimension in axes:
        variable = coordinate_of(dataset, dimension, axis)
        if variable is not None and _is_placed(variable, letters):
            found[str(variable.name)] = _coordinate(variable, letters, _quantity(variable) or axis, is_axis=True)
    for name, other in dataset.variables.items():
        if str(name) in found or not _is_placed(other, letters):
            continue
        variable = dataset[name]
        if quantity := _quantity(variable):
            found[str(name)] = _coordinate(variable, letters, quantity)
    return tuple(found.values())


def scalar_coordinates(dataset: xr.Dataset) -> tuple[Coordinate, ...]:
    """Collect the levels, heights, members and places that are single numbers."""
    found = []
    for name, other in dataset.variables.items():
        if other.ndim or other.dtype.kind not in "fiu" or not np.isfinite(other.values):
            continue
        variable = dataset[name]
        if quantity := _quantity(variable) or _scalar_quantity(variable):
            found.append(_coordinate(variable, {}, quantity))
    return tuple(found)


def coordinates_of(dataset: xr.Dataset, roles: Roles) -> tuple[Coordinate, ...]:
    """Collect the coordinates of the grid, and those that are single numbers."""
    return (*grid_coordinates(dataset, roles), *scalar_coordinates(dataset))


def axes_of(domain: Domain) -> tuple[Coordinate, ...]:
    """Return the evenly spaced axes of a domain by their first two cells, which is all that it holds of them."""
    axes = (("y", domain.y), ("x", domain.x))
    return tuple(_first_cells(key, axis) for key, axis in axes if axis and axis.spacing is not None)


def first_difference(expected: Sequence[Coordinate], actual: Sequence[Coordinate]) -> Difference | None:
    """Compare the coordinates that both have, cell by cell.

    Parameters
    ----------
    expected, actual : sequence of Coordinate
        Coordinates of two grids of the same shape. A coordinate that only one of them has is ignored.

    Returns
    -------
    Difference or None
        The first coordinate whose values or units differ.

    Notes
    -----
    Two positions agree within a thousandth of the distance between cells, or the rounding of float32. Longitudes agree
    modulo 360 in each cell; the same cells in another order are another grid.
    """
    return next((found for pair in _pairs(expected, actual) if (found := _difference(*pair))), None)


def is_place(variable: xr.DataArray) -> bool:
    """Tell latitudes, longitudes and other positions along y or x by attributes and names."""
    return variable.dtype.kind in "fiu" and _quantity(variable) is not None


def _is_placed(variable: xr.DataArray | xr.Variable, letters: dict[str, str]) -> bool:
    """Tell numbers that change along y or x alone."""
    return variable.ndim > 0 and variable.dtype.kind in "fiu" and set(variable.dims) <= set(letters)


def _coordinate(variable: xr.DataArray, letters: dict[str, str], quantity: str, *, is_axis: bool = False) -> Coordinate:
    dims = sorted(map(str, variable.dims), key=lambda dimension: letters[dimension], reverse=True)
    return Coordinate(
        name=str(variable.name),
        quantity=quantity,
        dims="".join(letters[dimension] for dimension in dims),
        units=str(variable.attrs.get("units", "")),
        values=variable.transpose(*dims).values.astype(np.float64),
        is_axis=is_axis,
    )


def _first_cells(key: str, axis: Axis) -> Coordinate:
    assert axis.first is not None
    assert axis.spacing is not None
    values = np.array([axis.first, axis.first + axis.spacing])
    return Coordinate(name=axis.name, quantity=key, dims=key, units=axis.units, values=values, is_axis=True)


def _quantity(variable: xr.DataArray) -> str | None:
    """Return latitude, longitude, y or x as attributes and names say; None for what is no place."""
    name = str(variable.name).lower()
    if is_latitude(variable) or name in _LATITUDES:
        return "latitude"
    if is_longitude(variable) or name in _LONGITUDES:
        return "longitude"
    role = role_by_attributes(variable)
    return role if role in ("y", "x") else None


def _scalar_quantity(variable: xr.DataArray) -> str | None:
    """Return vertical or member as attributes and names say; None for any other number, such as one of time."""
    attributes, name = variable.attrs, re.sub(r"_?\d+$", "", str(variable.name).lower())
    if role_by_attributes(variable) == "time":
        return None
    if attributes.get("standard_name") == "realization" or _MEMBER.fullmatch(name):
        return "member"
    unit = scale(str(attributes.get("units", "")))
    is_vertical = attributes.get("axis") == "Z" or "positive" in attributes or (unit is not None and unit[0] == "Pa")
    return "vertical" if is_vertical or _VERTICAL.fullmatch(name) else None


def _pairs(expected: Sequence[Coordinate], actual: Sequence[Coordinate]) -> Iterator[tuple[Coordinate, Coordinate]]:
    """Match the coordinates of two grids: by axis, else by quantity where one has lat(y) and the other lat(y, x)."""
    for before in expected:
        same = [now for now in actual if _key(now) == _key(before)]
        if not same and before.quantity in ("latitude", "longitude"):
            same = [now for now in actual if now.quantity == before.quantity and now.dims and before.dims]
        if same:
            yield before, same[0]


def _key(coordinate: Coordinate) -> tuple[object, ...]:
    if not coordinate.dims:
        return (coordinate.name if coordinate.axis not in ("y", "x") else coordinate.axis,)
    return coordinate.axis, coordinate.dims, coordinate.is_axis


def _difference(before: Coordinate, now: Coordinate) -> Difference | None:
    name = f"'{now.name}'"
    scales = scale(before.units), scale(now.units)
    if scales[0] and scales[1] and scales[0][0] != scales[1][0]:
        return Difference(name, f"in '{before.units}'", f"in '{now.units}'")
    factors = [unit[1] if unit else 1.0 for unit in scales] if all(scales) else [1.0, 1.0]
    first, second = (c.grid_values * factor for c, factor in zip((before, now), factors, strict=True))
    first, second = (part.squeeze() if before.dims == now.dims else part for part in (first, second))
    try:
        first, second = np.broadcast_arrays(first, second)
    except ValueError:
        return Difference(name, f"of shape {before.values.shape}", f"of shape {now.values.shape}")
    gap = np.abs(first - second)
    if "longitude" in (before.quantity, now.quantity):
        gap = np.minimum(gap % 360, 360 - gap % 360)
    gap = np.where(np.isnan(gap), 0, gap)  # cells without a place, such as those over land
    if (gap <= _slack(before.values * factors[0])).all():
        return None
    texts = _described(before), _described(now)
    if not all(texts) or texts[0] == texts[1]:
        cell = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), gap.shape))
        where = f" at cell {cell[0] if len(cell) == 1 else cell}" if cell else ""
        texts = f"{first[cell] / factors[0]:.7g}{where}", f"{second[cell] / factors[1]:.7g}{where}"
    if not same_unit(before.units, now.units):
        texts = f"{texts[0]} {before.units}", f"{texts[1]} {now.units}"
    return Difference(name, *map(str, texts))


def _slack(values: np.ndarray) -> float:
    """Return how far apart two positions of the same cell may be."""
    largest = float(np.nanmax(np.abs(values), initial=0))
    steps = [np.abs(np.diff(values, axis=axis)) for axis in range(values.ndim) if values.shape[axis] > 1]
    if not steps:
        return _SCALAR * largest
    # Along one axis the narrowest cell counts; on a curved grid neighbours may lie on one latitude.
    spacing = float(np.nanmin(steps[0])) if values.ndim == 1 else max(float(np.nanmedian(step)) for step in steps)
    return max(TOLERANCE * spacing, min(_FLOAT32 * largest, 0.1 * spacing))


def _described(coordinate: Coordinate) -> str:
    """Describe an even axis in a few words; return nothing for others."""
    values = coordinate.values
    if values.ndim != 1 or values.size < 2:
        return ""
    spacing = (values[-1] - values[0]) / (values.size - 1)
    even = np.allclose(np.diff(values), spacing, rtol=TOLERANCE, atol=1e-12)
    return f"{values[0]:g} on in steps of {spacing:g}" if even else ""
