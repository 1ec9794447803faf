"""Waves as an inversion needs them: from full fields, fields with holes, cells that gauges stand in, or files of stations."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from forecast_cli.data.bathymetry import EARTH
from forecast_cli.data.fields import Fields, open_fields, refuse_fill_values
from forecast_cli.data.files import expand, open_place
from forecast_cli.data.inputs import mask_of
from forecast_cli.data.roles import nearest
from forecast_cli.data.times import TimeAxis, time_axis
from forecast_cli.domain import Axis, TimeStep
from forecast_cli.equations.shallow_water import ShallowWater
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.physics.grid import Grid

CHANNELS = tuple(variable.name for variable in ShallowWater.VARIABLES)
ROTATION = 7.2921e-5
"""Angular velocity of the Earth [s-1]."""

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
_SECONDS = {"s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
FEWEST = 3
"""Frames below which nothing can be said."""


@dataclass(frozen=True)
class Source:
    """Where the waves are and how they are read, as the user says it.

    variables: ours ("eta", "u", "v") to the file's names, None to find them. gauges: a CSV file of stations. mask: FILE:variable or
    NAME, observed where not 0. initial_state: FILE with eta (and u, v) at the first frame. initial_velocity: "auto", "rest" or FILE.
    """

    files: tuple[str, ...]
    variables: Mapping[str, str] | None = None
    dims: Mapping[str, str] | None = None
    select: Mapping[str, str] | None = None
    gauges: str | None = None
    mask: str | None = None
    initial_state: str | None = None
    initial_velocity: str = "auto"


@dataclass(frozen=True, eq=False)
class Observed:
    """Waves on a uniform grid in metres.

    channels: those of eta, u, v that are observed. start: (sample, 3, height, width), eta, u, v at the first frame. later: (sample, time,
    channel, height, width), the frames after it, NaN where nobody looked. spread: standard deviation of each channel in the file. interval:
    between frames [s]. coordinates: of the grid, as the file has them, and dims their names
    (y, x). attributes: the file's. latitude: of the middle, for grids in degrees. gauges: cells (row, column) that were asked for by
    name or place. notes, warnings: what the user should know, a line each.
    """

    source: str
    channels: tuple[str, ...]
    start: np.ndarray
    later: np.ndarray
    spread: np.ndarray
    grid: Grid
    interval: float
    times: TimeAxis
    coordinates: Mapping[str, xr.Variable]
    dims: tuple[str, str]
    attributes: Mapping[str, Any]
    latitude: float | None = None
    gauges: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_dense(self) -> bool:
        """Whether the surface is seen in most cells."""
        return bool(np.isfinite(self.later[:, :, 0]).any(axis=(0, 1)).mean() > 0.5)


@dataclass
class _Reading:
    """What is gathered on the way."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_waves(source: Source) -> Observed:
    """Read and check what an inversion starts from. Raises DataError or ConfigError, in one line."""
    told = _Reading()
    places = expand(source.files)
    named = found_names(variables_of(source.files), source.variables, places[0])
    told.notes.append(
        "observed: " + ", ".join(f"{ours} ('{theirs}')" if ours != theirs else ours for ours, theirs in named.items())
    )
    first = open_place(places[0]).dataset
    if named["eta"] in first and station_dimension(first, named["eta"]):
        observed = _stations(first, named, source, places[0], told)
    else:
        observed = _fields(named, source, told)
    if observed.later.shape[1] + 1 < FEWEST:
        raise DataError(
            f"{observed.source}: {observed.later.shape[1] + 1} frames; an inversion needs at least {FEWEST}, and gains by hundreds."
        )
    _require_signal(observed)
    return replace(observed, notes=tuple(told.notes), warnings=tuple(told.warnings))


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


# --- fields -------------------------------------------------------------------------------------------------------------


def _fields(named: Mapping[str, str], source: Source, told: _Reading) -> Observed:
    """Fields on a grid, whole or with holes."""
    options: dict[str, Any] = {"dims": source.dims, "select": source.select}
    eta = open_fields(source.files, variables=[named["eta"]], **options)
    told.notes.extend(eta.notes)
    if eta.domain.y is None:
        raise DataError(f"{eta.source}: '{named['eta']}' has one dimension of space; an inversion needs two.")
    grid, latitude = metric_grid(eta, told)
    _require_units(eta, "eta")
    values = _values(eta)
    samples, frames, height, width = values.shape
    every = np.empty((samples, frames, len(named), height, width))
    every[:, :, 0] = values
    for channel, ours in enumerate(named):
        if ours != "eta":
            other = open_fields(
                source.files, variables=[named[ours]], dims=_face_dims(named[ours], source, eta), select=source.select
            )
            _require_units(other, ours)
            every[:, :, channel] = _on_faces(_values(other), values.shape, ours, other.source, named[ours])
    spread = np.nanstd(every, axis=(0, 1, 3, 4))
    first = np.full((samples, 3, height, width), np.nan)
    for channel, ours in enumerate(named):
        first[:, CHANNELS.index(ours)] = every[:, 0, channel]
    start, later = _start(first, source, eta, told), every[:, 1:]
    for channel, ours in enumerate(named):
        # What flows through a wall is no observation.
        if ours == "u":
            later[:, :, channel, :, -1] = np.nan
        elif ours == "v":
            later[:, :, channel, -1, :] = np.nan
    cells: tuple[tuple[int, int], ...] = ()
    if source.gauges:
        cells = station_cells(source.gauges, eta, told)
        there = np.zeros((height, width), bool)
        there[tuple(np.array(cells).T)] = True
        later[..., ~there] = np.nan
    if source.mask:
        later[..., ~mask_of(source.mask, eta, "--mask ")] = np.nan
    return Observed(
        eta.source,
        tuple(named),
        start,
        later,
        spread,
        grid,
        seconds(eta.domain.time_step, eta.source),
        eta.times,
        eta.spatial_coordinates(),
        (str(eta.roles.y), eta.roles.x),
        dict(eta.dataset.attrs),
        latitude,
        cells,
    )


def _face_dims(name: str, source: Source, eta: Fields) -> dict[str, str]:
    """The roles of the dimensions of a velocity, whose faces may be counted by dimensions of their own."""
    roles = {role: getattr(eta.roles, role) for role in ("sample", "time", "y", "x")}
    own = [str(dim) for dim in variables_of(source.files)[name].dims]
    found = {role: dim for role, dim in roles.items() if dim in own}
    rest = [dim for dim in own if dim not in found.values() and dim not in (source.select or {})]
    missing = [role for role in ("y", "x") if role not in found]
    return found | (dict(zip(missing, rest, strict=True)) if len(missing) == len(rest) else {})


def _values(fields: Fields) -> np.ndarray:
    """All of a variable, (sample, time, height, width) in float64. DataError for infinite and fill values."""
    name = fields.names[0]
    try:
        values = np.asarray(fields.dataset[name].values, float)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{fields.source}: '{name}' cannot be read ({str(error).splitlines()[0]}). Copy or download the file again."
        ) from error
    values = values.reshape(fields.samples, fields.frames, *fields.domain.shape[1:])
    refuse_fill_values(values[:, :, None].reshape(-1, 1, *values.shape[2:]), [name], fields.source)
    if np.isinf(values).any():
        raise DataError(
            f"{fields.source}: '{name}' is infinite somewhere. Mark what was not observed as missing (NaN)."
        )
    return values


def _require_units(fields: Fields, ours: str) -> None:
    units, known = fields.domain.variables[0].units, _UNITS["eta" if ours == "eta" else "u"]
    if units and units.lower() not in known:
        raise DataError(f"{fields.source}: '{fields.names[0]}' is in '{units}'; expected {known[0]}. Convert it first.")


def _on_faces(values: np.ndarray, shape: tuple[int, ...], ours: str, source: str, name: str) -> np.ndarray:
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


def metric_grid(fields: Fields, told: _Reading) -> tuple[Grid, float | None]:
    """The grid in metres, and the latitude of its middle where it is in degrees: then y is 0 there, and it is taken as a plane."""
    domain = fields.domain
    y, x = domain.y, domain.x
    assert y is not None
    for axis in (y, x):
        if axis.spacing is None or axis.first is None:
            raise DataError(
                f"{fields.source}: '{axis.name}' has no evenly spaced coordinate. Interpolate the waves to an even grid."
            )
        if axis.spacing <= 0:
            raise DataError(
                f"{fields.source}: '{axis.name}' descends. Turn the data round: ncpdq -a -{axis.name} IN OUT."
            )
    if domain.grid != "latitude-longitude":
        per = {"m": 1.0, "metre": 1.0, "metres": 1.0, "meter": 1.0, "meters": 1.0, "km": 1000.0}
        for axis in (y, x):
            if axis.units not in per:
                raise DataError(
                    f"{fields.source}: '{axis.name}' is in '{axis.units}'; expected m, km or degrees. Set its units attribute."
                )
        return Grid(tuple(_scaled(axis, per[axis.units]) for axis in (y, x))), None
    middle = float(y.first or 0.0) + float(y.spacing or 0.0) * (y.size - 1) / 2
    degree = EARTH * np.pi / 180
    dy, dx = degree * float(y.spacing or 0.0), degree * float(np.cos(np.deg2rad(middle))) * float(x.spacing or 0.0)
    told.notes.append(
        f"degrees taken as a plane of {x.size * dx / 1000:.4g} km by {y.size * dy / 1000:.4g} km at latitude {middle:.4g}"
    )
    axes = (Axis("y", y.size, "m", -(y.size - 1) / 2 * dy, dy), Axis("x", x.size, "m", dx / 2, dx))
    return Grid(axes), middle


def _scaled(axis: Axis, metres: float) -> Axis:
    return replace(axis, units="m", first=(axis.first or 0.0) * metres, spacing=(axis.spacing or 0.0) * metres)


def seconds(step: TimeStep, source: str) -> float:
    """A time step in seconds. DataError where the file's unit is no unit of time."""
    unit = step.unit.removesuffix("s") if len(step.unit) > 1 else step.unit
    if unit not in _SECONDS:
        told = {"month": "regular in the calendar only", "frame": "without times"}.get(step.unit, f"in '{step.unit}'")
        raise DataError(
            f"{source}: the frames are {told}. Give the file a time coordinate in seconds, minutes, hours, days or dates."
        )
    return float(step.amount * _SECONDS[unit])


# --- the first frame ----------------------------------------------------------------------------------------------------


def _start(start: np.ndarray, source: Source, eta: Fields, told: _Reading) -> np.ndarray:
    """The whole state at the first frame: of the waves themselves, or of --initial-state; velocity of --initial-velocity, else at rest."""
    start = start.copy()
    if source.initial_state:
        start = _state_of(source.initial_state, start.shape, "--initial-state")
        told.notes.append(f"first frame of {source.initial_state}")
    if np.isnan(start[:, 0]).any():
        raise DataError(
            f"{eta.source}: '{eta.names[0]}' is missing in {np.isnan(start[:, 0]).mean():.2%} of the first frame, and an inversion "
            "starts from a whole surface. Give it: --initial-state FILE."
        )
    if source.initial_velocity not in ("auto", "rest"):
        start[:, 1:] = _state_of(source.initial_velocity, start.shape, "--initial-velocity", velocity=True)[:, 1:]
        told.notes.append(f"velocity at the first frame of {source.initial_velocity}")
    elif source.initial_velocity == "rest":
        start[:, 1:] = 0
    elif np.isnan(start[:, 1:]).all():
        here = found_names(variables_of(source.files), None, eta.source) if source.variables else {}
        if {"u", "v"} <= here.keys() and not source.initial_state:
            told.notes.append(
                "velocity at the first frame of the file's u and v, which are not used otherwise; --initial-velocity rest changes that"
            )
            start[:, 1:] = _state_of(
                expand(source.files)[0], start.shape, "first frame of", velocity=True, select=source.select
            )[:, 1:]
        else:
            told.notes.append("the water is at rest at the first frame")
            start[:, 1:] = 0
    if np.isnan(start).any():
        raise DataError(
            f"{eta.source}: the velocity of the first frame is missing somewhere. Give --initial-velocity rest, or --initial-velocity FILE."
        )
    start[:, 1, :, -1] = 0
    start[:, 2, -1, :] = 0
    return start


def _state_of(
    place: str, shape: tuple[int, ...], option: str, *, velocity: bool = False, select: Mapping[str, str] | None = None
) -> np.ndarray:
    """eta, u, v (sample, 3, height, width) at the first frame of a file; NaN for what is not in it."""
    named = found_names(variables_of([place]), None, f"{option} {place}")
    if velocity and not {"u", "v"} <= named.keys():
        raise DataError(f"{option} {place}: no u and v in it. Name them by their CF standard names.")
    found = np.full(shape, np.nan)
    for channel, ours in enumerate(CHANNELS):
        if ours not in named:
            continue
        fields = open_fields([place], variables=[named[ours]], static=True, select=select)
        values = _values(fields)[:, :1]
        if values.shape[0] not in (1, shape[0]):
            raise DataError(f"{option} {place}: {values.shape[0]} samples, the waves have {shape[0]}.")
        spread = np.broadcast_to(values, (shape[0], *values.shape[1:]))
        if ours == "eta" and spread.shape[2:] != shape[2:]:
            raise DataError(
                f"{option} {place}: a grid of {spread.shape[2]} x {spread.shape[3]} cells, the waves have {shape[2]} x {shape[3]}."
            )
        found[:, channel] = (
            spread[:, 0]
            if ours == "eta"
            else _on_faces(spread, (shape[0], 1, *shape[2:]), ours, place, named[ours])[:, 0]
        )
    return found


def _require_signal(observed: Observed) -> None:
    """DataError where nothing is observed, or nothing moves."""
    surface = observed.later[:, :, 0]
    if not np.isfinite(surface).any():
        raise DataError(f"{observed.source}: no elevation is observed after the first frame.")
    lowest = min(np.nanmin(surface), observed.start[:, 0].min())
    highest = max(np.nanmax(surface), observed.start[:, 0].max())
    if not highest - lowest > 1e-12 * max(1.0, abs(highest)):
        raise DataError(
            f"{observed.source}: no signal: the surface is {highest:g} m everywhere and always. Waves are needed."
        )


# --- gauges -------------------------------------------------------------------------------------------------------------


def table(
    path: str, option: str, pairs: Sequence[tuple[str, str]], needed: Sequence[str] = ()
) -> tuple[dict[str, np.ndarray], tuple[str, str]]:
    """The columns of a CSV file with a header, and which of the pairs of place columns it has."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except OSError as error:
        raise DataError(f"{option} {path}: cannot be read ({error.strerror}).") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{option} {path}: not a CSV file ({error}).") from error
    have = [str(name).strip().lower() for name in (rows[0] if rows else {})]
    pair = next((pair for pair in pairs if set(pair) <= set(have)), None)
    if pair is None or not set(needed) <= set(have):
        wanted = " or ".join(",".join((*pair, *needed)) for pair in pairs)
        raise DataError(
            f"{option} {path}: expected a header {wanted}, and a line for each place; here is {','.join(have) or 'nothing'}."
        )
    columns: dict[str, np.ndarray] = {}
    for name in (*pair, *needed, *(n for n in ("std", "name") if n in have)):
        texts = [
            str(next(value for key, value in row.items() if str(key).strip().lower() == name) or "").strip()
            for row in rows
        ]
        if name == "name":
            continue
        try:
            columns[name] = np.array([float(text) for text in texts])
        except ValueError as error:
            raise DataError(f"{option} {path}: column {name} holds what is no number ({error}).") from error
        if not np.isfinite(columns[name]).all():
            raise DataError(f"{option} {path}: column {name} holds what is no number.")
    return columns, pair


PLACES = (("x", "y"), ("lon", "lat"), ("column", "row"))


def cells_of(
    columns: Mapping[str, np.ndarray], pair: tuple[str, str], coordinates: tuple[Axis, Axis]
) -> list[tuple[int, int] | None]:
    """The cell (row, column) of each place, None outside the grid. coordinates: the file's own (y, x)."""
    found: list[tuple[int, int] | None] = []
    y, x = coordinates
    for right, up in zip(columns[pair[0]], columns[pair[1]], strict=True):
        if pair == ("column", "row"):
            place = np.array([up, right])
        else:
            place = np.array([(up - (y.first or 0)) / (y.spacing or 1), (right - (x.first or 0)) / (x.spacing or 1)])
        row, column = np.floor(place + 0.5).astype(int)
        found.append((int(row), int(column)) if 0 <= row < y.size and 0 <= column < x.size else None)
    return found


def station_cells(path: str, fields: Fields, told: _Reading) -> tuple[tuple[int, int], ...]:
    """The cells of the stations in a CSV file, each once, in the coordinates of the waves."""
    columns, pair = table(path, "--gauges", PLACES)
    assert fields.domain.y is not None
    return _inside(cells_of(columns, pair, (fields.domain.y, fields.domain.x)), f"--gauges {path}", told)


def _inside(cells: Sequence[tuple[int, int] | None], where: str, told: _Reading) -> tuple[tuple[int, int], ...]:
    inside = [cell for cell in cells if cell is not None]
    if not inside:
        raise DataError(
            f"{where}: no gauge lies inside the grid of the waves. Are its places in the coordinates of the file?"
        )
    if len(inside) < len(cells):
        told.warnings.append(
            f"{where}: {len(cells) - len(inside)} of {len(cells)} gauges lie outside the grid and are left out"
        )
    once = tuple(dict.fromkeys(inside))
    if len(once) < len(inside):
        told.warnings.append(f"{where}: {len(inside) - len(once)} gauges share a cell with another and are one with it")
    return once


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


def _stations(dataset: xr.Dataset, named: Mapping[str, str], source: Source, place: str, told: _Reading) -> Observed:
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
    inside = _inside(cells, place, told)
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
    start = _start(np.full((1, 3, height, width), np.nan), source, state, told)
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
