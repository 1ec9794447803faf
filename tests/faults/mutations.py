"""Small files of every format, and ways to damage them that are functions of a random generator alone."""

import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import xarray as xr
import zarr
from files import travelling_wave

FRAMES, HEIGHT, WIDTH, SAMPLES = 24, 4, 5, 4
Shape = tuple[int, int, int]
WHOLE: Shape = (FRAMES, HEIGHT, WIDTH)


# Formats


def _series(shape: Shape) -> xr.Dataset:
    """t2m and pressure on a region, every six hours, raw as they stand in the file."""
    frames, height, width = shape
    wave = travelling_wave(*shape)
    dims = ("time", "lat", "lon")
    return xr.Dataset(
        {
            "t2m": (dims, wave, {"units": "K", "long_name": "temperature"}),
            "pressure": (dims, 1000 + wave, {"units": "hPa"}),
        },
        {
            "time": ("time", 6.0 * np.arange(frames), {"units": "hours since 2000-01-01", "calendar": "standard"}),
            "lat": ("lat", 50 - 2.0 * np.arange(height), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", 10 + 2.0 * np.arange(width), {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )


def _flow(shape: Shape) -> xr.Dataset:
    """u(sample, time, y, x) with plain numbers as times, on a periodic square."""
    frames, height, width = shape
    return xr.Dataset(
        {
            "u": (
                ("sample", "time", "y", "x"),
                np.stack([travelling_wave(*shape, seed=i) - 280 for i in range(SAMPLES)]),
            )
        },
        {
            "time": ("time", 0.5 * np.arange(frames), {"units": "1"}),
            "y": np.arange(height) / 4,
            "x": np.arange(width) / 5,
        },
        {"boundary_conditions": "periodic"},
    )


def _netcdf4(path: Path, shape: Shape) -> None:
    _series(shape).to_netcdf(path)


def _packed(path: Path, shape: Shape) -> None:
    packed = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32767, "zlib": True}
    _series(shape).drop_vars("pressure").to_netcdf(path, encoding={"t2m": packed})


def _classic(path: Path, shape: Shape) -> None:
    _series(shape).to_netcdf(path, format="NETCDF3_64BIT")


def _records(path: Path, shape: Shape) -> None:
    _series(shape).to_netcdf(path, format="NETCDF3_CLASSIC", unlimited_dims=["time"])


def _trajectories(path: Path, shape: Shape) -> None:
    _flow(shape).to_netcdf(path)


def _hdf5(path: Path, arrays: dict[str, Any], attributes: dict[str, dict[str, Any]]) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
        for name, content in attributes.items():
            file.require_group(name).attrs.update(content)


def _groups(path: Path, shape: Shape) -> None:
    """A group of plain HDF5 with scales."""
    flow = _flow(shape)
    places = {name: flow[name].values for name in ("sample", "time", "y", "x")}
    _hdf5(path, {f"flow/{name}": values for name, values in {"u": flow["u"].values, **places}.items()}, {})
    with h5py.File(path, "r+") as file:
        for axis, name in enumerate(places):
            file[f"flow/{name}"].make_scale(name)
            file["flow/u"].dims[axis].attach_scale(file[f"flow/{name}"])


def _pdebench(path: Path, shape: Shape) -> None:
    frames, height, width = shape
    u = _flow(shape)["u"].values
    coordinates = {
        "t-coordinate": 0.1 * np.arange(frames + 1),
        "x-coordinate": np.arange(height) / 4,
        "y-coordinate": np.arange(width) / 5,
    }
    _hdf5(path, {"density": 2 + u, "Vx": u, **coordinates}, {})


def _well(path: Path, shape: Shape) -> None:
    frames, height, width = shape
    u = _flow(shape)["u"].values
    arrays = {
        "dimensions/time": 0.5 * np.arange(frames),
        "dimensions/x": np.arange(height) / 4,
        "dimensions/y": np.arange(width) / 5,
        "t0_fields/buoyancy": u,
        "t1_fields/velocity": np.stack([u, -u], axis=-1),
    }
    _hdf5(
        path, arrays, {"dimensions": {"spatial_dims": ["x", "y"]}, "boundary_conditions/all": {"bc_type": "PERIODIC"}}
    )


def _zarr2(path: Path, shape: Shape) -> None:
    _series(shape).to_zarr(path, zarr_format=2, consolidated=True)


def _zarr3(path: Path, shape: Shape) -> None:
    _flow(shape).to_zarr(path, zarr_format=3, consolidated=False)


def _blosc(path: Path, shape: Shape) -> None:
    blosc = {"compressors": zarr.codecs.BloscCodec()}
    _flow(shape).to_zarr(path, zarr_format=3, consolidated=False, encoding={"u": blosc, "x": blosc})


FORMATS: dict[str, Callable[[Path, Shape], None]] = {
    "netcdf4.nc": _netcdf4,
    "packed.nc": _packed,
    "classic.nc": _classic,
    "records.nc": _records,
    "trajectories.nc": _trajectories,
    "groups.h5": _groups,
    "pdebench.h5": _pdebench,
    "well.hdf5": _well,
    "two.zarr": _zarr2,
    "three.zarr": _zarr3,
    "blosc.zarr": _blosc,
}
"""File name to the function that writes fields of a shape to a path."""


# What stands in a file, whatever its format


@contextmanager
def _arrays(path: Path) -> Iterator[dict[str, Any]]:
    """The arrays of a file by name, open to be changed, of whatever library."""
    if path.is_dir():
        store = zarr.open_group(path, mode="r+", use_consolidated=False)
        yield dict(store.arrays())
        if (path / ".zmetadata").exists():
            zarr.consolidate_metadata(path)
    elif path.read_bytes()[:3] == b"CDF":
        with netCDF4.Dataset(path, "r+") as file:
            file.set_auto_maskandscale(False)
            yield dict(file.variables)
    else:
        with h5py.File(path, "r+") as file:
            found: dict[str, Any] = {}
            file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
            yield found


def _numeric(arrays: Mapping[str, Any]) -> list[Any]:
    """Those that hold numbers, and at least one."""
    return [a for a in arrays.values() if np.dtype(a.dtype).kind in "fiu" and 0 not in a.shape]


def _label(variable: Any, name: str, value: Any) -> None:
    """Set an attribute; what the format has no word for stays as it was."""
    with suppress(TypeError, ValueError, AttributeError, RuntimeError, OSError):
        if isinstance(variable, netCDF4.Variable):
            variable.setncattr(name, value)
        elif isinstance(variable, zarr.Array):
            variable.attrs[name] = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
        else:
            variable.attrs[name] = value


def _attributes_of(variable: Any) -> list[str]:
    return variable.ncattrs() if isinstance(variable, netCDF4.Variable) else list(variable.attrs)


def _fill(variable: Any, values: np.ndarray) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        variable[...] = values.astype(variable.dtype)


def _one(random: np.random.Generator, choices: Any) -> Any:
    choices = list(choices)
    return choices[int(random.integers(len(choices)))]


# Damage to bytes


def _file_of(path: Path, random: np.random.Generator) -> Path:
    """The file itself, or one of a store."""
    return path if path.is_file() else _one(random, sorted(file for file in path.rglob("*") if file.is_file()))


def _on_bytes(change: Callable[[bytearray, np.random.Generator], Any]) -> Callable[[Path, np.random.Generator], None]:
    def mutate(path: Path, random: np.random.Generator) -> None:
        file = _file_of(path, random)
        content = bytearray(file.read_bytes())
        changed = change(content, random) if content else None
        file.write_bytes(content if changed is None else changed)

    return mutate


def _cut(content: bytearray, random: np.random.Generator) -> bytes:
    return bytes(content[: int(random.integers(len(content)))])


def _flip(content: bytearray, random: np.random.Generator, most: int | None = None) -> None:
    for bit in random.integers(8 * min(len(content), most or len(content)), size=random.integers(1, 9)):
        content[bit // 8] ^= 1 << (bit % 8)


def _flip_header(content: bytearray, random: np.random.Generator) -> None:
    _flip(content, random, 1024)


def _set_header(content: bytearray, random: np.random.Generator) -> None:
    """Bytes of the header that say the most or the least."""
    for place in random.integers(min(len(content), 1024), size=random.integers(1, 5)):
        content[place] = _one(random, (0, 1, 0x7F, 0x80, 0xFF))


def _blank(content: bytearray, random: np.random.Generator) -> None:
    start, length = (int(random.integers(len(content))) for _ in range(2))
    content[start : start + length] = bytes(len(content[start : start + length]))


def _scramble(content: bytearray, random: np.random.Generator) -> None:
    start = int(random.integers(len(content)))
    length = len(content[start : start + int(random.integers(1, 512))])
    content[start : start + length] = random.bytes(length)


def _remove(content: bytearray, random: np.random.Generator) -> None:
    start = int(random.integers(len(content)))
    del content[start : start + int(random.integers(1, 64))]


def _repeat(content: bytearray, random: np.random.Generator) -> None:
    start, place = (int(random.integers(len(content))) for _ in range(2))
    content[place:place] = content[start : start + 512]


def _append(content: bytearray, random: np.random.Generator) -> None:
    content += random.bytes(int(random.integers(1, 4096)))


# Damage to the meaning

_ABSURD: tuple[Any, ...] = (
    "x", "", "é☃", " ", 0, -1, 1e308, float("nan"), float("inf"), np.iinfo(np.int64).max,
    np.array([1, 2, 3]), np.array([1e30, -1e30]), np.float32(-999), np.int8(3), "x" * 5000, "a\nb", "[/red] [bold]",
)  # fmt: skip
_ATTRIBUTES = (
    "scale_factor", "add_offset", "_FillValue", "missing_value", "units", "calendar", "axis", "standard_name",
    "long_name", "bounds", "coordinates", "valid_range", "valid_min", "dtype", "_Unsigned", "grid_mapping",
    "ancillary_variables", "CLASS", "NAME", "_Netcdf4Dimid", "_ARRAY_DIMENSIONS", "_Netcdf4Coordinates",
)  # fmt: skip
_UNITS = (
    "fortnights since never", "days since 99999-01-01", "seconds since 1970-13-45", "microseconds since 0000-00-00",
    "months since 2000-01-31", "years since 1850-06-15", "days since", "since", "K", "hours since 2001-02-30", "days",
    "days since -4713-01-01", "seconds since 2000-01-01 00:00:00 +99:99", "hours since 2000-01-01T00:00:00Z", "ns",
    "hours after 2000-01-01", "nanoseconds since 2262-04-11", "days since 1e5-01-01", "weeks since 2000-01-01",
    "months since 9999-12-31", "years since 1-1-1", "month as %Y%m.%f", "day as %Y%m%d.%f",
)  # fmt: skip
_CALENDARS = ("lunar", "julian", "360_day", "noleap", "", "366_day", "none", "proleptic_gregorian", "NOLEAP", "é")


def _attribute(path: Path, random: np.random.Generator) -> None:
    with _arrays(path) as arrays:
        for _ in range(int(random.integers(1, 4))):
            variable = _one(random, arrays.values())
            _label(variable, _one(random, (*_ATTRIBUTES, *_attributes_of(variable))), _one(random, _ABSURD))


def _time_units(path: Path, random: np.random.Generator) -> None:
    with _arrays(path) as arrays:
        times = [variable for name, variable in arrays.items() if name.endswith("time") or name == "t-coordinate"]
        variable = times[0] if times and random.random() < 0.9 else _one(random, arrays.values())
        _label(variable, "units", _one(random, _UNITS))
        if random.random() < 0.4:
            _label(variable, "calendar", _one(random, _CALENDARS))


def _calendar(path: Path, random: np.random.Generator) -> None:
    with _arrays(path) as arrays:
        for variable in arrays.values():
            _label(variable, "calendar", _one(random, _CALENDARS))


def _coordinate(path: Path, random: np.random.Generator) -> None:
    """Times or places that are missing, infinite, huge, repeated, out of order, or all the same."""
    with _arrays(path) as arrays:
        variable = _one(random, [array for array in _numeric(arrays) if len(array.shape) == 1])
        values = np.asarray(variable[...]).astype(float)
        place = int(random.integers(len(values)))
        change = _one(random, ("value", "value", "twice", "shuffled", "reversed", "constant", "jump", "wrapped"))
        if change == "value":
            values[place] = _one(random, (np.nan, np.inf, -np.inf, 1e300, -1e300, 1e18, 0, 2.0**63, -1e9))
        elif change == "twice":
            values[place] = values[place - 1]
        elif change == "shuffled":
            values = random.permutation(values)
        elif change == "reversed":
            values = values[::-1]
        elif change == "constant":
            values[:] = _one(random, (0, np.nan, 1e300, 7))
        elif change == "jump":
            values[place:] += _one(random, (1, 1e6, 1e-9))
        else:
            values *= _one(random, (1e6, 1e300, 1e-300, 0))
        _fill(variable, values)


def _values(path: Path, random: np.random.Generator) -> None:
    """Values of a field that are missing, infinite, huge, tiny, customary fill values, or all the same."""
    with _arrays(path) as arrays:
        variable = _one(random, [array for array in _numeric(arrays) if len(array.shape) > 1])
        values = np.asarray(variable[...]).astype(float)
        wrong = _one(random, (np.nan, np.inf, 1e36, 9.96920996838687e36, 1e20, 3e38, -3e38, 1e-45, 0, 1e8, 1e19))
        share = _one(random, (0, 0.05, 1))
        chosen = random.random(values.shape) < share
        chosen.flat[int(random.integers(values.size))] = True
        values[chosen] = wrong
        _fill(variable, values)


def _shape(path: Path, random: np.random.Generator) -> None:
    """The same file with dimensions of length 0, 1, 2, or a long one."""
    kind = path.name.split("-", 1)[-1]
    frames = _one(random, (0, 1, 2, 5, FRAMES, FRAMES, 100))
    cells = [_one(random, (0, 1, 1, 2, 5, 64)) if random.random() < 0.7 else size for size in (HEIGHT, WIDTH)]
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    try:
        FORMATS[kind](path, (frames, *cells))
    except RuntimeError:  # a classic file has no second dimension of length 0
        FORMATS[kind](path, (frames, *(size or 1 for size in cells)))


def _claim(path: Path, random: np.random.Generator) -> None:
    """A dimension that is said to be huge, with nothing behind it."""
    size = int(_one(random, (10**6, 2**31 - 1, 2**32 - 1, 10**12, 2**62)))
    if path.is_dir():
        named = [file for file in path.rglob("*") if file.name in (".zarray", "zarr.json", ".zmetadata")]
        file = _one(random, sorted(named))
        length = _one(random, (FRAMES, HEIGHT, WIDTH, SAMPLES))
        file.write_text(file.read_text().replace(f"{length},", f"{size},", int(random.integers(1, 6))))
        return
    content = path.read_bytes()
    if content[:3] == b"CDF":
        length = _one(random, (FRAMES, HEIGHT, WIDTH))
        places = [i for i in range(0, min(len(content), 1024), 4) if content[i : i + 4] == struct.pack(">I", length)]
        if places:
            place = _one(random, places)
            path.write_bytes(content[:place] + struct.pack(">I", size % 2**32) + content[place + 4 :])
        return
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = _one(random, names)
        shape, kind, labels = file[name].shape, file[name].dtype, dict(file[name].attrs)
        if not shape:
            return
        axis = int(random.integers(len(shape)))
        del file[name]
        huge = (*shape[:axis], size, *shape[axis + 1 :])
        with suppress(ValueError, OverflowError, OSError):
            made = file.create_dataset(name, huge, kind, chunks=tuple(min(8, n) or 1 for n in huge))
            for key, value in labels.items():
                if key not in ("DIMENSION_LIST", "REFERENCE_LIST"):
                    _label(made, key, value)


def _lost(path: Path, random: np.random.Generator) -> None:
    """An array or a file of a store is gone."""
    if path.is_dir():
        _file_of(path, random).unlink()
    elif path.read_bytes()[:3] != b"CDF":
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            del file[_one(random, names)]


def _kind(path: Path, random: np.random.Generator) -> None:
    """An array of HDF5 that holds something else: text, pairs, references, nothing, a scalar."""
    if path.is_dir() or path.read_bytes()[:3] == b"CDF":
        return _attribute(path, random)
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = _one(random, names)
        shape = file[name].shape
        del file[name]
        kind = _one(
            random,
            ("S3", h5py.string_dtype(), "c16", [("a", "f4"), ("b", "i2")], h5py.ref_dtype, "f2", "u8", "?", "empty", "scalar", "group"),
        )  # fmt: skip
        if kind == "empty":
            file[name] = h5py.Empty("f4")
        elif kind == "scalar":
            file[name] = 1.0
        elif kind == "group":
            file.create_group(name)
        else:
            file.create_dataset(name, shape, kind)
    return None


Mutation = Callable[[Path, np.random.Generator], None]
BYTES: dict[str, Mutation] = {
    "cut short": _on_bytes(_cut),
    "flipped bits": _on_bytes(_flip),
    "flipped bits of the header": _on_bytes(_flip_header),
    "set bytes of the header": _on_bytes(_set_header),
    "blanked": _on_bytes(_blank),
    "scrambled": _on_bytes(_scramble),
    "lost bytes": _on_bytes(_remove),
    "repeated bytes": _on_bytes(_repeat),
    "bytes at the end": _on_bytes(_append),
}
"""What disks and networks do."""
MEANINGS: dict[str, Mutation] = {
    "attributes": _attribute,
    "units of time": _time_units,
    "calendar": _calendar,
    "coordinate": _coordinate,
    "values": _values,
    "shape": _shape,
    "huge claim": _claim,
    "lost array": _lost,
    "kind of values": _kind,
}
"""What programs and people do."""
