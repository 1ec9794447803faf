"""Uniform grids of cells, in one or two dimensions."""

from dataclasses import dataclass

import numpy as np

from forecast_cli.domain import Axis, Domain
from forecast_cli.errors import DataError


@dataclass(frozen=True)
class Grid:
    """Cells along (x,) or (y, x), evenly spaced and ascending.

    The last axis is the width of a state (batch, channel, height, width), the one before it the height.
    """

    axes: tuple[Axis, ...]

    @classmethod
    def uniform(cls, cells: tuple[int, ...], extent: tuple[tuple[float, float], ...], *, units: str = "1") -> "Grid":
        """A grid that fills `extent`: for each axis the places of the first and of the last face."""
        axes = []
        for name, size, (lower, upper) in zip("yx"[-len(cells) :], cells, extent, strict=True):
            spacing = (upper - lower) / size
            axes.append(Axis(name, size, units, lower + spacing / 2, spacing))
        return cls(tuple(axes))

    @classmethod
    def of(cls, domain: Domain, source: str) -> "Grid":
        """The grid of a data set. Raises DataError, which names the axis, where it is not uniform and ascending."""
        axes = tuple(axis for axis in (domain.y, domain.x) if axis)
        if domain.grid == "latitude-longitude":
            raise DataError(
                f"{source} needs a grid in units of length, but that of the data is latitude-longitude. "
                "Project the data first, for example with cdo remapbil or xarray's interp."
            )
        for axis in axes:
            if axis.spacing is None or axis.first is None:
                raise DataError(
                    f"{source} needs an evenly spaced grid, but '{axis.name}' has no evenly spaced coordinate. "
                    "Interpolate the data to even spacing, or give the dimension its coordinate."
                )
            if axis.spacing <= 0:
                raise DataError(
                    f"{source} needs ascending coordinates, but '{axis.name}' descends (spacing {axis.spacing:g}). "
                    f"Turn the data round: ncpdq -a -{axis.name} IN OUT."
                )
        return cls(axes)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)"""
        return (1, self.axes[0].size) if len(self.axes) == 1 else (self.axes[0].size, self.axes[1].size)

    @property
    def spacing(self) -> tuple[float, ...]:
        """The distance between cell centres along each axis, in its units."""
        return tuple(axis.spacing or 0.0 for axis in self.axes)

    @property
    def dims(self) -> tuple[int, ...]:
        """The dimension of a state that belongs to each axis."""
        return tuple(range(-len(self.axes), 0))

    @property
    def cell(self) -> float:
        """The length or area of a cell."""
        return float(np.prod(self.spacing))

    def centres(self) -> tuple[np.ndarray, ...]:
        """Cell centres along each axis, shaped to broadcast over (height, width)."""
        found = []
        for axis, dim in zip(self.axes, self.dims, strict=True):
            places = (axis.first or 0.0) + (axis.spacing or 0.0) * np.arange(axis.size)
            found.append(places.reshape((-1, 1) if dim == -2 else (1, -1)))
        return tuple(found)
