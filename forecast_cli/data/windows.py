"""Windows of consecutive frames to train on, and the parts of a record they come from."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from forecast_cli.data.fields import Fields
from forecast_cli.data.times import bounds, show
from forecast_cli.errors import ConfigError, DataError

BLOCK_BYTES = 2**24
"""What is read at once where a record is passed through; decoding it and summing it up take some times as much."""
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
    if _are_ranges(shares):
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
    """The frames or samples of a range. Raises ConfigError if none of them is in the record; `40:40` is empty on purpose."""
    if along == "time" and fields.times.is_dated:
        found = fields.times.period(*bounds(text))
        if not found:
            first, last = fields.times.values[[0, -1]]
            raise ConfigError(
                f"--split {text}: no frame lies in this range; the record runs from {show(first)} to {show(last)}. "
                "Correct it, or leave out a test part that lies in another file."
            )
        return found
    size = fields.samples if along == "sample" else fields.frames
    start, stop = _positions(text, size)
    found = range(size)[start:stop]
    if not found and start != stop:
        raise ConfigError(
            f"--split {text}: no position lies in this range; the data have {size:,} along {along}, counted from 0."
        )
    return found


def _positions(text: str, size: int) -> tuple[int, int]:
    """The bounds of a range of positions, which may be open."""
    start, separator, stop = text.partition("/" if "/" in text else ":")
    try:
        if not separator:
            raise ValueError(text)
        return int(start or 0), int(stop or size)
    except ValueError as error:
        raise ConfigError(f"--split {text}: expected positions start:stop, as the data have no dates.") from error


def beyond_record(fields: Fields, shares: Sequence[float | str], along: str | None = None) -> list[str]:
    """List the ranges of a split that lie in part outside the record, a sentence each.

    A year, month or day that the record covers in part counts as inside.
    """
    along = along or ("sample" if fields.is_trajectories else "time")
    if not _are_ranges(shares):
        return []
    outside = _outside_dates if along == "time" and fields.times.is_dated else _outside_positions
    return [text for share in shares for text in outside(fields, str(share), along)]


def _outside_dates(fields: Fields, text: str, _: str) -> Iterator[str]:
    times, (start, stop) = fields.times, bounds(text)
    if start and not times.period("", start):
        yield f"--split {text}: the record begins later, at {show(times.values[0])}; the part begins there"
    if stop and not times.period(stop, ""):
        yield f"--split {text}: the record ends earlier, at {show(times.values[-1])}; the part ends there"


def _outside_positions(fields: Fields, text: str, along: str) -> Iterator[str]:
    size = fields.samples if along == "sample" else fields.frames
    if max(map(abs, _positions(text, size))) > size:
        yield f"--split {text}: the data have {size:,} along {along}, counted from 0; the part ends there"


def _are_ranges(shares: Sequence[float | str]) -> bool:
    return any(isinstance(share, str) and re.search("[:/]", share) for share in shares)


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
            + (" To cut along time: --split-along time." if along == "sample" else "")
        )
    return [int(number) for number in numbers]


def _consecutive(counts: Sequence[int]) -> list[range]:
    edges = np.cumsum([0, *counts]).tolist()
    return [range(start, stop) for start, stop in itertools.pairwise(edges)]


class Frames(Protocol):
    """Where windows come from."""

    def window(self, sample: int, start: int, length: int) -> Tensor:
        """(time, channel, height, width), float32."""
        ...


Read = Callable[[int, int, int], np.ndarray]
"""(sample, start, stop) to frames start..stop-1, (time, channel, height, width)."""


def blocks(frames: range, frame_bytes: int) -> list[range]:
    """Frames in consecutive pieces of BLOCK_BYTES at most, and one frame at least."""
    length = max(1, BLOCK_BYTES // frame_bytes)
    return [frames[start : start + length] for start in range(0, len(frames), length)]


class HeldFrames:
    """Frames held in memory once; a window is a view."""

    def __init__(self, read: Read, parts: Sequence[Part]) -> None:
        samples, span = extent(parts)
        self.first = span.start
        self.held = {sample: _held(read, sample, span) for sample in samples}

    def window(self, sample: int, start: int, length: int) -> Tensor:
        return self.held[sample][start - self.first : start - self.first + length]


def _held(read: Read, sample: int, span: range) -> Tensor:
    """Frames of a sample, read block by block: decoding them at once would take their size several times."""
    frame = read(sample, span.start, span.start + 1)
    held = np.empty((len(span), *frame.shape[1:]), np.float32)
    for block in blocks(span, frame.nbytes):
        held[block.start - span.start : block.stop - span.start] = read(sample, block.start, block.stop)
    return torch.from_numpy(held)


class ReadFrames:
    """Frames read whenever a window asks for them."""

    def __init__(self, read: Read) -> None:
        self.read = read

    def window(self, sample: int, start: int, length: int) -> Tensor:
        return torch.from_numpy(self.read(sample, start, start + length))


def extent(parts: Sequence[Part]) -> tuple[list[int], range]:
    """The samples of the parts, and the frames from the first to the last of any part."""
    samples = sorted({sample for part in parts for sample in part.samples})
    frames = [part.frames for part in parts if part]
    return samples, range(min(f.start for f in frames), max(f.stop for f in frames)) if frames else range(0)


def held_bytes(frame_bytes: int, parts: Sequence[Part]) -> int:
    """The size of `HeldFrames`: all samples of the parts, over the span from the first frame to the last."""
    samples, span = extent(parts)
    return frame_bytes * len(samples) * len(span)


def parse_bytes(text: str) -> int:
    """'512M' or '2G' in bytes."""
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([KMGT]?)i?B?\s*", text, flags=re.IGNORECASE)
    if not match:
        raise ConfigError(f"data.memory = '{text}': expected a size such as 512M or 2G.")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


class Batch(NamedTuple):
    """Windows side by side.

    frames: (batch, time, channel, height, width). static: (batch, k, height, width) or None.
    forcing: (batch, time, k, height | 1, width | 1) or None.
    """

    frames: Tensor
    static: Tensor | None
    forcing: Tensor | None

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(None if tensor is None else tensor.to(device, non_blocking=True) for tensor in self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Windows:
    """Windows of `length` frames of one part, numbered; which one a number means may depend on the epoch.

    A series gives every window whose start is a multiple of `stride`. Trajectories give one window
    each, whose start is drawn from (seed, epoch, index); without a seed they give windows at fixed
    starts, `length` apart, for validation. static: the static fields of a sample, (k, height, width).
    """

    frames: Frames
    part: Part
    length: int
    stride: int = 1
    is_trajectories: bool = False
    seed: int | None = None
    forcing: Frames | None = None
    static: Callable[[int], Tensor] | None = None

    @property
    def _starts(self) -> range:
        stride = self.length if self.is_trajectories else self.stride
        return self.part.frames[: max(0, len(self.part.frames) - self.length + 1) : stride]

    @property
    def _draws(self) -> bool:
        return self.is_trajectories and self.seed is not None

    def __len__(self) -> int:
        return len(self.part.samples) * (min(1, len(self._starts)) if self._draws else len(self._starts))

    def place(self, index: int, epoch: int = 0) -> tuple[int, int]:
        """Sample and first frame of window `index` of an epoch."""
        if self._draws:
            choices = len(self.part.frames) - self.length + 1
            start = int(np.random.default_rng([self.seed or 0, epoch, index]).integers(choices))
            return self.part.samples[index], self.part.frames[start]
        sample, position = divmod(index, len(self._starts))
        return self.part.samples[sample], self._starts[position]

    def places(self, indices: Iterable[int], epoch: int = 0) -> list[tuple[int, int]]:
        """Sample and first frame of some windows."""
        return [self.place(int(index), epoch) for index in indices]

    def batch(self, indices: Iterable[int], epoch: int = 0) -> Batch:
        """Some windows of an epoch, with the static fields and the forcing that belong to them."""
        places = self.places(indices, epoch)
        sources = (self.frames, self.forcing) if self.forcing else (self.frames,)
        return self.beside(
            places, *(torch.stack([source.window(*place, self.length) for place in places]) for source in sources)
        )

    def beside(
        self,
        places: Sequence[tuple[int, int]],
        frames: Tensor | np.ndarray,
        forcing: Tensor | np.ndarray | None = None,
    ) -> Batch:
        """The batch of windows at some places whose frames and forcing have been read."""
        static = None if self.static is None else torch.stack([self.static(sample) for sample, _ in places])
        return Batch(torch.as_tensor(frames), static, None if forcing is None else torch.as_tensor(forcing))

    @property
    def reads(self) -> tuple[Read, ...]:
        """What reads frames, and forcing if there is any; nothing where they are held in memory."""
        return tuple(source.read for source in (self.frames, self.forcing) if isinstance(source, ReadFrames))


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
