"""What training starts from, data cut into windows and a model; and what it would need, for `--dry-run`."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from forecast_cli import checkpoint
from forecast_cli.config import RunConfig
from forecast_cli.data.climatology import kinds, mean_cycles
from forecast_cli.data.cycles import CYCLES, Cycles
from forecast_cli.data.fields import Fields
from forecast_cli.data.fingerprint import fingerprints
from forecast_cli.data.inputs import Inputs, masked, open_inputs
from forecast_cli.data.loading import batches
from forecast_cli.data.sampling import evenly
from forecast_cli.data.statistics import input_statistics, statistics
from forecast_cli.data.windows import (
    Batch,
    HeldFrames,
    Part,
    ReadFrames,
    Split,
    Windows,
    blocks,
    extent,
    held_bytes,
    parse_bytes,
    require_windows,
    split,
)
from forecast_cli.domain import Domain
from forecast_cli.errors import CheckpointError, ConfigError
from forecast_cli.models import ForecastModel, Records, build_model, completed, require_units
from forecast_cli.objective import loss_weights, weighted_loss
from forecast_cli.plan_warnings import size_warnings

AHEAD = 4
"""Batches to read ahead, and one more for each process that reads: enough for a disk that answers unevenly."""


@dataclass(frozen=True)
class Prepared:
    """Data and model, ready for the first step."""

    config: RunConfig
    fields: Fields
    parts: Split
    training: Windows
    validation: Windows
    model: ForecastModel
    inputs: Inputs
    cycles: Cycles
    identity: Mapping[str, str]
    """What tells the data apart from others, by what it tells."""

    @property
    def batch_size(self) -> int:
        """Windows a step: lbfgs takes all at once."""
        training = self.config.training
        return len(self.training) if training.optimizer == "lbfgs" else training.batch_size

    def steps_per_epoch(self, ranks: int = 1) -> int:
        """Steps of an epoch where so many ranks share each of them."""
        return -(-len(self.training) // (self.batch_size * self.config.training.accumulate * ranks))

    def records(self) -> Records:
        """The frames of the training part, block after block."""
        part = self.parts.training
        for sample in part.samples:
            for block in blocks(part.frames, self.fields.frame_bytes):
                yield sample, self.training.frames.window(sample, block.start, len(block))

    def batches(
        self, windows: Windows, choices: Iterable[Sequence[int] | np.ndarray], epoch: int = 0
    ) -> Generator[Batch]:
        """The batch of each choice of windows; those read from files ahead, within a quarter of `data.memory`."""
        data = self.config.data
        window_bytes = windows.length * (self.fields.frame_bytes + self.inputs.forcing_bytes)
        ahead = parse_bytes(data.memory) // (4 * window_bytes * self.batch_size)
        return batches(windows, choices, epoch, ahead=min(max(1, ahead), AHEAD + data.workers), workers=data.workers)


def prepare(
    config: RunConfig, fields: Fields, *, init_from: Path | None = None, summary_only: bool = False
) -> Prepared:
    """Cut the data into windows and build the model.

    summary_only: reads no data, and the model is on the meta device, which computes shapes only.
    Raises DataError where a part is too short, CheckpointError where `init_from` does not fit.
    """
    config, seed = (
        config.model_copy(update={"model": completed(config.model, fields.dataset.attrs)}),
        config.training.seed,
    )
    if config.training.precision == "bf16" and config.model.name == "finn":
        raise ConfigError("training.precision = bf16: not for finn, whose equations need the digits of 32.")
    if config.model.name == "finn":
        require_units(config.model, fields.domain, fields.source)
    fields = masked(fields, config.data)
    parts = split(fields, config.data.split, config.data.split_along)
    whole = config.data.horizon == 0
    config = _with_horizon(config, parts)
    data = config.data
    length = data.context + data.horizon
    validation_length = min(length, max(len(parts.validation.frames), data.context + 1)) if whole else length
    require_windows(parts.training, length, "training", fields, data.context, data.horizon)
    require_windows(parts.validation, validation_length, "validation", fields, data.context, data.horizon)
    limit = 0 if summary_only else parse_bytes(data.memory)
    fits = held_bytes(fields.frame_bytes, parts[:2]) <= limit
    frames = HeldFrames(fields.read_checked, parts[:2]) if fits else ReadFrames(fields.read_checked)
    wanted = kinds(fields.times, parts.training.frames, fields.frame_bytes)
    if summary_only:
        cycles: Cycles = {kind: np.zeros((CYCLES[kind], *fields.domain.shape)) for kind in wanted}
    else:
        cycles = mean_cycles(fields, parts.training, frames, wanted)
    inputs = open_inputs(data, fields, cycles)
    if fits and held_bytes(fields.frame_bytes + inputs.forcing_bytes, parts[:2]) > limit:
        fits, frames = False, ReadFrames(fields.read_checked)
    ahead = inputs.forcing_frames
    forcing = (HeldFrames(ahead, parts[:2]) if fits else ReadFrames(ahead)) if inputs.forcing else None
    shared: dict[str, Any] = {
        "frames": frames,
        "stride": data.stride,
        "is_trajectories": fields.is_trajectories,
        "forcing": forcing,
        "static": cache(lambda sample: torch.from_numpy(inputs.static_fields(sample))) if inputs.static else None,
    }

    lbfgs = config.training.optimizer == "lbfgs"
    identity: dict[str, str] = {}
    torch.manual_seed(seed)
    domain = replace(fields.domain, static=tuple(inputs.static), forcing=tuple(inputs.forcing))
    if init_from:
        _require_same_inputs(init_from, domain)
    with torch.device("meta") if summary_only else nullcontext():
        model = build_model(config, domain)
    if not summary_only:
        found = asdict(statistics(fields, parts.training, frames, pointwise=data.normalize == "pointwise"))
        model.set_statistics(**found, **input_statistics(inputs, parts.training))
        identity = fingerprints(data.files) | _told(fields.names, found)
        if init_from:
            checkpoint.load_weights(init_from, model)
            # The weights suit the mean and scale that they were found with; where there are values, the data here say.
            model.set_statistics(climatology=found["climatology"], present=found["present"])
    return Prepared(
        config,
        fields,
        parts,
        # lbfgs needs the same windows at every step; other optimizers draw theirs.
        Windows(part=parts.training, length=length, seed=None if lbfgs else seed, **shared),
        Windows(part=parts.validation, length=validation_length, **shared),
        model,
        inputs,
        cycles,
        identity,
    )


def _require_same_inputs(run: Path, domain: Domain) -> None:
    """Raise CheckpointError unless variables, static fields and forcing of a run are those of `domain`, in their order."""
    described = Domain.from_json(checkpoint.describe_run(run)["domain"])
    for kind in ("variables", "static", "forcing"):
        trained, here = (
            [variable.name for variable in side.variables] if kind == "variables" else list(getattr(side, kind))
            for side in (described, domain)
        )
        if trained != here:
            raise CheckpointError(
                f"--init-from {run}: the {kind} of its model are {', '.join(trained) or 'none'}, in this order; "
                f"those here are {', '.join(here) or 'none'}. Give the same, or train without --init-from."
            )


def _told(names: Sequence[str], found: Mapping[str, Tensor]) -> dict[str, str]:
    """The numbers of the normalisation: hardly a change of the training part leaves them as they were."""
    return {
        f"{kind} of {name}": f"{float(found[key][channel].double().mean()):.17g}"
        for key, kind in (("mean", "mean"), ("scale", "spread"), ("change", "change"))
        for channel, name in enumerate(names)
    }


def described_parts(prepared: Prepared) -> dict[str, Any]:
    """First and last time, and the samples, of each part that is not empty; `rollout` finds the test part by it."""
    times = prepared.fields.times
    described: dict[str, Any] = {}
    for name, part in zip(Split._fields, prepared.parts, strict=True):
        if part:
            ends = [times.show(part.frames[0]), times.show(part.frames[-1])]
            described[name] = {"times": ends, "samples": [part.samples.start, part.samples.stop]}
    return described


def _with_horizon(config: RunConfig, parts: Split) -> RunConfig:
    """The configuration with the horizon in frames. Raises ConfigError where segments cannot start from one frame."""
    data, training = config.data, config.training
    if training.segments and data.context != 1:
        raise ConfigError(
            f"training.segments: rollouts that start from one frame need data.context = 1, not {data.context}. "
            "Train on whole windows instead: --set 'training.segments=[]'."
        )
    if data.horizon:
        return config
    horizon = max(1, len(parts.training.frames) - data.context)
    return config.model_copy(update={"data": data.model_copy(update={"horizon": horizon})})


@dataclass(frozen=True)
class Plan:
    """Sizes of a run: windows, steps, parameters, and bytes.

    window_shape: of one batch, (windows, frames, variables, height, width).
    data_bytes: of the frames, if they are held in memory. step_bytes: of one training step, beside the data.
    warnings: sentences about what will likely go wrong.
    """

    parameters: int
    training_windows: int
    validation_windows: int
    steps_per_epoch: int
    window_shape: tuple[int, ...]
    data_bytes: int
    step_bytes: int
    warnings: tuple[str, ...] = ()


def plan(config: RunConfig, fields: Fields, free_bytes: int | None = None) -> Plan:
    """The plan of a run. `step_bytes` counts parameters, gradients, optimizer and what autograd keeps of one step,
    found by a step that computes shapes only."""
    prepared, doubts = prepare(config, fields, summary_only=True), size_warnings(config, fields)
    config = prepared.config
    data, batch = config.data, min(prepared.batch_size, len(prepared.training))
    shape = (batch, data.context + data.horizon, *fields.domain.shape)
    meta = prepared.model
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    told, space = prepared.inputs, shape[3:]
    ahead = told.forcing_frames(0, 0, 1).shape[1:] if told.forcing else ()
    inputs = {
        "static": torch.empty(batch, len(told.static), *space, device="meta") if told.static else None,
        "forcing": torch.empty(*shape[:2], *ahead, device="meta") if told.forcing else None,
    }
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        frames = torch.empty(shape, device="meta")
        weighted_loss(
            meta(frames[:, : data.context], data.horizon, **inputs),
            frames[:, 1:],
            meta.scale,
            loss_weights(data.context, data.horizon, config.training.closed_loop_weight, torch.device("meta")),
        )
    parameters = sum(parameter.numel() for parameter in meta.parameters())
    found = Plan(
        parameters=parameters,
        training_windows=len(prepared.training),
        validation_windows=len(prepared.validation),
        steps_per_epoch=prepared.steps_per_epoch(),
        window_shape=shape,
        data_bytes=held_bytes(fields.frame_bytes + prepared.inputs.forcing_bytes, prepared.parts[:2]),
        step_bytes=16 * parameters + sum(kept.values()),
    )
    return replace(found, warnings=(*doubts, *_warnings(found, prepared, free_bytes)))


EXAMINED_BYTES = 2**29
"""What a dry run reads at most; of a larger record evenly spaced blocks."""


def examine(config: RunConfig, fields: Fields) -> float:
    """Read the data as training would, and return the share of the frames that was read.

    Raises DataError where training would refuse the data: values that are missing, infinite or undeclared fill values, in the
    training or validation part, in static fields or in forcing; and variables that are constant, which only a whole
    training part shows.
    """
    prepared = prepare(config, fields, summary_only=True)
    fields, parts, inputs = prepared.fields, prepared.parts, prepared.inputs
    pieces = [
        (sample, block)
        for part in _read_parts(prepared)
        for sample in part.samples
        for block in blocks(part.frames, fields.frame_bytes + inputs.forcing_bytes)
    ]
    largest = max(len(block) for _, block in pieces) * (fields.frame_bytes + inputs.forcing_bytes)
    chosen = list(evenly(pieces, max(2, EXAMINED_BYTES // largest)))
    for sample, block in chosen:
        fields.read_checked(sample, block.start, block.stop)
        if inputs.forcing:
            inputs.forcing_frames(sample, block.start, block.stop)
    for sample in sorted({sample for sample, _ in chosen} if inputs.static else ()):
        inputs.static_fields(sample)
    if len(chosen) == len(pieces):
        statistics(fields, parts.training, ReadFrames(fields.read_checked))
    return sum(len(block) for _, block in chosen) / sum(len(block) for _, block in pieces)


def _read_parts(prepared: Prepared) -> list[Part]:
    """The parts that training reads: where it holds the data in memory, also what lies between training and validation."""
    fields, data, parts = prepared.fields, prepared.config.data, prepared.parts[:2]
    if held_bytes(fields.frame_bytes + prepared.inputs.forcing_bytes, parts) <= parse_bytes(data.memory):
        samples, span = extent(parts)
        return [Part(range(sample, sample + 1), span) for sample in samples]
    return [part for part in parts if part]


def _warnings(found: Plan, prepared: Prepared, free_bytes: int | None) -> Iterator[str]:
    """What a user should know before the run starts."""
    data, part = prepared.config.data, prepared.parts.validation
    length = data.context + data.horizon
    if not part:
        yield "there is no validation part: the epoch with the lowest training loss is kept. Give one with --split."
    elif len(part.samples) * len(part.frames) < 3 * length:
        yield (
            f"the validation part has {len(part.frames)} frames and a window {length}: hardly independent windows to choose "
            "an epoch by. Give it more with --split, or shorten data.context or data.horizon."
        )
    held = found.data_bytes if found.data_bytes <= parse_bytes(data.memory) else 0
    needed, gib = found.step_bytes + held, 2**30
    if free_bytes is not None and needed > free_bytes:
        yield (
            f"a step and the data it holds need about {needed / gib:.3g} GiB, but {free_bytes / gib:.3g} GiB are free. "
            "Lower --batch-size, --hidden, data.context or data.horizon."
        )
