"""Closed-loop forecasts from a trained model, written as they are computed."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from forecast_cli.checkpoint import SavedModel
from forecast_cli.config import DataConfig
from forecast_cli.data.fields import Fields
from forecast_cli.data.inputs import Inputs, masked, open_inputs
from forecast_cli.data.naming import names_of
from forecast_cli.data.output import Writer, open_writer
from forecast_cli.errors import DivergedError
from forecast_cli.models import ForecastModel, State
from forecast_cli.rollout.fit import require_fit, require_inputs
from forecast_cli.rollout.layout import lay_out
from forecast_cli.rollout.reached import Reached
from forecast_cli.rollout.starts import Start, choose_starts, first_unseen

__all__ = ["Start", "choose_starts", "first_unseen", "forecast_blocks", "require_fit", "roll_out"]

BLOCK_BYTES = 2**26
"""Forecast frames held before they are written."""


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
) -> list[str]:
    """Forecast from every start and write the result to `path`, block by block; returns what the user should know, a line each.

    naming: "cf" or "weatherbench2". told: where mask, static fields and forcing are, None for where the run says.
    progress: called with (frames written, frames in all).
    Raises DivergedError if a forecast leaves the finite numbers; nothing is then written.
    """
    require_fit(saved, fields)
    told = told or saved.config.data
    fields = masked(fields, told)
    inputs = open_inputs(told, fields, saved.cycles)
    require_inputs(saved, inputs)
    device = saved.model.mean.device
    block = max(1, min(steps, BLOCK_BYTES // (fields.frame_bytes * min(batch_size, len(starts)))))
    done = 0
    names = names_of(naming, fields)
    reached = Reached(saved.model)
    with open_writer(path, overwrite=overwrite, names=names) as file:
        lay_out(file, saved, fields, starts, context=context, steps=steps)
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
                reached.look(fields_block)
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
        notes = reached.notes()
        if notes:
            file.attributes({"comment": "; ".join(notes)})
    return notes


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
