"""Opening NetCDF and HDF5 files as labelled, lazy fields with a known meaning of every dimension."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from forecast_cli.data.files import expand, open_place
from forecast_cli.data.roles import Roles, coordinate_of, find_roles, nearest
from forecast_cli.data.times import TimeAxis, bounds, time_axis, without_times
from forecast_cli.domain import Axis, Boundary, Domain, GridKind, Variable
from forecast_cli.errors import DataError


@dataclass(frozen=True, eq=False)
class Fields:
    """Gridded fields over time, read from files as they are asked for.

    dataset: the chosen variables only, each with dimensions ([sample,] time, [y,] x), plus the coordinates.
    squeezed: names of the dimensions of length 1 that were dropped.
    reading: what the user had to say to have them read so, "dims" and "select" along squeezed dimensions;
    it goes into forecasts, so that the truth is read in the same way.
    source, places: the files, for messages and one by one.
    masked: missing values are left out; else they are an error. mask: where the cells in use are, (height, width).
    """

    dataset: xr.Dataset
    roles: Roles
    times: TimeAxis
    domain: Domain
    squeezed: tuple[str, ...]
    source: str
    reading: Mapping[str, dict[str, str]]
    places: tuple[str, ...]
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
        """The file's coordinates that depend on the grid alone, to be carried to the output."""
        grid = set(self.grid_dims)
        return {
            str(name): c.variable
            for name, c in self.dataset.coords.items()
            if set(c.dims) <= grid and str(name) != self.times.name
        }


def open_fields(
    files: Sequence[str],
    *,
    variables: Sequence[str] = (),
    dims: Mapping[str, str] | None = None,
    select: Mapping[str, str] | None = None,
) -> Fields:
    """Open files as one set of fields, lazily.

    files: paths, quoted globs, or file.h5:/group/dataset; several are joined along sample or time.
    variables: channels in this order; none chooses every variable on the largest grid.
    dims: role ("time", "y", "x", "sample") to dimension name, where it cannot be told.
    select: dimension to "value" or "start:stop".
    Raises DataError, in one line that names file, place and remedy.
    """
    places = expand(files)
    source = places[0] if len(places) == 1 else f"{places[0]} and {len(places) - 1} more"
    opened = [open_place(place) for place in places]
    wanted = tuple(variables) or next((names for _, names in opened if names), ())
    names = _choose(opened[0][0], wanted, dims or {}, places[0])
    roles, _ = find_roles(opened[0][0], names, dims or {}, places[0], selected=select or ())
    dataset = _join([_only(ds, names, place) for (ds, _), place in zip(opened, places, strict=True)], roles, source)
    sample = roles.sample or ("sample" if "sample" in dataset.dims else None)
    if sample and (sample not in dataset.coords or not dataset.indexes[sample].is_unique):
        # Numbers that a selection keeps; joined files that each count from 0 are counted on.
        dataset = dataset.assign_coords({sample: np.arange(dataset.sizes[sample])})
    for dimension, choice in (select or {}).items():
        dataset = _select(dataset, roles, dimension, choice, source)
    roles, squeezed = find_roles(dataset, names, dims or {}, source)
    chosen = {key: value for key, value in (select or {}).items() if key in squeezed}
    reading = {"dims": dict(dims or {}), "select": chosen}
    return _fields(dataset.squeeze(squeezed), names, roles, squeezed, source, reading, tuple(places))


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


def _only(dataset: xr.Dataset, names: Sequence[str], source: str) -> xr.Dataset:
    missing = [name for name in names if name not in dataset.data_vars]
    if missing:
        raise DataError(f"{source}: no variable '{missing[0]}', which the first file has.")
    # One-dimensional variables may be coordinates under another name, such as t(time).
    along = [name for name, variable in dataset.data_vars.items() if variable.ndim == 1]
    return dataset[[*names, *along]].set_coords(along)


def _join(datasets: list[xr.Dataset], roles: Roles, source: str) -> xr.Dataset:
    """One dataset out of several: along sample where there are samples or the times are the same, else along time."""
    if len(datasets) == 1:
        return datasets[0]
    chunked = [dataset.chunk({}) for dataset in datasets]
    times = [coordinate_of(dataset, roles.time, "time") for dataset in datasets]
    same = all(
        dataset.sizes[roles.time] == datasets[0].sizes[roles.time]
        and (time is None or (times[0] is not None and time.equals(times[0])))
        for dataset, time in zip(datasets, times, strict=True)
    )
    along = roles.sample or ("sample" if same else roles.time)
    if along == roles.time and all(time is not None and time.size for time in times):
        order = sorted(range(len(times)), key=lambda i: times[i].values[0])  # type: ignore[union-attr]
        chunked = [chunked[i] for i in order]
    try:
        return xr.concat(
            chunked,
            along,
            data_vars="minimal" if along in datasets[0].dims else "all",
            coords="minimal",
            compat="override",
            join="exact",
        )
    except ValueError as error:
        raise DataError(
            f"{source}: the files do not fit together along '{along}' ({str(error).splitlines()[0]})."
        ) from error


def _select(dataset: xr.Dataset, roles: Roles, dimension: str, choice: str, source: str) -> xr.Dataset:
    """`dataset` at a value, or over start:stop, of one dimension.

    A single value is the coordinate's where there is one, else a position. A range is of dates along
    time, of positions (stop excluded) along sample and where there is no coordinate, else of coordinate values.
    """
    known = {"sample": roles.sample, "time": roles.time, "y": roles.y, "x": roles.x}
    if dimension not in dataset.dims:
        dimension = known.get(dimension) or dimension
    if dimension not in dataset.dims:
        raise DataError(
            f"{source}: --select {dimension}={choice}: no such dimension{nearest(dimension, map(str, dataset.dims))}. "
            f"Dimensions: {', '.join(map(str, dataset.dims))}."
        )
    coordinate = coordinate_of(dataset, dimension, "time" if dimension == roles.time else "")
    size = dataset.sizes[dimension]
    start, colon, stop = choice.partition(":")
    try:
        if dimension == roles.time and coordinate is not None:
            axis = TimeAxis(dimension, _comparable(coordinate), without_times("", 1).step)
            frames = axis.period(*bounds(choice))
            selected = dataset.isel({dimension: slice(frames.start, frames.stop)})
        elif colon and (dimension == roles.sample or coordinate is None):
            selected = dataset.isel({dimension: slice(int(start or 0), int(stop or size))})
        elif colon:
            low, high = float(start or "-inf"), float(stop or "inf")
            selected = dataset.isel({dimension: (coordinate.values >= low) & (coordinate.values <= high)})  # type: ignore[union-attr]
        elif coordinate is None:
            selected = dataset.isel({dimension: slice(int(choice), int(choice) + 1)})
        else:
            values = coordinate.values
            match = np.isclose(values, float(choice)) if values.dtype.kind in "fiu" else values.astype(str) == choice
            selected = dataset.isel({dimension: np.flatnonzero(match)})
    except ValueError as error:
        raise DataError(f"--select {dimension}={choice}: expected a value or start:stop.") from error
    if selected.sizes[dimension] == 0:
        here = (
            f"its values run from {coordinate.values[0]} to {coordinate.values[-1]}"
            if coordinate is not None
            else f"it has {size} entries"
        )
        raise DataError(f"{source}: --select {dimension}={choice} selects nothing: {here}.")
    return selected


def _comparable(coordinate: xr.DataArray) -> np.ndarray:
    values = coordinate.values
    return values.astype("datetime64[ns]") if values.dtype.kind == "M" else values


def _fields(
    dataset: xr.Dataset,
    names: tuple[str, ...],
    roles: Roles,
    squeezed: tuple[str, ...],
    source: str,
    reading: Mapping[str, dict[str, str]],
    places: tuple[str, ...],
) -> Fields:
    empty = [dimension for dimension, size in dataset[names[0]].sizes.items() if size == 0]
    if empty:
        raise DataError(f"{source}: the dimension '{empty[0]}' has length 0: nothing to read.")
    time = coordinate_of(dataset, roles.time, "time")
    if time is not None:
        times = time_axis(str(time.name), time.variable, source)
    else:
        times = without_times(roles.time, dataset.sizes[roles.time])
    grid, boundary = _grid(dataset, roles)
    order = [dimension for dimension in (roles.sample, roles.time, roles.y, roles.x) if dimension]
    domain = Domain(
        variables=tuple(_described(name, dataset[name]) for name in names),
        y=_axis(dataset, roles.y, "y") if roles.y else None,
        x=_axis(dataset, roles.x, "x"),
        time_step=times.step,
        grid=grid,
        boundary=boundary,
    )
    ordered = dataset[list(names)].transpose(*order, missing_dims="ignore")
    return Fields(ordered, roles, times, domain, squeezed, source, reading, places)


def _described(name: str, variable: xr.DataArray) -> Variable:
    said = {key: str(variable.attrs.get(key, "")) for key in ("units", "long_name", "standard_name")}
    return Variable(name, **said)


def _axis(dataset: xr.Dataset, dimension: str, role: str) -> Axis:
    coordinate = coordinate_of(dataset, dimension, role)
    size = dataset.sizes[dimension]
    if coordinate is None or coordinate.dtype.kind not in "fiu":
        return Axis(dimension, size)
    values = coordinate.values.astype(float)
    spacing = (values[-1] - values[0]) / (size - 1) if size > 1 else None
    if spacing is not None and not np.allclose(np.diff(values), spacing, rtol=1e-3, atol=1e-12):
        spacing = None
    rounded = None if spacing is None else float(f"{spacing:.6g}")
    return Axis(dimension, size, str(coordinate.attrs.get("units", "")), float(values[0]), rounded)


def _grid(dataset: xr.Dataset, roles: Roles) -> tuple[GridKind, Boundary]:
    """The kind of grid, and the boundary that suits it: closed around the globe, periodic where the file says so."""
    x = coordinate_of(dataset, roles.x, "x")
    y = coordinate_of(dataset, roles.y, "y") if roles.y else None
    periodic = str(dataset.attrs.get("boundary_conditions", "")).lower() == "periodic"
    if x is not None and y is not None and is_latitude(y) and is_longitude(x):
        values = x.values.astype(float)
        spacing = abs(values[-1] - values[0]) / max(1, len(values) - 1)
        closes = abs(spacing * len(values) - 360) < 0.5 * spacing
        return "latitude-longitude", "cylinder" if closes else "zeros"
    kind: GridKind = "index" if x is None and y is None else "cartesian"
    return kind, "circular" if periodic else "zeros"


def is_latitude(coordinate: xr.DataArray) -> bool:
    """Whether a coordinate holds geographical latitudes in degrees."""
    return _is(coordinate, "latitude", units={"degrees_north", "degree_north"}, names={"lat", "latitude"})


def is_longitude(coordinate: xr.DataArray) -> bool:
    """Whether a coordinate holds geographical longitudes in degrees."""
    return _is(coordinate, "longitude", units={"degrees_east", "degree_east"}, names={"lon", "longitude"})


def _is(coordinate: xr.DataArray, standard_name: str, *, units: set[str], names: set[str]) -> bool:
    """Whether CF attributes, or without a standard name the name, say that a coordinate is `standard_name`."""
    said = coordinate.attrs.get("standard_name")
    by_name = said is None and str(coordinate.name).lower() in names
    return said == standard_name or coordinate.attrs.get("units") in units or by_name


def missing_shares(fields: Fields) -> list[float]:
    """The share of missing or infinite values of each variable, read in blocks."""
    block = max(1, 2**26 // fields.frame_bytes)
    missing = np.zeros(len(fields.names))
    for sample in range(fields.samples):
        for start in range(0, fields.frames, block):
            frames = fields.read(sample, start, min(start + block, fields.frames))
            missing += (~np.isfinite(frames)).sum(axis=(0, 2, 3))
    cells = fields.samples * fields.frames * fields.domain.shape[1] * fields.domain.shape[2]
    return (missing / cells).tolist()
