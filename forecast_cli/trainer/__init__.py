"""Training: windows in, a run directory out."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from forecast_cli import __version__, checkpoint
from forecast_cli.config import RunConfig
from forecast_cli.data.climatology import save_cycles
from forecast_cli.data.fields import Fields
from forecast_cli.distributed import ALONE, Ranks
from forecast_cli.errors import CheckpointError, OutputError
from forecast_cli.planning import prepare
from forecast_cli.signals import stop_at_signals
from forecast_cli.trainer.loop import NEVER, Cadence, Reporter, Trainer
from forecast_cli.trainer.optimizer import make_optimizer
from forecast_cli.trainer.progress import Progress

__all__ = ["Cadence", "Progress", "Reporter", "Trainer", "make_optimizer", "prepare", "train"]

_log = logging.getLogger(__name__)


def train(
    config: RunConfig,
    fields: Fields,
    run: Path,
    *,
    device: torch.device,
    reporter: Reporter,
    resume: str = "never",
    allow_change: bool = False,
    init_from: Path | None = None,
    overwrite: bool = False,
    cadence: Cadence = NEVER,
    deadline: float | None = None,
    ranks: Ranks = ALONE,
) -> Progress:
    """Train a model and leave it in the directory `run`.

    resume: "never" refuses a directory that holds a run, "auto" goes on with one or starts, "must" goes on with one.
    deadline: when to stop, of time.monotonic. Raises ForecastError subclasses; see `Trainer.run_to_end` and `Trainer.restore`.
    """
    resuming = ranks.decided(lambda: _claim(run, resume=resume, overwrite=overwrite))
    trainer = Trainer(prepare(config, fields, init_from=init_from), run, device, ranks)
    trainer.rehearse()
    if resuming:
        trainer.restore(allow_change=allow_change)
    with _logging_to(ranks.decided(lambda: _begin(trainer, overwrite=overwrite and not resuming))):
        _log.info(
            "%s %s: forecast_cli %s, torch %s, device %s, ranks %d, windows a step %d, data %s",
            "resuming" if resuming else "starting",
            config.model.name,
            __version__,
            torch.__version__,
            device,
            ranks.size,
            trainer.prepared.batch_size * config.training.accumulate * ranks.size,
            fields.source,
        )
        with stop_at_signals(deadline=deadline) as stop:
            return trainer.run_to_end(reporter, stop, cadence)


def _claim(run: Path, *, resume: str, overwrite: bool) -> bool:
    """Whether to resume what is in `run`. Raises ForecastError where it may neither be resumed nor replaced."""
    resuming = resume != "never" and checkpoint.has_state(run)
    if resume == "must" and not resuming:
        raise CheckpointError(
            f"{run}: there is no {checkpoint.STATE} to resume from. Start with --resume auto or never."
        )
    exists = run.exists() and (not run.is_dir() or any(run.iterdir()))
    is_run = (run / checkpoint.CONFIG).exists()
    if exists and not resuming and not (is_run and (overwrite or resume == "auto")):
        raise OutputError(
            f"{run} exists. Choose another name, go on with --resume auto, or replace a run with --overwrite."
        )
    return resuming


def _begin(trainer: Trainer, *, overwrite: bool) -> Path:
    """Make the run directory with what does not change in training; returns the log file."""
    run = trainer.run
    if overwrite and run.exists():
        shutil.rmtree(run)
    try:
        run.mkdir(parents=True, exist_ok=True)
        (run / checkpoint.LOG).touch()
    except OSError as error:
        raise OutputError(f"{run}: cannot be written ({error.strerror}).") from error
    checkpoint.save_config(run, trainer.config)
    if trainer.prepared.cycles:
        save_cycles(run / checkpoint.CLIMATOLOGY, trainer.prepared.cycles, trainer.prepared.fields)
    return run / checkpoint.LOG


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """What the package logs goes to a file."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    package = logging.getLogger("forecast_cli")
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    finally:
        package.removeHandler(handler)
        handler.close()
