"""Where forecasts start."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecast_cli.checkpoint import SavedModel
from forecast_cli.data.fields import Fields
from forecast_cli.data.times import show
from forecast_cli.errors import ConfigError, DataError


@dataclass(frozen=True)
class Start:
    """Where a forecast starts: `init` is the last true frame that the model sees."""

    sample: int
    init: int


def choose_starts(
    saved: SavedModel,
    fields: Fields,
    *,
    context: int,
    steps: int,
    init_times: Sequence[str] = (),
    every: int | None = None,
) -> list[Start]:
    """The starts of the forecasts: the times asked for, else the default ones.

    Every trajectory starts once, by default after its first `context` frames. A series starts every
    `every` steps (a quarter of the forecast unless said) where all verifying frames are in the file
    and were seen neither in training nor in validation.
    Raises DataError where there are too few frames.
    """
    if fields.frames < context:
        raise DataError(f"{fields.source}: {fields.frames} frames, but context={context}. Supply a longer record.")
    if init_times:
        inits = sorted({fields.times.index_of(text) for text in init_times})
        if inits[0] < context - 1:
            raise DataError(
                f"{fields.source}: the start at frame {inits[0]} has only {inits[0] + 1} frames before it, but context={context}."
            )
        if fields.is_trajectories and len(inits) > 1:
            raise ConfigError("--init-time: trajectories take one start. Roll out once for each.")
        return [Start(sample, init) for sample in range(fields.samples) for init in inits]
    if fields.is_trajectories:
        return [Start(sample, context - 1) for sample in range(fields.samples)]
    unseen = first_unseen(saved, fields)
    if len(_inside(saved, fields, ["training", "validation"])) == fields.frames:
        begin, end = show(fields.times.values[0]), show(fields.times.values[-1])
        raise DataError(
            f"{fields.source}: all {fields.frames} frames ({begin} to {end}) were used in {_uses(saved, fields)}: "
            "none is left to test on. Give a later file, or --init-time, which forecasts here all the same."
        )
    first = max(context - 1, unseen - 1)
    inits = list(range(first, fields.frames - steps, every or max(1, steps // 4)))
    if not inits:
        raise DataError(
            f"{fields.source}: no start leaves {steps} frames in the test part, which begins at frame {first + 1} of {fields.frames}. "
            "Give fewer --steps, another file, or --init-time (`last` forecasts beyond the file)."
        )
    return [Start(0, init) for init in inits]


def _uses(saved: SavedModel, fields: Fields) -> str:
    """The parts of the training that the frames belong to."""
    return " and ".join(name for name in ("training", "validation") if _inside(saved, fields, [name]))


def first_unseen(saved: SavedModel, fields: Fields) -> int:
    """The first frame after those that trained or validated the model; 0 if the file holds none of them."""
    inside = _inside(saved, fields, ["training", "validation"])
    return inside[-1] + 1 if inside else 0


def _inside(saved: SavedModel, fields: Fields, names: Sequence[str]) -> list[int]:
    """The frames within the times of some parts of the training."""
    times = fields.times
    seen = [saved.parts[name]["times"] for name in names if name in saved.parts]
    ends = [(times.parse(first), times.parse(last)) for first, last in seen]
    inside = [np.asarray(times.between(first, last)) for first, last in ends]
    return np.flatnonzero(np.any(inside, axis=0)).tolist() if inside else []
