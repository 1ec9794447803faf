"""Windows of consecutive frames to train on, the parts of a record they come from, and its statistics."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from forecast_cli.data.fields import Fields
from forecast_cli.data.times import bounds
from forecast_cli.errors import ConfigError, DataError

DEFAULT_SPLIT: dict[str, tuple[float | str, ...]] = {"time": (0.7, 0.15, 0.15), "sample": (0.9, 0.1, 0.0)}


@dataclass(frozen=True)
class Part:
    """A share of the data: some samples, and of each the same frames."""

    samples: range
    frames: range

    def __bool__(self) -> bool:
        return bool(self.samples) and bool(self.frames)


class Split(NamedTuple):
    training: Part
    validation: Part
    test: Part


def split(fields: Fields, shares: Sequence[float | str] | None = None, along: str | None = None) -> Split:
    """Training, validation and test part, one after the other along time or sample.

    shares: three fractions (sum at most 1), counts, or ranges start:stop (dates along time, positions
    along sample); None takes DEFAULT_SPLIT. along: None is "sample" for trajectories, else "time".
    Raises ConfigError for shares that do not fit.
    """
    along = along or ("sample" if fields.is_trajectories else "time")
    if along == "sample" and not fields.is_trajectories:
        raise ConfigError("--split-along sample: the data have no sample dimension. Split along time.")
    size = fields.samples if along == "sample" else fields.frames
    shares = shares or DEFAULT_SPLIT[along]
    if len(shares) not in (2, 3):
        raise ConfigError(f"--split {_listed(shares)}: expected training,validation[,test].")
    if any(isinstance(share, str) and re.search("[:/]", share) for share in shares):
        ranges = [_range(fields, str(share), along) for share in shares]
    else:
        ranges = _consecutive(_counts(shares, size, along))
    ranges += [range(0)] * (3 - len(ranges))
    if not ranges[0]:
        raise ConfigError(f"--split {_listed(shares)}: nothing is left to train on.")
    for first, second in itertools.combinations(filter(None, ranges), 2):
        if max(first.start, second.start) < min(first.stop, second.stop):
            raise ConfigError(
                f"--split {_listed(shares)}: the parts overlap, so that one would be tested on what it was trained on."
            )
    if along == "sample":
        return Split(*(Part(part, range(fields.frames)) for part in ranges))
    return Split(*(Part(range(fields.samples), part) for part in ranges))


def _listed(shares: Sequence[float | str]) -> str:
    return ",".join(str(share) for share in shares)


def _range(fields: Fields, text: str, along: str) -> range:
    if along == "time" and fields.times.is_dated:
        return fields.times.period(*bounds(text))
    start, _, stop = text.partition("/" if "/" in text else ":")
    size = fields.samples if along == "sample" else fields.frames
    try:
        return range(size)[int(start or 0) : int(stop or size)]
    except ValueError as error:
        raise ConfigError(f"--split {text}: expected positions start:stop, as the data have no dates.") from error


def _counts(shares: Sequence[float | str], size: int, along: str) -> list[int]:
    try:
        numbers = [float(share) for share in shares]
    except ValueError as error:
        raise ConfigError(f"--split {_listed(shares)}: expected fractions, counts, or ranges start:stop.") from error
    if min(numbers) < 0:
        raise ConfigError(f"--split {_listed(shares)}: a share cannot be negative.")
    if sum(numbers) <= 1 + 1e-9:
        return np.diff([0, *(round(size * share) for share in np.cumsum(numbers))]).tolist()
    if any(number % 1 for number in numbers) or sum(numbers) > size:
        raise ConfigError(
            f"--split {_listed(shares)}: neither fractions that add up to 1 at most, nor counts of the {size} along {along}."
        )
    return [int(number) for number in numbers]


def _consecutive(counts: Sequence[int]) -> list[range]:
    edges = np.cumsum([0, *counts]).tolist()
    return [range(start, stop) for start, stop in itertools.pairwise(edges)]


class Frames(Protocol):
    """Where windows come from."""

    def window(self, sample: int, start: int, length: int) -> Tensor:
        """(time, channel, height, width), float32, finite."""
        ...


class HeldFrames:
    """Frames held in memory once; a window is a view."""

    def __init__(self, fields: Fields, parts: Sequence[Part]) -> None:
        samples, span = self.extent(parts)
        self.first = span.start
        self.held = {sample: torch.from_numpy(fields.read_finite(sample, span.start, span.stop)) for sample in samples}

    @staticmethod
    def extent(parts: Sequence[Part]) -> tuple[list[int], range]:
        """The samples of the parts, and the frames from the first to the last of any part."""
        samples = sorted({sample for part in parts for sample in part.samples})
        frames = [part.frames for part in parts if part]
        return samples, range(min(f.start for f in frames), max(f.stop for f in frames)) if frames else range(0)

    def window(self, sample: int, start: int, length: int) -> Tensor:
        return self.held[sample][start - self.first : start - self.first + length]


class ReadFrames:
    """Frames read from the file whenever a window asks for them."""

    def __init__(self, fields: Fields) -> None:
        self.fields = fields

    def window(self, sample: int, start: int, length: int) -> Tensor:
        return torch.from_numpy(self.fields.read_finite(sample, start, start + length))


def frames_of(fields: Fields, parts: Sequence[Part], memory: str) -> Frames:
    """The frames of `parts`: held if they fit in `memory` (such as "2G"), else read window by window."""
    return HeldFrames(fields, parts) if held_bytes(fields, parts) <= parse_bytes(memory) else ReadFrames(fields)


def held_bytes(fields: Fields, parts: Sequence[Part]) -> int:
    """The size of `HeldFrames`: all samples of the parts, over the span from the first frame to the last."""
    samples, span = HeldFrames.extent(parts)
    return fields.frame_bytes * len(samples) * len(span)


def parse_bytes(text: str) -> int:
    """'512M' or '2G' in bytes."""
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([KMGT]?)i?B?\s*", text, flags=re.IGNORECASE)
    if not match:
        raise ConfigError(f"data.memory = '{text}': expected a size such as 512M or 2G.")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


@dataclass(frozen=True)
class Windows:
    """Windows of `length` frames of one part, numbered; which one a number means may depend on the epoch.

    A series gives every window whose start is a multiple of `stride`. Trajectories give one window
    each, whose start is drawn from (seed, epoch, index); without a seed they give windows at fixed
    starts, `length` apart, for validation.
    """

    frames: Frames
    part: Part
    length: int
    stride: int = 1
    is_trajectories: bool = False
    seed: int | None = None

    @property
    def _starts(self) -> range:
        stride = self.length if self.is_trajectories else self.stride
        return self.part.frames[: max(0, len(self.part.frames) - self.length + 1) : stride]

    @property
    def _draws(self) -> bool:
        return self.is_trajectories and self.seed is not None

    def __len__(self) -> int:
        return len(self.part.samples) * (min(1, len(self._starts)) if self._draws else len(self._starts))

    def __call__(self, index: int, epoch: int = 0) -> Tensor:
        """Window `index` of an epoch: (time, channel, height, width)."""
        if self._draws:
            choices = len(self.part.frames) - self.length + 1
            start = self.part.frames[int(np.random.default_rng([self.seed or 0, epoch, index]).integers(choices))]
            return self.frames.window(self.part.samples[index], start, self.length)
        sample, position = divmod(index, len(self._starts))
        return self.frames.window(self.part.samples[sample], self._starts[position], self.length)


def order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits its windows; a function of (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def require_windows(part: Part, length: int, name: str, fields: Fields, context: int, horizon: int) -> None:
    """DataError if a part that is not empty is too short for a single window."""
    if part and len(part.frames) < length:
        raise DataError(
            f"{fields.source}: the {name} part has {len(part.frames)} frames, but context={context} and horizon={horizon} "
            f"need {length}. Shorten data.context or data.horizon, change --split, or supply a longer record."
        )


@dataclass(frozen=True)
class Statistics:
    """What the training part says of each variable, in physical units.

    mean, scale: mean and standard deviation, (channel, 1, 1) or pointwise (channel, height, width).
    change: root mean square of the change between frames, (channel, 1, 1).
    climatology: mean over time and samples, (channel, height, width).
    """

    mean: Tensor
    scale: Tensor
    change: Tensor
    climatology: Tensor


def statistics(fields: Fields, part: Part, frames: Frames, *, pointwise: bool = False) -> Statistics:
    """Statistics of a part, in one pass over blocks of frames, in float64.

    Where a cell never changes, pointwise scaling takes the variable's overall spread.
    Raises DataError for a variable that is constant over the whole part, or that never changes in time.
    """
    channel, height, width = fields.domain.shape
    block = max(2, 2**26 // fields.frame_bytes)
    count = 0
    mean = torch.zeros(channel, height, width, dtype=torch.float64)
    squares, changes = torch.zeros_like(mean), torch.zeros_like(mean)
    for sample in part.samples:
        previous = None
        for start in range(part.frames.start, part.frames.stop, block):
            length = min(block, part.frames.stop - start)
            values = frames.window(sample, start, length).double()
            # Chan et al. (1983): merging means and squared deviations loses no digits to large means.
            block_mean = values.mean(dim=0)
            shift = block_mean - mean
            squares += ((values - block_mean) ** 2).sum(dim=0) + shift**2 * (count * length / (count + length))
            mean += shift * (length / (count + length))
            count += length
            joined = values if previous is None else torch.cat([previous, values])
            changes += (joined.diff(dim=0) ** 2).sum(dim=0)
            previous = values[-1:]
    overall = mean.mean(dim=(1, 2), keepdim=True)
    spread = (squares / count + (mean - overall) ** 2).mean(dim=(1, 2), keepdim=True).sqrt()
    pairs = len(part.samples) * (len(part.frames) - 1)
    change = (changes / max(1, pairs)).mean(dim=(1, 2), keepdim=True).sqrt()
    for name, variable_spread, variable_change, typical in zip(fields.names, spread, change, overall, strict=True):
        if variable_spread.item() <= 1e-7 * abs(typical.item()):
            raise DataError(
                f"{fields.source}: '{name}' is constant ({typical.item():g}) over the training part: nothing to learn."
            )
        if variable_change.item() == 0:
            raise DataError(
                f"{fields.source}: '{name}' does not change in time over the training part: nothing to forecast."
            )
    scale = spread
    if pointwise:
        by_cell = (squares / count).sqrt()
        scale = torch.where(by_cell > 1e-6 * spread, by_cell, spread)
    return Statistics(
        mean=(mean if pointwise else overall).float(),
        scale=scale.float(),
        change=change.float(),
        climatology=mean.float(),
    )
