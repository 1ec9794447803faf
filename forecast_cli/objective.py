"""What a training step minimises, on what input, and how far it goes."""

import math

import numpy as np
import torch
from torch import Tensor

from forecast_cli.config import TrainingConfig
from forecast_cli.data.windows import Batch
from forecast_cli.models import Forecast

PLATEAU_EPOCHS, PLATEAU_FACTOR = 5, 0.5
"""The plateau schedule: after how many epochs without a better one the learning rate falls, and to what share."""


def loss_weights(context: int, horizon: int, closed_loop_weight: float, device: torch.device) -> Tensor:
    """Weights of frames 1 .. context + horizon - 1, summing to 1; (time, 1, 1, 1)."""
    weights = torch.ones(context + horizon - 1, 1, 1, 1, device=device)
    weights[context - 1 :] = closed_loop_weight
    return weights / weights.sum()


def segment_of(training: TrainingConfig, epoch: int) -> int:
    """The closed-loop frames of the rollouts in an epoch's loss, 0 for the whole horizon: `segments` take equal turns."""
    if not training.segments:
        return 0
    return training.segments[min(epoch * len(training.segments) // training.epochs, len(training.segments) - 1)]


def next_segment(training: TrainingConfig, epoch: int) -> int:
    """The first epoch after this one whose rollouts are of another length; the number of epochs if there is none."""
    now = segment_of(training, epoch)
    return next((e for e in range(epoch + 1, training.epochs) if segment_of(training, e) != now), training.epochs)


def cut(batch: Batch, segment: int) -> Batch:
    """Windows of 1 + `segment` frames out of longer ones, each starting at a true frame that ends the one before.

    Where the segments do not fill a window, the last one reaches back. Multiple shooting: errors grow over `segment`
    frames only, and all segments are rolled out side by side.
    """
    frames = batch.frames.shape[1]
    if not 0 < segment < frames - 1:
        return batch
    starts = [*range(0, frames - 1 - segment, segment), frames - 1 - segment]

    def pieces(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else torch.cat([tensor[:, start : start + segment + 1] for start in starts])

    static = None if batch.static is None else batch.static.repeat(len(starts), 1, 1, 1)
    found = pieces(batch.frames)
    assert found is not None
    return Batch(found, static, pieces(batch.forcing))


def weighted_loss(
    forecast: Forecast, truth: Tensor, scale: Tensor, weights: Tensor, counts: Tensor | None = None
) -> Tensor:
    """Mean squared error in units of `scale` over the values that are present, averaged over frames with `weights`.

    truth: frames 1 and on, (batch, context + horizon - 1, channel, height, width), NaN where a value is missing.
    counts: values of each frame of the whole batch of which these windows are a share; the losses of all shares add up to its loss.
    """
    squares, present = squared_errors(torch.cat([forecast.fitted, forecast.fields], dim=1), truth, scale)
    return mean_of(squares, present if counts is None else counts, weights)


def mean_of(squares: Tensor, counts: Tensor, weights: Tensor) -> Tensor:
    """The loss from the sums of `squared_errors`: the mean of each frame, averaged over frames with `weights`."""
    # A frame without any value has no error, and its weight goes to the others.
    weights = weights.flatten() * (counts > 0)
    return (squares / counts.clamp(min=1) * weights).sum() / weights.sum().clamp(min=1e-12)


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
