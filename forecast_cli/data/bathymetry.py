"""The depth of the sea out of any file of elevations or depths, on as many cells as asked for, in metres."""

from typing import NamedTuple

import numpy as np

from forecast_cli.data.fields import Fields, open_fields
from forecast_cli.data.files import split_variable
from forecast_cli.domain import Axis
from forecast_cli.errors import DataError
from forecast_cli.units import DIMENSIONLESS, metres_per

EARTH = 6.371e6
"""Mean radius of the Earth [m]."""
_DEPTH, _ELEVATION = ("depth", "bathymetry_depth"), ("elevation", "altitude", "topo", "height", "z")


_METRES = ("m", "metre", "metres", "meter", "meters", "1", "")


class Bathymetry(NamedTuple):
    """depth: (height, width) [m], positive down, rows from south to north. extent: of y and x, outer faces [m].

    notes: how the file was understood, a line each.
    """

    depth: np.ndarray
    extent: tuple[tuple[float, float], ...]
    notes: tuple[str, ...]


def read_bathymetry(
    place: str, cells: tuple[int, int], *, min_depth: float | None = None, option: str = "--topography"
) -> Bathymetry:
    """The sea bed in a file, on `cells` (height, width) that fill its extent: means over coarser cells, interpolated to finer ones.

    place: FILE or FILE:variable. Degrees are converted to metres at the middle latitude. min_depth: shallower water
    and land are deepened to it; None refuses land. option: what the user says it with.
    Raises DataError for a file with more than one candidate, with a sign that its values contradict, or with land.
    """
    file, name = split_variable(place)
    fields = open_fields([file], variables=[name] if name else [], static=True)
    if len(fields.names) > 1:
        raise DataError(f"{place}: which of {', '.join(fields.names)} is the sea bed? Give {option} {place}:NAME.")
    if fields.domain.y is None:
        raise DataError(f"{place}: '{fields.names[0]}' has one dimension of space; a sea bed has two.")
    unit = fields.domain.variables[0].units
    if unit.lower() not in _METRES:
        raise DataError(
            f"{place}: '{fields.names[0]}' is in '{unit}', and a sea bed is in m. Choose another variable, or convert it."
        )
    values = fields.read(0, 0, 1)[0, 0].astype(float)
    fields.fills[fields.names[0]].refuse(values)
    sign, why = _sign(fields, values, place)
    y, x = fields.domain.y, fields.domain.x
    for axis in (y, x):
        if axis.spacing is None or axis.first is None:
            raise DataError(
                f"{place}: '{axis.name}' has no evenly spaced coordinate. Interpolate the sea bed to an even grid."
            )
    # What is missing is land at the level of the sea.
    there = np.nan_to_num(sign * _ascending(values, y, x), nan=0.0)
    depth = _resampled(_resampled(there, cells[0], 0), cells[1], 1)
    notes = [f"{place}: {why}"]
    metres_y, metres_x = _metres(fields, y, x)
    extent = ((0.0, y.size * abs(y.spacing or 0.0) * metres_y), (0.0, x.size * abs(x.spacing or 0.0) * metres_x))
    if fields.domain.grid == "latitude-longitude":
        notes.append(
            f"{place}: degrees taken as a plane of {extent[1][1] / 1000:.4g} km by {extent[0][1] / 1000:.4g} km at the middle latitude"
        )
    for axis in (y, x):
        if fields.domain.grid != "latitude-longitude" and axis.units in DIMENSIONLESS:
            notes.append(f"{place}: '{axis.name}' has no unit: taken as metres")
    land = ~(depth > (min_depth or 0.0))
    if land.any() and min_depth is None:
        raise DataError(
            f"{place}: {100 * land.mean():.2g} % of the cells are land or missing, and the equation has no land. "
            "Choose another part of the sea, or deepen them: --min-depth 10."
        )
    if land.any():
        notes.append(f"{place}: {100 * land.mean():.2g} % of the cells deepened to {min_depth:g} m")
        depth[land] = min_depth
    return Bathymetry(depth, extent, tuple(notes))


def _sign(fields: Fields, values: np.ndarray, place: str) -> tuple[float, str]:
    """What turns the values into depths, and how it is known; DataError where the file says one thing and holds another."""
    name = fields.names[0]
    attributes, described = fields.dataset[name].attrs, fields.domain.variables[0]
    said = str(attributes.get("positive", "")).lower()
    words = {name.lower(), *described.standard_name.lower().split("_"), *described.long_name.lower().split()}
    down = said == "down" or (not said and bool(words & set(_DEPTH)))
    up = said == "up" or (not said and bool(words & set(_ELEVATION)))
    below = float(np.mean(values[np.isfinite(values)] < 0)) if np.isfinite(values).any() else 0.5
    stated = down != up
    if not stated:
        down = below < 0.5
    if stated and (below if down else 1 - below) > 0.9:
        kind, sense = ("depth", "negative") if down else ("elevation", "positive")
        raise DataError(
            f"{place}: '{name}' says that it is {kind}, but {100 * (below if down else 1 - below):.3g} % of it are {sense}. "
            f"State the sign: ncatted -a positive,{name},o,c,{'up' if down else 'down'} FILE."
        )
    how = "as the file says" if stated else "judged by its values"
    kind = "depth, positive down" if down else "elevation, positive up: depth is its opposite"
    return (1.0 if down else -1.0), f"'{name}' is {kind} ({how})"


def _ascending(values: np.ndarray, y: Axis, x: Axis) -> np.ndarray:
    """The values with rows from south to north and columns from west to east."""
    return values[:: -1 if (y.spacing or 1) < 0 else 1, :: -1 if (x.spacing or 1) < 0 else 1]


def _metres(fields: Fields, y: Axis, x: Axis) -> tuple[float, float]:
    """Metres to a unit of y and of x."""
    if fields.domain.grid == "latitude-longitude":
        middle = (y.first or 0.0) + (y.spacing or 0.0) * (y.size - 1) / 2
        degree = EARTH * np.pi / 180
        return degree, degree * float(np.cos(np.deg2rad(middle)))
    found = [1.0 if axis.units in DIMENSIONLESS else metres_of(axis, fields.source) for axis in (y, x)]
    return found[0], found[1]


def metres_of(axis: Axis, source: str) -> float:
    """Metres to the unit of an axis of a plane. DataError for units that are not of length."""
    metres = metres_per(axis.units)
    if metres is None:
        raise DataError(
            f"{source}: '{axis.name}' is in '{axis.units}'; expected m, km or degrees of latitude and longitude. "
            "Set its units attribute."
        )
    return metres


def _resampled(values: np.ndarray, count: int, axis: int) -> np.ndarray:
    """Values on `count` equal cells that fill the extent of an axis: means over coarser cells, linear between the centres of finer ones."""
    size = values.shape[axis]
    if count <= size:
        edges, fine = np.linspace(0, size, count + 1), np.arange(size)
        # The share of each cell of the file in each of ours.
        overlap = np.minimum(edges[1:, None], fine + 1) - np.maximum(edges[:-1, None], fine)
        weights = overlap.clip(min=0) * count / size
    else:
        places = ((np.arange(count) + 0.5) * size / count - 0.5).clip(0, size - 1)
        weights = (1 - np.abs(places[:, None] - np.arange(size))).clip(min=0)
    return np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)
