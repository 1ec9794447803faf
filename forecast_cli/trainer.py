"""Training: windows in, a run directory out; stoppable at any step and resumable exactly.

All that decides a step is a function of (configuration, epoch, position) or stands in the training
state, so that a resumed run takes the same steps as one that was never stopped.
"""

import csv
import io
import logging
import math
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from forecast_cli import __version__, checkpoint
from forecast_cli.closures import save_closures
from forecast_cli.config import RunConfig, TrainingConfig
from forecast_cli.data.climatology import save_cycles
from forecast_cli.data.fields import Fields
from forecast_cli.data.output import write_atomically
from forecast_cli.data.times import show
from forecast_cli.data.windows import Batch, Split, order
from forecast_cli.devices import computing_in
from forecast_cli.errors import CheckpointError, ConfigError, DivergedError, OutputError, Stopped
from forecast_cli.models import ForecastModel
from forecast_cli.objective import (
    PLATEAU_EPOCHS,
    cut,
    input_noise,
    learning_rate,
    loss_weights,
    next_segment,
    segment_of,
    weighted_loss,
)
from forecast_cli.planning import Prepared, prepare
from forecast_cli.signals import stop_at_signals

WALL = 1e6
"""What a line search sees in the place of a loss that is no number; a loss of 1 is as bad as forecasting the mean."""
AT_REST = 1e-6
"""Relative change of the loss in an epoch below which lbfgs has come to rest: float32 resolves little more."""
CHECK_EVERY = 50
"""Steps between looks at whether the loss is finite: a look waits for the device."""

_log = logging.getLogger(__name__)


class Reporter(Protocol):
    """Who watches the training: the command line, or nobody."""

    def step(self, epoch: int, done: int, steps: int) -> None: ...
    def epoch(self, row: dict[str, float]) -> None: ...


@dataclass
class Progress:
    """Where the training stands: everything that is neither weights nor optimizer."""

    epoch: int = 0
    position: int = 0
    """Steps done in this epoch."""
    loss_sum: float = 0.0
    windows_seen: int = 0
    best: float = math.inf
    best_epoch: int = 0
    stale_epochs: int = 0
    reductions: int = 0
    """Times that the plateau schedule has cut the learning rate."""
    rows: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """One training run. `run_to_end` is all that a caller needs."""

    def __init__(self, prepared: Prepared, run: Path, device: torch.device) -> None:
        self.prepared, self.run, self.device = prepared, run, device
        self.config, options = prepared.config, prepared.config.training
        self.model = prepared.model.to(device)
        self.averaged = (
            AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(options.ema)) if options.ema else None
        )
        self.optimizer = make_optimizer(list(self.model.parameters()), options, device)
        if options.compile:
            self.model.compile()  # in place: the names of the weights stay
        self.is_lbfgs = options.optimizer == "lbfgs"
        self.progress = Progress()
        self.summing = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64

    @property
    def best_model(self) -> ForecastModel:
        """The weights that are validated and saved: averaged ones if asked for."""
        return cast(ForecastModel, self.averaged.module) if self.averaged else self.model

    def run_to_end(self, reporter: Reporter, stop: Callable[[], bool]) -> Progress:
        """Train what is left. Raises Stopped at a signal and DivergedError at NaN; both leave a good checkpoint."""
        options = self.config.training
        while self.progress.epoch < options.epochs and not self._out_of_patience:
            started = time.perf_counter()
            self._epoch(reporter, stop)
            self._close_epoch(time.perf_counter() - started, reporter)
        if not self.progress.best_epoch:
            raise DivergedError(
                "no rollout over a whole window has stayed within the finite numbers: nothing was saved. "
                "Train on shorter training.segments first, or on a shorter data.horizon."
            )
        return self.progress

    @property
    def _out_of_patience(self) -> bool:
        return 0 < self.config.training.patience <= self.progress.stale_epochs

    def _epoch(self, reporter: Reporter, stop: Callable[[], bool]) -> None:
        progress, options, windows = self.progress, self.config.training, self.prepared.training
        steps = self.prepared.steps_per_epoch
        visits = order(len(windows), seed=options.seed, epoch=progress.epoch)
        size = self.prepared.batch_size
        if self.is_lbfgs and progress.position == 0 and self._segment_changes:
            self.optimizer.state.clear()  # the curvature of another loss
        pending = torch.zeros((), device=self.device, dtype=self.summing)
        self.model.train()
        choices = [visits[step * size :][:size] for step in range(progress.position, steps)]
        with closing(self.prepared.batches(windows, choices, progress.epoch)) as batches:
            for indices, batch in zip(choices, batches, strict=True):
                pending += self._step(indices, batch) * len(indices)
                progress.position += 1
                progress.windows_seen += len(indices)
                stopping = stop()
                if stopping or progress.position % CHECK_EVERY == 0 or progress.position == steps:
                    progress.loss_sum += self._require_finite(float(pending))
                    pending.zero_()
                reporter.step(progress.epoch, progress.position, steps)
                if stopping:
                    self.save_state()
                    raise Stopped(
                        f"stopped at epoch {progress.epoch + 1}, step {progress.position} of {steps}. Go on with --resume auto."
                    )

    @property
    def _segment_changes(self) -> bool:
        """Whether this epoch's rollouts are of another length than the last one's."""
        training, epoch = self.config.training, self.progress.epoch
        return epoch > 0 and segment_of(training, epoch) != segment_of(training, epoch - 1)

    def _step(self, indices: np.ndarray, batch: Batch) -> Tensor:
        """One step of the optimizer on some windows; returns the loss before it."""
        progress, data, options = self.progress, self.config.data, self.config.training
        batch = batch.to(self.device)
        context = input_noise(
            batch.frames[:, : data.context],
            self.model.scale,
            deviation=options.input_noise,
            seed=options.seed,
            epoch=progress.epoch,
            indices=indices,
        )
        truth = batch.frames
        batch = batch._replace(frames=torch.cat([context, truth[:, data.context :]], dim=1))
        segment = segment_of(options, progress.epoch)
        batch, truth = cut(batch, segment), cut(batch._replace(frames=truth), segment).frames
        if self.is_lbfgs:
            # torch's stubs know closures of float only.
            loss = cast(Tensor, self.optimizer.step(lambda: self._gradient_or_wall(batch, truth)))  # type: ignore[arg-type,return-value]
            loss = torch.where(loss < WALL, loss, torch.nan)
        else:
            self._set_learning_rate()
            loss = self._gradient(batch, truth)
            if options.clip:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), options.clip)
            self.optimizer.step()
        if self.averaged:
            self.averaged.update_parameters(self.model)
        return loss.detach()

    def _set_learning_rate(self) -> None:
        progress, options, steps = self.progress, self.config.training, self.prepared.steps_per_epoch
        rate = learning_rate(
            options,
            step=progress.epoch * steps + progress.position,
            steps=options.epochs * steps,
            reductions=progress.reductions,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _gradient(self, batch: Batch, truth: Tensor) -> Tensor:
        """The loss of a batch, whose gradient is left in the parameters."""
        self.optimizer.zero_grad()
        loss = self._loss(self.model, batch, truth)
        if loss.requires_grad:  # an equation with nothing to learn has no gradient
            loss.backward()
        return loss

    def rehearse(self) -> None:
        """Forecast one frame, so that what cannot be is refused before anything is written.

        Raises ConfigError for a step that is too long, and for numbers to be learned on which nothing depends.
        """
        context, learn = self.config.data.context, self.config.model.learn
        batch = self.prepared.training.batch([0]).to(self.device)
        forcing = None if batch.forcing is None else batch.forcing[:, : context + 1]
        with torch.set_grad_enabled(bool(learn)):
            forecast = self.model(batch.frames[:, :context], 1, static=batch.static, forcing=forcing)
        if not learn:
            return
        total = forecast.fields.sum()
        names, parameters = zip(*self.model.named_parameters(), strict=True)
        gradients = (
            torch.autograd.grad(total, parameters, allow_unused=True) if total.requires_grad else [None] * len(names)
        )
        unused = [n.removeprefix("numbers.") for n, g in zip(names, gradients, strict=True) if g is None]
        if unused:
            raise ConfigError(f"model.learn: nothing here depends on {', '.join(unused)}: leave it out.")

    def _gradient_or_wall(self, batch: Batch, truth: Tensor) -> Tensor:
        """For a line search: where a trial leaves the finite numbers stands a high wall without a slope."""
        try:
            loss = self._gradient(batch, truth)
        except DivergedError:
            loss = torch.full((), torch.nan, device=self.device)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if torch.isfinite(loss) and loss < WALL and all(bool(torch.isfinite(g).all()) for g in gradients):
            return loss
        self.optimizer.zero_grad()
        return torch.full_like(loss, WALL)

    def _loss(self, model: ForecastModel, batch: Batch, truth: Tensor) -> Tensor:
        """The loss of rollouts as long as the batch's windows."""
        context = self.config.data.context
        horizon = truth.shape[1] - context
        weights = loss_weights(context, horizon, self.config.training.closed_loop_weight, self.device)
        with computing_in(self.config.training.precision, self.device):
            forecast = model(batch.frames[:, :context], horizon, static=batch.static, forcing=batch.forcing)
        return weighted_loss(forecast, model.blank(truth)[:, 1:], model.scale, weights)

    def _require_finite(self, value: float) -> float:
        """The loss, or DivergedError, which says what is left."""
        if not math.isfinite(value):
            kept = (
                f"{self.run / checkpoint.STATE} holds the last good state"
                if checkpoint.has_state(self.run)
                else "no epoch was finished"
            )
            remedy = (
                "Give better starts (model.parameters), or learn less at once."
                if self.is_lbfgs
                else "Lower training.learning_rate or set training.clip."
            )
            raise DivergedError(f"the loss became {value} in epoch {self.progress.epoch + 1}; {kept}. {remedy}")
        return value

    def _close_epoch(self, seconds: float, reporter: Reporter) -> None:
        progress = self.progress
        whole = self.is_lbfgs or self.config.training.segments
        row: dict[str, float] = {
            "epoch": progress.epoch + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "training_loss": self._loss_after() if whole else progress.loss_sum / progress.windows_seen,
        }
        row |= self._validation()
        score = row.get("validation_loss", row["training_loss"])
        if not math.isfinite(score) and not whole:
            raise DivergedError(
                f"the validation loss became {score} in epoch {progress.epoch + 1}. Lower training.learning_rate."
            )
        row["seconds"] = round(seconds, 3)
        improved = score < progress.best
        if improved:
            progress.best, progress.best_epoch, progress.stale_epochs = score, progress.epoch + 1, 0
            checkpoint.save_model(
                self.run, self.best_model, self.config, parts=described_parts(self.prepared), epoch=progress.best_epoch
            )
            save_closures(self.run / checkpoint.CLOSURES, self.best_model, self.prepared)
        else:
            progress.stale_epochs += 1
            if self.config.training.schedule == "plateau" and progress.stale_epochs % PLATEAU_EPOCHS == 0:
                progress.reductions += 1
        progress.rows.append(row)
        if self.is_lbfgs and self._at_rest:
            # Further line searches would find nothing either: on to rollouts of another length, or to the end.
            progress.epoch = next_segment(self.config.training, progress.epoch) - 1
        if not any(True for _ in self.model.parameters()):
            progress.epoch = self.config.training.epochs - 1
        progress.epoch, progress.position, progress.loss_sum, progress.windows_seen = progress.epoch + 1, 0, 0.0, 0
        self.save_state()
        _log.info("epoch %s", " ".join(f"{key}={value:.6g}" for key, value in row.items()))
        reporter.epoch(row | {"best": improved})

    def _validation(self) -> dict[str, float]:
        """What `validate` finds; infinite where a rollout leaves the finite numbers on the way."""
        try:
            return self.validate()
        except DivergedError:
            names = self.prepared.fields.names
            return {"validation_loss": math.inf} | {f"validation_rmse_{name}": math.inf for name in names}

    @property
    def _at_rest(self) -> bool:
        """Whether an epoch has left the loss as it was, to rounding."""
        before, now = [math.inf, *(row["training_loss"] for row in self.progress.rows)][-2:]
        return math.isfinite(before) and abs(now - before) <= AT_REST * before

    @torch.no_grad()
    def _loss_after(self) -> float:
        """The loss over whole training windows with the present weights: steps know that of the weights before, on segments.

        Infinite where a rollout leaves the finite numbers: what does well on segments may yet fail on the whole.
        """
        total = 0.0
        try:
            windows = self.prepared.training
            choices = _in_turn(len(windows), self.config.training.batch_size)
            for batch in self.prepared.batches(windows, choices, self.progress.epoch):
                batch = batch.to(self.device)
                total += float(self._loss(self.best_model, batch, batch.frames)) * len(batch.frames)
        except DivergedError:
            return math.inf
        return total / len(self.prepared.training) if math.isfinite(total) else math.inf

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss over the validation windows, and the closed-loop RMSE of each variable in its own unit; empty without any."""
        windows, data = self.prepared.validation, self.config.data
        if not len(windows):
            return {}
        model = self.best_model.eval()
        horizon = windows.length - data.context
        weights = loss_weights(data.context, horizon, self.config.training.closed_loop_weight, self.device)
        loss = torch.zeros((), device=self.device, dtype=self.summing)
        squares, counts = (
            torch.zeros(len(self.prepared.fields.names), device=self.device, dtype=self.summing) for _ in range(2)
        )
        choices = _in_turn(len(windows), max(self.config.training.batch_size, 8))
        for batch in self.prepared.batches(windows, choices):
            batch = batch.to(self.device)
            with computing_in(self.config.training.precision, self.device):
                forecast = model(batch.frames[:, : data.context], horizon, static=batch.static, forcing=batch.forcing)
            truth = model.blank(batch.frames)
            loss += weighted_loss(forecast, truth[:, 1:], model.scale, weights) * len(truth)
            errors = (forecast.fields - truth[:, data.context :]).to(self.summing)
            squares += errors.square().nansum(dim=(0, 1, 3, 4))
            counts += (~errors.isnan()).sum(dim=(0, 1, 3, 4))
        rmse = (squares / counts).sqrt().tolist()
        return {"validation_loss": loss.item() / len(windows)} | {
            f"validation_rmse_{name}": value for name, value in zip(self.prepared.fields.names, rmse, strict=True)
        }

    def save_state(self) -> None:
        """Write the training state and the metrics that belong to it."""
        checkpoint.save_state(
            self.run,
            {
                "config": self.config.model_dump(mode="json"),
                "domain": self.model.domain.to_json(),
                "model": self.model.state_dict(),
                "averaged": self.averaged.state_dict() if self.averaged else None,
                "optimizer": self.optimizer.state_dict(),
                "progress": asdict(self.progress),
            },
        )
        write_atomically(self.run / checkpoint.METRICS, _as_csv(self.progress.rows))

    def restore(self) -> None:
        """Go on from the training state in the run directory. Raises CheckpointError if it belongs to another run."""
        state = checkpoint.load_state(self.run, self.device)
        if changes := checkpoint.changed_keys(state["config"], self.config):
            raise CheckpointError(
                f"{self.run}: was trained with another configuration ({'; '.join(changes)}). Change it back, or choose another run."
            )
        if state["domain"] != self.model.domain.to_json():
            raise CheckpointError(f"{self.run}: was trained on other fields (variables, grid or time step differ).")
        try:
            self.model.load_state_dict(state["model"])
            if self.averaged:
                self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.progress = Progress(**state["progress"])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.run / checkpoint.STATE}: does not fit this model ({str(error).splitlines()[0]})."
            ) from error


def make_optimizer(parameters: list[Parameter], options: TrainingConfig, device: torch.device) -> torch.optim.Optimizer:
    """The optimizer that a configuration names."""
    # Optimizers refuse to have nothing to do; an equation may have nothing to learn.
    parameters = parameters or [Parameter(torch.zeros((), device=device))]
    if options.optimizer == "lbfgs":
        # The line search finds the length of a step, and training.epochs the end: no tolerance ends it sooner.
        return torch.optim.LBFGS(
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


def _in_turn(count: int, size: int) -> list[range]:
    """All windows in their order, so many at once."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _as_csv(rows: list[dict[str, float]]) -> bytes:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue().encode()


def described_parts(prepared: Prepared) -> dict[str, Any]:
    """First and last time, and the samples, of each part that is not empty; `rollout` finds the test part by it."""
    times = prepared.fields.times
    described: dict[str, Any] = {}
    for name, part in zip(Split._fields, prepared.parts, strict=True):
        if part:
            first, last = times.values[part.frames[0]], times.values[part.frames[-1]]
            described[name] = {"times": [show(first), show(last)], "samples": [part.samples.start, part.samples.stop]}
    return described


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


def train(
    config: RunConfig,
    fields: Fields,
    run: Path,
    *,
    device: torch.device,
    reporter: Reporter,
    resume: str = "never",
    init_from: Path | None = None,
    overwrite: bool = False,
) -> Progress:
    """Train a model and leave it in the directory `run`.

    resume: "never" refuses a directory that holds a run, "auto" goes on with one or starts, "must" goes on with one.
    Raises ForecastError subclasses; see `Trainer.run_to_end`.
    """
    resuming = _claim(run, resume=resume, overwrite=overwrite)
    trainer = Trainer(prepare(config, fields, init_from=init_from), run, device)
    trainer.rehearse()
    if resuming:
        trainer.restore()
    elif overwrite and run.exists():
        shutil.rmtree(run)
    try:
        run.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(run / checkpoint.LOG)
    except OSError as error:
        raise OutputError(f"{run}: cannot be written ({error.strerror}).") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    package = logging.getLogger("forecast_cli")
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        checkpoint.save_config(run, trainer.config)
        if trainer.prepared.cycles:
            save_cycles(run / checkpoint.CLIMATOLOGY, trainer.prepared.cycles, fields)
        _log.info(
            "%s %s: forecast_cli %s, torch %s, device %s, data %s",
            "resuming" if resuming else "starting",
            config.model.name,
            __version__,
            torch.__version__,
            device,
            fields.source,
        )
        with stop_at_signals() as stop:
            return trainer.run_to_end(reporter, stop)
    finally:
        package.removeHandler(handler)
        handler.close()
