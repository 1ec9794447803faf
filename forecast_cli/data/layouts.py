"""Files that keep no names of dimensions: the benchmarks of partial differential equations, and MATLAB.

    The Well             groups t0_fields, t1_fields (vectors), dimensions, boundary_conditions
    PDEBench             `tensor`, or one array a variable, beside t-coordinate, x-coordinate, y-coordinate
    Fourier operators    u (and its first frame a) beside t; reversed axes in MATLAB 7.3
    MATLAB 5             arrays beside vectors that are as long as their axes

Everything else is left as it is. Sources: the data descriptions of Ohana et al. (2024), Takamoto et al. (2022),
Li et al. (2021).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from forecast_cli.errors import DataError

_TIMES = {"t", "tt", "time", "t-coordinate"}


def named(dataset: xr.Dataset, path: Path) -> xr.Dataset:
    """The dataset of an HDF5 file with dimensions named as its layout means; unchanged where no layout is known."""
    if any(str(dimension).startswith("phony_dim") for dimension in dataset.dims):
        if any(name in dataset for name in ("t-coordinate", "x-coordinate", "tensor")):
            return _pdebench(dataset)
        if "u" in dataset and "t" in dataset and dataset["u"].ndim == 4:
            return _fourier_operator(dataset)
    with h5py.File(path) as file:
        groups = set(file)
    return _the_well(path) if {"t0_fields", "dimensions"} <= groups else dataset


def group_with_fields(path: Path) -> str:
    """The one group of an HDF5 file that holds fields; DataError that lists them if there are several, or none."""
    with h5py.File(path) as file:
        if "calibration" in file.get("image1", ()) and "image_data" in file["image1"]:
            raise DataError(
                f"{path}: a radar image of KNMI, whose calibration is a formula in a text. Convert such files to NetCDF first, "
                "for example with xradar or gdal_translate."
            )
        found: dict[str, list[str]] = {}

        def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
            if isinstance(item, h5py.Dataset) and item.ndim > 1 and item.dtype.kind in "fiu":
                found.setdefault(name.rpartition("/")[0], []).append(name)

        file.visititems(visit)
    if len(found) == 1:
        return next(iter(found))
    if not found:
        raise DataError(f"{path}: no fields in it: there is no array of numbers with two dimensions or more.")
    raise DataError(
        f"{path}: fields in several groups. Choose one: {', '.join(f'{path}:/{group}' for group in found)}."
    )


def _renamed(variable: xr.Variable, dims: tuple[str, ...]) -> xr.Variable:
    """A variable under other names of its dimensions, still lazy."""
    renamed = variable.copy(deep=False)
    renamed.dims = dims
    return renamed


def _pdebench(dataset: xr.Dataset) -> xr.Dataset:
    """Arrays (sample, time, x[, y]), or (sample, time, x, channel) beside a single coordinate of space."""
    space = [axis for axis in "xyz" if f"{axis}-coordinate" in dataset]
    dims = ("sample", "time", *space)
    fields: dict[str, xr.Variable] = {}
    for name, variable in dataset.variables.items():
        if variable.ndim == len(dims):
            fields[str(name)] = _renamed(variable, dims)
        elif variable.ndim == len(dims) + 1:
            channels = _renamed(variable, (*dims, "channel"))
            fields |= {f"{name}_{i}": channels.isel(channel=i) for i in range(channels.sizes["channel"])}
    sizes = {dim: size for field in fields.values() for dim, size in field.sizes.items()}
    coords = {}
    for dim, name in {"time": "t-coordinate", **{axis: f"{axis}-coordinate" for axis in space}}.items():
        if name in dataset and dim in sizes:
            # Some of these files give one time more than they hold frames.
            values = np.asarray(dataset[name].values).ravel()[: sizes[dim]]
            coords[dim] = (dim, values, {"units": "1"})
    return xr.Dataset(fields, coords, dataset.attrs)


def _fourier_operator(dataset: xr.Dataset) -> xr.Dataset:
    """u(sample, x, y, time), which MATLAB 7.3 stores as (time, y, x, sample). Its first frame `a` is left out."""
    times = np.asarray(dataset["t"].values).ravel()
    u = dataset["u"].variable
    reversed_axes = u.shape[0] == len(times) and (u.shape[-1] != len(times) or dataset["t"].ndim > 1)
    dims = ("time", "y", "x", "sample") if reversed_axes else ("sample", "x", "y", "time")
    field = _renamed(u, dims)
    return xr.Dataset({"u": field}, {"time": ("time", times, {"units": "1"})}, {"boundary_conditions": "periodic"})


def _the_well(path: Path) -> xr.Dataset:
    """Scalars of t0_fields and the components of t1_fields, (sample, time, *space)."""
    options: dict[str, Any] = {"engine": "netcdf4", "cache": False, "decode_times": False}
    with h5py.File(path) as file:
        space = [_text(name) for name in file["dimensions"].attrs["spatial_dims"]]
        coords = {"time": ("time", np.asarray(file["dimensions/time"], float), {"units": "1"})}
        for name in space:
            values = np.asarray(file["dimensions"][name], float)
            if values.ndim == 1:
                coords[name] = (name, values, {})
        conditions = [_text(group.attrs.get("bc_type", "")).lower() for group in _groups(file, "boundary_conditions")]
    dims = ("sample", "time", *space)
    fields: dict[str, xr.Variable] = {}
    for rank, group in enumerate(("t0_fields", "t1_fields")):
        with h5py.File(path) as file:
            if group not in file:
                continue
        for key, variable in xr.open_dataset(path, group=group, **options).variables.items():
            name = str(key)
            if variable.ndim != len(dims) + rank:
                continue
            if rank == 0:
                fields[name] = _renamed(variable, dims)
                continue
            vector = _renamed(variable, (*dims, "component"))
            fields |= {f"{name}_{axis}": vector.isel(component=i) for i, axis in enumerate(space)}
    periodic = bool(conditions) and all(condition == "periodic" for condition in conditions)
    return xr.Dataset(fields, coords, {"boundary_conditions": "periodic"} if periodic else {})


def _groups(file: h5py.File, name: str) -> Iterator[h5py.Group]:
    if name in file:
        yield from (item for item in file[name].values() if isinstance(item, h5py.Group))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def open_matlab(path: Path) -> xr.Dataset:
    """The arrays of a MATLAB 5 file, each axis named by the vector that is as long; DataError where that is not clear."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path)
    except (MatReadError, ValueError, TypeError, OSError, NotImplementedError) as error:
        raise DataError(f"{path}: damaged or truncated ({str(error).splitlines()[0]}).") from error
    arrays = {
        name: value for name, value in content.items() if isinstance(value, np.ndarray) and value.dtype.kind in "fiuc"
    }
    vectors = {name: value.ravel() for name, value in arrays.items() if value.size == max(value.shape) > 1}
    axes = {"time" if name.lower() in _TIMES else name: values for name, values in vectors.items()}
    if {"u", "t"} <= arrays.keys() and arrays["u"].ndim == 4:
        return _fourier_operator(_unnamed({"u": arrays["u"], "t": vectors["t"]}))
    fields = {}
    for name, values in arrays.items():
        if name in vectors or values.ndim < 2 or values.size <= 1:
            continue
        if np.iscomplexobj(values):
            raise DataError(f"{path}: '{name}' is complex. Store real and imaginary part as two arrays.")
        dims = [_axis_as_long(size, axes, path, name) for size in values.shape]
        fields[name] = (dims, values)
    used = {dim for dims, _ in fields.values() for dim in dims}
    if not fields:
        raise DataError(f"{path}: no array with two dimensions or more in it. It has {', '.join(arrays) or 'none'}.")
    return xr.Dataset(fields, {name: (name, values, {"units": "1"}) for name, values in axes.items() if name in used})


def _unnamed(arrays: dict[str, np.ndarray]) -> xr.Dataset:
    return xr.Dataset({name: ([f"{name}_{i}" for i in range(a.ndim)], a) for name, a in arrays.items()})


def _axis_as_long(size: int, axes: dict[str, np.ndarray], path: Path, field: str) -> str:
    """The name of the one vector of a length; DataError if there is none, or more than one."""
    matches = [name for name, values in axes.items() if len(values) == size and values.dtype.kind in "fiu"]
    if len(matches) != 1:
        lengths = ", ".join(f"{name} ({len(values)})" for name, values in axes.items()) or "none"
        raise DataError(
            f"{path}: '{field}' has an axis of {size}, and its coordinate is not clear among the vectors {lengths}. "
            "Store it as NetCDF with named dimensions."
        )
    return matches[0]
