"""A first frame, before anything is written."""

import torch

from forecast_cli.errors import ConfigError
from forecast_cli.planning import Prepared


def rehearse(prepared: Prepared, device: torch.device) -> None:
    """Forecast one frame with the model, which is on `device`, so that what cannot be is refused.

    Raises ConfigError for a step that is too long, and for numbers to be learned on which nothing depends.
    """
    model, context, learn = prepared.model, prepared.config.data.context, prepared.config.model.learn
    batch = prepared.training.batch([0]).to(device)
    forcing = None if batch.forcing is None else batch.forcing[:, : context + 1]
    with torch.set_grad_enabled(bool(learn)):
        forecast = model(batch.frames[:, :context], 1, static=batch.static, forcing=forcing)
    if not learn:
        return
    total = forecast.fields.sum()
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = (
        torch.autograd.grad(total, parameters, allow_unused=True) if total.requires_grad else [None] * len(names)
    )
    unused = [n.removeprefix("numbers.") for n, g in zip(names, gradients, strict=True) if g is None]
    if unused:
        raise ConfigError(f"model.learn: nothing here depends on {', '.join(unused)}: leave it out.")
