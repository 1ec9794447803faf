"""The curves of a training for TensorBoard, beside those of metrics.csv. The package tensorboard is an extra."""

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Self

from forecast_cli import checkpoint
from forecast_cli.data.output import writing
from forecast_cli.errors import ConfigError, OutputError
from forecast_cli.trainer.loop import Reporter
from forecast_cli.trainer.progress import Progress

NOT_CURVES = ("epoch", "best")


def require_tensorboard() -> None:
    """ConfigError where the package is missing."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ConfigError("--tensorboard needs a package more: pip install 'forecast_cli[tensorboard]'.") from error


class TensorBoard:
    """Passes on to another reporter, and writes each epoch as events too.

    A resumed run writes the last epoch that it finished again and has TensorBoard drop what came from there on, so that no epoch
    is there twice, nor missing where the run was killed before its events were on disk.
    """

    def __init__(self, run: Path, progress: Progress, reporter: Reporter) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.reporter = run / checkpoint.TENSORBOARD, reporter
        last = progress.rows[-1:]
        with writing(self.folder):
            self.writer = SummaryWriter(str(self.folder), purge_step=int(last[0]["epoch"]) if last else 0)
        for row in last:
            self._write(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with suppress(OutputError) if kind else nullcontext(), writing(self.folder):
            self.writer.close()

    def begin(self, epochs: int) -> None:
        self.reporter.begin(epochs)

    def step(self, epoch: int, done: int, steps: int) -> None:
        self.reporter.step(epoch, done, steps)

    def epoch(self, row: dict[str, float]) -> None:
        self._write(row)
        self.reporter.epoch(row)

    def _write(self, row: dict[str, float]) -> None:
        with writing(self.folder):
            for name, value in row.items():
                if name not in NOT_CURVES:
                    self.writer.add_scalar(name, value, int(row["epoch"]))
            self.writer.flush()
