"""Opening NetCDF and HDF5 files as labelled, lazy fields with a known meaning of every dimension."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import xarray as xr

from forecast_cli.data import selecting
from forecast_cli.data.coordinates import Coordinate, coordinates_of
from forecast_cli.data.files import Opened, bound_caches, expand, open_place
from forecast_cli.data.grid import axis_of, kind_of, require_places, without_repeated_longitude
from forecast_cli.data.joining import bounds_of, gather, in_order, place_of
from forecast_cli.data.reading import reading
from forecast_cli.data.roles import Roles, coordinate_of, find_roles
from forecast_cli.data.sentinels import UndeclaredFill
from forecast_cli.data.times import TimeAxis, time_axis, without_times
from forecast_cli.domain import Domain, Variable
from forecast_cli.errors import DataError

_DAMAGED = "The file is damaged: copy or download it again."


class Reading(NamedTuple):
    """What the user had to say to have files read as they are: `select` along squeezed dimensions only.

    It goes into forecasts, so that the truth is read in the same way.
    """

    dims: dict[str, str]
    select: dict[str, str]
    time_as_steps: bool = False


@dataclass(frozen=True, eq=False)
class Fields:
    """Gridded fields over time, read from files as they are asked for.

    dataset: the chosen variables only, each with dimensions ([sample,] time, [y,] x), plus the coordinates.
    squeezed: names of the dimensions of length 1 that were dropped.
    source, places: the files, for messages and one by one. notes: what a reader should know, a line each.
    copies: places to read in the place of these and of files that inputs come from.
    masked: missing values are left out; else they are an error. mask: where the cells in use are, (height, width).
    """

    dataset: xr.Dataset
    roles: Roles
    times: TimeAxis
    domain: Domain
    squeezed: tuple[str, ...]
    source: str
    reading: Reading
    places: tuple[str, ...]
    notes: tuple[str, ...] = ()
    masked: bool = False
    mask: np.ndarray | None = None
    copies: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_trajectories(self) -> bool:
        return self.roles.sample is not None

    @property
    def samples(self) -> int:
        return self.dataset.sizes[self.roles.sample] if self.roles.sample else 1

    @property
    def frames(self) -> int:
        return self.dataset.sizes[self.roles.time]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(variable.name for variable in self.domain.variables)

    @property
    def grid_dims(self) -> list[str]:
        """Names of the dimensions of space: [y, x], or [x]."""
        return [name for name in (self.roles.y, self.roles.x) if name]

    @cached_property
    def frame_bytes(self) -> int:
        return 4 * int(np.prod(self.domain.shape))

    @cached_property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """Positions of the cells, and the level, height or member, for comparison with other fields."""
        return coordinates_of(self.dataset, self.roles)

    @cached_property
    def fills(self) -> dict[str, UndeclaredFill]:
        """What refuses fill values that the file does not declare, of each variable."""
        return {name: UndeclaredFill(self.dataset[name], self.source) for name in self.names}

    def read(self, sample: int, start: int, stop: int) -> np.ndarray:
        """Frames start..stop-1 of one sample as float32 (time, channel, height, width), missing values as NaN."""
        index: dict[str, slice | int] = {self.roles.time: slice(start, stop)}
        if self.roles.sample:
            index |= {self.roles.sample: sample}
        _, height, width = self.domain.shape
        frames = np.empty((stop - start, len(self.names), height, width), np.float32)
        for channel, name in enumerate(self.names):
            with reading(f"{self.source}: '{name}' cannot be read from frame {start} on", _DAMAGED):
                values: np.ndarray = self.dataset[name].variable.isel(index).values
                frames[:, channel] = values.reshape(stop - start, height, width)
        if self.mask is not None:
            frames[..., ~self.mask] = np.nan
        return frames

    def read_checked(self, sample: int, start: int, stop: int) -> np.ndarray:
        """Like `read`, but DataError where a value is infinite, or missing although nothing may be masked."""
        frames = self.read(sample, start, stop)
        for channel, name in enumerate(self.names):
            self.fills[name].refuse(frames[:, channel])
        wrong = np.isinf(frames) if self.masked else ~np.isfinite(frames)
        if wrong.any():
            time, channel, row, column = (int(i) for i in np.argwhere(wrong)[0])
            where = f"sample {sample}, " if self.is_trajectories else ""
            kind = "infinite" if self.masked else "missing or infinite"
            raise DataError(
                f"{self.source}: '{self.names[channel]}' is {kind} at {where}frame {start + time}, row {row}, column {column}. "
                "Fill the gaps first, choose a complete part with --select, or leave missing cells out with --nan mask."
            )
        return frames

    def spatial_coordinates(self) -> dict[str, xr.Variable]:
        """The file's coordinates that depend on the grid alone, with the bounds of cells, to be carried to the output."""
        grid, found = set(self.grid_dims), {}
        for name, coordinate in self.dataset.coords.items():
            if not set(coordinate.dims) <= grid or str(name) == self.times.name:
                continue
            found[str(name)] = coordinate.variable.transpose(*(d for d in self.grid_dims if d in coordinate.dims))
            edges = bounds_of(coordinate)
            if edges and edges in self.dataset.coords:
                found[edges] = self.dataset[edges].variable
        return found

    def auxiliary_coordinates(self) -> list[str]:
        """Names of the coordinates on the grid that CF lists in `coordinates`: no dimensions, and none that other attributes name."""
        coordinates = self.spatial_coordinates()
        named = {name for variable in self.dataset.variables.values() for name in _named_elsewhere(variable)}
        return [name for name in coordinates if name not in named and name not in self.grid_dims]


_NAMING = ("bounds", "climatology", "grid_mapping", "cell_measures", "ancillary_variables", "formula_terms")


def _named_elsewhere(variable: xr.Variable) -> set[str]:
    """The names of variables in attributes of CF other than `coordinates`."""
    attributes = {**variable.encoding, **variable.attrs}
    words = {word for key in _NAMING for word in str(attributes.get(key, "")).split()}
    return {word.rstrip(":") for word in words}


def open_fields(
    files: Sequence[str],
    *,
    variables: Sequence[str] = (),
    dims: Mapping[str, str] | None = None,
    select: Mapping[str, str] | None = None,
    time_as_steps: bool = False,
    static: bool = False,
    copies: Mapping[str, str] | None = None,
) -> Fields:
    """Open files as one set of fields, lazily.

    files: paths, quoted globs, or file.h5:/group/dataset; several are joined along sample or time, or give a variable each.
    variables: channels in this order; none chooses every variable on the largest grid.
    dims: role ("time", "y", "x", "sample") to dimension name, where it cannot be told.
    select: dimension to "value" or "start:stop".
    time_as_steps: number the frames 0, 1, 2, ... whatever the file says of times.
    static: take fields without time as a single frame.
    copies: places to read in the place of others (`staging.stage`), which all that is told and recorded names.
    Raises DataError, in one line that names file, place and remedy.
    """
    places, variables = expand(files), tuple(dict.fromkeys(variables))
    source = place_of(places)
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise DataError(f"{twice}: given twice. Give every file once.")
    copies = copies or {}
    opened = _opened([copies.get(place, place) for place in places], len(variables), time_as_steps)
    notes = tuple(f"{place}: {note}" for file, place in zip(opened, places, strict=True) for note in file.notes)
    dataset, names, told = gather(
        opened, places, variables, dims or {}, select or {}, static=static, time_as_steps=time_as_steps
    )
    notes += told
    roles, _ = find_roles(dataset, names, dims or {}, source, selected=select or ())
    dataset, sorting = (dataset, ()) if time_as_steps else in_order(dataset, roles)
    dataset, repeated = without_repeated_longitude(dataset, roles)
    notes += tuple(f"{source}: {note}" for note in (*sorting, *repeated))
    sample = roles.sample or ("sample" if "sample" in dataset.dims else None)
    if sample and (sample not in dataset.coords or not dataset.indexes[sample].is_unique):
        # Numbers that a selection keeps; joined files that each count from 0 are counted on.
        dataset = dataset.assign_coords({sample: np.arange(dataset.sizes[sample])})
    for dimension, choice in (select or {}).items():
        dataset = selecting.select(dataset, roles, dimension, choice, source)
    roles, squeezed = find_roles(dataset, names, dims or {}, source)
    chosen = {key: value for key, value in (select or {}).items() if key in squeezed}
    reading = Reading(dict(dims or {}), chosen, time_as_steps)
    found = _fields(dataset.squeeze(squeezed), names, roles, squeezed, source, reading, tuple(places), notes)
    return replace(found, copies=copies)


def _opened(places: Sequence[str], variables: int, time_as_steps: bool) -> list[Opened]:
    """The files, with caches for all variables of all files together; 0 variables are those of the first file."""
    bound_caches(len(places) * max(1, variables))
    first = open_place(places[0], time_as_steps=time_as_steps)
    found = len(first.dataset.data_vars)
    if not variables and found > 1:
        first.dataset.close()
        bound_caches(len(places) * found)
        first = open_place(places[0], time_as_steps=time_as_steps)
    return [first, *(open_place(place, time_as_steps=time_as_steps) for place in places[1:])]


def _fields(
    dataset: xr.Dataset,
    names: tuple[str, ...],
    roles: Roles,
    squeezed: tuple[str, ...],
    source: str,
    reading: Reading,
    places: tuple[str, ...],
    notes: tuple[str, ...],
) -> Fields:
    empty = [dimension for dimension, size in dataset[names[0]].sizes.items() if size == 0]
    if empty:
        raise DataError(f"{source}: the dimension '{empty[0]}' has length 0: nothing to read.")
    time = None if reading.time_as_steps else coordinate_of(dataset, roles.time, "time")
    if reading.time_as_steps:
        dataset = dataset.drop_vars([name for name in dataset.variables if dataset[name].dims == (roles.time,)])
    if time is not None:
        times = time_axis(str(time.name), time.variable, source)
    else:
        times = without_times(roles.time, dataset.sizes[roles.time])
    require_places(dataset, roles, source)
    grid, boundary = kind_of(dataset, roles)
    order = [dimension for dimension in (roles.sample, roles.time, roles.y, roles.x) if dimension]
    domain = Domain(
        variables=tuple(_described(name, dataset[name]) for name in names),
        y=axis_of(dataset, roles.y, "y") if roles.y else None,
        x=axis_of(dataset, roles.x, "x"),
        time_step=times.step,
        grid=grid,
        boundary=boundary,
    )
    ordered = dataset.transpose(*order, ..., missing_dims="ignore")
    return Fields(ordered, roles, times, domain, squeezed, source, reading, places, notes)


def _described(name: str, variable: xr.DataArray) -> Variable:
    said = {key: str(variable.attrs.get(key, "")) for key in ("units", "long_name", "standard_name")}
    return Variable(name, **said)
