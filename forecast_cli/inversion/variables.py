"""Which variables of a file are eta, u and v; their values, units and staggering."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from forecast_cli.data.fields import Fields
from forecast_cli.data.files import expand, open_place
from forecast_cli.data.reading import reading
from forecast_cli.data.roles import nearest
from forecast_cli.data.sentinels import UndeclaredFill
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.inversion.observed import CHANNELS

_STANDARD_NAMES = {
    "eta": (
        "sea_surface_height_above_mean_sea_level",
        "sea_surface_height_above_geoid",
        "sea_surface_height_above_reference_ellipsoid",
        "water_surface_height_above_reference_datum",
        "sea_surface_elevation",
        "sea_surface_height",
    ),
    "u": (
        "sea_water_x_velocity",
        "barotropic_sea_water_x_velocity",
        "eastward_sea_water_velocity",
        "barotropic_eastward_sea_water_velocity",
    ),
    "v": (
        "sea_water_y_velocity",
        "barotropic_sea_water_y_velocity",
        "northward_sea_water_velocity",
        "barotropic_northward_sea_water_velocity",
    ),
}
_NAMES = {"eta": ("eta", "zeta", "ssh", "zos"), "u": ("u", "ubar", "uo"), "v": ("v", "vbar", "vo")}
_UNITS = {
    "eta": ("m", "metre", "metres", "meter", "meters"),
    "u": ("m s-1", "m/s", "m s**-1", "ms-1", "meter second-1"),
}


def variables_of(files: Sequence[str]) -> dict[str, xr.DataArray]:
    """All variables of some files, unread, by name."""
    datasets = [open_place(place).dataset for place in expand(files)]
    return {str(name): dataset[name] for dataset in datasets for name in dataset.data_vars}


def found_names(variables: Mapping[str, xr.DataArray], wanted: Mapping[str, str] | None, place: str) -> dict[str, str]:
    """Our names to the file's: by the user's word, by CF standard name, then by name. DataError where eta is missing or a choice open."""
    names = list(variables)
    if wanted is not None:
        if "eta" not in wanted:
            raise ConfigError(
                f"--variable {','.join(wanted)}: the surface elevation eta is needed; add eta, or eta=NAME."
            )
        for ours, theirs in wanted.items():
            if theirs not in names:
                raise DataError(
                    f"{place}: no variable '{theirs}' for {ours}{nearest(theirs, names)}. It has {', '.join(names)}."
                )
        return {ours: wanted[ours] for ours in CHANNELS if ours in wanted}
    found: dict[str, str] = {}
    for ours in CHANNELS:
        matches = [name for name in names if variables[name].attrs.get("standard_name") in _STANDARD_NAMES[ours]]
        matches = matches or [name for name in names if name.lower() in _NAMES[ours]]
        if len(matches) > 1:
            raise DataError(
                f"{place}: {ours} could be {' or '.join(matches)}. Say which: --variable {ours}={matches[0]}."
            )
        if matches:
            found[ours] = matches[0]
    if "eta" not in found:
        raise DataError(
            f"{place}: no surface elevation by its standard name or as {', '.join(_NAMES['eta'])}. It has {', '.join(names)}. "
            "Name it: --variable eta=NAME."
        )
    return found


def values_of(fields: Fields) -> np.ndarray:
    """All of a variable, (sample, time, height, width) in float64. DataError for infinite and fill values."""
    name = fields.names[0]
    with reading(f"{fields.source}: '{name}' cannot be read", "Copy or download the file again."):
        values = np.asarray(fields.dataset[name].values, float)
    require_numbers(values, fields.dataset[name], fields.source)
    return values.reshape(fields.samples, fields.frames, *fields.domain.shape[1:])


def require_numbers(values: np.ndarray, variable: xr.DataArray, source: str) -> None:
    """DataError for infinite values of a variable and for fill values that the file does not declare."""
    if np.isinf(values).any():
        raise DataError(
            f"{source}: '{variable.name}' is infinite somewhere. Mark what was not observed as missing (NaN)."
        )
    UndeclaredFill(variable, source).refuse(values)


def require_units(files: Sequence[str], named: Mapping[str, str]) -> None:
    """DataError where a file says another unit than m, or m s-1."""
    for place in expand(files):
        dataset = open_place(place).dataset
        for ours, theirs in named.items():
            units = str(dataset[theirs].attrs.get("units", "")) if theirs in dataset else ""
            known = _UNITS["eta" if ours == "eta" else "u"]
            if units and units.lower() not in known:
                raise DataError(f"{place}: '{theirs}' is in '{units}'; expected {known[0]}. Convert it first.")


def on_faces(values: np.ndarray, shape: tuple[int, ...], ours: str, source: str, name: str) -> np.ndarray:
    """A velocity (sample, time, ., .) on the east or north face of every cell, from one of three staggerings."""
    axis, size = (3, shape[3]) if ours == "u" else (2, shape[2])
    whole = [*shape]
    allowed = []
    for count in (size, size - 1, size + 1):
        whole[axis] = count
        allowed.append(tuple(whole))
    if values.shape not in allowed:
        grids = ", ".join(" x ".join(map(str, a[2:])) for a in allowed)
        raise DataError(
            f"{source}: '{name}' is {' x '.join(map(str, values.shape))}, which fits no staggering of {' x '.join(map(str, shape))}; "
            f"{ours} may have {grids} faces: one a cell, the inner ones, or all with both walls."
        )
    found = np.zeros(shape)
    take = [slice(None)] * 4
    if values.shape[axis] == size - 1:
        take[axis] = slice(0, size - 1)
        found[tuple(take)] = values
        return found
    if values.shape[axis] == size + 1:
        take[axis] = slice(1, None)
    return values[tuple(take)]
