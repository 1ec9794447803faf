"""Power spectra: how much variance a field has at each scale, so that a blurred forecast shows.

On a globe the spectrum is along longitude, averaged over latitudes by area, against the zonal wavenumber. On
any other grid it is averaged over directions, against cycles per unit of the coordinates (per km on
latitude-longitude grids). A direction that does not close on itself first loses its linear trend and is tapered by
a Hann window, whose loss of variance is made good. Power times the spacing of wavenumbers sums to the variance.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from forecast_cli.data.fields import Fields
from forecast_cli.data.grid import cell_size
from forecast_cli.metrics import cell_weights


@dataclass(frozen=True, eq=False)
class Rings:
    """The wavenumbers of a grid: shape (height, width), spacing of cells, and which axes close on themselves."""

    shape: tuple[int, int]
    spacing: tuple[float, float]
    periodic: tuple[bool, bool]
    units: str
    zonal: bool
    row_weights: np.ndarray

    @cached_property
    def step(self) -> float:
        """Distance between wavenumbers: the longest wave that fits into the shorter side."""
        if self.zonal:
            return 1.0
        lengths = [n * d for n, d in zip(self.shape, self.spacing, strict=True) if n > 1]
        return float(1 / min(lengths))

    @cached_property
    def ring(self) -> np.ndarray:
        """The number of the ring of each mode, (height, width); 0 is the mean."""
        y, x = (np.fft.fftfreq(n, d) for n, d in zip(self.shape, self.spacing, strict=True))
        return np.rint(np.hypot(y[:, None], x) / self.step).astype(int)

    @cached_property
    def count(self) -> int:
        """Rings up to the shortest wave that every direction resolves."""
        if self.zonal:
            return self.shape[1] // 2
        shortest = max(d for n, d in zip(self.shape, self.spacing, strict=True) if n > 1)
        return max(1, int(0.5 / shortest / self.step + 1e-9))

    @property
    def wavenumbers(self) -> np.ndarray:
        return self.step * np.arange(1, self.count + 1)

    def power(self, fields: np.ndarray) -> np.ndarray:
        """(n, height, width) to (n, wavenumber), in squared units of the field per wavenumber; NaN for fields with gaps."""
        if self.zonal:
            modes = np.abs(np.fft.rfft(fields, axis=-1) / self.shape[1]) ** 2
            twice = np.where(np.arange(modes.shape[-1]) * 2 == self.shape[1], 1, 2)
            zonal: np.ndarray = np.einsum("nyk,y->nk", modes * twice, self.row_weights)[:, 1 : self.count + 1]
            return zonal
        for axis, closed in zip((-2, -1), self.periodic, strict=True):
            if not closed and fields.shape[axis] > 2:
                fields = _tapered(fields, axis)
        modes = np.abs(np.fft.fft2(fields) / np.prod(self.shape)) ** 2
        rings = np.arange(1, self.count + 1)
        return np.stack([modes[:, self.ring == ring].sum(axis=-1) for ring in rings], axis=-1) / self.step


def _tapered(fields: np.ndarray, axis: int) -> np.ndarray:
    """Fields without their linear trend along an axis, under a Hann window of mean square 1."""
    moved = np.moveaxis(fields, axis, -1)
    size = moved.shape[-1]
    place = np.linspace(-1, 1, size)
    slope = (moved * place).sum(-1, keepdims=True) / (place**2).sum()
    window = np.hanning(size + 2)[1:-1]
    window /= np.sqrt((window**2).mean())
    return np.moveaxis((moved - moved.mean(-1, keepdims=True) - slope * place) * window, -1, axis)


def rings(fields: Fields) -> Rings:
    """The wavenumbers of the grid of some fields."""
    domain = fields.domain
    _, height, width = domain.shape
    closed = domain.boundary == "circular", domain.boundary in ("circular", "cylinder")
    dy, dx, unit = cell_size(fields.dataset, fields.roles, domain.grid)
    zonal = domain.grid == "latitude-longitude" and closed[1]
    rows = cell_weights(fields).values.reshape(height, width)[:, 0]
    return Rings(
        (height, width), (dy, dx), closed, "1" if zonal or unit == "1" else f"1/{unit}", zonal, rows / rows.sum()
    )
