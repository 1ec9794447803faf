"""What a model is told besides the fields it forecasts: static fields, and forcing that is known ahead.

Both come from variables of the data or of other files, or are made from the time and place of the
fields: hour of the day, day of the year, latitude and longitude.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import xarray as xr

from forecast_cli.config import DataConfig
from forecast_cli.data.agreement import ALL, IGNORED, KIND, Part, agreeing
from forecast_cli.data.coordinates import first_difference, grid_coordinates, is_place
from forecast_cli.data.cycles import Cycles, day_of_year, days_in_year, positions
from forecast_cli.data.fields import Fields
from forecast_cli.data.files import expand, open_place
from forecast_cli.data.grid import cells_at, is_latitude, is_longitude
from forecast_cli.data.joined import joined
from forecast_cli.data.roles import Roles, coordinate_of, nearest, role_of
from forecast_cli.data.sentinels import UndeclaredFill
from forecast_cli.data.times import TimeAxis, dates_of, show, time_axis, without_times
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.units import same_time_unit


@dataclass(frozen=True, eq=False)
class Inputs:
    """Further input channels of a model, by name, and how their values are found.

    static: (sample) -> (height, width). forcing: (sample, frames) -> (time, height | 1, width | 1).
    made: names of the channels that are generated, and so need no normalisation.
    """

    static: Mapping[str, Callable[[int], np.ndarray]]
    forcing: Mapping[str, Callable[[int, range], np.ndarray]]
    made: frozenset[str]

    def static_fields(self, sample: int) -> np.ndarray:
        """(k, height, width), float32."""
        return np.stack([field(sample) for field in self.static.values()]).astype(np.float32)

    def forcing_frames(self, sample: int, start: int, stop: int) -> np.ndarray:
        """Frames start..stop-1, also beyond the end of the record: (time, k, height | 1, width | 1), float32."""
        channels = [channel(sample, range(start, stop)) for channel in self.forcing.values()]
        size = np.broadcast_shapes(*(channel.shape[1:] for channel in channels))
        return np.stack([np.broadcast_to(c, (stop - start, *size)) for c in channels], axis=1).astype(np.float32)

    @cached_property
    def forcing_bytes(self) -> int:
        """Bytes of the forcing of one frame."""
        return self.forcing_frames(0, 0, 1).nbytes if self.forcing else 0


def open_inputs(config: DataConfig, fields: Fields, cycles: Cycles | None = None) -> Inputs:
    """The further inputs that a configuration asks for, on the grid and along the times of `fields`.

    cycles: of the training part, where `data.climatology_features` asks for them.
    Raises DataError where a variable is missing, on another grid, or does not cover the times asked for;
    ConfigError for calendar features of times without a calendar.
    """
    for kind, references in (("static", config.static), ("forcing", config.forcing)):
        labels = [_label(text) for text in references]
        if twice := next((label for label in labels if labels.count(label) > 1), None):
            raise ConfigError(f"--{kind}: two inputs are called '{twice}'. Rename one of the variables.")
    made = _places(config.coordinates, fields)
    static = made | {_label(text): _static_source(text, fields) for text in config.static}
    cycles = cycles or {}
    hands = _resolved(config.calendar_features, {"hour": "hour", "dayofyear": "month"}, cycles)
    clocks = {name: clock for kind in hands for name, clock in _clocks(kind, fields.times).items()}
    usual = _resolved(config.climatology_features, {"hour": "hour", "month": "month"}, cycles)
    forcing = clocks | _usual(usual, fields, cycles)
    forcing |= {_label(text): _forcing_source(text, fields) for text in config.forcing}
    return Inputs(static, forcing, frozenset([*made, *clocks]))


def _resolved(wanted: Sequence[str], choices: Mapping[str, str], cycles: Cycles) -> list[str]:
    """The features asked for, `auto` being each of `choices` whose cycle the training part has."""
    return [
        kind
        for name in wanted
        for kind in (choices if name == "auto" else [name])
        if name != "auto" or choices[kind] in cycles
    ]


def _label(reference: str) -> str:
    return reference.rpartition(":")[2]


def _clocks(kind: str, times: TimeAxis) -> dict[str, Callable[[int, range], np.ndarray]]:
    if not times.is_dated:
        raise ConfigError(
            f"data.calendar_features = {kind}: the times of the data are plain numbers, without a calendar."
        )
    return {
        f"sine of the {_CYCLES[kind]}": partial(_hand, np.sin, kind, times),
        f"cosine of the {_CYCLES[kind]}": partial(_hand, np.cos, kind, times),
    }


def _hand(turn: Callable[[np.ndarray], np.ndarray], kind: str, times: TimeAxis, _: int, frames: range) -> np.ndarray:
    """Where the hand of a clock stands at some frames, along one axis."""
    shares = np.array([_SHARES[kind](date) for date in dates_of(times.at(frames))])
    return turn(2 * np.pi * shares).reshape(-1, 1, 1)


def _share_of_day(date: Any) -> float:
    return float((date.hour * 3600 + date.minute * 60 + date.second + 1e-6 * date.microsecond) / 86400)


def _share_of_year(date: Any) -> float:
    return (day_of_year(date) + _share_of_day(date)) / days_in_year(date)


_CYCLES = {"hour": "hour of the day", "dayofyear": "day of the year"}
_SHARES: dict[str, Callable[[Any], float]] = {"hour": _share_of_day, "dayofyear": _share_of_year}


def _usual(wanted: Sequence[str], fields: Fields, cycles: Cycles) -> dict[str, Callable[[int, range], np.ndarray]]:
    """What each variable usually is at the frame to be forecast, and by how much that differs from the frame before."""
    found: dict[str, Callable[[int, range], np.ndarray]] = {}
    for kind in wanted:
        if kind not in cycles:
            raise ConfigError(
                f"data.climatology_features = {kind}: the training part has no such cycle; it has {', '.join(cycles) or 'none'}."
            )
        for channel, name in enumerate(fields.names):
            cycle = cycles[kind][:, channel]
            cycle = np.where(np.isnan(cycle), np.nanmean(cycle), cycle)
            value = partial(_usual_value, cycle, kind, fields.times)
            found[f"{name} by {kind}"] = value
            found[f"change of {name} by {kind}"] = partial(_usual_change, value)
    return found


def _usual_value(cycle: np.ndarray, kind: str, times: TimeAxis, _: int, frames: Sequence[int]) -> np.ndarray:
    found: np.ndarray = cycle[positions(times.at(frames), kind)]
    return found


def _usual_change(value: Callable[[int, Sequence[int]], np.ndarray], sample: int, frames: range) -> np.ndarray:
    # Nothing precedes the first frame of a record, and nothing forecasts it.
    return value(sample, frames) - value(sample, [max(0, frame - 1) for frame in frames])


def _places(axes: Sequence[str], fields: Fields) -> dict[str, Callable[[int], np.ndarray]]:
    """Maps of where each cell is, as `data.coordinates` asks for them."""
    found: dict[str, np.ndarray] = {}
    _, height, width = fields.domain.shape
    for role, dimension, shape in (("y", fields.roles.y, (-1, 1)), ("x", fields.roles.x, (1, -1))):
        if role not in axes or dimension is None:
            continue
        coordinate = coordinate_of(fields.dataset, dimension, role)
        place = np.arange(fields.dataset.sizes[dimension]) if coordinate is None else coordinate.values.astype(float)
        if coordinate is not None and is_latitude(coordinate):
            maps = {"sine of the latitude": np.sin(np.deg2rad(place))}
        elif coordinate is not None and is_longitude(coordinate):
            angle = np.deg2rad(place)
            maps = {"sine of the longitude": np.sin(angle), "cosine of the longitude": np.cos(angle)}
        else:
            middle, reach = (place.max() + place.min()) / 2, max(np.ptp(place) / 2, 1e-12)
            maps = {f"place along {dimension}": (place - middle) / reach}
        found |= {name: np.broadcast_to(values.reshape(shape), (height, width)) for name, values in maps.items()}
    return {name: partial(_same_for_all, values) for name, values in found.items()}


def _same_for_all(values: np.ndarray, _: int) -> np.ndarray:
    return values


def _static_source(reference: str, fields: Fields) -> Callable[[int], np.ndarray]:
    variable, source = _on_grid(reference, fields, "--static ")
    if "time" in variable.dims:
        if variable.sizes["time"] > 1:
            raise DataError(f"{source}: '{variable.name}' changes in time. Give it as --forcing.")
        variable = variable.isel(time=0)
    return partial(_static_field, UndeclaredFill(variable, source), fields.domain.shape[1:])


def _static_field(checked: UndeclaredFill, shape: tuple[int, int], sample: int) -> np.ndarray:
    variable = checked.variable
    chosen = variable.isel(sample=sample) if "sample" in variable.dims else variable
    return _complete(np.broadcast_to(chosen.values.reshape(_grid_shape(chosen, shape)), shape), checked)


def _forcing_source(reference: str, fields: Fields) -> Callable[[int, range], np.ndarray]:
    variable, source = _on_grid(reference, fields, "--forcing ")
    if "time" not in variable.dims:
        raise DataError(f"{source}: '{variable.name}' does not change in time. Give it as --static.")
    coordinate = None if fields.reading.time_as_steps else variable.coords.get("time")
    own = time_axis("time", coordinate.variable, source) if coordinate is not None else None
    if own and not (own.is_dated or fields.times.is_dated):
        expected, actual = (str(axis.attributes.get("units", "")) for axis in (fields.times, own))
        if not same_time_unit(expected, actual):
            raise DataError(
                f"{source}: the times of '{variable.name}' are in '{actual}', but '{expected}' in {fields.source}. "
                "Convert them to one unit."
            )
    own = own or without_times("time", variable.sizes["time"])
    return partial(_forcing_frames, UndeclaredFill(variable, source), own, fields)


def _forcing_frames(checked: UndeclaredFill, own: TimeAxis, fields: Fields, sample: int, frames: range) -> np.ndarray:
    variable, source = checked.variable, checked.source
    wanted = fields.times.at(frames)
    positions = own.find(wanted)
    if (positions < 0).any():
        missing = show(wanted[int(np.argmax(positions < 0))])
        raise DataError(
            f"{source}: '{variable.name}' has no value at {missing}; it runs from {own.show(0)} to {own.show(-1)}. "
            "Forcing must be known over the context and the whole forecast."
        )
    chosen = variable.isel(sample=sample) if "sample" in variable.dims else variable
    values = chosen.isel(time=positions).values
    return _complete(values.reshape(len(frames), *_grid_shape(chosen, fields.domain.shape[1:])), checked)


def _grid_shape(variable: xr.DataArray, shape: tuple[int, int]) -> tuple[int, int]:
    """(height | 1, width | 1) of a variable that may not depend on y or x."""
    return (shape[0] if "y" in variable.dims else 1), (shape[1] if "x" in variable.dims else 1)


def _complete(values: np.ndarray, checked: UndeclaredFill) -> np.ndarray:
    checked.refuse(values)
    if not np.isfinite(values).all():
        raise DataError(
            f"{checked.source}: '{checked.variable.name}' is missing or infinite somewhere. Inputs must be complete: fill it first."
        )
    return values


def _on_grid(reference: str, fields: Fields, option: str) -> tuple[xr.DataArray, str]:
    """A variable with dimensions renamed to sample, time, y and x, cut to the cells of the fields, and its file."""
    variable, source = _found(reference, fields, option)
    known = {getattr(fields.roles, role): role for role in ("sample", "time", "y", "x")}
    dataset = variable.to_dataset(name="field")  # its own name may be that of a coordinate
    names = {str(d): known.get(str(d)) or role_of(dataset, str(d)) for d in variable.dims}
    variable = variable.squeeze([d for d, role in names.items() if role is None and variable.sizes[d] == 1], drop=True)
    unknown = [d for d in map(str, variable.dims) if names[d] is None]
    if unknown:
        raise DataError(
            f"{source}: '{variable.name}' has a dimension '{unknown[0]}' that the fields do not have. Give a file without it."
        )
    for dimension in map(str, variable.dims):
        role = names[dimension]
        if role == "sample" and fields.roles.sample:
            numbers = fields.dataset[fields.roles.sample].values
            variable = (
                variable.sel({dimension: numbers})
                if dimension in variable.coords
                else variable.isel({dimension: numbers})
            )
        elif role in ("y", "x"):
            variable = _cut(variable, dimension, str(role), fields, source)
    _require_same_cells(variable, {role: dimension for dimension, role in names.items() if role}, fields, source)
    renamed = variable.drop_vars([c for c in variable.coords if c not in variable.dims]).rename(
        {str(d): names[str(d)] for d in variable.dims if str(d) != names[str(d)]}
    )
    return renamed.transpose("sample", "time", "y", "x", missing_dims="ignore"), source


def _cut(variable: xr.DataArray, dimension: str, role: str, fields: Fields, source: str) -> xr.DataArray:
    """A variable at the cells of the fields along one dimension of space, found by coordinate where both have one."""
    own = fields.roles.y if role == "y" else fields.roles.x
    here = coordinate_of(fields.dataset, own, role) if own else None
    if here is not None and dimension in variable.coords and variable[dimension].dtype.kind in "fiu":
        cells = cells_at(variable[dimension], here)
        if (cells < 0).any():
            raise DataError(f"{source}: '{variable.name}' does not cover the cells of the data along '{dimension}'.")
        return variable.isel({dimension: cells}).assign_coords({dimension: here.values})
    size = fields.domain.shape[1 if role == "y" else 2]
    if variable.sizes[dimension] != size:
        raise DataError(
            f"{source}: '{variable.name}' has {variable.sizes[dimension]} cells along '{dimension}', the data have {size}."
        )
    return variable


def _require_same_cells(variable: xr.DataArray, dims: Mapping[str, str], fields: Fields, source: str) -> None:
    """Raise DataError where a coordinate, also a two-dimensional one, is not that of the cells of the fields."""
    x, y = (dims.get(role) for role in ("x", "y"))
    if not x and not y:
        return
    dataset = variable.to_dataset(name="field")
    roles = Roles(dims.get("time", "time"), y, x or "", dims.get("sample"))
    found = first_difference(
        grid_coordinates(fields.dataset, fields.roles), [one for one in grid_coordinates(dataset, roles) if one.dims]
    )
    if found:
        raise DataError(
            f"{source}: the cells of '{variable.name}' are not those of the data: "
            f"{found.name} is {found.actual}, but {found.expected} there."
        )


def _found(reference: str, fields: Fields, option: str) -> tuple[xr.DataArray, str]:
    """The variable that NAME or FILE:variable means, joined along time where it lies in several files."""
    file, _, name = reference.rpartition(":")
    places = expand([file]) if file else list(fields.places)
    datasets = [
        open_place(fields.copies.get(place, place), time_as_steps=fields.reading.time_as_steps).dataset
        for place in places
    ]
    holding = [(dataset, place) for dataset, place in zip(datasets, places, strict=True) if name in dataset.variables]
    if not holding:
        listed = [str(known) for known in datasets[0].variables]
        raise DataError(
            f"{option}{reference}: no such variable{nearest(name, listed)}. {places[0]} has {', '.join(listed)}."
        )
    parts = [
        Part(dataset.set_coords(_places_beside(dataset, name))[[name]], place, fields.roles)
        for dataset, place in holding
    ]
    if len(parts) == 1 or fields.roles.time not in parts[0].dataset[name].dims:
        return parts[0].dataset[name], parts[0].place
    problem = f"{option}{reference}: the files do not fit together"
    times = IGNORED if fields.reading.time_as_steps else KIND
    variables = [part.dataset[name] for part in agreeing(parts, (name,), problem, scalars=ALL, times=times)]
    ordered = sorted(variables, key=lambda variable: variable[fields.roles.time].values[0])
    time = fields.roles.time
    coords = {key: value for key, value in ordered[0].coords.items() if time not in value.dims}
    if time in ordered[0].coords:
        coords[time] = xr.concat([variable[time] for variable in ordered], time)
    whole = joined([variable.variable for variable in ordered], time)
    return xr.DataArray(whole, coords, name=name), holding[0][1]


def _places_beside(dataset: xr.Dataset, name: str) -> list[str]:
    """Latitudes, longitudes and the like that a file holds beside a variable without naming them as its coordinates."""
    dims = set(dataset[name].dims)
    others = [str(other) for other in dataset.data_vars if str(other) != name and dataset[other].dims]
    return [other for other in others if set(dataset[other].dims) <= dims and is_place(dataset[other])]


def references(config: DataConfig) -> list[str]:
    """The inputs that are given as FILE:variable: static fields, forcing and mask."""
    return [text for text in (*config.static, *config.forcing, config.mask) if ":" in text]


def files_of(config: DataConfig) -> list[str]:
    """The files beside the data that static fields, forcing and mask come from."""
    named = (*config.static, *config.forcing, split_value(config.mask)[0])
    return expand(files) if (files := [file for text in named if (file := text.rpartition(":")[0])]) else []


def masked(fields: Fields, config: DataConfig) -> Fields:
    """The fields with the cells left out that `data.mask` says, and values allowed to be missing if `data.nan` does.

    Raises DataError where the mask is missing, no map, on another grid, or leaves nothing.
    """
    return replace(fields, masked=config.masked, mask=mask_of(config.mask, fields, "--mask ") if config.mask else None)


def split_value(reference: str) -> tuple[str, str | None]:
    """'[FILE:]variable[=VALUE]' as '[FILE:]variable' and VALUE, None without one; an equals sign in FILE belongs to it."""
    file, colon, name = reference.rpartition(":")
    variable, equals, value = name.rpartition("=")
    return (f"{file}{colon}{variable}", value) if equals else (reference, None)


def mask_of(reference: str, fields: Fields, option: str) -> np.ndarray:
    """Where a variable is not 0, or is the `=VALUE`, (height, width) of bool. option: what asks for it, for errors."""
    place, value = split_value(reference)
    variable, source = _on_grid(place, fields, option)
    if set(variable.dims) - {"y", "x"}:
        raise DataError(f"{source}: '{variable.name}' is no map: a mask has the dimensions y and x.")
    values = variable.values
    if value is None:
        UndeclaredFill(variable, source).refuse(values)
    try:
        used = (values != 0) & np.isfinite(values) if value is None else values == float(value)
    except ValueError as error:
        raise ConfigError(f"{option}{reference}: expected FILE:variable, or FILE:variable=NUMBER.") from error
    used = np.broadcast_to(used.reshape(_grid_shape(variable, fields.domain.shape[1:])), fields.domain.shape[1:])
    if not used.any():
        raise DataError(f"{source}: the mask '{variable.name}' leaves no cell in use.")
    return used
