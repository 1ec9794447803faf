"""Minimum, mean and maximum of each variable, and the share that is missing, in bounded memory and time."""

import math
from dataclasses import dataclass

import numpy as np

from forecast_cli.data.fields import Fields
from forecast_cli.data.sampling import evenly

_BLOCK_BYTES = 2**26
_BUDGET_BYTES = 2**30
"""What is read at most; of a larger record evenly spaced blocks."""


@dataclass(kw_only=True)
class Summary:
    """Statistics of the values of a variable; infinite values count as missing."""

    missing: int = 0
    count: int = 0
    total: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf

    @property
    def missing_share(self) -> float:
        return self.missing / (self.missing + self.count)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else math.nan

    def add(self, values: np.ndarray) -> None:
        finite = values[np.isfinite(values)].astype(np.float64)
        self.missing += values.size - finite.size
        self.count += finite.size
        self.total += float(finite.sum())
        self.minimum = min(self.minimum, float(finite.min(initial=math.inf)))
        self.maximum = max(self.maximum, float(finite.max(initial=-math.inf)))


def summarize(fields: Fields) -> tuple[list[Summary], float]:
    """Return the summary of each variable, and the share of the frames that was read for it.

    Raises DataError where a variable holds a fill value that the file does not declare.
    """
    found = [Summary() for _ in fields.names]
    read = 0
    length = max(1, _BLOCK_BYTES // fields.frame_bytes)
    blocks = [
        (sample, range(start, min(start + length, fields.frames)))
        for sample in range(fields.samples)
        for start in range(0, fields.frames, length)
    ]
    for sample, frames in evenly(blocks, max(1, _BUDGET_BYTES // (fields.frame_bytes * min(length, fields.frames)))):
        values = fields.read(sample, frames.start, frames.stop)
        read += len(frames)
        for channel, name in enumerate(fields.names):
            fields.fills[name].refuse(values[:, channel])
            found[channel].add(values[:, channel])
    return found, read / (fields.samples * fields.frames)
