"""Which dimension of a file is time, which are y and x, and which counts samples."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import xarray as xr

from forecast_cli.errors import DataError
from forecast_cli.units import EAST, NORTH

ROLES = ("time", "y", "x", "sample")

_STANDARD_NAMES = {
    "time": {"time"},
    "y": {"latitude", "grid_latitude", "projection_y_coordinate"},
    "x": {"longitude", "grid_longitude", "projection_x_coordinate"},
}
_UNITS = {"y": NORTH, "x": EAST}
# Customary names, the surest first: `height` is a row of pixels only where nothing better is there.
_NAMES: dict[str, tuple[set[str], ...]] = {
    "time": ({"time", "valid_time", "times", "t"}, {"date", "datetime", "frame", "frames", "timestep", "time_step"}),
    "y": (
        {"latitude", "lat", "y"},
        {"rlat", "nlat", "ny", "nav_lat", "ycoord", "south_north", "j"},
        {"height", "row", "rows"},
    ),
    "x": (
        {"longitude", "lon", "x"},
        {"rlon", "nlon", "nx", "nav_lon", "xcoord", "west_east", "i"},
        {"width", "column", "columns", "col"},
    ),
    "sample": ({"sample", "samples", "trajectory", "trajectories", "simulation", "case", "batch"},),
}


@dataclass(frozen=True)
class Roles:
    """Names of the dimensions: `y` is None for fields in one dimension, `sample` for a single series."""

    time: str
    y: str | None
    x: str
    sample: str | None


def nearest(word: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)', or nothing."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {match[0]}?)" if match else ""


def coordinate_of(dataset: xr.Dataset, dimension: str, role: str) -> xr.DataArray | None:
    """The variable that holds the positions along a dimension: of the same name, or described as such.

    A file may call its times t(time) or its latitudes lat(y): a one-dimensional variable that CF
    attributes or its name give the wanted role stands in.
    """
    if dimension in dataset.variables:
        return dataset[dimension]
    if not role:
        return None
    along = [dataset[name] for name in dataset.variables if dataset[name].dims == (dimension,)]
    for test in (role_by_attributes, lambda variable: _role_by_name(str(variable.name))):
        matches = [variable for variable in along if test(variable) == role]
        if len(matches) == 1:
            return matches[0]
    return None


def find_roles(
    dataset: xr.Dataset, names: Sequence[str], given: Mapping[str, str], source: str, *, selected: Iterable[str] = ()
) -> tuple[Roles, tuple[str, ...]]:
    """The roles of the dimensions of variables `names`, and the dimensions of length 1 that have none.

    given: role to dimension, as the user says; the rest comes from CF attributes (axis, standard_name,
    units), then from customary names. Raises DataError where two dimensions could fill a role, where
    none does, or where a dimension without a role is longer than 1 and not among those `selected` later.
    """
    dimensions = [str(dimension) for dimension in dataset[names[0]].dims]
    found: dict[str, str] = {}
    for role, dimension in given.items():
        if role not in ROLES:
            raise DataError(f"--dims {role}={dimension}: no such role. Roles: {', '.join(ROLES)}.")
        if dimension not in dimensions:
            raise DataError(f"--dims {role}={dimension}: '{names[0]}' has the dimensions {', '.join(dimensions)}.")
        found[role] = dimension

    for rule in (_by_attributes, _by_first_names, _by_second_names, _by_third_names):
        for role in ROLES:
            if role in found:
                continue
            free = [dimension for dimension in dimensions if dimension not in found.values()]
            candidates = [dimension for dimension in free if rule(dataset, dimension) == role]
            if len(candidates) > 1:
                listed = ", ".join(candidates)
                raise DataError(f"{source}: {role} could be any of {listed}. Say which: --dims {role}={candidates[0]}.")
            if candidates:
                found[role] = candidates[0]

    shape = ", ".join(f"{dimension}={dataset.sizes[dimension]}" for dimension in dimensions)
    if "x" not in found and "y" in found:
        found["x"] = found.pop("y")  # one dimension of space is the width
    for role in ("time", "x"):
        if role not in found:
            raise DataError(
                f"{source}: '{names[0]}' ({shape}): cannot tell which dimension is {role}. "
                "Say it: --dims time=...,y=...,x=...[,sample=...]."
            )
    rest = [dimension for dimension in dimensions if dimension not in found.values()]
    for dimension in rest:
        if dataset.sizes[dimension] > 1 and dimension not in selected:
            values = (
                _some(dataset[dimension].values)
                if dimension in dataset.variables
                else f"0 to {dataset.sizes[dimension] - 1}"
            )
            raise DataError(
                f"{source}: '{names[0]}' ({shape}) has a further dimension '{dimension}'. "
                f"Choose one of its values ({values}): --select {dimension}=VALUE; or give it a role with --dims."
            )
    return Roles(found["time"], found.get("y"), found["x"], found.get("sample")), tuple(rest)


def _some(values: Iterable[object]) -> str:
    listed = [f"{value}" for value in values]
    return ", ".join(listed if len(listed) <= 12 else [*listed[:11], "...", listed[-1]])


def role_of(dataset: xr.Dataset, dimension: str) -> str | None:
    """The role that a dimension has by its coordinate's attributes or by its name; None if nothing tells."""
    return _by_attributes(dataset, dimension) or _role_by_name(dimension)


def role_by_attributes(variable: xr.DataArray) -> str | None:
    if variable.dtype.kind == "M" or (
        variable.dtype.kind == "O" and variable.size and hasattr(variable.values.flat[0], "calendar")
    ):
        return "time"
    axis = {"T": "time", "Y": "y", "X": "x"}.get(str(variable.attrs.get("axis", "")).upper())
    if axis:
        return axis
    for role, standard_names in _STANDARD_NAMES.items():
        if variable.attrs.get("standard_name") in standard_names:
            return role
    units = str(variable.attrs.get("units", "")).lower()
    return next((role for role, known in _UNITS.items() if units in known), None)


def _role_by_name(name: str, tiers: slice = slice(None)) -> str | None:
    return next((role for role, sets in _NAMES.items() for names in sets[tiers] if name.lower() in names), None)


def _by_attributes(dataset: xr.Dataset, dimension: str) -> str | None:
    if dimension in dataset.variables:
        return role_by_attributes(dataset[dimension])
    along = {role_by_attributes(dataset[name]) for name in dataset.variables if dataset[name].dims == (dimension,)} - {
        None
    }
    return along.pop() if len(along) == 1 else None


def _by_first_names(_: xr.Dataset, dimension: str) -> str | None:
    return _role_by_name(dimension, slice(0, 1))


def _by_second_names(_: xr.Dataset, dimension: str) -> str | None:
    return _role_by_name(dimension, slice(1, 2))


def _by_third_names(_: xr.Dataset, dimension: str) -> str | None:
    return _role_by_name(dimension, slice(2, 3))
