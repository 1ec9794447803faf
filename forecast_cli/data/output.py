"""Writing NetCDF (or Zarr) so that a file under its final name is always whole.

A `NetCDFWriter` writes to `<name>.partial`, syncs block by block, and takes the final name only when
everything is on disk. A failure leaves neither a final file nor a partial one.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import netCDF4
import numpy as np
import xarray as xr

from forecast_cli import __version__
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


class Writer(Protocol):
    """What `NetCDFWriter` and `ZarrWriter` have in common."""

    def attributes(self, values: Mapping[str, Any]) -> None: ...
    def coordinate(self, name: str, variable: xr.Variable) -> None: ...
    def field(
        self,
        name: str,
        dimensions: Mapping[str, int],
        attributes: Mapping[str, Any],
        *,
        chunks: tuple[int, ...] | None = None,
        dtype: FieldType = "f4",
    ) -> None: ...
    def write(self, name: str, index: tuple[Any, ...], values: np.ndarray) -> None: ...
    def sync(self) -> None: ...


def open_writer(path: Path, *, overwrite: bool = False) -> AbstractContextManager[Writer]:
    """A writer of Zarr for names that end in .zarr, else of NetCDF."""
    if path.suffix == ".zarr":
        from forecast_cli.data.zarr_output import ZarrWriter

        return ZarrWriter(path, overwrite=overwrite)
    return NetCDFWriter(path, overwrite=overwrite)


class NetCDFWriter:
    """A NetCDF-4 file in the making; use it as a context manager.

    Raises OutputError where the disk, the folder or the library refuses.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        refuse_overwrite(path, overwrite)
        self.path = path
        self.partial = path.with_name(path.name + ".partial")

    def __enter__(self) -> "NetCDFWriter":
        try:
            with writing(self.path):
                self._file = netCDF4.Dataset(self.partial, "w", format="NETCDF4")
            self.attributes(provenance())
        except BaseException:
            self.partial.unlink(missing_ok=True)
            raise
        return self

    def attributes(self, values: Mapping[str, Any]) -> None:
        """Set global attributes."""
        with writing(self.path):
            self._file.setncatts(dict(values))

    def coordinate(self, name: str, variable: xr.Variable) -> None:
        """Write a coordinate as xarray holds it (datetimes and cftime included), creating its dimensions."""
        encoded = xr.conventions.encode_cf_variable(variable, name=name)
        attributes = dict(encoded.attrs)
        fill_value = attributes.pop("_FillValue", None)
        values = np.asarray(encoded.values)
        if values.dtype.kind in "OUS":
            values = values.astype(object)
        with writing(self.path):
            for dimension, size in encoded.sizes.items():
                if dimension not in self._file.dimensions:
                    self._file.createDimension(str(dimension), size)
            datatype = str if values.dtype == object else values.dtype
            target = self._file.createVariable(name, datatype, tuple(map(str, encoded.dims)), fill_value=fill_value)
            target.setncatts(attributes)
            target[...] = values

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
        with writing(self.path):
            for dimension, size in dimensions.items():
                if dimension not in self._file.dimensions:
                    self._file.createDimension(dimension, size)
            fill_value = np.dtype(dtype).type(netCDF4.default_fillvals[dtype])
            target = self._file.createVariable(
                name,
                dtype,
                tuple(dimensions),
                chunksizes=chunks,
                zlib=True,
                complevel=1,
                shuffle=True,
                fill_value=fill_value,
            )
            target.setncatts(dict(attributes))

    def write(self, name: str, index: tuple[Any, ...], values: np.ndarray) -> None:
        """Fill `name[index]`; NaN becomes the fill value."""
        with writing(self.path):
            target = self._file.variables[name]
            missing = np.isnan(values)
            target[index] = np.ma.masked_array(values, missing) if missing.any() else values

    def sync(self) -> None:
        """Hand what is written so far to the disk."""
        with writing(self.path):
            self._file.sync()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with writing(self.path):
                self._file.close()
                if kind is None:
                    with self.partial.open("rb") as file:
                        os.fsync(file.fileno())
                    self.partial.replace(self.path)
        except OutputError:
            if kind is None:
                raise
        finally:
            self.partial.unlink(missing_ok=True)


def write_dataset(dataset: xr.Dataset, path: Path, *, overwrite: bool = False) -> None:
    """Write a small dataset whole, with the attributes of `provenance`."""
    with open_writer(path, overwrite=overwrite) as file:
        file.attributes(dataset.attrs)
        for name, variable in dataset.variables.items():
            file.coordinate(str(name), variable)
