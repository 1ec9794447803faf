"""What an inversion is told, who watches it, and what it tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from forecast_cli.data.noise import Noise
from forecast_cli.errors import ConfigError
from forecast_cli.inversion.observed import Source
from forecast_cli.inversion.physics import Physics
from forecast_cli.inversion.verdict import Verdict

UNCERTAINTIES = ("gauss-newton", "ensemble", "none")


@dataclass(frozen=True)
class Inversion:
    """What to do, as the user says it; see `forecast invert-topography --help`.

    noise: by channel, estimated where not given. initial: "auto", metres, or a file. prior: "auto", "white", "smooth" or "smooth:LENGTH".
    soundings, truth: files, or None.
    """

    source: Source
    physics: Physics = field(default_factory=Physics)
    noise: Mapping[str, Noise] = field(default_factory=dict)
    initial: str = "auto"
    prior: str = "auto"
    soundings: str | None = None
    truth: str | None = None
    iterations: int = 2000
    uncertainty: str = "gauss-newton"
    seed: int = 0
    dtype: torch.dtype = torch.float64
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"--seed {self.seed}: expected at least 0.")
        if self.iterations < 1:
            raise ConfigError(f"--iterations {self.iterations}: expected at least 1.")
        if torch.device(self.device).type == "mps" and self.dtype == torch.float64:
            raise ConfigError("--device mps has no float64: give --dtype float32.")
        if self.uncertainty not in UNCERTAINTIES:
            raise ConfigError(f"--uncertainty {self.uncertainty}: expected {', '.join(UNCERTAINTIES)}.")
        if self.prior.partition(":")[0] not in ("auto", "white", "smooth"):
            raise ConfigError(f"--prior {self.prior}: expected white, smooth, or smooth:LENGTH in metres.")


@dataclass(frozen=True, eq=False)
class Earlier:
    """Where an earlier run had come to: depth (height, width) [m], and numbers as gravity [m s-2]."""

    depth: np.ndarray
    numbers: Mapping[str, float]


class Reporter(Protocol):
    """Who watches: the command line, or nobody."""

    def say(self, text: str) -> None: ...
    def step(self, what: str, done: int, total: int, detail: str) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What came of it. scores: relative_l2, relative_l2_inner [1] and coverage_95, where the truth is known; and what was inferred
    beside the depth, with its standard deviation: gravity, gravity_std [m s-2].
    """

    verdict: Verdict
    stopped: bool
    chi2: float
    iterations: int
    seconds: float
    scores: Mapping[str, float]
    warnings: tuple[str, ...]
