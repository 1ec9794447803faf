"""What decides the values of a forecast: only where all of it is the same can a forecast that was begun be gone on with."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from forecast_cli import __version__
from forecast_cli.checkpoint import SavedModel
from forecast_cli.config import DataConfig
from forecast_cli.data.fields import Fields
from forecast_cli.data.inputs import Inputs
from forecast_cli.data.times import show
from forecast_cli.rollout.starts import Start

LOOKS = 8
"""Starts whose context is read to tell the data: a forecast from a thousand starts need not read them all twice."""


def identity_of(
    saved: SavedModel,
    fields: Fields,
    inputs: Inputs,
    told: DataConfig,
    starts: Sequence[Start],
    **options: Any,
) -> dict[str, Any]:
    """Digests and plain values, by the name under which a difference is told. options: of the command."""
    return {
        "forecast_cli": __version__,
        "weights": saved.sha256,
        "model": _digest(saved.config.model.model_dump_json()),
        "data": _data(fields, inputs, starts, options["context"]),
        "inputs": _digest(json.dumps([told.mask, told.static, told.forcing], default=str)),
        "starts": _digest(json.dumps([[start.sample, start.init] for start in starts])),
        "device": saved.model.mean.device.type,
        **options,
    }


def _data(fields: Fields, inputs: Inputs, starts: Sequence[Start], context: int) -> str:
    """A digest of what the forecasts are made from: its content, so that a copy of the file elsewhere is the same."""
    times = fields.times.values
    parts = [json.dumps(fields.domain.to_json()).encode(), f"{show(times[0])} {show(times[-1])} {len(times)}".encode()]
    for number in sorted({*np.linspace(0, len(starts) - 1, LOOKS).astype(int).tolist()}):
        start = starts[number]
        parts.append(fields.read(start.sample, start.init - context + 1, start.init + 1).tobytes())
        if inputs.static:
            parts.append(inputs.static_fields(start.sample).tobytes())
    return _digest(*parts)


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()
