"""What is measured, and what is told of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from forecast_cli.errors import ConfigError

PRECISIONS = ("32", "bf16")


@dataclass(frozen=True)
class Settings:
    """What to vary and how long to measure.

    lengths: context and horizon. models, scans: names; hidden: channels of each layer, None for the papers' sizes. grid: cells a side.
    """

    models: Sequence[str] = ("minconvlstm", "minconvgru", "minconvexplstm", "convlstm", "convgru")
    scans: Sequence[str] = ("auto",)
    lengths: Sequence[tuple[int, int]] = ((20, 1), (80, 1))
    batch: int = 1
    grid: int = 16
    hidden: tuple[int, ...] | None = None
    threads: Sequence[int] = (1,)
    precisions: Sequence[str] = ("32",)
    device: torch.device | str = "cpu"
    repetitions: int = 11

    def __post_init__(self) -> None:
        for name, values in (("batch", [self.batch]), ("repetitions", [self.repetitions]), ("threads", self.threads)):
            if any(value < 1 for value in values):
                raise ConfigError(f"--{name} {min(values)}: expected at least 1.")
        if any(context < 1 or horizon < 0 for context, horizon in self.lengths):
            raise ConfigError("--length, --context: expected at least 1.")
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise ConfigError(f"--precision {precision}: expected {' or '.join(PRECISIONS)}.")


@dataclass(frozen=True)
class Row:
    """One way of doing it. Times are milliseconds of wall clock: median, and the range of the repetitions.

    peak_mib: memory above what stood before, at its most [MiB]. floor_ms: what cannot be undercut, the convolutions alone or the
    arithmetic; ReLU for an activation. error: largest difference from the float64 oracle, or relative L2 error. kept_mib: what
    autograd holds from forward to backward [MiB]. None: not known, or there is none.
    """

    benchmark: str
    model: str
    scan: str
    context: int
    horizon: int
    batch: int
    threads: int
    precision: str
    device: str
    median_ms: float
    low_ms: float
    high_ms: float
    peak_mib: float | None = None
    floor_ms: float | None = None
    error: float | None = None
    kept_mib: float | None = None


def spread(times: np.ndarray) -> tuple[float, float, float]:
    """Median, lowest and highest of the times of the repetitions, as a row tells them."""
    return float(np.median(times)), float(times.min()), float(times.max())
