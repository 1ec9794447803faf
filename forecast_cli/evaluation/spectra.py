"""Power spectra: the variance of a field at each scale, by which a blurred forecast shows.

On a globe the spectrum is along longitude, against the zonal wavenumber; on any other grid it is summed over
directions in rings of equal width, against cycles per unit of the coordinates (per km on latitude-longitude grids,
per cell where the axes have different units or uneven spacing). Every mode but the mean belongs to a ring: the
width of a ring is the wavenumber of the longest wave along the longer side, and the last ring holds the corner
modes. Power times `step` sums to a variance, for each field exactly:

- on a globe, to the mean over latitudes, by area, of the variance along each circle about the circle's mean;
- on a grid that closes on itself in every direction, to the variance over cells, all of equal weight;
- with open directions, to the mean square of what is left of the field without its mean and linear trend,
  weighted by the square of a Hann window whose mean square is 1. Over many fields of one kind with waves shorter
  than the grid, this is their variance.

A field with missing values has no spectrum: its power is NaN.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from forecast_cli.data.fields import Fields
from forecast_cli.data.grid import cell_size
from forecast_cli.errors import DataError
from forecast_cli.metrics import cell_weights


@dataclass(frozen=True, eq=False)
class Rings:
    """The wavenumbers of a grid.

    Parameters
    ----------
    shape : (height, width)
    spacing : (float, float)
        Distance between cells along y and x [unit of the coordinates].
    periodic : (bool, bool)
        Directions that close on themselves.
    units : str
        Unit of the wavenumbers.
    zonal : bool
        Whether the spectrum is along x alone, averaged over rows.
    row_weights : array, shape (height,)
        Share of each row in the mean of zonal spectra; they sum to 1.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    periodic: tuple[bool, bool]
    units: str
    zonal: bool
    row_weights: np.ndarray

    @cached_property
    def step(self) -> float:
        """Width of a ring: the wavenumber of the longest wave along the longer side."""
        if self.zonal:
            return 1.0
        return float(1 / max(n * d for n, d in zip(self.shape, self.spacing, strict=True) if n > 1))

    @cached_property
    def ring(self) -> np.ndarray:
        """The number of the ring of each mode, (height, width): its wavenumber over `step`, rounded; 0 is the mean."""
        y, x = (np.fft.fftfreq(n, d) for n, d in zip(self.shape, self.spacing, strict=True))
        # Halves are rounded up; the margin keeps a half that is off by rounding errors a half.
        return np.floor(np.hypot(y[:, None], x) / self.step + 0.5 + 1e-9).astype(int)

    @cached_property
    def numbers(self) -> np.ndarray:
        """The numbers of the rings that hold modes, without the mean; where spacing differs, some hold none."""
        if self.zonal:
            return np.arange(1, self.shape[1] // 2 + 1)
        return np.unique(self.ring)[1:]

    @property
    def count(self) -> int:
        """Number of wavenumbers."""
        return len(self.numbers)

    @property
    def wavenumbers(self) -> np.ndarray:
        """Wavenumber of the middle of each ring."""
        return self.step * self.numbers

    def power(self, fields: np.ndarray) -> np.ndarray:
        """Compute the power spectrum of each field.

        Parameters
        ----------
        fields : array, shape (n, height, width)

        Returns
        -------
        array, shape (n, wavenumber)
            Power density [squared unit of the field per wavenumber]; NaN for fields with missing values.
        """
        if self.zonal:
            modes = np.abs(np.fft.rfft(fields, axis=-1) / self.shape[1]) ** 2
            # The coefficients of a real field come in pairs, but for the shortest wave of an even number of cells.
            twice = np.where(np.arange(modes.shape[-1]) * 2 == self.shape[1], 1, 2)
            zonal: np.ndarray = np.einsum("nyk,y->nk", modes * twice, self.row_weights)[:, 1:]
            return zonal
        modes = np.abs(np.fft.fft2(_tapered(fields, self._open)) / np.prod(self.shape)) ** 2
        order = np.argsort(self.ring, axis=None, kind="stable")
        first = np.searchsorted(self.ring.ravel()[order], self.numbers)
        summed: np.ndarray = np.add.reduceat(modes.reshape(len(modes), -1)[:, order], first, axis=-1)
        return summed / self.step

    @property
    def _open(self) -> list[int]:
        """Axes of (n, height, width) that do not close on themselves and are long enough for a trend."""
        return [axis for axis in (1, 2) if not self.periodic[axis - 1] and self.shape[axis - 1] > 2]


def _tapered(fields: np.ndarray, axes: list[int]) -> np.ndarray:
    """Fields without their mean and linear trend along some axes, under a Hann window of mean square 1.

    Mean and trend are of least squares weighted by the window, so that the tapered field has mean 0: nothing of a
    wave as long as the grid is lost to the mean mode.
    """
    if not axes:
        return fields
    window = np.ones((1, *fields.shape[1:]))
    for axis in axes:
        window = window * _along(_hann(fields.shape[axis]), axis)
    trend = _part(fields, np.ones_like(window), window)
    for axis in axes:
        place = _along(np.linspace(-1, 1, fields.shape[axis]), axis) * np.ones_like(window)
        trend = trend + _part(fields, place, window)
    return (fields - trend) * window


def _hann(size: int) -> np.ndarray:
    """A Hann window without its zeros at the ends, of mean square 1."""
    window = np.hanning(size + 2)[1:-1]
    return window / np.sqrt((window**2).mean())


def _along(values: np.ndarray, axis: int) -> np.ndarray:
    """Values along an axis of (n, height, width)."""
    return values.reshape([-1 if i == axis else 1 for i in range(3)])


def _part(fields: np.ndarray, shape: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The multiple of a shape that is next to each field by weighted least squares."""
    multiple = (fields * shape * weights).sum(axis=(1, 2), keepdims=True) / (shape**2 * weights).sum()
    return multiple * shape


def rings(fields: Fields) -> Rings:
    """Find the wavenumbers of the grid of some fields.

    Raises
    ------
    DataError
        If the grid is a single cell.
    """
    domain = fields.domain
    _, height, width = domain.shape
    if height * width == 1:
        raise DataError(f"{fields.source}: the grid is a single cell, which has no spectrum. Leave out --spectra.")
    closed = domain.boundary == "circular", domain.boundary in ("circular", "cylinder")
    dy, dx, unit = cell_size(fields.dataset, fields.roles, domain.grid)
    zonal = domain.grid == "latitude-longitude" and closed[1]
    units = "1" if zonal or unit == "1" else f"1/{unit}"
    rows = cell_weights(fields).values.reshape(height, width)[:, 0]
    return Rings((height, width), (dy, dx), closed, units, zonal, rows / rows.sum())
