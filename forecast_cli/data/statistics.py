"""What the training part says of each variable and of each further input: the numbers of the normalisation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from forecast_cli.data.fields import Fields
from forecast_cli.data.inputs import Inputs
from forecast_cli.data.windows import Frames, Part, blocks
from forecast_cli.errors import DataError


@dataclass(frozen=True)
class Statistics:
    """What the training part says of each variable, in physical units, over the values that are present.

    mean, scale: mean and standard deviation, (channel, 1, 1) or pointwise (channel, height, width).
    change: root mean square of the change between frames, (channel, 1, 1).
    lower, upper: the smallest and the largest value, (channel, 1, 1).
    climatology: mean over time and samples, (channel, height, width), NaN where there is no value.
    present: whether a cell ever has a value, (channel, height, width).
    """

    mean: Tensor
    scale: Tensor
    change: Tensor
    lower: Tensor
    upper: Tensor
    climatology: Tensor
    present: Tensor


def statistics(fields: Fields, part: Part, frames: Frames, *, pointwise: bool = False) -> Statistics:
    """Statistics of a part, in one pass over blocks of frames, in float64.

    Where a cell never changes, pointwise scaling takes the variable's overall spread.
    Raises DataError for a variable that is missing or constant over the whole part, or that never changes in time.
    """
    count, mean, squares, changes, pairs = (torch.zeros(fields.domain.shape, dtype=torch.float64) for _ in range(5))
    lower, upper = (torch.full((len(fields.names),), sign * torch.inf, dtype=torch.float64) for sign in (1, -1))
    for sample in part.samples:
        previous = None
        for block in blocks(part.frames, fields.frame_bytes):
            values = frames.window(sample, block.start, len(block)).double()
            # Chan et al. (1983): merging means and squared deviations loses no digits to large means.
            present = ~values.isnan()
            here = present.sum(dim=0)
            block_mean = values.nansum(dim=0) / here.clamp(min=1)
            shift, total = torch.where(here > 0, block_mean - mean, 0.0), (count + here).clamp(min=1)
            squares += ((values - block_mean) ** 2).nansum(dim=0) + shift**2 * count * here / total
            mean += shift * here / total
            count += here
            change = (values if previous is None else torch.cat([previous, values])).diff(dim=0)
            changes += (change**2).nansum(dim=0)
            pairs += (~change.isnan()).sum(dim=0)
            previous = values[-1:].clone()  # a view would keep the block
            lower = torch.minimum(lower, torch.where(present, values, torch.inf).amin(dim=(0, 2, 3)))
            upper = torch.maximum(upper, torch.where(present, values, -torch.inf).amax(dim=(0, 2, 3)))

    def over_cells(total: Tensor, number: Tensor) -> Tensor:
        return total.sum(dim=(1, 2), keepdim=True) / number.sum(dim=(1, 2), keepdim=True).clamp(min=1)

    overall = over_cells(mean * count, count)
    spread = over_cells(squares + (mean - overall) ** 2 * count, count).sqrt()
    change = over_cells(changes, pairs).sqrt()
    _require_change(fields, count, overall, spread, change)
    scale = spread
    if pointwise:
        by_cell = (squares / count.clamp(min=1)).sqrt()
        scale = torch.where(by_cell > 1e-6 * spread, by_cell, spread)
    return Statistics(
        mean=(torch.where(count > 0, mean, overall) if pointwise else overall).float(),
        scale=scale.float(),
        change=change.float(),
        lower=lower.float().view(-1, 1, 1),
        upper=upper.float().view(-1, 1, 1),
        climatology=torch.where(count > 0, mean, torch.nan).float(),
        present=count > 0,
    )


def _require_change(fields: Fields, count: Tensor, overall: Tensor, spread: Tensor, change: Tensor) -> None:
    """DataError for a variable with nothing to learn."""
    for channel, name in enumerate(fields.names):
        typical = overall[channel].item()
        if not count[channel].any():
            raise DataError(f"{fields.source}: '{name}' is missing everywhere in the training part: nothing to learn.")
        if spread[channel].item() <= 1e-7 * abs(typical):
            raise DataError(
                f"{fields.source}: '{name}' is constant ({typical:g}) over the training part: nothing to learn."
            )
        if change[channel].item() == 0:
            raise DataError(
                f"{fields.source}: '{name}' does not change in time over the training part: nothing to forecast."
            )


def input_statistics(inputs: Inputs, part: Part) -> dict[str, Tensor]:
    """Mean and scale, (k, 1, 1), of static fields and forcing over a part, by the names of the model's buffers.

    Channels that are made (`Inputs.made`) lie between -1 and 1 as they are: mean 0, scale 1.
    """
    found: dict[str, Tensor] = {}
    if inputs.static:
        found |= _named("static", inputs, (inputs.static_fields(sample)[None] for sample in part.samples))
    if inputs.forcing:
        forcing = (
            inputs.forcing_frames(sample, block.start, block.stop)
            for sample in part.samples
            for block in blocks(part.frames, inputs.forcing_bytes)
        )
        found |= _named("forcing", inputs, forcing)
    return found


def _named(kind: str, inputs: Inputs, parts: Iterator[np.ndarray]) -> dict[str, Tensor]:
    """The two buffers of one kind, from blocks (time, k, height | 1, width | 1)."""
    count, total, squares, origin = 0, np.zeros(1), np.zeros(1), np.zeros(0)
    for block in parts:
        values = block.swapaxes(0, 1).reshape(block.shape[1], -1).astype(np.float64)
        # Deviations from a typical value keep the digits that large means would cost.
        origin = origin if origin.size else values.mean(axis=1)
        values -= origin[:, None]
        count, total, squares = count + values.shape[1], total + values.sum(axis=1), squares + (values**2).sum(axis=1)
    mean, scale = origin + total / count, np.sqrt(np.maximum(0, squares / count - (total / count) ** 2))
    made = np.array([name in inputs.made for name in getattr(inputs, kind)])
    mean = np.where(made, 0.0, mean)
    scale = np.where(made | (scale <= 1e-7 * np.abs(mean)), 1.0, scale)
    return {
        f"{kind}_{name}": torch.from_numpy(values).float().reshape(-1, 1, 1)
        for name, values in (("mean", mean), ("scale", scale))
    }
