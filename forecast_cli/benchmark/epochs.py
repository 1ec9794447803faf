"""A training epoch beside its steps alone: what it costs to bring the windows, held in memory or read ahead from a file."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import xarray as xr

from forecast_cli.benchmark.row import Row, Settings, spread
from forecast_cli.benchmark.steps import network, optimisation
from forecast_cli.benchmark.timing import in_turns, threads
from forecast_cli.config import DataConfig, RunConfig, TrainingConfig
from forecast_cli.data.fields import open_fields
from forecast_cli.planning import prepare
from forecast_cli.trainer import Progress, Trainer
from forecast_cli.trainer.loop import NEVER

STEPS = 20
WAYS = {"held": ("2G", 0), "read": ("1", 0), "read by a process": ("1", 1)}
"""data.memory and data.workers of each way to bring windows."""


class _Nobody:
    """Who watches the training."""

    def begin(self, epochs: int) -> None: ...
    def step(self, epoch: int, done: int, steps: int) -> None: ...
    def epoch(self, row: dict[str, float]) -> None: ...


def epoch(settings: Settings) -> list[Row]:
    """Epochs of the trainer on a file of compressed frames: milliseconds for each step; the floor is a step on a batch that is there."""
    rows = []
    for model in settings.models:
        for context, horizon in settings.lengths:
            for count in settings.threads:
                with TemporaryDirectory() as folder, threads(count):
                    cases = _cases(settings, model, context, horizon, Path(folder))
                    times = in_turns(cases, repetitions=settings.repetitions, device=settings.device)
                floor = float(np.median(times.pop("steps"))) / STEPS
                for way, found in times.items():
                    mine = found / STEPS
                    rows.append(
                        Row(
                            "epoch",
                            f"{model} {way}",
                            settings.scans[0] if model.startswith("min") else "-",
                            context,
                            horizon,
                            settings.batch,
                            count,
                            settings.precisions[0],
                            str(settings.device),
                            *spread(mine),
                            floor_ms=floor,
                        )
                    )
    return rows


def _cases(settings: Settings, model: str, context: int, horizon: int, folder: Path) -> dict[str, Callable[[], object]]:
    """An epoch in each way, and its steps alone on batches that are there already."""
    path = folder / "frames.nc"
    shape = (context + horizon + STEPS * settings.batch - 1, settings.grid, settings.grid)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    packing = {"zlib": True, "complevel": 1, "chunksizes": (1, *shape[1:])}
    xr.Dataset({"vorticity": (("time", "y", "x"), values)}).to_netcdf(path, encoding={"vorticity": packing})
    device, cases = torch.device(settings.device), {}
    for way, (memory, workers) in WAYS.items():
        data = DataConfig(
            files=(str(path),), split=(1.0, 0, 0), context=context, horizon=horizon, memory=memory, workers=workers
        )
        training = TrainingConfig.model_validate(
            {"batch_size": settings.batch, "clip": 0, "precision": settings.precisions[0]}
        )
        config = RunConfig(data=data, model=network(model, settings.scans[0], settings), training=training)
        trainer = Trainer(prepare(config, open_fields([str(path)])), folder, device)

        def one(trainer: Trainer = trainer) -> None:
            trainer.progress = Progress()
            trainer._epoch(_Nobody(), NEVER)

        cases[way] = one
    windows = trainer.prepared.training
    batches = [
        windows.batch(range(first, first + settings.batch)).to(device)
        for first in range(0, len(windows), settings.batch)
    ]

    def steps() -> None:
        for batch in batches:
            optimisation(trainer.model, trainer.optimizer, batch.frames, context, settings.precisions[0])

    return {"steps": steps, **cases}
