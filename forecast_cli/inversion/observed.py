"""Waves as an inversion needs them, and where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from forecast_cli.data.times import TimeAxis
from forecast_cli.equations.shallow_water import ShallowWater
from forecast_cli.physics.grid import Grid

CHANNELS = tuple(variable.name for variable in ShallowWater.VARIABLES)


@dataclass(frozen=True)
class Source:
    """Where the waves are and how they are read, as the user says it.

    variables: ours ("eta", "u", "v") to the file's names, None to find them. gauges: a CSV file of stations. mask: FILE:variable or
    NAME, observed where not 0. initial_state: FILE with eta (and u, v) at the first frame. initial_velocity: "auto", "rest" or FILE.
    """

    files: tuple[str, ...]
    variables: Mapping[str, str] | None = None
    dims: Mapping[str, str] | None = None
    select: Mapping[str, str] | None = None
    gauges: str | None = None
    mask: str | None = None
    initial_state: str | None = None
    initial_velocity: str = "auto"


@dataclass(frozen=True, eq=False)
class Observed:
    """Waves on a uniform grid in metres.

    channels: those of eta, u, v that are observed.
    start: (sample, 3, height, width), eta, u, v at the first frame. later: (sample, time, channel, height, width), the frames after
    it, NaN where nobody looked. spread: standard deviation of each channel in the file. interval: between frames [s].
    coordinates: of the grid, as the file has them, and dims their names (y, x). attributes: the file's. latitude: of the middle, for
    grids in degrees. notes, warnings: what the user should know, a line each.
    """

    source: str
    channels: tuple[str, ...]
    start: np.ndarray
    later: np.ndarray
    spread: np.ndarray
    grid: Grid
    interval: float
    times: TimeAxis
    coordinates: Mapping[str, xr.Variable]
    dims: tuple[str, str]
    attributes: Mapping[str, Any]
    latitude: float | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_dense(self) -> bool:
        """Whether the surface is seen in most cells."""
        return bool(np.isfinite(self.later[:, :, 0]).any(axis=(0, 1)).mean() > 0.5)


@dataclass
class Told:
    """What is gathered on the way."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
