"""Each model trained in its smallest form, by one process or by several that `ranks.start` starts: python every_model.py DATA FOLDER."""

import sys
from pathlib import Path
from typing import Any

import torch

from forecast_cli import trainer
from forecast_cli.config import load_config
from forecast_cli.data.fields import open_fields
from forecast_cli.distributed import ALONE, Ranks, joined
from forecast_cli.models import MODELS


def smallest(name: str) -> dict[str, Any]:
    """Options of a model for trajectories of one variable."""
    given = {
        "model.name": name,
        "model.hidden": "4",
        "data.context": 4,
        "data.horizon": 2,
        "training.optimizer": "adam",
    }
    return given | (
        {"model.equation": "allen-cahn", "model.learn": "reaction", "training.segments": ()} if name == "finn" else {}
    )


class Silent:
    def begin(self, _: int) -> None: ...
    def step(self, *_: int) -> None: ...
    def epoch(self, _: dict[str, float]) -> None: ...


def train_all(data: str, folder: Path, batch: int, ranks: Ranks = ALONE) -> None:
    """Two epochs of every model, each in a run directory of its name."""
    for name in MODELS:
        steps = {"data.files": (data,), "training.epochs": 2, "training.batch_size": batch}
        config = load_config(options=smallest(name) | steps)
        cpu, silent = torch.device("cpu"), Silent()
        trainer.train(config, open_fields([data]), folder / name, device=cpu, reporter=silent, ranks=ranks)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined() as ranks:
        train_all(sys.argv[1], Path(sys.argv[2]), 2, ranks)
