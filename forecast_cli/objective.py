"""What a training step minimises, on what input, and how far it goes."""

import math

import numpy as np
import torch
from torch import Tensor

from forecast_cli.config import RunConfig, TrainingConfig
from forecast_cli.models import Forecast

PLATEAU_EPOCHS, PLATEAU_FACTOR = 5, 0.5
"""The plateau schedule: after how many epochs without a better one the learning rate falls, and to what share."""


def loss_weights(config: RunConfig, device: torch.device) -> Tensor:
    """Weights of frames 1 .. context + horizon - 1, summing to 1; (time, 1, 1, 1)."""
    weights = torch.ones(config.data.context + config.data.horizon - 1, 1, 1, 1, device=device)
    weights[config.data.context - 1 :] = config.training.closed_loop_weight
    return weights / weights.sum()


def weighted_loss(forecast: Forecast, truth: Tensor, scale: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error in units of `scale` over the values that are present, averaged over frames with `weights`.

    truth: frames 1 and on, (batch, context + horizon - 1, channel, height, width), NaN where a value is missing.
    """
    squares, count = squared_errors(torch.cat([forecast.fitted, forecast.fields], dim=1), truth, scale)
    # A frame without any value has no error, and its weight goes to the others.
    weights = weights.flatten() * (count > 0)
    return (squares / count.clamp(min=1) * weights).sum() / weights.sum().clamp(min=1e-12)


def squared_errors(predicted: Tensor, truth: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Of each frame the sum of squared errors in units of `scale`, and the number of values; (time,).

    What is missing is taken out before the square: no gradient is NaN, and none depends on what lies under a mask.
    """
    present = ~truth.isnan()
    errors = torch.where(present, (predicted - torch.nan_to_num(truth)) / scale, 0.0)
    return errors.square().sum(dim=(0, 2, 3, 4)), present.sum(dim=(0, 2, 3, 4))


def learning_rate(training: TrainingConfig, *, step: int, steps: int, reductions: int) -> float:
    """The learning rate of a step out of `steps`: warm-up times schedule."""
    rate = training.learning_rate * min(1.0, (step + 1) / (training.warmup + 1))
    if training.schedule == "cosine":
        return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return rate * PLATEAU_FACTOR**reductions


def input_noise(
    context: Tensor, scale: Tensor, *, deviation: float, seed: int, epoch: int, indices: np.ndarray
) -> Tensor:
    """The context with Gaussian noise of `deviation` times scale; each window's depends on (seed, epoch, index) alone."""
    if deviation == 0:
        return context
    draws = [
        np.random.default_rng([seed, epoch, int(index), 1]).standard_normal(context.shape[1:], np.float32)
        for index in indices
    ]
    return context + deviation * scale * torch.from_numpy(np.stack(draws)).to(context.device)
