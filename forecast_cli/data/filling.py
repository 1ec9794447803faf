"""Filling the fields of a file that is laid out, so that it can be brought back to its last commit.

One class for NetCDF, one for Zarr (`zarr_output.ZarrFilling`), of the same shape: `save` gives the changes since the last
commit, `keep` puts them into the file. Made with the changes that were saved last, either begins where the file was then.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from forecast_cli.data.committed import CommittedFile
from forecast_cli.data.output import check_netcdf

Arrays = Mapping[str, np.ndarray]


class Filling(Protocol):
    """A file being filled."""

    def fill(self, name: str, index: tuple[Any, ...], values: np.ndarray) -> None:
        """Fill `name[index]`; NaN becomes the fill value."""

    def save(self) -> Arrays:
        """Return, when all that was written is on disk, what brings the file from the last commit to here."""

    def keep(self, changes: Arrays) -> None:
        """Put the changes into the file: they are saved elsewhere."""

    def complete(self, attributes: Mapping[str, str]) -> Arrays:
        """Set global attributes and close: the last `save`."""

    def check(self, whole: Collection[str]) -> None:
        """Reopen the file; OutputError unless all its variables are there, and `whole` in full."""

    def close(self) -> None:
        """Leave the file as it was when something was last kept."""


class NetCDFFilling:
    """Fills NetCDF-4 through h5py, as netCDF4 writes to no file but its own."""

    def __init__(self, path: Path, changes: Arrays | None = None) -> None:
        self.path = path
        self._bytes = CommittedFile(path, changes)
        self._file = h5py.File(self._bytes, "r+", driver="fileobj")
        self._shapes = {name: data.shape for name, data in self._file.items() if not _is_bare_dimension(data)}

    def fill(self, name: str, index: tuple[Any, ...], values: np.ndarray) -> None:
        data = self._file[name]
        try:
            data[index] = np.where(np.isnan(values), data.fillvalue, values)
        finally:
            self._bytes.require_sound()

    def save(self) -> Arrays:
        self._file.flush()
        return self._bytes.changes()

    def keep(self, changes: Arrays) -> None:
        self._bytes.apply(changes)

    def complete(self, attributes: Mapping[str, str]) -> Arrays:
        for name, text in attributes.items():
            self._file.attrs[name] = np.bytes_(text.encode())
        self._file.close()
        return self._bytes.changes()

    def check(self, whole: Collection[str]) -> None:
        check_netcdf(self.path, self._shapes, whole)

    def close(self) -> None:
        self._bytes.freeze()
        self._file.close()
        self._bytes.close()


def _is_bare_dimension(data: Any) -> bool:
    """Whether NetCDF sees a dimension without variable in what HDF5 takes for a data set."""
    return bytes(data.attrs.get("NAME", b"")).startswith(b"This is a netCDF dimension but not a netCDF variable")
