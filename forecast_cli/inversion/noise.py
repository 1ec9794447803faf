"""How noisy the waves are: as the user says, or judged by what no smooth field can hold."""

from collections.abc import Mapping, Sequence
from math import comb

import numpy as np

from forecast_cli.data.noise import Noise
from forecast_cli.errors import ConfigError
from forecast_cli.inversion.observed import CHANNELS, Observed

FILTERS = ((0, 4, 4), (4, 4, 4), (4, 0, 0), (8, 0, 0))
"""Orders of differences along time, y and x: white noise passes all of them, waves that are resolved pass hardly any."""
WITHIN_A_FRAME = ((0, 2, 2), (0, 4, 4), (0, 4, 0), (0, 0, 4), (0, 8, 0), (0, 0, 8))
"""The same for a frame by itself: more of them, for one of few cells may hold hardly resolved waves along one axis or in its middle."""
LEAST = 1e-5
"""The smallest noise that is believed, as a share of the spread: rounding of single precision and of the solver."""
EXACT = 0.1
"""Noise of the first frame that counts for nothing, as a share of that of the others."""
LOOKED_AT = 2**22
"""Values that an estimate is made from."""


def deviations(observed: Observed, given: Mapping[str, Noise]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The standard deviation of the noise of each channel, and the channels that it was estimated for.

    A share is one of the standard deviation of the variable in the file. Raises ConfigError for a noise of 0.
    """
    found, estimated = [], []
    for channel, name in enumerate(observed.channels):
        spread = float(observed.spread[channel])
        if name not in given:
            estimated.append(name)
            found.append(max(estimate(observed.later[:, :, channel]), LEAST * spread))
            continue
        size = given[name].amount * (spread if given[name].relative else 1.0)
        if not size > 0:
            raise ConfigError(
                f"--noise {name}={given[name]}: expected more than 0. Data without noise have that of rounding: --noise 0.001%."
            )
        found.append(size)
    return np.array(found), tuple(estimated)


def of_first_frame(observed: Observed, noise: np.ndarray) -> tuple[float, ...]:
    """The standard deviation of the noise of eta, u and v in the first frame; 0 where it is exact, or as good as that.

    Told from neighbours, wherever it comes from. noise: of the channels in the frames after it.
    """
    found = []
    for place, name in enumerate(CHANNELS):
        size = estimate(observed.start[:, None, place], WITHIN_A_FRAME)
        usual = (
            noise[observed.channels.index(name)] if name in observed.channels else float(observed.start[:, place].std())
        )
        least = EXACT * usual if name in observed.channels else LEAST * usual
        found.append(size if size > least else 0.0)
    return tuple(found)


def told(observed: Observed, noise: np.ndarray, estimated: Sequence[str]) -> str:
    """The noise of each channel for people, and for which it was estimated."""
    units = {"eta": "m"}
    sizes = zip(observed.channels, noise, observed.spread, strict=True)
    return ", ".join(
        f"{name} {size:.3g} {units.get(name, 'm s-1')} ({size / spread:.2%} of its spread{', estimated' if name in estimated else ''})"
        for name, size, spread in sizes
    )


def estimate(values: np.ndarray, filters: Sequence[tuple[int, int, int]] = FILTERS) -> float:
    """The standard deviation of white noise in (sample, time, height, width): the least that one of the filters finds.

    A filter of orders k scales white noise by the square root of the product of binomials (2k over k); the median of the moduli does
    not mind fronts. Too large where nothing is resolved, as in series of gauges with few frames; infinite where nothing can be said.
    """
    per_frame = values[0, 0].size
    values = values[:, : max(16, LOOKED_AT // (per_frame * len(values)))]
    found = []
    for orders in filters:
        if any(size <= order for size, order in zip(values.shape[1:], orders, strict=True)):
            continue
        differences = values
        for axis, order in enumerate(orders, 1):
            differences = np.diff(differences, n=order, axis=axis)
        seen = np.abs(differences[np.isfinite(differences)])
        if seen.size >= 10:
            found.append(float(np.median(seen)) / 0.6745 / np.sqrt(np.prod([comb(2 * k, k) for k in orders])))
    return min(found, default=float(np.nanstd(values)))
