"""Forecasts that cost nothing: the last frames over and over, or what is usual."""

import re
from dataclasses import dataclass

import numpy as np

from forecast_cli.data.cycles import CYCLES, positions
from forecast_cli.data.fields import Fields
from forecast_cli.data.forecasts import ForecastFile
from forecast_cli.errors import ConfigError
from forecast_cli.evaluation.pairing import Alignment, truth_frames


@dataclass(frozen=True)
class Baseline:
    """repeats: frames of persistence, or 0 for the climatology, whose cycle is `cycle` ("" for the plain mean)."""

    name: str
    repeats: int
    cycle: str = ""


def baseline(name: str) -> Baseline:
    """persistence, persistence:N, climatology or climatology:CYCLE; ConfigError for anything else."""
    match = re.fullmatch(rf"persistence(?::([1-9]\d*))?|climatology(?::({'|'.join(CYCLES)}))?", name)
    if not match:
        raise ConfigError(
            f"--baseline {name}: known are persistence, persistence:N (repeat the last N steps), climatology, "
            f"and {', '.join(f'climatology:{cycle}' for cycle in CYCLES)}."
        )
    if name.startswith("climatology"):
        return Baseline(name, 0, match[2] or "")
    return Baseline(name, int(match[1] or 1))


class Climatology:
    """What is usual for one variable of a forecast, as `forecast rollout` wrote it beside the forecast."""

    def __init__(self, forecast: ForecastFile, variable: str, cycle: str, option: str) -> None:
        """option: what asks for it, for the ConfigError where the file does not have it."""
        stem = f"{variable}_climatology"
        name = f"{stem}_{cycle}" if cycle else stem
        if name not in forecast.dataset:
            cycles = [kind for kind in CYCLES if f"{stem}_{kind}" in forecast.dataset]
            there = [*(["the mean"] if stem in forecast.dataset else []), *(f"the cycle by {kind}" for kind in cycles)]
            raise ConfigError(
                f"{option} needs the climatology that `forecast rollout` writes; {forecast.path} has {' and '.join(there) or 'none'}."
            )
        self.forecast, self.name, self.cycle = forecast, name, cycle

    def at(self, times: np.ndarray) -> np.ndarray:
        """(start, lead) of valid times to (start, lead, *grid)."""
        if not self.cycle:
            values = self.forecast.read(self.name, {})
            return np.broadcast_to(values, (*times.shape, *values.shape))
        needed, places = np.unique(positions(times, self.cycle), return_inverse=True)
        found: np.ndarray = self.forecast.read(self.name, {self.cycle: needed.tolist()})[places.reshape(times.shape)]
        return found


def persistence(repeats: int, truth: Fields, variable: str, alignment: Alignment, leads: np.ndarray) -> np.ndarray:
    """The last `repeats` true frames over and over, (start, lead, *grid). leads: steps since the start, (start, lead)."""
    init = alignment.init[:, None]
    frames = init - repeats + 1 + (leads - 1) % repeats
    return truth_frames(truth, variable, alignment.sample, np.where(init < 0, -1, frames))
