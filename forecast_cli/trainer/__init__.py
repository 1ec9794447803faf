"""Training: windows in, a run directory out."""

import logging
import shutil
from contextlib import ExitStack
from pathlib import Path

import torch

from forecast_cli import __version__, checkpoint
from forecast_cli.config import RunConfig
from forecast_cli.data.atomic import claimed
from forecast_cli.data.climatology import save_cycles
from forecast_cli.data.fields import Fields
from forecast_cli.data.output import require_folder_name, require_name, writing
from forecast_cli.distributed import ALONE, Ranks
from forecast_cli.errors import CheckpointError, OutputError
from forecast_cli.logs import RunLog, logging_to
from forecast_cli.plan_warnings import size_warnings
from forecast_cli.planning import prepare
from forecast_cli.signals import stop_at_signals
from forecast_cli.trainer.environment import add_session
from forecast_cli.trainer.loop import NEVER, Cadence, Reporter, Trainer
from forecast_cli.trainer.optimizer import make_optimizer
from forecast_cli.trainer.progress import Progress
from forecast_cli.trainer.rehearsal import rehearse
from forecast_cli.trainer.tensorboard import TensorBoard

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
    tensorboard: bool = False,
    ranks: Ranks = ALONE,
) -> Progress:
    """Train a model and leave it in the directory `run`.

    resume: "never" refuses a directory that holds a run, "auto" goes on with one or starts, "must" goes on with one.
    deadline: when to stop, of time.monotonic. tensorboard: write events for TensorBoard too.
    Raises ForecastError subclasses; see `Trainer.run_to_end` and `Trainer.restore`.
    """
    log = RunLog(ranks.rank if ranks.size > 1 else None)
    with (
        logging_to(log),
        stop_at_signals(deadline=deadline) as stop,
        ExitStack() as opened,
        ExitStack() as locked,
    ):

        def lock() -> None:
            locked.close()
            locked.enter_context(claimed(run / checkpoint.LOG))

        ranks.decided(lambda: require_folder_name(run))
        ranks.decided(lock)
        resuming = ranks.decided(lambda: _claim(run, resume=resume, overwrite=overwrite))
        for text in size_warnings(config, fields):
            _log.warning("sizes", {"text": text})
        trainer = Trainer(prepare(config, fields, init_from=init_from), run, device, ranks)
        rehearse(trainer.prepared, device)
        if resuming:
            trainer.restore(allow_change=allow_change)
        log.open(ranks.decided(lambda: _begin(trainer, overwrite=overwrite and not resuming)))
        ranks.decided(lock)  # the log may be a new one
        add_session(run, device, ranks)
        if tensorboard and ranks.is_first:
            reporter = opened.enter_context(TensorBoard(run, trainer.progress, reporter))
        _log.info("resume" if resuming else "start", _described(trainer, init_from))
        return trainer.run_to_end(reporter, stop, cadence)


def _described(trainer: Trainer, init_from: Path | None) -> dict[str, object]:
    """What a session of training begins with."""
    prepared, config, ranks = trainer.prepared, trainer.config, trainer.ranks
    return {
        "model": config.model.name,
        "parameters": trainer.model.parameter_count,
        "data": prepared.fields.source,
        "forecast_cli": __version__,
        "device": trainer.device,
        "ranks": ranks.size,
        "windows_a_step": prepared.batch_size * config.training.accumulate * ranks.size,
        "steps_an_epoch": prepared.steps_per_epoch(ranks.size),
        "epochs": config.training.epochs,
        "epochs_done": trainer.progress.epoch,
        "steps_done": trainer.progress.position,
        **({"init_from": init_from, "normalization_of": init_from} if init_from else {}),
    }


def _claim(run: Path, *, resume: str, overwrite: bool) -> bool:
    """Whether to resume what is in `run`. Raises ForecastError where it may neither be resumed nor replaced."""
    resuming = resume != "never" and checkpoint.has_state(run)
    if resume == "must" and not resuming:
        raise CheckpointError(
            f"{run}: there is no {checkpoint.STATE} to resume from. Start with --resume auto or never."
        )
    require_name(run)
    with writing(run):
        exists = run.exists() and (not run.is_dir() or any(run.iterdir()))
    if exists and not resuming and not (checkpoint.is_run(run) and (overwrite or resume == "auto")):
        raise OutputError(
            f"{run} exists. Choose another name, go on with --resume auto, or replace a run with --overwrite."
        )
    return resuming


def _begin(trainer: Trainer, *, overwrite: bool) -> Path:
    """Make the run directory with what does not change in training; returns the log file."""
    run = trainer.run
    try:
        if overwrite and run.exists():
            shutil.rmtree(run.resolve())  # a link to a run directory stays one
        run.resolve().mkdir(parents=True, exist_ok=True)
        (run / checkpoint.LOG).touch()
    except OSError as error:
        raise OutputError(f"{run}: cannot be written ({error.strerror}).") from error
    checkpoint.save_config(run, trainer.config)
    if trainer.prepared.cycles:
        save_cycles(run / checkpoint.CLIMATOLOGY, trainer.prepared.cycles, trainer.prepared.fields)
    return run / checkpoint.LOG
