"""Writing NetCDF (or Zarr) so that a file under its final name is always whole.

A `Writer` writes beside the final name (`data.atomic`), syncs block by block, and takes the name only when everything
is on disk and was found whole there. A failure leaves neither a final file nor a partial one.
"""

import json
import math
import shlex
import sys
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import h5py
import netCDF4
import numpy as np
import xarray as xr

from forecast_cli import __version__
from forecast_cli.data.atomic import remove_stale, settle, sync_file, take_name, temporary, write_atomically, writing
from forecast_cli.data.missing import RANGE_ATTRIBUTES
from forecast_cli.data.naming import translated
from forecast_cli.errors import OutputError, printable

__all__ = [
    "FieldType",
    "NetCDFWriter",
    "Writer",
    "open_writer",
    "provenance",
    "refuse_overwrite",
    "require_folder_name",
    "require_writable",
    "write_atomically",
    "write_dataset",
    "writer_of",
    "writing",
]

FieldType = Literal["f4", "f8"]


def refuse_overwrite(path: Path, overwrite: bool) -> None:
    """Raise OutputError if `path` exists and may not be replaced, cannot be a name, or has no folder."""
    require_name(path)
    with writing(path):
        if path.is_dir() and not _is_store(path):
            raise OutputError(f"{path} is a folder; expected a file name.")
        if path.exists() and not path.is_dir() and (path.suffix == ".zarr" or not path.is_file()):
            expected = "a Zarr store, which is a folder" if path.is_file() else "a file or a new name"
            raise OutputError(f"{path} exists and is {_kind(path)}; expected {expected}. Choose another name.")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists. Choose another name, or give --overwrite to replace it.")
        _require_folders_above(path)
        if not path.absolute().parent.is_dir():
            raise OutputError(f"{path}: its folder does not exist. Create it first: mkdir -p {path.absolute().parent}")


def require_name(path: Path) -> None:
    """OutputError for a name that is not UTF-8: the NetCDF library cannot open it, and no configuration can hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise OutputError(f"{path}: the name is not valid UTF-8. Choose another name.") from error


def require_folder_name(path: Path) -> None:
    """Raise OutputError if `path`, which shall be a run directory, or a part of it is a file."""
    with writing(path):
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} exists and is {_kind(path)}, not a run directory. Choose another name.")
        _require_folders_above(path)


def _require_folders_above(path: Path) -> None:
    """Raise OutputError if a part of a path that shall be a folder is a file."""
    if file := next((part for part in path.absolute().parents if part.exists() and not part.is_dir()), None):
        raise OutputError(f"{path}: {file} is {_kind(file)}, not a folder. Choose another name.")


def _kind(path: Path) -> str:
    return "a file" if path.is_file() else "a device or a pipe"


def require_writable(path: Path) -> None:
    """OutputError where a file cannot be made beside `path`: better known before a long computation than after it."""
    probe = temporary(path)
    with writing(path):
        probe.touch()
        probe.unlink()


def _is_store(path: Path) -> bool:
    """Whether a folder is a Zarr store, and is asked for as one."""
    return path.suffix == ".zarr" and any((path / name).exists() for name in (".zgroup", "zarr.json"))


def provenance() -> dict[str, str]:
    """Global attributes that say what made a file."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    command = printable(shlex.join(["forecast", *sys.argv[1:]]))
    return {"Conventions": "CF-1.11", "source": f"forecast_cli {__version__}", "history": f"{now} {command}"}


def encodable(value: Any) -> Any:
    """Text with the bytes of names that are not UTF-8 written as escapes; other values as they are."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


class Writer(ABC):
    """A file in the making; use it as a context manager. It takes its name when everything is on disk.

    names: our names to those in the file, where they differ (`naming.names_of`).
    Raises OutputError where the disk, the folder or the library refuses.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, names: Mapping[str, str] | None = None) -> None:
        settle(path)
        refuse_overwrite(path, overwrite)
        self.path, self.names = path, names or {}
        self.partial = temporary(path)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._filled: Counter[str] = Counter()

    def __enter__(self) -> Self:
        try:
            with writing(self.path):
                remove_stale(self.path)
                self._open()
            self.attributes(provenance())
            if self.names:
                self.attributes({"forecast_names": json.dumps(dict(self.names))})
        except BaseException:
            self._discard()
            raise
        return self

    def attributes(self, values: Mapping[str, Any]) -> None:
        """Set global attributes."""
        with writing(self.path):
            self._set_attributes({key: encodable(value) for key, value in values.items()})

    def coordinate(self, name: str, variable: xr.Variable) -> None:
        """Write a coordinate as xarray holds it (datetimes and cftime included), creating its dimensions."""
        encoded = _encoded(variable, name)
        attributes = self._described(encoded.attrs)
        fill_value = attributes.pop("_FillValue", None)
        values = np.asarray(encoded.values)
        values = values.astype(values.dtype.newbyteorder("="))  # netCDF4 complains of an order that is spelled out
        if values.dtype.kind == "f" and not np.isnan(values).any():
            fill_value = None  # CF allows none on a coordinate, and xarray sets one on every float
        sizes = {translated(str(dimension), self.names): size for dimension, size in encoded.sizes.items()}
        with writing(self.path):
            self._put(translated(name, self.names), sizes, attributes, values, fill_value)
        self._shapes[translated(name, self.names)] = values.shape

    def field(
        self,
        name: str,
        dimensions: Mapping[str, int],
        attributes: Mapping[str, Any],
        *,
        chunks: tuple[int, ...] | None = None,
        dtype: FieldType = "f4",
    ) -> None:
        """Create a variable to be filled block by block; missing dimensions are created."""
        sizes = {translated(dimension, self.names): size for dimension, size in dimensions.items()}
        with writing(self.path):
            self._create(translated(name, self.names), sizes, self._described(attributes), chunks, dtype)
        self._shapes[translated(name, self.names)] = tuple(sizes.values())

    def write(self, name: str, index: tuple[Any, ...], values: np.ndarray) -> None:
        """Fill `name[index]`, each place once; NaN becomes the fill value."""
        with writing(self.path):
            self._fill(translated(name, self.names), index, values)
        self._filled[translated(name, self.names)] += values.size

    def sync(self) -> None:
        """Hand what is written so far to the disk."""
        with writing(self.path):
            self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with writing(self.path):
                self._close(complete=kind is None)
                if kind is None:
                    whole = {name for name, cells in self._filled.items() if cells == math.prod(self._shapes[name])}
                    self._check(self._shapes, whole)
                    take_name(self.partial, self.path)
        except OutputError:
            if kind is None:
                raise
        finally:
            self._discard()

    def _described(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes whose references to other variables follow their names."""
        found = dict(attributes)
        for key in {"coordinates", "bounds"} & found.keys():
            found[key] = " ".join(translated(name, self.names) for name in str(found[key]).split())
        return found

    @abstractmethod
    def _open(self) -> None:
        """Start the partial file."""

    @abstractmethod
    def _set_attributes(self, values: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def _put(
        self, name: str, sizes: Mapping[str, int], attributes: Mapping[str, Any], values: np.ndarray, fill_value: Any
    ) -> None:
        """Write a variable whole."""

    @abstractmethod
    def _create(
        self,
        name: str,
        sizes: Mapping[str, int],
        attributes: Mapping[str, Any],
        chunks: tuple[int, ...] | None,
        dtype: FieldType,
    ) -> None:
        """Make room for a field."""

    @abstractmethod
    def _fill(self, name: str, index: tuple[Any, ...], values: np.ndarray) -> None: ...

    @abstractmethod
    def _flush(self) -> None: ...

    @abstractmethod
    def _close(self, *, complete: bool) -> None:
        """Close the partial file; if it is complete, return when it is on disk."""

    @abstractmethod
    def _check(self, shapes: Mapping[str, tuple[int, ...]], whole: Collection[str]) -> None:
        """Reopen the partial file; OutputError unless it holds these variables, and all of those that are `whole`."""

    @abstractmethod
    def _discard(self) -> None:
        """Remove the partial file if there still is one."""


def _encoded(variable: xr.Variable, name: str) -> xr.Variable:
    """The variable as CF stores it, packed as the source was if that keeps its values."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of values that a packing does not keep
        encoded = xr.conventions.encode_cf_variable(variable, name=name)
        if variable.dtype.kind != "f" or _keeps(encoded, variable, name):
            return encoded
    plain = variable.copy(deep=False)
    plain.encoding = {}
    plain.attrs = {key: value for key, value in variable.attrs.items() if key not in RANGE_ATTRIBUTES}
    return xr.conventions.encode_cf_variable(plain, name=name)


def _keeps(encoded: xr.Variable, variable: xr.Variable, name: str) -> bool:
    """Check whether an encoded variable decodes to its values, to a hundredth of a step of its packing."""
    step = abs(float(encoded.attrs.get("scale_factor", 0)))
    read = xr.conventions.decode_cf_variable(name, encoded, decode_times=False)
    return np.allclose(read.values, variable.values, rtol=1e-6, atol=step / 100, equal_nan=True)


class NetCDFWriter(Writer):
    """Writes NetCDF-4, fields compressed."""

    def _open(self) -> None:
        self._file = netCDF4.Dataset(self.partial, "w", format="NETCDF4")

    def _set_attributes(self, values: Mapping[str, Any]) -> None:
        self._file.setncatts(dict(values))

    def _put(
        self, name: str, sizes: Mapping[str, int], attributes: Mapping[str, Any], values: np.ndarray, fill_value: Any
    ) -> None:
        if values.dtype.kind in "OUS":
            values = values.astype(object)
        self._dimensions(sizes)
        datatype = str if values.dtype == object else values.dtype
        target = self._file.createVariable(name, datatype, tuple(sizes), fill_value=fill_value)
        target.setncatts(dict(attributes))
        target.set_auto_maskandscale(False)  # the values are packed
        target[...] = values

    def _create(
        self,
        name: str,
        sizes: Mapping[str, int],
        attributes: Mapping[str, Any],
        chunks: tuple[int, ...] | None,
        dtype: FieldType,
    ) -> None:
        self._dimensions(sizes)
        fill_value = np.dtype(dtype).type(netCDF4.default_fillvals[dtype])
        packing: dict[str, Any] = {"chunksizes": chunks, "zlib": True, "complevel": 1, "shuffle": True}
        target = self._file.createVariable(name, dtype, tuple(sizes), fill_value=fill_value, **packing)
        target.setncatts(dict(attributes))

    def _dimensions(self, sizes: Mapping[str, int]) -> None:
        for dimension, size in sizes.items():
            if dimension not in self._file.dimensions:
                self._file.createDimension(dimension, size)

    def _fill(self, name: str, index: tuple[Any, ...], values: np.ndarray) -> None:
        target = self._file.variables[name]
        missing = np.isnan(values)
        target[index] = np.ma.masked_array(values, missing) if missing.any() else values

    def _flush(self) -> None:
        self._file.sync()

    def _close(self, *, complete: bool) -> None:
        self._file.close()
        if complete:
            sync_file(self.partial)

    def _check(self, shapes: Mapping[str, tuple[int, ...]], whole: Collection[str]) -> None:
        check_netcdf(self.partial, shapes, whole)

    def _discard(self) -> None:
        with suppress(OSError):  # a read-only disk refuses this, too
            self.partial.unlink(missing_ok=True)


def check_netcdf(path: Path, shapes: Mapping[str, tuple[int, ...]], whole: Collection[str]) -> None:
    """OutputError unless a file holds variables of these shapes, whose last cells can be read, and all chunks of `whole`."""
    with h5py.File(path, locking=False) as file:
        for name, shape in shapes.items():
            # So NetCDF calls a variable in HDF5 that has the name of a dimension without being its coordinate.
            data = file.get(name if name in file else f"_nc4_non_coord_{name}")
            require_shape(path, name, None if data is None else data.shape, shape)
            if data.size:
                data[(-1,) * data.ndim]
            if name in whole and data.chunks:
                require_chunks(path, name, data.id.get_num_chunks(), shape, data.chunks)


def require_shape(path: Path, name: str, found: tuple[int, ...] | None, expected: tuple[int, ...]) -> None:
    """OutputError unless a variable that was written is found again, with its shape."""
    if found != expected:
        raise OutputError(f"{path}: '{name}' was written with shape {expected}, but is read back with {found}.")


def require_chunks(path: Path, name: str, found: int, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    """OutputError unless a variable that was written in full has all its chunks."""
    expected = math.prod(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))
    if found != expected:
        raise OutputError(f"{path}: {found} of {expected} chunks of '{name}' are on the disk.")


def writer_of(path: Path) -> type[Writer]:
    """What writes `path`: Zarr for names that end in .zarr, else NetCDF."""
    if path.suffix == ".zarr":
        from forecast_cli.data.zarr_output import ZarrWriter

        return ZarrWriter
    return NetCDFWriter


def open_writer(path: Path, *, overwrite: bool = False, names: Mapping[str, str] | None = None) -> Writer:
    """A writer of Zarr for names that end in .zarr, else of NetCDF."""
    return writer_of(path)(path, overwrite=overwrite, names=names)


def write_dataset(dataset: xr.Dataset, path: Path, *, overwrite: bool = False) -> None:
    """Write a small dataset whole, with the attributes of `provenance`."""
    with open_writer(path, overwrite=overwrite) as file:
        file.attributes(dataset.attrs)
        for name, variable in dataset.variables.items():
            file.coordinate(str(name), variable)
