"""Closed-loop forecasts from a trained model, written as they are computed."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from forecast_cli.checkpoint import SavedModel
from forecast_cli.config import DataConfig
from forecast_cli.data.fields import Fields
from forecast_cli.data.inputs import Inputs, masked, open_inputs
from forecast_cli.data.naming import names_of
from forecast_cli.data.output import Writer, refuse_overwrite
from forecast_cli.data.resumable import Growing, growing, is_finished
from forecast_cli.distributed import ALONE, Ranks
from forecast_cli.errors import DivergedError, Stopped
from forecast_cli.models import ForecastModel, State
from forecast_cli.rollout.fit import require_fit, require_inputs
from forecast_cli.rollout.identity import identity_of
from forecast_cli.rollout.layout import chunk_steps, lay_out
from forecast_cli.rollout.reached import Reached
from forecast_cli.rollout.sharing import Elsewhere, Share, opened
from forecast_cli.rollout.standing import Standing
from forecast_cli.rollout.starts import Start, choose_starts, first_unseen

__all__ = ["Start", "choose_starts", "first_unseen", "forecast_blocks", "require_fit", "roll_out"]

BLOCK_BYTES = 2**26
"""Forecast frames held before they are written."""
BLOCK_STEPS = 32
"""Steps computed before a signal is looked for, however small the frames."""
COMMIT_SECONDS = 5.0
"""What a kill may cost, beside a block: a commit waits for the disk."""


class Block(NamedTuple):
    """Some frames of a forecast, (batch, frames, channel, height, width), and what the next ones come from."""

    fields: Tensor
    last: Tensor
    state: State


def forecast_blocks(
    model: ForecastModel,
    context: Tensor,
    steps: int,
    block: int,
    *,
    static: Tensor | None = None,
    forcing: Callable[[int, int], Tensor] | None = None,
    state: State | None = None,
    first: int = 0,
) -> Iterator[Block]:
    """The forecast after `context` in blocks of at most `block` frames.

    forcing: (start, stop) to the forcing of frames start..stop-1, of which `first` is that of the context's first frame.
    state: of the block that this one follows, with that block's last frame as context.
    Only one block and the model's state are held at a time, however many steps are asked for.
    """
    while steps > 0:
        count, known = min(block, steps), context.shape[1]
        ahead = forcing(first, first + known + count) if forcing else None
        with torch.inference_mode():
            forecast = model(context, count, static=static, forcing=ahead, state=state)
        # Laid out anew: the next block is rounded in the same way after a resume, which reads these from a file.
        context, *kept = (_in_order(tensor) for tensor in (forecast.fields[:, -1:], *forecast.state))
        state = tuple(kept)
        yield Block(forecast.fields, context, state)
        first, steps = first + known + count - 1, steps - count


def _in_order(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).copy_(tensor)


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
    resume: str = "never",
    stop: Callable[[], object] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
    ranks: Ranks = ALONE,
) -> list[str]:
    """Forecast from every start and write the result to `path`, block by block; returns what the user should know, a line each.

    Ranks share the starts of each batch, which is `batch_size` on each of them; the first one writes.

    naming: "cf" or "weatherbench2". told: where mask, static fields and forcing are, None for where the run says.
    resume: "never" begins, "auto" goes on with what was begun or begins, "must" goes on; a result that is there is then enough.
    stop: asked after each block whether to end. progress: called with (frames written, frames in all).
    Raises DivergedError if a forecast leaves the finite numbers; nothing is then written. Raises Stopped where `stop` said so;
    then, and after an OutputError, what was written can be gone on with.
    """
    require_fit(saved, fields)
    told = told or saved.config.data
    fields = masked(fields, told)
    inputs = open_inputs(told, fields, saved.cycles)
    require_inputs(saved, inputs)
    names = names_of(naming, fields)
    batch_size = min(batch_size * ranks.size, len(starts))
    block = _block(fields, steps, batch_size)
    plan = {"context": context, "steps": steps, "batch_size": batch_size, "block": block}
    identity = identity_of(saved, fields, inputs, told, starts, naming=naming, **plan)
    if ranks.decided(lambda: _is_there(path, identity, resume=resume, overwrite=overwrite)):
        return [f"{path} is complete already."]
    device, reached = saved.model.mean.device, Reached(saved.model)

    def laid_out(file: Writer) -> None:
        lay_out(file, saved, fields, starts, context=context, steps=steps, chunk=chunk_steps(fields, block))

    def begin() -> AbstractContextManager[Growing]:
        return growing(path, laid_out, names=names, identity=identity, resume=resume)

    with opened(ranks, begin) as file:
        at, total, committed = Standing.found(file.before, reached, device), len(starts) * steps, time.monotonic()
        for frames, rows, standing in _all_blocks(saved.model, fields, inputs, starts, at, ranks=ranks, **plan):
            leads = slice(standing.lead - frames.shape[1], standing.lead)
            _require_finite(saved.model, frames, leads.start, steps, file)
            reached.look(frames)
            _write(file, fields, frames.cpu().numpy(), rows=rows, leads=leads)
            done = rows.start * steps + (rows.stop - rows.start) * standing.lead
            (stopped,) = ranks.any(done < total and bool(stop()))
            if stopped or (done < total and time.monotonic() - committed > COMMIT_SECONDS):
                file.commit(standing.commit(reached))
                committed = time.monotonic()
            if stopped:
                raise Stopped(
                    f"stopped after {done} of {total} frames, before {path} was complete. The same command with --resume auto goes on."
                )
            if progress:
                progress(done, total)
        notes = reached.notes()
        attributes = {"comment": "; ".join(notes)} if notes else {}
        file.finish(Standing(len(starts)).commit(reached), attributes, fields.names)
    return notes


def _is_there(path: Path, identity: Mapping[str, Any], *, resume: str, overwrite: bool) -> bool:
    """Whether the result is there and enough. Raises OutputError for what is there and may not be replaced."""
    if is_finished(path, identity) and resume != "never":
        return True
    refuse_overwrite(path, overwrite)
    return False


def _all_blocks(
    model: ForecastModel,
    fields: Fields,
    inputs: Inputs,
    starts: Sequence[Start],
    at: Standing,
    *,
    context: int,
    steps: int,
    batch_size: int,
    block: int,
    ranks: Ranks,
) -> Iterator[tuple[Tensor, slice, Standing]]:
    """The frames of all forecasts from `at` on, block by block: with the positions of their starts, and where it then stands."""
    device = model.mean.device
    for first in range(at.first, len(starts), batch_size):
        batch = starts[first : first + batch_size]
        share = Share.of(len(batch), ranks)
        mine, (known, state) = batch[share.rows], share.cut(at.last, at.state)
        given = _ahead(inputs, mine, context, device)
        if known is None:
            known = _context(fields, mine, context, device)
        else:
            given |= {"state": state, "first": context + at.lead - 1}
        lead = at.lead
        for block_of_mine in forecast_blocks(model, known, steps - lead, block, **given):
            frames, last = share.whole(block_of_mine.fields), share.whole(block_of_mine.last)
            lead += frames.shape[1]
            state = tuple(share.whole(tensor) for tensor in block_of_mine.state)
            yield frames, slice(first, first + len(batch)), Standing(first, lead, last, state)
        at = Standing()


def _block(fields: Fields, steps: int, batch_size: int) -> int:
    """Frames of a block: whole chunks of the file, so that none is compressed twice."""
    block = max(1, min(steps, BLOCK_STEPS, BLOCK_BYTES // (fields.frame_bytes * batch_size)))
    return block - block % chunk_steps(fields, block)


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


def _require_finite(model: ForecastModel, fields: Tensor, lead: int, steps: int, file: Growing | Elsewhere) -> None:
    """DivergedError, and no file, unless a block of the forecast, which begins after `lead` steps, has its values."""
    good = torch.isfinite(fields) | ~model.present if model.masked else torch.isfinite(fields)
    if not good.all():
        file.discard()
        wrong = lead + int((~good).any(dim=(0, 2, 3, 4)).nonzero()[0]) + 1
        raise DivergedError(
            f"the forecast left the finite numbers at step {wrong} of {steps}. Forecast fewer --steps, or train further."
        )


def _write(file: Growing | Elsewhere, fields: Fields, values: np.ndarray, *, rows: slice, leads: slice) -> None:
    grid = [fields.dataset.sizes[name] for name in fields.grid_dims]
    for channel, name in enumerate(fields.names):
        file.write(name, (rows, leads), values[:, :, channel].reshape(*values.shape[:2], *grid))
