"""Writing NetCDF (or Zarr) so that a file under its final name is always whole.

A `Writer` writes to `<name>.partial`, syncs block by block, and takes the final name only when
everything is on disk. A failure leaves neither a final file nor a partial one.
"""

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import netCDF4
import numpy as np
import xarray as xr

from forecast_cli import __version__
from forecast_cli.data.naming import translated
from forecast_cli.errors import OutputError

FieldType = Literal["f4", "f8"]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a full disk or a forbidden folder raises into one line."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutputError(f"{path}: cannot be written ({reason}). Is the disk full or the folder read-only?") from error


def refuse_overwrite(path: Path, overwrite: bool) -> None:
    """Raise OutputError if `path` exists and may not be replaced, or its folder does not exist."""
    if path.is_dir() and not _is_store(path):
        raise OutputError(f"{path} is a folder; expected a file name.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists. Choose another name, or give --overwrite to replace it.")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path}: its folder does not exist. Create it first: mkdir -p {path.absolute().parent}")


def require_writable(path: Path) -> None:
    """OutputError where a file cannot be made beside `path`: better known before a long computation than after it."""
    probe = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with writing(path):
        probe.touch()
        probe.unlink()


def _is_store(path: Path) -> bool:
    """Whether a folder is a Zarr store, and is asked for as one."""
    return path.suffix == ".zarr" and any((path / name).exists() for name in (".zgroup", "zarr.json"))


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, or leave it as it was."""
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def provenance() -> dict[str, str]:
    """Global attributes that say what made a file."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    command = " ".join(["forecast", *sys.argv[1:]])
    return {"Conventions": "CF-1.11", "source": f"forecast_cli {__version__}", "history": f"{now} {command}"}


class Writer(ABC):
    """A file in the making; use it as a context manager. It takes its name when everything is on disk.

    names: our names to those in the file, where they differ (`naming.names_of`).
    Raises OutputError where the disk, the folder or the library refuses.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, names: Mapping[str, str] | None = None) -> None:
        refuse_overwrite(path, overwrite)
        self.path, self.names = path, names or {}
        self.partial = path.with_name(path.name + ".partial")

    def __enter__(self) -> Self:
        try:
            with writing(self.path):
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
            self._set_attributes(values)

    def coordinate(self, name: str, variable: xr.Variable) -> None:
        """Write a coordinate as xarray holds it (datetimes and cftime included), creating its dimensions."""
        encoded = xr.conventions.encode_cf_variable(variable, name=name)
        attributes = self._described(encoded.attrs)
        fill_value = attributes.pop("_FillValue", None)
        values = np.asarray(encoded.values)
        values = values.astype(values.dtype.newbyteorder("="))  # netCDF4 complains of an order that is spelled out
        if values.dtype.kind == "f" and not np.isnan(values).any():
            fill_value = None  # CF allows none on a coordinate, and xarray sets one on every float
        sizes = {translated(str(dimension), self.names): size for dimension, size in encoded.sizes.items()}
        with writing(self.path):
            self._put(translated(name, self.names), sizes, attributes, values, fill_value)

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

    def write(self, name: str, index: tuple[Any, ...], values: np.ndarray) -> None:
        """Fill `name[index]`; NaN becomes the fill value."""
        with writing(self.path):
            self._fill(translated(name, self.names), index, values)

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
        """Close the partial file and, if it is complete, give it its name."""

    @abstractmethod
    def _discard(self) -> None:
        """Remove the partial file if there still is one."""


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
            with self.partial.open("rb") as file:
                os.fsync(file.fileno())
            self.partial.replace(self.path)

    def _discard(self) -> None:
        self.partial.unlink(missing_ok=True)


def open_writer(path: Path, *, overwrite: bool = False, names: Mapping[str, str] | None = None) -> Writer:
    """A writer of Zarr for names that end in .zarr, else of NetCDF."""
    if path.suffix == ".zarr":
        from forecast_cli.data.zarr_output import ZarrWriter

        return ZarrWriter(path, overwrite=overwrite, names=names)
    return NetCDFWriter(path, overwrite=overwrite, names=names)


def write_dataset(dataset: xr.Dataset, path: Path, *, overwrite: bool = False) -> None:
    """Write a small dataset whole, with the attributes of `provenance`."""
    with open_writer(path, overwrite=overwrite) as file:
        file.attributes(dataset.attrs)
        for name, variable in dataset.variables.items():
            file.coordinate(str(name), variable)
