"""Writing Zarr in the same way as NetCDF: a store under its final name is always whole."""

import shutil
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from forecast_cli.data.output import FieldType, Writer
from forecast_cli.errors import OutputError


class ZarrWriter(Writer):
    """Writes a Zarr store of format 2, which most readers know, with consolidated metadata.

    Raises OutputError, beside the usual reasons, where zarr is not installed.
    """

    def _open(self) -> None:
        try:
            import zarr
        except ImportError as error:
            raise OutputError(
                f"{self.path}: writing Zarr needs a package more: pip install 'forecast_cli[zarr]'."
            ) from error
        self._discard()
        self._group = zarr.open_group(self.partial, mode="w", zarr_format=2)

    def _set_attributes(self, values: Mapping[str, Any]) -> None:
        self._group.attrs.update({key: _plain(value) for key, value in values.items()})

    def _put(
        self, name: str, sizes: Mapping[str, int], attributes: Mapping[str, Any], values: np.ndarray, fill_value: Any
    ) -> None:
        if values.dtype.kind in "OS":
            values = values.astype(str)
        array = self._group.create_array(
            name, shape=values.shape, dtype=values.dtype, fill_value=fill_value, chunks=values.shape or "auto"
        )
        array[...] = values
        self._describe(name, sizes, attributes)

    def _create(
        self,
        name: str,
        sizes: Mapping[str, int],
        attributes: Mapping[str, Any],
        chunks: tuple[int, ...] | None,
        dtype: FieldType,
    ) -> None:
        shape, missing = tuple(sizes.values()), np.dtype(dtype).type(np.nan)
        self._group.create_array(name, shape=shape, dtype=dtype, chunks=chunks or shape, fill_value=missing)
        self._describe(name, sizes, attributes)

    def _describe(self, name: str, sizes: Mapping[str, int], attributes: Mapping[str, Any]) -> None:
        plain = {key: _plain(value) for key, value in attributes.items()}
        self._group[name].attrs.update(plain | {"_ARRAY_DIMENSIONS": list(sizes)})

    def _fill(self, name: str, index: tuple[Any, ...], values: np.ndarray) -> None:
        array: Any = self._group[name]
        array[index if index else ...] = values

    def _flush(self) -> None:
        """Nothing waits: every block is in a file of its own."""

    def _close(self, *, complete: bool) -> None:
        if not complete:
            return
        import zarr

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Consolidated metadata")
            zarr.consolidate_metadata(self._group.store)
        # A folder cannot replace another at once: the old one steps aside, and comes back if the new one cannot follow.
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
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink()

    def _discard(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)


def _plain(value: Any) -> Any:
    """A number of numpy as one that JSON knows."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
