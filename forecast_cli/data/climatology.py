"""Mean cycles of the training part: by hour of the day, day of the year, and month.

Training computes them once and leaves them in the run, rollout copies them beside its forecasts: as inputs
that are known ahead (`data.climatology_features`), and as baselines and anomalies for `forecast evaluate`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from forecast_cli.data.cycles import CYCLES, Cycles, longest_year, positions
from forecast_cli.data.fields import Fields
from forecast_cli.data.output import write_dataset
from forecast_cli.data.reading import reading
from forecast_cli.data.times import TimeAxis, dates_of
from forecast_cli.data.windows import Frames, Part, blocks
from forecast_cli.errors import CheckpointError, DataError

WINDOW = 15
"""Days on either side that a day of the year is averaged over, as a day alone has but one value a year."""
LARGEST = 2**28
"""Bytes of one cycle beyond which it is left out: a day-of-year cycle of a large grid is no small file."""


def kinds(times: TimeAxis, frames: range, frame_bytes: int) -> list[str]:
    """The cycles that a record resolves and covers: hours below a day, the year from one year on."""
    if not times.is_dated or len(frames) < 2:
        return []
    step = times.step.amount if times.step.unit == "second" else np.inf
    first, last = dates_of(times.at([frames[0], frames[-1]]))
    last_step = step if np.isfinite(step) else 30.4375 * 86400 * times.step.amount
    years = ((last - first).total_seconds() + last_step) / (365 * 86400)
    found = {"hour": step < 86400, "dayofyear": years >= 0.98 and step <= 5 * 86400, "month": years >= 0.98}
    return [kind for kind, resolved in found.items() if resolved and CYCLES[kind] * frame_bytes <= LARGEST]


def mean_cycles(fields: Fields, part: Part, frames: Frames, wanted: Sequence[str]) -> Cycles:
    """The mean cycles of a part, in one pass over blocks of frames."""
    sums = {kind: np.zeros((CYCLES[kind], *fields.domain.shape)) for kind in wanted}
    counts = {kind: np.zeros((CYCLES[kind], *fields.domain.shape), np.int32) for kind in wanted}
    for start, block in _blocks(fields, part, frames) if wanted else ():
        there = ~np.isnan(block)
        values = np.where(there, block, 0)
        times = fields.times.rounded[start : start + len(block)]
        for kind in wanted:
            # A frame at a time: numpy.add.at over whole fields is forty times slower.
            for position, value, present in zip(positions(times, kind), values, there, strict=True):
                sums[kind][position] += value
                counts[kind][position] += present
    days = longest_year(fields.times.calendar)
    return {kind: _mean(kind, sums[kind], counts[kind], days) for kind in wanted}


def _blocks(fields: Fields, part: Part, frames: Frames) -> Iterator[tuple[int, np.ndarray]]:
    for sample in part.samples:
        for block in blocks(part.frames, fields.frame_bytes):
            yield block.start, frames.window(sample, block.start, len(block)).numpy()


def _mean(kind: str, sums: np.ndarray, counts: np.ndarray, days: int) -> np.ndarray:
    found = np.empty(sums.shape, np.float32)
    for row in range(sums.shape[2]):  # running sums of all rows at once would take their size several times
        total, count = sums[:, :, row], counts[:, :, row]
        if kind == "dayofyear":
            total, count = _over_window(total, days), _over_window(count, days)
        found[:, :, row] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found


def _over_window(daily: np.ndarray, days: int) -> np.ndarray:
    """Running sums over 2 * WINDOW + 1 days of a year of `days` that closes on itself; days beyond it are as its last."""
    year = daily[:days]
    around = np.concatenate([year[-WINDOW:], year, year[:WINDOW]]).cumsum(axis=0)
    before = np.concatenate([np.zeros_like(around[:1]), around[: -2 * WINDOW - 1]])
    found = around[2 * WINDOW :] - before
    return np.concatenate([found, np.repeat(found[-1:], len(daily) - days, axis=0)])


def save_cycles(path: Path, cycles: Cycles, fields: Fields) -> None:
    """Write the cycles as NetCDF, replacing what is there."""
    dims = ("variable", "y", "x")
    found = {kind: ((kind, *dims), values) for kind, values in cycles.items()}
    write_dataset(xr.Dataset(found, {"variable": list(fields.names)}), path, overwrite=True)


def load_cycles(path: Path) -> Cycles:
    """The cycles of a run; none if it has no such file. Raises CheckpointError if the file is damaged."""
    if not path.exists():
        return {}
    try:
        with reading(f"{path}: damaged"), xr.open_dataset(path, engine="netcdf4") as dataset:
            return {kind: np.asarray(dataset[kind].values, np.float32) for kind in CYCLES if kind in dataset}
    except DataError as error:
        raise CheckpointError(str(error)) from error
