"""Chunks of Zarr stores that are cut short: Blosc gives what happens to stand in memory for the values that are gone."""

from pathlib import Path
from typing import Any

import xarray as xr
from numcodecs import Blosc
from numcodecs.compat import ensure_contiguous_ndarray_like
from numcodecs.registry import register_codec
from zarr.codecs import blosc

_LENGTH = slice(12, 16)
"""Where the header of a chunk says how many bytes it has in all (C-Blosc, "Blosc Header Format")."""


class _WholeBlosc(Blosc):
    """Blosc that does not read beyond the end of a chunk."""

    codec_id = "blosc"

    def decode(self, buf: Any, out: Any = None) -> Any:
        chunk = ensure_contiguous_ndarray_like(buf)
        announced = int.from_bytes(chunk.view("u1")[_LENGTH].tobytes(), "little")
        if chunk.nbytes < announced:
            raise RuntimeError(f"a chunk holds {chunk.nbytes} of its {announced} bytes")
        return super().decode(buf, out)


def open_store(path: Path, **options: Any) -> xr.Dataset:
    """Open a Zarr store lazily; a chunk that is cut short is a RuntimeError when it is read."""
    register_codec(_WholeBlosc)  # of the second format
    blosc.Blosc = _WholeBlosc  # of the third
    return xr.open_zarr(path, chunks=None, **options)
