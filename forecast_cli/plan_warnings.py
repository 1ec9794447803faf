"""Warnings about the sizes of a training, from its configuration and the shape of its data alone."""

from collections.abc import Iterator

from forecast_cli.config import RunConfig, TrainingConfig
from forecast_cli.data.fields import Fields
from forecast_cli.data.windows import ReadFrames, Split, Windows, beyond_record, split
from forecast_cli.models import ignored

MOST_LAYERS, MOST_CHANNELS = 64, 4096
"""Beyond these a network is more likely a slip of the keyboard: published ones have up to 50 layers of up to 2048 channels."""
DEEP = 8
"""Layers from which more layers than channels are taken for swapped numbers."""


def size_warnings(config: RunConfig, fields: Fields) -> list[str]:
    """List what is unusual about the sizes of a training, a sentence each, before anything is built or read.

    Parameters
    ----------
    config : RunConfig
        The resolved configuration.
    fields : Fields
        The data.

    Returns
    -------
    list of str
        Sentences about layers and channels, the batch, the windows, and ranges of ``--split`` that leave the record.

    Raises
    ------
    ConfigError
        If the data cannot be split as the configuration demands.
    """
    data = config.data
    parts = split(fields, data.split, data.split_along)
    return [
        *_of_layers(config, fields),
        *_of_patches(config, fields),
        *_of_windows(config, fields, parts),
        *(beyond_record(fields, data.split, data.split_along) if data.split else ()),
    ]


def _of_layers(config: RunConfig, fields: Fields) -> Iterator[str]:
    hidden = config.model.hidden
    layers, channels, same = len(hidden), max(hidden), len(set(hidden)) == 1
    swapped = same and layers >= DEEP and layers > channels
    if not (swapped or layers > MOST_LAYERS or channels > MOST_CHANNELS) or ignored(config, fields.domain, ["hidden"]):
        return
    written = f"{layers}x{channels}" if same and layers > 1 else ",".join(map(str, hidden))
    counted = f"{layers:,} layers" if layers > 1 else "a layer"
    text = f"--hidden {written} is {counted} of {'' if same else 'up to '}{channels:,} channels"
    if swapped:
        text += f"; {channels} layers of {layers} channels are --hidden {channels}x{layers}"
    yield f"{text}. Is that intended?"


def _of_patches(config: RunConfig, fields: Fields) -> Iterator[str]:
    _, height, width = fields.domain.shape
    patch = config.model.patch
    if patch > max(height, width) and not ignored(config, fields.domain, ["patch"]):
        yield f"model.patch = {patch:,} is larger than the grid of {height} x {width} cells: the whole grid is one patch."


def _of_windows(config: RunConfig, fields: Fields, parts: Split) -> Iterator[str]:
    data, training, part = config.data, config.training, parts.training
    length = data.context + (data.horizon or max(1, len(part.frames) - data.context))
    lbfgs = training.optimizer == "lbfgs"
    seed = None if lbfgs else training.seed
    frames = ReadFrames(fields.read_checked)
    windows = len(Windows(frames, part, length, data.stride, fields.is_trajectories, seed))
    if data.horizon and windows > 1 and len(part.samples) * len(part.frames) < 2 * length:
        yield (
            f"the training part has {len(part.frames):,} frames and a window {length:,} (context {data.context:,}, "
            f"horizon {data.horizon:,}): all windows overlap. Shorten data.context or data.horizon."
        )
    together = training.batch_size * training.accumulate
    if not lbfgs and together > max(windows, TrainingConfig().batch_size):
        yield (
            f"a step takes {together:,} windows, but there are {windows:,}: an epoch is a single step. "
            "Lower --batch-size to learn in more steps."
        )
