"""The optimizers by name."""

import torch
from torch.nn import Parameter

from forecast_cli.config import TrainingConfig
from forecast_cli.trainer.lbfgs import LBFGS


def make_optimizer(parameters: list[Parameter], options: TrainingConfig, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer that a configuration names."""
    # Optimizers refuse to have nothing to do; an equation may have nothing to learn.
    parameters = parameters or [Parameter(torch.zeros((), device=device))]
    if options.optimizer == "lbfgs":
        # The line search finds the length of a step, and training.epochs the end: no tolerance ends it sooner.
        return LBFGS(
            parameters,
            max_iter=options.iterations,
            max_eval=2 * options.iterations,
            tolerance_grad=0,
            tolerance_change=0,
            history_size=50,
            line_search_fn="strong_wolfe",
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options.optimizer]
    return kind(
        parameters,
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )
