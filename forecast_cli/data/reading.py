"""Calls into the libraries that read files, which trust what stands in them.

Over a file that is damaged, xarray, netCDF4, h5py and zarr raise whatever they stumble upon: an attribute of the wrong kind
is a TypeError, a lost dimension an AttributeError, a chunk cut short a RuntimeError, an OSError or a ValueError.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from forecast_cli.errors import DataError, ForecastError, first_line


@contextmanager
def reading(what: str, advice: str = "") -> Iterator[None]:
    """Inside, whatever a library raises is a DataError: `what` it was, the library's reason, and advice.

    For calls into libraries alone: a fault of our own would pass for one of the file.
    """
    try:
        with np.errstate(all="ignore"):  # packed values that overflow are infinite, and refused as such
            yield
    except (ForecastError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{what} ({first_line(error)}).{advice and ' '}{advice}") from error
