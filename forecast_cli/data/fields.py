"""Opening NetCDF and HDF5 files as labelled, lazy fields with a known meaning of every dimension."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import netCDF4
import numpy as np
import xarray as xr

from forecast_cli.data import selecting
from forecast_cli.data.files import Opened, expand, open_place
from forecast_cli.data.grid import axis_of, kind_of, without_repeated_longitude
from forecast_cli.data.joining import beside, bounds_of, in_order, join, only
from forecast_cli.data.roles import Roles, coordinate_of, find_roles, nearest, role_of
from forecast_cli.data.times import TimeAxis, time_axis, without_times
from forecast_cli.domain import Domain, Variable
from forecast_cli.errors import DataError


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

    def read(self, sample: int, start: int, stop: int) -> np.ndarray:
        """Frames start..stop-1 of one sample as float32 (time, channel, height, width), missing values as NaN."""
        index: dict[str, slice | int] = {self.roles.time: slice(start, stop)}
        if self.roles.sample:
            index |= {self.roles.sample: sample}
        _, height, width = self.domain.shape
        frames = np.empty((stop - start, len(self.names), height, width), np.float32)
        for channel, name in enumerate(self.names):
            try:
                values: np.ndarray = self.dataset[name].variable.isel(index).values
            except (OSError, RuntimeError) as error:
                raise DataError(
                    f"{self.source}: '{name}' cannot be read from frame {start} on ({str(error).splitlines()[0]}). "
                    "The file is damaged: copy or download it again."
                ) from error
            frames[:, channel] = values.reshape(stop - start, height, width)
        if self.mask is not None:
            frames[..., ~self.mask] = np.nan
        return frames

    def read_checked(self, sample: int, start: int, stop: int) -> np.ndarray:
        """Like `read`, but DataError where a value is infinite, or missing although nothing may be masked."""
        frames = self.read(sample, start, stop)
        refuse_fill_values(frames, self.names, self.source)
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


def open_fields(
    files: Sequence[str],
    *,
    variables: Sequence[str] = (),
    dims: Mapping[str, str] | None = None,
    select: Mapping[str, str] | None = None,
    time_as_steps: bool = False,
    static: bool = False,
) -> Fields:
    """Open files as one set of fields, lazily.

    files: paths, quoted globs, or file.h5:/group/dataset; several are joined along sample or time, or give a variable each.
    variables: channels in this order; none chooses every variable on the largest grid.
    dims: role ("time", "y", "x", "sample") to dimension name, where it cannot be told.
    select: dimension to "value" or "start:stop".
    time_as_steps: number the frames 0, 1, 2, ... whatever the file says of times.
    static: take fields without time as a single frame.
    Raises DataError, in one line that names file, place and remedy.
    """
    places = expand(files)
    source = places[0] if len(places) == 1 else f"{places[0]} and {len(places) - 1} more"
    opened = [open_place(place, time_as_steps=time_as_steps) for place in places]
    notes = tuple(f"{place}: {note}" for file, place in zip(opened, places, strict=True) for note in file.notes)
    dataset, names = _together(opened, places, tuple(variables), dims or {}, select or {}, source, static)
    roles, _ = find_roles(dataset, names, dims or {}, source, selected=select or ())
    dataset, sorting = (dataset, ()) if time_as_steps else in_order(dataset, roles)
    dataset, repeated = without_repeated_longitude(dataset, roles)
    notes += tuple(f"{source}: {note}" for note in (*sorting, *repeated))
    if static and not any(roles.time in file.dataset.dims for file in opened):
        notes += (f"{source}: no time, a static field: an input for --static {places[0]}:{names[0]}",)
    sample = roles.sample or ("sample" if "sample" in dataset.dims else None)
    if sample and (sample not in dataset.coords or not dataset.indexes[sample].is_unique):
        # Numbers that a selection keeps; joined files that each count from 0 are counted on.
        dataset = dataset.assign_coords({sample: np.arange(dataset.sizes[sample])})
    for dimension, choice in (select or {}).items():
        dataset = selecting.select(dataset, roles, dimension, choice, source)
    roles, squeezed = find_roles(dataset, names, dims or {}, source)
    chosen = {key: value for key, value in (select or {}).items() if key in squeezed}
    reading = Reading(dict(dims or {}), chosen, time_as_steps)
    return _fields(dataset.squeeze(squeezed), names, roles, squeezed, source, reading, tuple(places), notes)


def _together(
    opened: Sequence[Opened],
    places: Sequence[str],
    wanted: tuple[str, ...],
    dims: Mapping[str, str],
    select: Mapping[str, str],
    source: str,
    static: bool,
) -> tuple[xr.Dataset, tuple[str, ...]]:
    """All files as one dataset, and the names of its fields.

    Files with the same variables follow each other, files with different ones stand beside each other.
    """
    wanted = wanted or next((file.names for file in opened if file.names), ())
    groups: dict[tuple[str, ...], list[tuple[xr.Dataset, str]]] = {}
    for file, place in zip(opened, places, strict=True):
        here = tuple(name for name in wanted if name in file.dataset.data_vars)
        if wanted and not here and len(places) > 1 and not groups:
            continue  # said below, if no file has it
        names = _choose(file.dataset, here or wanted, dims, place)
        groups.setdefault(names, []).append((_timed(file.dataset, names, dims, place, static), place))
    found = tuple(name for names in groups for name in names)
    if missing := [name for name in wanted if name not in found]:
        _choose(opened[0].dataset, missing, dims, places[0])
    if len(groups) > 1 and len(set(found)) < len(found):
        first, *others = groups
        lacking = next(name for names in others for name in {*first} ^ {*names})
        raise DataError(
            f"{source}: some files have '{lacking}' and others not. Give files of the same variables, or of one each."
        )
    joined = []
    for names, files in groups.items():
        roles, _ = find_roles(files[0][0], names, dims, files[0][1], selected=select)
        joined.append(join([only(dataset, names, place) for dataset, place in files], roles, source))
    dataset = joined[0] if len(joined) == 1 else beside(joined, source)
    return dataset, wanted or found


def _timed(dataset: xr.Dataset, names: Sequence[str], dims: Mapping[str, str], place: str, static: bool) -> xr.Dataset:
    """The dataset; maps without time, all of whose dimensions are known to be of space, as one frame or refused."""
    there = [str(dimension) for dimension in dataset[names[0]].dims]
    if "time" in dims or not {role_of(dataset, dimension) for dimension in there} <= {"y", "x"}:
        return dataset
    if static:
        return dataset.assign({name: dataset[name].expand_dims("time") for name in names})
    listed = ", ".join(f"--static {place}:{name}" for name in names)
    raise DataError(
        f"{place}: '{names[0]}' ({', '.join(there)}) has no time: a static field. Give it beside fields that change, as {listed}."
    )


def _choose(dataset: xr.Dataset, wanted: Sequence[str], dims: Mapping[str, str], source: str) -> tuple[str, ...]:
    """The variables to forecast: those asked for, or all that share the dimensions of the largest."""
    fields = {
        str(name): variable
        for name, variable in dataset.data_vars.items()
        if variable.dtype.kind in "fiu" and variable.ndim >= 2
    }
    for name in wanted:
        if name not in dataset.data_vars:
            raise DataError(
                f"{source}: no variable '{name}'{nearest(name, fields)}. Variables: {', '.join(fields) or 'none'}."
            )
        if name not in fields:
            raise DataError(
                f"{source}: variable '{name}' is not a field of numbers over time and space. Fields: {', '.join(fields)}."
            )
    if wanted:
        sets = {frozenset(dataset[name].dims) for name in wanted}
        if len(sets) > 1:
            raise DataError(
                f"{source}: the variables {', '.join(wanted)} have different dimensions: choose some of the same with --variable."
            )
        return tuple(wanted)
    given = set(dims.values()) - {dims.get("sample")}
    fields = {name: variable for name, variable in fields.items() if given <= set(variable.dims)} or fields
    if not fields:
        raise DataError(
            f"{source}: no variable with at least two dimensions. It has {', '.join(map(str, dataset.data_vars)) or 'none'}."
        )
    most = max(variable.ndim for variable in fields.values())
    largest = [name for name, variable in fields.items() if variable.ndim == most]
    if len({frozenset(fields[name].dims) for name in largest}) > 1:
        listed = ", ".join(f"{name}({', '.join(map(str, fields[name].dims))})" for name in largest)
        raise DataError(f"{source}: fields on different dimensions: {listed}. Choose with --variable.")
    return tuple(largest)


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


def missing_shares(fields: Fields) -> list[float]:
    """The share of missing or infinite values of each variable, read in blocks."""
    block = max(1, 2**26 // fields.frame_bytes)
    missing = np.zeros(len(fields.names))
    for sample in range(fields.samples):
        for start in range(0, fields.frames, block):
            frames = fields.read(sample, start, min(start + block, fields.frames))
            refuse_fill_values(frames, fields.names, fields.source)
            missing += (~np.isfinite(frames)).sum(axis=(0, 2, 3))
    cells = fields.samples * fields.frames * fields.domain.shape[1] * fields.domain.shape[2]
    return (missing / cells).tolist()


_FILL_VALUES = np.array([netCDF4.default_fillvals["f4"], 1e20, 1e30, 1e36, 9.999e20], np.float32)
"""What programs write where there is no value: the default of NetCDF, and customs of models."""


def refuse_fill_values(frames: np.ndarray, names: Sequence[str], source: str) -> None:
    """DataError where frames (time, channel, ...) hold a customary fill value: read as a number it would ruin every mean."""
    largest = np.fmax.reduce(np.abs(frames), axis=None, initial=0)
    if largest < 1e19:
        return
    wrong = np.isin(frames, _FILL_VALUES.astype(frames.dtype))
    if wrong.any():
        channel = int(np.argwhere(wrong)[0][1])
        value = frames[:, channel][wrong[:, channel]][0]
        raise DataError(
            f"{source}: '{names[channel]}' holds {value:g}, a fill value that the file does not declare. "
            f"Declare it: ncatted -a _FillValue,{names[channel]},o,f,{value:.9g} FILE; then see --nan mask."
        )
