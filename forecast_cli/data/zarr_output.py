"""Writing Zarr in the same way as NetCDF: a store under its final name is always whole."""

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import xarray as xr

from forecast_cli.data.output import FieldType, provenance, refuse_overwrite, writing
from forecast_cli.errors import OutputError


class ZarrWriter:
    """A Zarr store (format 2, which most readers know) in the making; use it as a context manager.

    It is written as `<name>.partial` and takes its name, with consolidated metadata, at the end.
    Raises OutputError where the disk, the folder or the library refuses, or where zarr is not installed.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        refuse_overwrite(path, overwrite)
        self.path = path
        self.partial = path.with_name(path.name + ".partial")

    def __enter__(self) -> "ZarrWriter":
        try:
            import zarr
        except ImportError as error:
            raise OutputError(
                f"{self.path}: writing Zarr needs a package more: pip install 'forecast_cli[zarr]'."
            ) from error
        with writing(self.path):
            shutil.rmtree(self.partial, ignore_errors=True)
            self._group = zarr.open_group(self.partial, mode="w", zarr_format=2)
        self.attributes(provenance())
        return self

    def attributes(self, values: Mapping[str, Any]) -> None:
        """Set global attributes."""
        with writing(self.path):
            self._group.attrs.update({key: _plain(value) for key, value in values.items()})

    def coordinate(self, name: str, variable: xr.Variable) -> None:
        """Write a coordinate as xarray holds it (datetimes and cftime included)."""
        encoded = xr.conventions.encode_cf_variable(variable, name=name)
        attributes = dict(encoded.attrs)
        fill_value = attributes.pop("_FillValue", None)
        values = np.asarray(encoded.values)
        if values.dtype.kind in "OS":
            values = values.astype(str)
        with writing(self.path):
            array = self._group.create_array(
                name, shape=values.shape, dtype=values.dtype, fill_value=fill_value, chunks=values.shape or "auto"
            )
            array[...] = values
            self._describe(name, attributes, tuple(map(str, encoded.dims)))

    def field(
        self,
        name: str,
        dimensions: Mapping[str, int],
        attributes: Mapping[str, Any],
        *,
        chunks: tuple[int, ...] | None = None,
        dtype: FieldType = "f4",
    ) -> None:
        """Create a variable to be filled block by block."""
        shape = tuple(dimensions.values())
        with writing(self.path):
            self._group.create_array(
                name, shape=shape, dtype=dtype, chunks=chunks or shape, fill_value=np.dtype(dtype).type(np.nan)
            )
            self._describe(name, attributes, tuple(dimensions))

    def _describe(self, name: str, attributes: Mapping[str, Any], dimensions: tuple[str, ...]) -> None:
        plain = {key: _plain(value) for key, value in attributes.items()}
        self._group[name].attrs.update(plain | {"_ARRAY_DIMENSIONS": list(dimensions)})

    def write(self, name: str, index: tuple[Any, ...], values: np.ndarray) -> None:
        """Fill `name[index]`; NaN is the fill value."""
        with writing(self.path):
            array: Any = self._group[name]
            array[index if index else ...] = values

    def sync(self) -> None:
        """Nothing waits: every block is in its own file."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import zarr

        try:
            if kind is None:
                with writing(self.path), warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "Consolidated metadata")
                    zarr.consolidate_metadata(self._group.store)
                    self._take_the_name()
        finally:
            shutil.rmtree(self.partial, ignore_errors=True)

    def _take_the_name(self) -> None:
        """A folder cannot replace another at once: the old one steps aside, and comes back if the new one cannot follow."""
        aside = self.path.with_name(self.path.name + ".replaced")
        if not self.path.exists():
            self.partial.rename(self.path)
            return
        self.path.rename(aside)
        try:
            self.partial.rename(self.path)
        except OSError:
            aside.rename(self.path)
            raise
        shutil.rmtree(aside) if aside.is_dir() else aside.unlink()


def _plain(value: Any) -> Any:
    """A number of numpy as one that JSON knows."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
