"""Calls into the libraries that read files, which trust what stands in them.

Over a file that is damaged, xarray, netCDF4, h5py and zarr raise whatever they stumble upon: an attribute of the wrong kind
is a TypeError, a lost dimension an AttributeError, a chunk cut short a RuntimeError, an OSError or a ValueError.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from forecast_cli.errors import DataError, ForecastError, broken_library, first_line


@contextmanager
def reading(what: str, advice: str = "") -> Iterator[None]:
    """Inside, whatever a library raises is a DataError: `what` it was, the library's reason, and advice.

    For calls into libraries alone: a fault of our own would pass for one of the file. An installation at fault
    (`is_software_fault`) passes as it is.
    """
    try:
        with np.errstate(all="ignore"):  # packed values that overflow are infinite, and refused as such
            yield
    except (ForecastError, MemoryError):
        raise
    except Exception as error:
        if is_software_fault(error):
            raise
        raise DataError(f"{what} ({first_line(error)}).{advice and ' '}{advice}") from error


def is_software_fault(error: Exception) -> bool:
    """Tell a library that cannot be used, or a name that no code defines, from a fault of the file."""
    return type(error) is NameError or broken_library(error) is not None


def refuse_odd_floats(path: Path) -> None:
    """DataError where an HDF5 file holds numbers in half or quadruple precision: NetCDF's library reads beyond them and crashes."""

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and item.dtype.itemsize not in (4, 8):
            raise DataError(
                f"{path}: '/{name}' has numbers of {8 * item.dtype.itemsize} bits, NetCDF has 32 and 64. Store it as float32."
            )

    with reading(f"{path}: damaged or truncated"), h5py.File(path) as file:
        file.visititems(visit)
