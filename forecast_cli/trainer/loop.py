"""The training loop: it may be stopped at any step, and goes on exactly.

All that decides a step is a function of (configuration, epoch, position) or stands in the training state, so that a resumed
run takes the same steps as one that was never stopped. Ranks take equal shares of every step's windows.
"""

import logging
import math
import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from forecast_cli import checkpoint
from forecast_cli.closures import save_closures
from forecast_cli.data.output import write_atomically
from forecast_cli.data.windows import Batch, order
from forecast_cli.devices import computing_in
from forecast_cli.distributed import ALONE, Ranks, together
from forecast_cli.errors import CheckpointError, ConfigError, DivergedError, Stopped
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
from forecast_cli.planning import Prepared, described_parts
from forecast_cli.trainer.changes import changed
from forecast_cli.trainer.lbfgs import LBFGS
from forecast_cli.trainer.optimizer import make_optimizer
from forecast_cli.trainer.progress import Progress
from forecast_cli.trainer.validation import skill

AT_REST = 1e-6
"""Relative change of the loss in an epoch below which lbfgs has come to rest: float32 resolves little more."""
CHECK_EVERY = 50
"""Steps between looks at whether the loss is finite: a look waits for the device."""

_log = logging.getLogger(__name__)


class Reporter(Protocol):
    """Who watches the training: the command line, or nobody."""

    def begin(self, epochs: int) -> None: ...
    def step(self, epoch: int, done: int, steps: int) -> None: ...
    def epoch(self, row: dict[str, float]) -> None: ...


class Cadence(NamedTuple):
    """How often a training state is written within an epoch: after so many steps, or seconds; 0 for neither."""

    steps: int = 0
    seconds: float = 0.0


NEVER = Cadence()


class Piece(NamedTuple):
    """Windows that go through the network together.

    batch: as the model sees them, with noise. truth: their true frames. share: 1, or 0 where a rank only keeps the others company.
    rows: windows, or segments of them, in the whole step.
    """

    batch: Batch
    truth: Tensor
    share: float
    rows: int


class Trainer:
    """One training run. `run_to_end` is all that a caller needs."""

    def __init__(self, prepared: Prepared, run: Path, device: torch.device, ranks: Ranks = ALONE) -> None:
        self.prepared, self.run, self.device, self.ranks = prepared, run, device, ranks
        self.config, options = prepared.config, prepared.config.training
        self.model = prepared.model.to(device)
        self.averaged = (
            AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(options.ema))
            if options.ema and not self.model.fits
            else None
        )
        parameters = list(self.model.parameters())
        self.optimizer = make_optimizer(parameters, options, device)
        if options.compile:
            self.model.compile()  # in place: the names of the weights stay
        if self.is_lbfgs and ranks.size > 1:
            raise ConfigError(
                "training.optimizer = lbfgs takes all windows at once: start it without torchrun or srun."
            )
        self.learner: Callable[..., Any] = self.model
        if ranks.size > 1 and parameters:
            self.learner = DistributedDataParallel(self.model)
            self.learner.broadcast_buffers = False  # they do not change; the argument of this name is deprecated
        self.progress = Progress()
        self.summing = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        self.stop: Callable[[], str | None] = lambda: None
        self.has_advanced = False
        """A step was made, or an epoch closed, since this session began: what a stop may not undo for ever."""

    @property
    def is_lbfgs(self) -> bool:
        return isinstance(self.optimizer, LBFGS)

    @property
    def best_model(self) -> ForecastModel:
        """The weights that are validated and saved: averaged ones if asked for."""
        return cast(ForecastModel, self.averaged.module) if self.averaged else self.model

    def run_to_end(self, reporter: Reporter, stop: Callable[[], str | None], cadence: Cadence = NEVER) -> Progress:
        """Train what is left. Raises Stopped when `stop` gives a reason, and DivergedError at NaN; both leave a good checkpoint."""
        self.stop = stop
        reporter.begin(self.epochs)
        while self.progress.epoch < self.epochs and not self._out_of_patience:
            if self.model.fits:
                self._fit(reporter)
            else:
                self._epoch(reporter, cadence)
            self._close_epoch(reporter)
        if not self.progress.best_epoch:
            raise DivergedError(
                "no rollout over a whole window has stayed within the finite numbers: nothing was saved. "
                "Train on shorter training.segments first, or on a shorter data.horizon."
            )
        reason = "patience" if self._out_of_patience else "epochs"
        progress = self.progress
        _log.info(
            "end",
            {"reason": reason, "epochs": progress.epoch, "best_epoch": progress.best_epoch, "best": progress.best},
        )
        return progress

    @property
    def epochs(self) -> int:
        """Passes over the data, or fits among which validation chooses."""
        return self.model.fits or self.config.training.epochs

    def _fit(self, reporter: Reporter) -> None:
        """One of the closed-form fits, in the place of an epoch."""
        self._stop_between()
        started = time.perf_counter()
        self.model.fit(self.prepared.records, self.progress.epoch)
        self.progress.seconds = time.perf_counter() - started
        reporter.step(self.progress.epoch, 1, 1)

    @property
    def _out_of_patience(self) -> bool:
        """Never where fits are chosen from: they get better in no order."""
        return not self.model.fits and 0 < self.config.training.patience <= self.progress.stale_epochs

    def _epoch(self, reporter: Reporter, cadence: Cadence) -> None:
        progress, steps = self.progress, self.prepared.steps_per_epoch(self.ranks.size)
        if isinstance(self.optimizer, LBFGS) and progress.position == 0 and self._segment_changes:
            self.optimizer.restart()  # the curvature is that of another loss
        total = torch.tensor(self._own_losses, device=self.device, dtype=self.summing)
        self.model.train()
        started, saved = time.perf_counter() - progress.seconds, time.monotonic()
        with closing(self._steps()) as taken:
            for pieces, indices in taken:
                with together() if self.ranks.size > 1 else nullcontext():
                    total += self._step(pieces) * len(indices)
                progress.position += 1
                self.has_advanced = True
                progress.windows_seen += len(indices)
                due = cadence.steps > 0 and progress.position % cadence.steps == 0
                stopping, overdue = self.ranks.any(
                    bool(self.stop()), 0 < cadence.seconds <= time.monotonic() - saved and self.ranks.is_first
                )
                if stopping or due or overdue or progress.position % CHECK_EVERY == 0 or progress.position == steps:
                    progress.losses = self.ranks.gathered(float(total))
                    self._require_finite(sum(progress.losses))
                    progress.seconds = time.perf_counter() - started
                reporter.step(progress.epoch, progress.position, steps)
                if stopping:
                    self._save_and_stop()
                if due or overdue:
                    self.save_state()
                    saved = time.monotonic()

    @property
    def _own_losses(self) -> float:
        """What this rank has summed before; another number of ranks than before leaves it all with the first."""
        losses = self.progress.losses
        if len(losses) == self.ranks.size:
            return losses[self.ranks.rank]
        return sum(losses) if self.ranks.is_first else 0.0

    def _save_and_stop(self) -> None:
        """Leave a state to go on from, and end; no rank before it is written, for a launcher ends the others with the first."""
        self.save_state()
        progress, steps = self.progress, self.prepared.steps_per_epoch(self.ranks.size)
        reason = next(filter(None, self.ranks.gathered(self.stop())))
        _log.info("stop", {"reason": reason, "epochs_done": progress.epoch, "steps_done": progress.position})
        raise Stopped(
            f"stopped ({reason}) at epoch {progress.epoch + 1}, step {progress.position} of {steps}. Go on with --resume auto."
        )

    def _steps(self) -> Generator[tuple[list[Piece], np.ndarray]]:
        """What this rank computes in each step that is left of the epoch, and the windows of that step over all ranks."""
        options, windows, progress = self.config.training, self.prepared.training, self.progress
        visits = order(len(windows), seed=options.seed, epoch=progress.epoch)
        size, count = self.prepared.batch_size, options.accumulate
        together = size * count * self.ranks.size
        steps = [
            visits[first : first + together] for first in range(progress.position * together, len(visits), together)
        ]
        shares: list[list[np.ndarray]] = []
        for indices in steps:
            mine = indices[self.ranks.share]
            shares.append([mine[first : first + size] for first in range(0, len(mine), size)])
        # A rank without a window in the last step goes along with one that does not count.
        choices = [indices for share in shares for indices in share or [visits[:1]]]
        with closing(self.prepared.batches(windows, choices, progress.epoch)) as read:
            chosen = zip(choices, read, strict=False)
            for indices, share in zip(steps, shares, strict=True):
                taken = islice(chosen, max(1, len(share)))
                yield (
                    [self._piece(batch, which, 1.0 if share else 0.0, len(indices)) for which, batch in taken],
                    indices,
                )

    @property
    def _segment_changes(self) -> bool:
        """Whether this epoch's rollouts are of another length than the last one's."""
        training, epoch = self.config.training, self.progress.epoch
        return epoch > 0 and segment_of(training, epoch) != segment_of(training, epoch - 1)

    def _piece(self, batch: Batch, indices: np.ndarray, share: float, together: int) -> Piece:
        """A batch on the device, with noise, and cut as this epoch wants it."""
        data, options = self.config.data, self.config.training
        batch = batch.to(self.device)
        context = input_noise(
            batch.frames[:, : data.context],
            self.model.scale,
            deviation=options.input_noise,
            seed=options.seed,
            epoch=self.progress.epoch,
            indices=indices,
        )
        noisy = batch._replace(frames=torch.cat([context, batch.frames[:, data.context :]], dim=1))
        segment = segment_of(options, self.progress.epoch)
        truth = cut(batch, segment).frames
        return Piece(cut(noisy, segment), truth, share, len(truth) // len(indices) * together)

    def _step(self, pieces: list[Piece]) -> Tensor:
        """One step of the optimizer; returns this rank's share of the loss before it."""
        if isinstance(self.optimizer, LBFGS):
            loss = self.optimizer.step(lambda: self._gradient(pieces))
        else:
            self._set_learning_rate()
            loss = self._gradient(pieces)
            if self.config.training.clip:
                torch.nn.utils.clip_grad_norm_(list(self.model.parameters()), self.config.training.clip)
            self.optimizer.step()
        if self.averaged:
            self.averaged.update_parameters(self.model)
        return loss.detach()

    def _set_learning_rate(self) -> None:
        progress, options = self.progress, self.config.training
        steps = self.prepared.steps_per_epoch(self.ranks.size)
        rate = learning_rate(
            options,
            step=progress.epoch * steps + progress.position,
            steps=options.epochs * steps,
            reductions=progress.reductions,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _gradient(self, pieces: list[Piece]) -> Tensor:
        """This rank's share of the loss; the gradient of the whole is left in the parameters."""
        self.optimizer.zero_grad()
        counts, total = self._counts(pieces), torch.zeros((), device=self.device)
        for number, piece in enumerate(pieces, start=1):
            # Gradients are exchanged once a step.
            alone = number < len(pieces) and isinstance(self.learner, DistributedDataParallel)
            with self.learner.no_sync() if alone else nullcontext():  # type: ignore[attr-defined]
                loss = self._loss(piece, counts) * piece.share
                if loss.requires_grad:  # an equation with nothing to learn has no gradient
                    (loss * self.ranks.size).backward()  # the mean over ranks that they form is then a sum
            total += loss.detach()
        return total

    def _counts(self, pieces: list[Piece]) -> Tensor | None:
        """Values of each frame in the whole step, where it is more than one piece on one rank."""
        if self.ranks.size == 1 and len(pieces) == 1:
            return None
        if not self.model.masked:  # every value is there: nobody need be asked
            frames, *window = pieces[0].truth.shape[1:]
            return torch.full((frames - 1,), pieces[0].rows * math.prod(window), device=self.device)
        counts = sum(
            piece.share * (~self.model.blank(piece.truth)[:, 1:].isnan()).sum(dim=(0, 2, 3, 4)) for piece in pieces
        )
        return self.ranks.total(cast(Tensor, counts).cpu()).to(self.device)

    def _loss(self, piece: Piece, counts: Tensor | None = None) -> Tensor:
        """The loss of rollouts as long as the windows of a piece."""
        batch, context = piece.batch, self.config.data.context
        horizon = piece.truth.shape[1] - context
        weights = loss_weights(context, horizon, self.config.training.closed_loop_weight, self.device)
        with computing_in(self.config.training.precision, self.device):
            forecast = self.learner(batch.frames[:, :context], horizon, static=batch.static, forcing=batch.forcing)
        return weighted_loss(forecast, self.model.blank(piece.truth)[:, 1:], self.model.scale, weights, counts)

    def _require_finite(self, value: float) -> None:
        """DivergedError unless the loss is a number; it says what is left."""
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

    def _close_epoch(self, reporter: Reporter) -> None:
        progress = self.progress
        whole = bool(self.is_lbfgs or self.config.training.segments or self.model.fits)
        row: dict[str, float] = {
            "epoch": progress.epoch + 1,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "training_loss": self._loss_after() if whole else sum(progress.losses) / progress.windows_seen,
        }
        row |= self.validate()
        score = row.get("validation_loss", row["training_loss"])
        if not math.isfinite(score) and not whole:
            raise DivergedError(
                f"the validation loss became {score} in epoch {progress.epoch + 1}. Lower training.learning_rate."
            )
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.best_model.parameters()):
            # The loss is that of the weights before the last step.
            self._require_finite(math.nan)
        row["seconds"] = round(progress.seconds, 3)
        improved = score < progress.best
        if improved:
            progress.best, progress.best_epoch, progress.stale_epochs = score, progress.epoch + 1, 0
            self._save_model()
        else:
            progress.stale_epochs += 1
            if self.config.training.schedule == "plateau" and progress.stale_epochs % PLATEAU_EPOCHS == 0:
                progress.reductions += 1
        progress.rows.append(row)
        following = progress.epoch + 1
        if isinstance(self.optimizer, LBFGS) and not self.optimizer.is_blocked and self._at_rest:
            # Further line searches would find nothing either: on to rollouts of another length, or to the end.
            following = next_segment(self.config.training, progress.epoch)
        if not self.model.fits and not any(True for _ in self.model.parameters()):
            following = self.epochs
        progress.begin_epoch(following)
        self.has_advanced = True
        self.save_state()
        _log.info("epoch", row | {"best": improved})
        reporter.epoch(row | {"best": improved})

    @property
    def _at_rest(self) -> bool:
        """Whether an epoch has left the loss as it was, to rounding."""
        before, now = [math.inf, *(row["training_loss"] for row in self.progress.rows)][-2:]
        return math.isfinite(before) and abs(now - before) <= AT_REST * before

    def _loss_after(self) -> float:
        """The loss over whole training windows with the present weights: steps know that of the weights before, on segments.

        Infinite where a rollout leaves the finite numbers: what does well on segments may yet fail on the whole.
        """
        try:
            loss = skill(
                self.best_model,
                self.prepared,
                self.prepared.training,
                self.ranks,
                epoch=self.progress.epoch,
                between=self._stop_between,
            ).loss
        except DivergedError:
            return math.inf
        return loss if math.isfinite(loss) else math.inf

    def validate(self) -> dict[str, float]:
        """Loss over the validation windows, and the closed-loop RMSE of each variable in its own unit; empty without any.

        Infinite where a rollout leaves the finite numbers on the way.
        """
        names, windows = self.prepared.fields.names, self.prepared.validation
        if not len(windows):
            return {}
        try:
            loss, rmse = skill(self.best_model.eval(), self.prepared, windows, self.ranks, between=self._stop_between)
        except DivergedError:
            loss, rmse = math.inf, [math.inf] * len(names)
        return {"validation_loss": loss} | {f"validation_rmse_{name}": r for name, r in zip(names, rmse, strict=True)}

    def _stop_between(self) -> None:
        """Stop between two batches of a validation, or before a fit, both of which the resumed run repeats.

        A session that has not advanced finishes them first: stopped there again and again, a training would never end.
        Ranks stop together, at the next step.
        """
        if self.ranks.size == 1 and self.has_advanced and self.stop():
            self._save_and_stop()

    def _save_model(self) -> None:
        if self.ranks.is_first:
            parts, epoch = described_parts(self.prepared), self.progress.best_epoch
            checkpoint.save_model(
                self.run,
                self.best_model,
                self.config,
                parts=parts,
                epoch=epoch,
                coordinates=self.prepared.fields.coordinates,
            )
            save_closures(self.run / checkpoint.CLOSURES, self.best_model, self.prepared)

    def save_state(self) -> None:
        """Write the training state and the metrics that belong to it; on the first rank."""
        if not self.ranks.is_first:
            return
        checkpoint.save_state(
            self.run,
            {
                "config": self.config.model_dump(mode="json"),
                "domain": self.model.domain.to_json(),
                "ranks": self.ranks.size,
                "data": self.prepared.identity,
                "model": self.model.state_dict(),
                "averaged": self.averaged.state_dict() if self.averaged else None,
                "optimizer": self.optimizer.state_dict(),
                "progress": asdict(self.progress),
            },
        )
        self._save_metrics()
        _log.info("checkpoint", {"epochs_done": self.progress.epoch, "steps_done": self.progress.position})

    def _save_metrics(self) -> None:
        write_atomically(self.run / checkpoint.METRICS, self.progress.as_csv())

    def restore(self, *, allow_change: bool = False) -> None:
        """Go on from the training state in the run directory. Raises CheckpointError if it belongs to another run.

        allow_change: take up what fits in spite of another configuration, other data or ranks; an unfinished epoch begins anew.
        """
        state = checkpoint.load_state(self.run, self.device)
        changes = changed(state, self.prepared, self.ranks)
        if changes and not allow_change:
            raise CheckpointError(
                f"{self.run}: was trained with other options or data ({'; '.join(changes)}). "
                "Change them back, choose another run, or give --allow-change."
            )
        if state["progress"]["best_epoch"]:
            checkpoint.load_weights(self.run, self.model)  # damaged weights are better known now than at the end
        try:
            self.model.load_state_dict(state["model"])
            if self.averaged and state["averaged"]:
                self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.progress = Progress(**state["progress"])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.run / checkpoint.STATE}: does not fit this model ({' '.join(str(error).split())[:200]})."
            ) from error
        if changes:
            _log.warning("changes", {"text": f"resuming in spite of changes: {'; '.join(changes)}"})
            self.progress.begin_epoch(self.progress.epoch)
        if self.ranks.is_first:
            self._save_metrics()  # the run may have ended between its state and them
