"""What the activations of a trained model do: dead channels, dead units, zeros."""

from pathlib import Path

import torch

from forecast_cli.checkpoint import load_model
from forecast_cli.config import RunConfig
from forecast_cli.data.fields import Fields
from forecast_cli.devices import computing_in
from forecast_cli.models.activations import Activity, watch
from forecast_cli.planning import prepare


@torch.no_grad()
def activity(run: Path, config: RunConfig, fields: Fields, device: torch.device) -> list[Activity]:
    """A row for each activation of a run's best model, over all windows that it was validated on.

    Over those that it was trained on where there are none to validate. Context and closed loop count alike.
    """
    model, prepared = load_model(run, device).model, prepare(config, fields)
    windows = prepared.validation if len(prepared.validation) else prepared.training
    context, size = prepared.config.data.context, config.training.batch_size
    with watch(model) as watching, computing_in(config.training.precision, device):
        for start in range(0, len(windows), size):
            batch = windows.batch(range(start, min(start + size, len(windows)))).to(device)
            frames, horizon = batch.frames[:, :context], windows.length - context
            model(frames, horizon, static=batch.static, forcing=batch.forcing)
    return watching.activities()
