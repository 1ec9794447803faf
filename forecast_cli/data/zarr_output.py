"""Writing Zarr in the same way as NetCDF: a store under its final name is always whole."""

import itertools
import shutil
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from forecast_cli.data.atomic import sync_file, sync_folder
from forecast_cli.data.output import FieldType, Writer, require_chunks, require_shape
from forecast_cli.errors import OutputError


class ZarrWriter(Writer):
    """Writes a Zarr store of format 2, which most readers know, with consolidated metadata.

    Raises OutputError, beside the usual reasons, where zarr is not installed.
    """

    def _open(self) -> None:
        try:
            import zarr
        except ModuleNotFoundError as error:
            if error.name != "zarr":
                raise
            raise OutputError(
                f"{self.path}: writing Zarr needs a package more: pip install 'forecast_cli[zarr]'."
            ) from error
        self._discard()
        self._group = zarr.open_group(self.partial, mode="w", zarr_format=2)
        self._unsynced: set[Path] = set()

    def _set_attributes(self, values: Mapping[str, Any]) -> None:
        self._group.attrs.update({key: _plain(value) for key, value in values.items()})

    def _put(
        self, name: str, sizes: Mapping[str, int], attributes: Mapping[str, Any], values: np.ndarray, fill_value: Any
    ) -> None:
        if values.dtype.kind in "OS":
            values = values.astype(str)
        self._group.create_array(
            name, shape=values.shape, dtype=values.dtype, fill_value=fill_value, chunks=values.shape or "auto"
        )
        self._fill(name, (), values)
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
        self._unsynced.update(_fill(self.partial, self._group, name, index, values))

    def _flush(self) -> None:
        _sync(self._unsynced)
        self._unsynced.clear()

    def _close(self, *, complete: bool) -> None:
        if complete:
            _consolidate(self._group)
            self._unsynced.update(_metadata(self.partial))
            self._flush()

    def _check(self, shapes: Mapping[str, tuple[int, ...]], whole: Collection[str]) -> None:
        _check(self.partial, shapes, whole)

    def _discard(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)


class ZarrFilling:
    """Fills a store (`data.filling`): every chunk is a file that is replaced whole, so that nothing has to be undone."""

    def __init__(self, path: Path, changes: Mapping[str, np.ndarray] | None = None) -> None:
        import zarr

        self.path = path
        if changes is not None:
            for left in path.glob("**/*.partial"):  # what zarr was about to write when it was killed
                left.unlink()
        self._group = zarr.open_group(path, mode="r+", zarr_format=2, use_consolidated=False)
        self._shapes = {name: array.shape for name, array in self._group.arrays()}
        self._unsynced: set[Path] = set()

    def fill(self, name: str, index: tuple[Any, ...], values: np.ndarray) -> None:
        self._unsynced.update(_fill(self.path, self._group, name, index, values))

    def save(self) -> Mapping[str, np.ndarray]:
        _sync(self._unsynced)
        self._unsynced.clear()
        return {}

    def keep(self, changes: Mapping[str, np.ndarray]) -> None:
        """Everything is in place already."""

    def complete(self, attributes: Mapping[str, str]) -> Mapping[str, np.ndarray]:
        self._group.attrs.update(attributes)
        _consolidate(self._group)
        self._unsynced.update(_metadata(self.path))
        return self.save()

    def check(self, whole: Collection[str]) -> None:
        _check(self.path, self._shapes, whole)

    def close(self) -> None:
        """Nothing is open."""


def _fill(store: Path, group: Any, name: str, index: tuple[Any, ...], values: np.ndarray) -> Iterator[Path]:
    """Write `name[index]`, also chunks without any value, so that all can be counted. Gives the files that hold it."""
    import zarr

    with zarr.config.set({"array.write_empty_chunks": True}):
        array = group[name]
        array[index if index else ...] = values
    return _chunk_files(store, array, index)


def _chunk_files(store: Path, array: Any, index: tuple[Any, ...]) -> Iterator[Path]:
    """The files of the chunks that `array[index]` touches, for an index of slices and whole numbers."""
    touched = []
    for axis, (size, chunk) in enumerate(zip(array.shape, array.chunks, strict=True)):
        part = index[axis] if axis < len(index) else slice(None)
        start, stop, _ = (part if isinstance(part, slice) else slice(part, part + 1)).indices(size)
        touched.append(range(start // chunk, -(-stop // chunk)))
    keys = itertools.product(*touched)
    return (store / array.name.strip("/") / (".".join(map(str, key)) or "0") for key in keys)


def _sync(files: Iterable[Path]) -> None:
    """Return when some files of a store are on disk."""
    files = list(files)
    for path in files:
        sync_file(path)
    for folder in {path.parent for path in files}:
        sync_folder(folder)


def _metadata(store: Path) -> list[Path]:
    """The files of a store that hold no chunk."""
    return [*store.glob(".z*"), *store.glob("*/.z*")]


def _consolidate(group: Any) -> None:
    """Gather the metadata of a store in one file."""
    import zarr

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata")
        zarr.consolidate_metadata(group.store)


def _check(store: Path, shapes: Mapping[str, tuple[int, ...]], whole: Collection[str]) -> None:
    """OutputError unless a store holds arrays of these shapes, whose last cells can be read, and all chunks of `whole`."""
    import zarr

    group = zarr.open_group(store, mode="r")
    for name, shape in shapes.items():
        array: Any = group.get(name)
        require_shape(store, name, None if array is None else array.shape, shape)
        if array.size:
            array[(-1,) * len(shape)]
        if name in whole:
            found = sum(not entry.name.startswith(".") for entry in (store / name).iterdir())
            require_chunks(store, name, found, shape, array.chunks)


def _plain(value: Any) -> Any:
    """A number of numpy as one that JSON knows."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value
