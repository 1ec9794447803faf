"""From independent unknowns to a depth that keeps its bounds and is as smooth as its prior says."""

from dataclasses import dataclass

import numpy as np
from scipy.fft import dctn, idctn
from scipy.special import expit, logit

from forecast_cli.physics.grid import Grid

SPREAD = 1.5
"""Prior standard deviation of logit((H - lower) / (upper - lower)): two thirds of the depths lie in the middle 64 % between the bounds."""


@dataclass(frozen=True)
class Depths:
    """H = lower + (upper - lower) / (1 + exp(-z)), z = centre + S x, with unknowns x of a standard normal prior.

    lower, upper: bounds of the depth [m]. centre: the prior's most likely depth, as z, (height, width). amplitudes: of S, which
    scales the cosine modes of x, (height, width); a single number scales every cell by itself.
    """

    lower: float
    upper: float
    centre: np.ndarray
    amplitudes: np.ndarray | float

    @classmethod
    def around(cls, depth: np.ndarray, lower: float, upper: float, amplitudes: np.ndarray | float) -> "Depths":
        """The map whose x = 0 is `depth` (height, width) [m], moved to within the bounds."""
        share = np.clip((depth - lower) / (upper - lower), 1e-3, 1 - 1e-3)
        return cls(lower, upper, logit(share), amplitudes)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The depth (height, width) [m]."""
        return self.lower + (self.upper - self.lower) * expit(self._z(x))

    def slope(self, x: np.ndarray) -> np.ndarray:
        """dH/dz (height, width) [m]."""
        share = expit(self._z(x))
        return (self.upper - self.lower) * share * (1 - share)

    def pull(self, to_depth: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Sensitivity to x of what has the sensitivity `to_depth` (height, width)."""
        return self.smoothed(slope * to_depth)

    def smoothed(self, x: np.ndarray) -> np.ndarray:
        """S x, with S symmetric."""
        if isinstance(self.amplitudes, float):
            return self.amplitudes * x
        found: np.ndarray = idctn(self.amplitudes * dctn(x, norm="ortho"), norm="ortho")
        return found

    def unsmoothed(self, z: np.ndarray) -> np.ndarray:
        """S^-1 z; modes that the prior holds to be a thousand times smaller than others are left out."""
        if isinstance(self.amplitudes, float):
            return z / self.amplitudes
        least = 1e-3 * self.amplitudes.max()
        inverse = np.where(self.amplitudes > least, 1 / self.amplitudes.clip(least), 0)
        found: np.ndarray = idctn(inverse * dctn(z, norm="ortho"), norm="ortho")
        return found

    def unknowns(self, depth: np.ndarray) -> np.ndarray:
        """The x of a depth (height, width) [m]: the inverse, as far as the prior allows it."""
        return self.unsmoothed(self.around(depth, self.lower, self.upper, 1.0).centre - self.centre)

    def _z(self, x: np.ndarray) -> np.ndarray:
        return self.centre + self.smoothed(x)


def smooth(grid: Grid, length: float, spread: float = SPREAD) -> np.ndarray:
    """Amplitudes of cosine modes for depths correlated over `length` [m]: the power spectrum falls as (1 + (length k)^2)^-2.

    In the plane that is the Matern covariance of smoothness 1 (Whittle); cosines have no slope at the walls.
    """
    squares = [(np.pi * np.arange(axis.size) / (axis.size * (axis.spacing or 1.0))) ** 2 for axis in grid.axes]
    power = (1 + length**2 * (squares[0][:, None] + squares[1][None, :])) ** -2.0
    return np.asarray(spread * np.sqrt(power / power.mean()))


def white(spread: float = SPREAD) -> float:
    """Amplitude of depths that know nothing of their neighbours."""
    return spread
