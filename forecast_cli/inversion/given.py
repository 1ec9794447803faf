"""What is known of the sea bed besides the waves: a first guess, soundings, the truth; each with the sign of its depths checked."""

import math
from pathlib import Path

import numpy as np
import xarray as xr

from forecast_cli.data.bathymetry import read_bathymetry
from forecast_cli.data.fields import open_fields
from forecast_cli.data.files import is_there, split_variable
from forecast_cli.data.grid import places
from forecast_cli.domain import Axis
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.inversion.misfit import Soundings
from forecast_cli.inversion.observed import Observed, Told
from forecast_cli.inversion.places import PLACES, cells_of, table
from forecast_cli.inversion.variables import variables_of

FLOOR = "sea_floor_depth_below_mean_sea_level"
ACCURACY = 0.01
"""Standard deviation of a sounding that says nothing of it, as a share of its depth."""


def depth_of(place: str, observed: Observed, option: str) -> np.ndarray:
    """The depth (height, width) [m, positive down] that a file gives on the grid of the waves, without land."""
    file, name = split_variable(place)
    if not is_there(file):
        raise DataError(f"{option} {place}: no such file.")
    height, width = observed.grid.shape
    if not name:
        # A file of waves may hold their depth too.
        named = [name for name, variable in variables_of([file]).items() if _is_depth(name, variable)]
        place = f"{file}:{named[0]}" if len(named) == 1 else file
    bed = read_bathymetry(place, (height, width), option=option)
    for axis, (first, last) in zip(observed.grid.axes, bed.extent, strict=True):
        length = axis.size * (axis.spacing or 0.0)
        if not math.isclose(last - first, length, rel_tol=0.02):
            raise DataError(
                f"{option} {place}: {(last - first) / 1000:.4g} km along {axis.name}, the waves' basin has {length / 1000:.4g} km."
            )
    return bed.depth


def _is_depth(name: str, variable: xr.DataArray) -> bool:
    return name == "depth" or str(variable.attrs.get("standard_name", "")) == FLOOR


def first_depth(said: str, observed: Observed) -> np.ndarray | None:
    """The depth that --initial gives: a number of metres or a file; None for auto."""
    if said == "auto":
        return None
    try:
        value = float(said)
    except ValueError:
        return depth_of(said, observed, "--initial")
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"--initial {said}: expected a depth in metres, positive down, a file, or auto.")
    return np.full(observed.grid.shape, value)


def soundings_of(path: str, observed: Observed) -> tuple[Soundings, Told]:
    """Known depths out of a CSV file (x, y, depth[, std]) or a NetCDF file with gaps, and what was understood."""
    told = Told()
    if Path(path).suffix.lower() in (".csv", ".txt"):
        columns, pair = table(path, "--soundings", PLACES, ("depth",), degrees=observed.latitude is not None)
        cells = cells_of(columns, pair, _axes(observed), degrees=observed.latitude is not None)
        inside = [number for number, cell in enumerate(cells) if cell is not None]
        there = np.array([cell for cell in cells if cell is not None], int).reshape(-1, 2)
        rows, places = there.T
        depth = columns["depth"][inside]
        if len(inside) < len(cells):
            outside = f"{len(cells) - len(inside)} of {len(cells)}"
            told.warnings.append(f"--soundings {path}: {outside} lie outside the grid and are left out")
        deviation = columns["std"][inside] if "std" in columns else ACCURACY * np.abs(depth)
    else:
        fields = open_fields([path], static=True)
        if fields.domain.shape[1:] != observed.grid.shape or len(fields.names) != 1:
            raise DataError(
                f"--soundings {path}: expected one variable on the grid of the waves, missing where nobody sounded."
            )
        values = fields.read(0, 0, 1)[0, 0].astype(float)
        fields.fills[fields.names[0]].refuse(values)
        rows, places = np.argwhere(np.isfinite(values)).T
        depth = values[rows, places]
        deviation = ACCURACY * np.abs(depth)
    if not len(depth):
        raise DataError(f"--soundings {path}: none lies inside the grid of the waves.")
    if not (depth > 0).all():
        raise DataError(
            f"--soundings {path}: {int((depth <= 0).sum())} of {len(depth)} are not positive. A depth is positive down: turn the sign."
        )
    if not (deviation > 0).all():
        raise DataError(f"--soundings {path}: std must be positive.")
    told.notes.append(
        f"known depths: {len(depth)}, of {depth.min():.4g} to {depth.max():.4g} m, good to {np.median(deviation):.3g} m"
    )
    return Soundings(rows, places, depth, deviation), told


def _axes(observed: Observed) -> tuple[Axis, Axis]:
    """The axes (y, x) in the coordinates of the file."""
    found = []
    for axis, name in zip(observed.grid.axes, observed.dims, strict=True):
        values = places(xr.DataArray(observed.coordinates[name], name=name))
        found.append(Axis(name, axis.size, "", float(values[0]), float(values[-1] - values[0]) / max(1, axis.size - 1)))
    return found[0], found[1]
