"""How well a model does on windows: sums over all of them, whatever the batches and however many ranks share the work."""

from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

import torch
from torch import Tensor

from forecast_cli.data.windows import Windows
from forecast_cli.devices import computing_in
from forecast_cli.distributed import Ranks
from forecast_cli.models import ForecastModel
from forecast_cli.objective import loss_weights, mean_of, squared_errors
from forecast_cli.planning import Prepared

SMALLEST_BATCH = 8
"""Windows that are forecast together, at least: no gradient is kept."""


class Skill(NamedTuple):
    """The loss over all windows, and the closed-loop RMSE of each variable in its own unit."""

    loss: float
    rmse: list[float]


@torch.no_grad()
def skill(
    model: ForecastModel,
    prepared: Prepared,
    windows: Windows,
    ranks: Ranks,
    *,
    epoch: int = 0,
    between: Callable[[], None] = lambda: None,
) -> Skill:
    """The skill over the windows of an epoch. between: called after every batch; what it raises ends the work."""
    config, device = prepared.config, model.mean.device
    context = config.data.context
    horizon = windows.length - context
    size = max(config.training.batch_size, SMALLEST_BATCH)
    mine = range(len(windows))[ranks.share]
    variables = len(model.mean)
    exact = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
    sums = torch.zeros(2, context + horizon - 1, device=device, dtype=exact)
    closed_loop = torch.zeros(2, variables, device=device, dtype=exact)
    choices = [mine[start : start + size] for start in range(0, len(mine), size)]
    with closing(prepared.batches(windows, choices, epoch)) as batches:
        for batch in batches:
            batch = batch.to(device)
            with computing_in(config.training.precision, device):
                forecast = model(batch.frames[:, :context], horizon, static=batch.static, forcing=batch.forcing)
            truth = model.blank(batch.frames)
            sums += torch.stack(
                squared_errors(torch.cat([forecast.fitted, forecast.fields], dim=1), truth[:, 1:], model.scale)
            )
            errors = (forecast.fields - truth[:, context:]).to(exact)
            closed_loop[0] += errors.square().nansum(dim=(0, 1, 3, 4))
            closed_loop[1] += (~errors.isnan()).sum(dim=(0, 1, 3, 4))
            between()
    squares, counts = ranks.total(sums.cpu())
    weights = loss_weights(context, horizon, config.training.closed_loop_weight, torch.device("cpu"))
    rmse: Tensor = torch.sqrt(torch.div(*ranks.total(closed_loop.cpu())))
    return Skill(float(mean_of(squares, counts, weights)), rmse.tolist())
