"""Training steps and closed-loop forecasts of the papers' Navier-Stokes networks, and their convolutions alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from forecast_cli.benchmark.convolutions import Convolutions, Seen, backward_too, forward_only
from forecast_cli.benchmark.reference import as_published
from forecast_cli.benchmark.row import Row, Settings, spread
from forecast_cli.benchmark.timing import in_turns, peak_mib, threads
from forecast_cli.config import ModelConfig, RunConfig, TrainingConfig
from forecast_cli.devices import computing_in
from forecast_cli.domain import Axis, Domain, TimeStep, Variable
from forecast_cli.errors import ConfigError
from forecast_cli.models import ForecastModel, build_model
from forecast_cli.objective import loss_weights, weighted_loss
from forecast_cli.trainer import make_optimizer

SIZES = {
    "minconvlstm": (40,) * 4,
    "minconvgru": (49,) * 4,
    "minconvexplstm": (40,) * 4,
    "convlstm": (25,) * 4,
    "convgru": (28,) * 4,
    "distana": (48,) * 4,
    "phydnet": (24,) * 4,
    "cnn": (62,) * 5,
    "resnet": (49,) * 4,
    "unet": (30, 40, 54),
    "convnext": (59,) * 6,
    "swin": (48,) * 6,
}
"""Channels of each layer in the papers' Navier-Stokes settings: 172,000 to 183,000 parameters. Horuz et al. (2025), arXiv 2508.03614.
The models to compare with have as many."""
STEPS = 16
"""Frames of a closed-loop forecast that are computed in one call."""
PUBLISHED = "log_space"
"""The scan that stands for the papers' whole arrangement in a training step."""


@dataclass(frozen=True)
class _Case:
    model: str
    scan: str
    context: int
    horizon: int
    threads: int
    precision: str


def train_step(settings: Settings) -> list[Row]:
    """A step of the optimiser: forward, loss, backward, update; all cases in turns."""

    def one(case: _Case) -> Callable[[], object]:
        model = model_of(case.model, case.scan, settings)
        optimizer = make_optimizer(list(model.parameters()), TrainingConfig(), torch.device(settings.device))
        frames = _frames(settings, case.context + case.horizon)
        return lambda: optimisation(model, optimizer, frames, case.context, case.precision)

    return _measured("train-step", settings, one, backward_too)


def rollout(settings: Settings) -> list[Row]:
    """A step of a closed-loop forecast after a context of `lengths`, one of many: milliseconds for each frame."""

    def one(case: _Case) -> Callable[[], object]:
        model = model_of(case.model, case.scan, settings).eval()
        with torch.inference_mode(), computing_in(case.precision, settings.device):
            state = model(_frames(settings, case.context), 1).state
        frame = _frames(settings, 1)

        def step() -> None:
            with torch.inference_mode(), computing_in(case.precision, settings.device):
                model(frame, STEPS, state=state)

        return step

    return _measured("rollout", settings, one, forward_only, frames=STEPS)


def optimisation(
    model: ForecastModel, optimizer: torch.optim.Optimizer, frames: Tensor, context: int, precision: str = "32"
) -> Tensor:
    """One step on frames (batch, time, variable, height, width), as the trainer takes it; gives the loss before it."""
    optimizer.zero_grad()
    horizon = frames.shape[1] - context
    with computing_in(precision, frames.device):
        forecast = model(frames[:, :context], horizon)
    weights = loss_weights(context, horizon, 1.0, frames.device)
    loss = weighted_loss(forecast, frames[:, 1:], model.scale, weights)
    loss.backward()
    optimizer.step()
    return loss.detach()


def model_of(name: str, scan: str, settings: Settings) -> ForecastModel:
    """A network of the papers' block, equal weights for every scan."""
    y, x = (Axis(axis, settings.grid, "1", 0.5 / settings.grid, 1 / settings.grid) for axis in "yx")
    domain = Domain((Variable("vorticity", "1"),), y, x, TimeStep(1.0, "1"), "cartesian", "circular")
    torch.manual_seed(0)
    model = build_model(RunConfig(model=network(name, scan, settings)), domain)
    return (as_published(model) if scan == PUBLISHED and name.startswith("min") else model).to(settings.device)


def network(name: str, scan: str, settings: Settings) -> ModelConfig:
    """The papers' block: norm over space after the residual."""
    if name not in SIZES:
        raise ConfigError(f"--model {name}: expected {', '.join(SIZES)}.")
    return ModelConfig(
        name=name,
        hidden=settings.hidden or SIZES[name],
        norm="layer",
        norm_position="after",
        predict="state",
        increments=False,
        boundary="circular",
        scan="sequential" if scan == PUBLISHED and name.startswith("min") else scan,
    )


def _frames(settings: Settings, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (settings.batch, count, 1, settings.grid, settings.grid)
    return torch.randn(shape, generator=generator).to(settings.device)


def _cases(settings: Settings) -> Iterator[_Case]:
    for model in settings.models:
        # A model without a scan is one case, whatever scans there are.
        for scan in settings.scans if model.startswith("min") else ("-",):
            for context, horizon in settings.lengths:
                for count in settings.threads:
                    for precision in settings.precisions:
                        yield _Case(model, scan, context, horizon, count, precision)


def _measured(
    benchmark: str,
    settings: Settings,
    one: Callable[[_Case], Callable[[], object]],
    alone: Callable[[list[Seen]], Callable[[], object]],
    *,
    frames: int = 1,
) -> list[Row]:
    """Every case and its convolutions alone, in turns; then the memory of each. Times are divided by `frames`."""
    steps, floors = {}, {}
    for case in _cases(settings):
        step = one(case)
        with threads(case.threads), Convolutions() as convolutions:
            step()
        steps[case], floors[case] = _with(case.threads, step), _with(case.threads, alone(convolutions.seen))
    turns = {(case, kind): run for kind, runs in (("step", steps), ("floor", floors)) for case, run in runs.items()}
    times = in_turns(turns, repetitions=settings.repetitions, device=settings.device)
    rows = []
    for case, step in steps.items():
        mine, floor = times[case, "step"] / frames, times[case, "floor"] / frames
        rows.append(
            Row(
                benchmark,
                case.model,
                case.scan,
                case.context,
                case.horizon,
                settings.batch,
                case.threads,
                case.precision,
                str(settings.device),
                *spread(mine),
                peak_mib(step, settings.device),
                float(np.median(floor)),
            )
        )
    return rows


def _with(count: int, step: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with threads(count):
            return step()

    return run
