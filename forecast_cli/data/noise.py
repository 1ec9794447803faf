"""Measurement noise for simulated fields."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from forecast_cli.errors import ConfigError


class Noise(NamedTuple):
    """Gaussian noise: `amount` in the unit of a variable, or as a share of its standard deviation."""

    amount: float
    relative: bool

    def __str__(self) -> str:
        return f"{100 * self.amount:g}%" if self.relative else f"{self.amount:g}"


def parse_noise(text: str, names: Sequence[str]) -> dict[str, Noise]:
    """'1%' or '0.02' for every variable, 'eta=1%,u=0.02' for some. Raises ConfigError."""
    if "=" not in text:
        return dict.fromkeys(names, _noise(text, text))
    found = {}
    for part in text.split(","):
        name, _, amount = part.strip().partition("=")
        if name not in names:
            raise ConfigError(f"--noise {part}: no variable '{name}'. There are {', '.join(names)}.")
        found[name] = _noise(amount, text)
    return found


def _noise(amount: str, text: str) -> Noise:
    relative = amount.strip().endswith("%")
    try:
        value = float(amount.strip().removesuffix("%")) / (100 if relative else 1)
    except ValueError:
        value = np.nan
    if not (value >= 0 and np.isfinite(value)):
        raise ConfigError(f"--noise {text}: expected a share such as 1%, an amount such as 0.02, or eta=1%,u=0.02.")
    return Noise(value, relative)


def with_noise(
    frames: np.ndarray, noise: Mapping[str, Noise], names: Sequence[str], generator: np.random.Generator, *, exact: int
) -> np.ndarray:
    """Frames (time, channel, height, width) with noise on all but the first `exact`.

    A share is one of the standard deviation of the variable over the whole trajectory.
    """
    noisy = frames.copy()
    for channel, name in enumerate(names):
        # Drawn for every variable, so that one's noise does not depend on whether another has any.
        draw = generator.standard_normal(frames[exact:, channel].shape)
        if name in noise:
            size = frames[:, channel].std() if noise[name].relative else 1.0
            noisy[exact:, channel] += noise[name].amount * size * draw
    return noisy
