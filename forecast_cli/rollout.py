"""Closed-loop forecasts from a trained model, written as they are computed."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from forecast_cli.checkpoint import SavedModel
from forecast_cli.config import DataConfig, config_toml
from forecast_cli.data.fields import Fields
from forecast_cli.data.inputs import Inputs, masked, open_inputs
from forecast_cli.data.naming import names_of
from forecast_cli.data.output import Writer, open_writer
from forecast_cli.domain import Axis, Domain
from forecast_cli.errors import CheckpointError, ConfigError, DataError, DivergedError
from forecast_cli.models import ForecastModel, State

BLOCK_BYTES = 2**26
"""Forecast frames held before they are written."""
CHUNK_BYTES = 2**18
"""Size of a compressed chunk in the file: small, so that reading one lead time does not unpack them all."""

FIRST_POSITIONS = {
    "hour": (0, "hour of the day"),
    "dayofyear": (1, "day of the year"),
    "month": (1, "month of the year"),
}


@dataclass(frozen=True)
class Start:
    """Where a forecast starts: `init` is the last true frame that the model sees."""

    sample: int
    init: int


def forecast_blocks(
    model: ForecastModel,
    context: Tensor,
    steps: int,
    block: int,
    *,
    static: Tensor | None = None,
    forcing: Callable[[int, int], Tensor] | None = None,
) -> Iterator[Tensor]:
    """The forecast after `context` in blocks of at most `block` frames, (batch, frames, channel, height, width).

    forcing: (start, stop) to the forcing of frames start..stop-1, counted from the first context frame.
    Only one block and the model's state are held at a time, however many steps are asked for.
    """
    state: State | None = None
    first = 0
    while steps > 0:
        count, known = min(block, steps), context.shape[1]
        ahead = forcing(first, first + known + count) if forcing else None
        with torch.inference_mode():
            forecast = model(context, count, static=static, forcing=ahead, state=state)
        yield forecast.fields
        context, state = forecast.fields[:, -1:], forecast.state
        first, steps = first + known + count - 1, steps - count


def require_fit(saved: SavedModel, fields: Fields) -> None:
    """Raise CheckpointError if the fields differ from those the model was trained on in variables, units, grid or time step."""
    trained, here = saved.domain, fields.domain
    for name, before, now in _differences(trained, here):
        raise CheckpointError(f"{fields.source}: {name} is {now}, but the model was trained on {before}.")


def _differences(trained: Domain, here: Domain) -> Iterator[tuple[str, object, object]]:
    for before, now in zip(trained.variables, here.variables, strict=True):
        if before.units != now.units:
            yield f"the unit of '{now.name}'", f"'{before.units}'", f"'{now.units}'"
    if trained.shape != here.shape:
        yield "the grid", _grid(trained), _grid(here)
    for old_axis, new_axis in ((trained.y, here.y), (trained.x, here.x)):
        old, new = _place(old_axis), _place(new_axis)
        if old and new and not np.allclose(old, new, rtol=0, atol=1e-3 * abs(old[1])):
            yield f"'{new_axis.name if new_axis else ''}'", _described(old), _described(new)
    old_step, new_step = trained.time_step, here.time_step
    if old_step.unit != new_step.unit or not np.isclose(old_step.amount, new_step.amount, rtol=1e-3):
        yield "the time step", old_step, new_step


def _grid(domain: Domain) -> str:
    return f"{domain.shape[1]} x {domain.shape[2]}"


def _place(axis: Axis | None) -> tuple[float, float] | None:
    """First coordinate and spacing of an even axis."""
    return None if axis is None or axis.first is None or axis.spacing is None else (axis.first, axis.spacing)


def _described(place: tuple[float, float]) -> str:
    return f"{place[0]:g} on in steps of {place[1]:g}"


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
    first = max(context - 1, first_unseen(saved, fields) - 1)
    inits = list(range(first, fields.frames - steps, every or max(1, steps // 4)))
    if not inits:
        raise DataError(
            f"{fields.source}: no start leaves {steps} frames in the test part, which begins at frame {first + 1} of {fields.frames}. "
            "Give fewer --steps, another file, or --init-time (`last` forecasts beyond the file)."
        )
    return [Start(0, init) for init in inits]


def first_unseen(saved: SavedModel, fields: Fields) -> int:
    """The first frame after those that trained or validated the model; 0 if the file holds none of them."""
    times = fields.times
    seen = [part["times"] for name, part in saved.parts.items() if name in ("training", "validation")]
    ends = [(times.parse(first), times.parse(last)) for first, last in seen]
    inside = [i for i, value in enumerate(times.values) if any(first <= value <= last for first, last in ends)]
    return inside[-1] + 1 if inside else 0


def roll_out(
    saved: SavedModel,
    fields: Fields,
    starts: Sequence[Start],
    path: Path,
    *,
    context: int,
    steps: int,
    told: DataConfig | None = None,
    naming: str = "cf",
    batch_size: int = 16,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Forecast from every start and write the result to `path`, block by block.

    naming: "cf" or "weatherbench2". told: where mask, static fields and forcing are, None for where the run says.
    progress: called with (frames written, frames in all).
    Raises DivergedError if a forecast leaves the finite numbers; nothing is then written.
    """
    require_fit(saved, fields)
    told = told or saved.config.data
    fields = masked(fields, told)
    inputs = open_inputs(told, fields, saved.cycles)
    _require_inputs(saved, inputs)
    device = saved.model.mean.device
    block = max(1, min(steps, BLOCK_BYTES // (fields.frame_bytes * min(batch_size, len(starts)))))
    done = 0
    names = names_of(naming, fields)
    with open_writer(path, overwrite=overwrite, names=names) as file:
        _lay_out(file, saved, fields, starts, context=context, steps=steps)
        for first in range(0, len(starts), batch_size):
            batch = starts[first : first + batch_size]
            blocks = forecast_blocks(
                saved.model,
                _context(fields, batch, context, device),
                steps,
                block,
                **_ahead(inputs, batch, context, device),
            )
            lead = 0
            for fields_block in blocks:
                _require_finite(saved.model, fields_block, lead, steps)
                values = fields_block.cpu().numpy()
                _write(
                    file,
                    fields,
                    values,
                    rows=slice(first, first + len(batch)),
                    leads=slice(lead, lead + values.shape[1]),
                )
                file.sync()
                lead += values.shape[1]
                done += len(batch) * values.shape[1]
                if progress:
                    progress(done, len(starts) * steps)


def _require_inputs(saved: SavedModel, inputs: Inputs) -> None:
    """CheckpointError unless the inputs are those that the model was trained with."""
    for kind in ("static", "forcing"):
        trained, here = getattr(saved.domain, kind), tuple(getattr(inputs, kind))
        if trained != here:
            raise CheckpointError(
                f"--{kind}: the model was trained with {', '.join(trained) or 'none'}, in this order; here are {', '.join(here) or 'none'}."
            )


def _context(fields: Fields, starts: Sequence[Start], context: int, device: torch.device) -> Tensor:
    """The true frames up to each start, (start, context, channel, height, width)."""
    frames = [fields.read_checked(start.sample, start.init - context + 1, start.init + 1) for start in starts]
    return torch.from_numpy(np.stack(frames)).to(device)


def _ahead(inputs: Inputs, starts: Sequence[Start], context: int, device: torch.device) -> dict[str, Any]:
    """The static fields and the forcing of some starts, as `forecast_blocks` takes them."""

    def forcing(first: int, stop: int) -> Tensor:
        origins = [(start.sample, start.init - context + 1) for start in starts]
        frames = [inputs.forcing_frames(sample, origin + first, origin + stop) for sample, origin in origins]
        return torch.from_numpy(np.stack(frames)).to(device)

    static = [inputs.static_fields(start.sample) for start in starts] if inputs.static else []
    return {
        "static": torch.from_numpy(np.stack(static)).to(device) if static else None,
        "forcing": forcing if inputs.forcing else None,
    }


def _require_finite(model: ForecastModel, fields: Tensor, lead: int, steps: int) -> None:
    """DivergedError unless a block of the forecast, which begins after `lead` steps, has its values."""
    good = torch.isfinite(fields) | ~model.present if model.masked else torch.isfinite(fields)
    if not good.all():
        wrong = lead + int((~good).any(dim=(0, 2, 3, 4)).nonzero()[0]) + 1
        raise DivergedError(
            f"the forecast left the finite numbers at step {wrong} of {steps}. Forecast fewer --steps, or train further."
        )


def _write(file: Writer, fields: Fields, values: np.ndarray, *, rows: slice, leads: slice) -> None:
    grid = [fields.dataset.sizes[name] for name in fields.grid_dims]
    for channel, name in enumerate(fields.names):
        file.write(name, (rows, leads), values[:, :, channel].reshape(*values.shape[:2], *grid))


def _lay_out(
    file: Writer,
    saved: SavedModel,
    fields: Fields,
    starts: Sequence[Start],
    *,
    context: int,
    steps: int,
) -> None:
    """Dimensions, coordinates, empty variables and provenance of a forecast file."""
    for name, variable in fields.spatial_coordinates().items():
        file.coordinate(name, variable)
    outer = _lay_out_times(file, fields, starts, steps)
    for kind, cycle in saved.cycles.items():
        first, name = FIRST_POSITIONS[kind]
        file.coordinate(kind, xr.Variable(kind, first + np.arange(len(cycle)), {"long_name": name}))
    _lay_out_variables(file, saved, fields, {outer: len(starts), "lead_time": steps})
    file.attributes(
        {
            "title": f"Forecast of {', '.join(fields.names)} by {saved.config.model.name}",
            "forecast_kind": "forecast",
            "forecast_variables": " ".join(fields.names),
            "forecast_model": saved.config.model.name,
            "forecast_context": context,
            "forecast_weights_sha256": saved.sha256,
            "forecast_seed": saved.config.training.seed,
            "forecast_epoch": saved.epoch,
            "forecast_data": fields.source,
            "forecast_reading": json.dumps(fields.reading._asdict()),
            "forecast_configuration": config_toml(saved.config),
        }
    )


def _lay_out_times(file: Writer, fields: Fields, starts: Sequence[Start], steps: int) -> str:
    """Write init_time, lead_time, valid_time and the sample numbers; returns the dimension of the starts."""
    times, roles = fields.times, fields.roles
    inits, leads = [start.init for start in starts], np.arange(1, steps + 1)
    file.coordinate("lead_time", times.lead_times(steps))
    said = {"standard_name": "forecast_reference_time", "long_name": "time of the last frame that the forecast saw"}
    if roles.sample:
        outer = roles.sample
        samples = fields.dataset[outer].variable[np.array([start.sample for start in starts])]
        file.coordinate(outer, samples)
        init = times.variable((), times.at(inits[:1])[0])
        valid = times.variable("lead_time", times.at(inits[0] + leads))
    else:
        outer = "init_time"
        init = times.variable("init_time", times.at(inits))
        valid = times.variable(
            ("init_time", "lead_time"), times.at((np.array(inits)[:, None] + leads).ravel()).reshape(-1, steps)
        )
    init.attrs.update(said)
    valid.attrs.update({"standard_name": "time", "long_name": "time that the forecast is for"})
    file.coordinate("init_time", init)
    file.coordinate("valid_time", valid)
    return outer


def _lay_out_variables(file: Writer, saved: SavedModel, fields: Fields, outer: dict[str, int]) -> None:
    """Create each variable on (starts, lead_time, grid), and write its climatology beside it."""
    grid = {name: fields.dataset.sizes[name] for name in fields.grid_dims}
    auxiliary = [name for name in fields.spatial_coordinates() if name not in grid]
    climatology = saved.model.climatology.cpu().numpy()
    chunk = max(1, min(outer["lead_time"], CHUNK_BYTES * len(fields.names) // fields.frame_bytes))
    for channel, name in enumerate(fields.names):
        source = fields.dataset[name]
        attributes = {
            key: value
            for key, value in source.attrs.items()
            if key not in ("valid_range", "valid_min", "valid_max", "actual_range")
        }
        mapping = source.encoding.get("grid_mapping")
        attributes |= {"grid_mapping": mapping} if mapping else {}
        attributes["coordinates"] = " ".join(
            ["valid_time", *(["init_time"] if fields.is_trajectories else []), *(a for a in auxiliary if a != mapping)]
        )
        file.field(name, {**outer, **grid}, attributes, chunks=(1, chunk, *grid.values()))
        mean = {
            "long_name": f"mean of {name} over the training part",
            "units": source.attrs.get("units", "1"),
            "cell_methods": "time: mean",
        }
        file.field(f"{name}_climatology", grid, mean)
        file.write(f"{name}_climatology", (), climatology[channel].reshape(*grid.values()))
        for kind, cycle in saved.cycles.items():
            usual = mean | {"long_name": f"mean of {name} over the training part, by {kind}"}
            file.field(f"{name}_climatology_{kind}", {kind: len(cycle), **grid}, usual)
            file.write(f"{name}_climatology_{kind}", (), cycle[:, channel].reshape(-1, *grid.values()))
