"""A variable of several files as one, of which no more is read than is asked for.

xarray would join by dask, which reads a whole file for a single frame of it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing


def joined(parts: Sequence[xr.Variable], along: str) -> xr.Variable:
    """Variables one after the other along a dimension, which becomes the first one where they do not have it.

    Attributes and encoding are those of the first. Raises ValueError where the other dimensions differ.
    """
    first = parts[0]
    same = {name: size for name, size in first.sizes.items() if name != along}
    for part in parts:
        there = {name: size for name, size in part.sizes.items() if name != along}
        if there != same:
            raise ValueError(f"one has {same}, another {there}")
    array = _Joined([part.transpose(*first.dims) for part in parts], along)
    dims = first.dims if along in first.dims else (along, *first.dims)
    return xr.Variable(dims, indexing.LazilyIndexedArray(array), first.attrs, first.encoding)


class _Joined(BackendArray):
    """The values of `joined`, as xarray asks for them: by numbers, slices and lists of positions."""

    def __init__(self, parts: Sequence[xr.Variable], along: str) -> None:
        first = parts[0]
        self.parts, self.stacks = parts, along not in first.dims
        self.axis = 0 if self.stacks else first.dims.index(along)
        self.edges = np.cumsum([0, *(1 if self.stacks else part.sizes[along] for part in parts)])
        rest = first.shape if self.stacks else (*first.shape[: self.axis], *first.shape[self.axis + 1 :])
        self.shape = (*rest[: self.axis], int(self.edges[-1]), *rest[self.axis :])
        self.dtype = np.result_type(*(part.dtype for part in parts))

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        wanted = np.arange(self.shape[self.axis])[key[self.axis]]
        before, after = key[: self.axis], key[self.axis + 1 :]
        pieces = []
        for part, here in self._owners(np.atleast_1d(wanted)):
            if self.stacks:
                pieces.append(self.parts[part][after].values[None][here])
            else:
                pieces.append(self.parts[part][(*before, here, *after)].values)
        axis = sum(not isinstance(one, int | np.integer) for one in before)
        found = np.concatenate(pieces, axis).astype(self.dtype, copy=False)
        return found if wanted.ndim else found.take(0, axis)

    def _owners(self, wanted: np.ndarray) -> Iterator[tuple[int, Any]]:
        """Which part holds what is wanted, and where: as many positions at once as lie in one part."""
        owners = np.searchsorted(self.edges, wanted, "right") - 1
        changes = np.flatnonzero(np.diff(owners)) + 1
        for run in np.split(np.arange(len(wanted)), changes):
            part = int(owners[run[0]]) if run.size else 0
            here = wanted[run] - self.edges[part]
            even = not run.size or (np.diff(here) == 1).all()
            yield part, slice(int(here[0]), int(here[-1]) + 1) if even and run.size else here
