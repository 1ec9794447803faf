"""A training that is killed, stopped or refused its disk loses nothing but the steps since its last state.

The marked tests are the long ones: `make test-faults`.
"""

import csv
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from faults.harness import DONE, dying_at, in_child, kill_at_random, killed_until

from forecast_cli import checkpoint, trainer
from forecast_cli.config import load_config
from forecast_cli.data.fields import open_fields
from forecast_cli.errors import Stopped

CPU = torch.device("cpu")
EVERY = 3
"""Steps between states within an epoch of seven."""
KILLED, STOPPED, FULL = -signal.SIGKILL, Stopped.exit_code, 7


class Training:
    """A training with everything that a resumed run must not forget: noise, averaged weights, a plateau schedule."""

    def __init__(self, data: Path, folder: Path, name: str, *, epochs: int) -> None:
        self.data, self.run, self.log = data, folder / name, folder / f"{name}.txt"
        options = {
            "data.files": (str(data),),
            "data.context": 4,
            "data.horizon": 2,
            "model.hidden": "4",
            "training.epochs": epochs,
            "training.batch_size": 5,
            "training.schedule": "plateau",
            "training.input_noise": 0.1,
            "training.ema": 0.9,
        }
        self.config = load_config(options=options)

    def __call__(self) -> None:
        trainer.train(
            self.config,
            open_fields([str(self.data)]),
            self.run,
            device=CPU,
            reporter=self,
            resume="auto",
            cadence=trainer.Cadence(steps=EVERY),
        )

    def begin(self, _: int) -> None: ...
    def step(self, *_: int) -> None: ...
    def epoch(self, row: dict[str, float]) -> None: ...

    @property
    def steps(self) -> int:
        """Steps that a state holds; what is there must be whole."""
        if (self.run / checkpoint.WEIGHTS).exists():
            checkpoint.load_model(self.run)
        if not checkpoint.has_state(self.run):
            return 0
        progress = checkpoint.load_state(self.run, CPU)["progress"]
        assert [row["epoch"] for row in self.rows] in (
            [*range(1, len(progress["rows"]) + 1)],
            [*range(1, len(progress["rows"]))],
        )
        return 7 * progress["epoch"] + progress["position"]

    @property
    def rows(self) -> list[dict[str, float]]:
        path = self.run / checkpoint.METRICS
        if not path.exists():
            return []
        return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(path.open())]

    def assert_equals(self, whole: "Training") -> None:
        """The same bits, whatever happened on the way; and nothing lies about."""
        assert self.rows == whole.rows
        one, other = (checkpoint.load_state(training.run, CPU) for training in (self, whole))
        for state in (one, other):
            state["progress"] = {k: v for k, v in state["progress"].items() if k not in ("seconds", "rows")}
        assert one["progress"] == other["progress"]
        for key in ("model", "averaged", "optimizer"):
            torch.testing.assert_close(one[key], other[key], rtol=0, atol=0)
        name = checkpoint.WEIGHTS
        assert (self.run / name).read_bytes() == (whole.run / name).read_bytes()
        assert sorted(p.name for p in self.run.iterdir()) == sorted(p.name for p in whole.run.iterdir())


@pytest.fixture
def made(series, tmp_path):
    def make(name: str, *, epochs: int = 3) -> Training:
        return Training(series, tmp_path, name, epochs=epochs)

    return make


@pytest.mark.parametrize(
    ("kills", "epochs"), [(4, 4), pytest.param(50, 40, marks=pytest.mark.faults)], ids=["few", "many"]
)
def test_a_training_that_is_killed_at_random_loses_only_what_came_after_its_last_state(kills, epochs, made):
    whole, killed = made("whole", epochs=epochs), made("killed", epochs=epochs)
    took = in_child(whole, whole.log).seconds
    before = 0
    for _ in killed_until(
        kills, killed, killed.log, within=max(0.3, 1.5 * took / kills), random=np.random.default_rng(1)
    ):
        assert killed.steps >= before
        before = killed.steps
    killed.assert_equals(whole)


@pytest.mark.parametrize("times", [3, pytest.param(50, marks=pytest.mark.faults)])
def test_a_training_that_is_asked_to_stop_at_random_leaves_a_state_and_goes_on(times, made):
    """Before it has begun, a signal ends it as it ends any program."""
    whole, stopped = made("whole", epochs=8), made("stopped", epochs=8)
    took, random = in_child(whole, whole.log).seconds, np.random.default_rng(2)
    codes: set[int] = set()
    count = 0
    while count < times or STOPPED not in codes:
        assert count < times + 20
        count += 1
        end = kill_at_random(stopped, stopped.log, within=took, random=random, number=signal.SIGTERM)
        assert end.code in (DONE, STOPPED, -signal.SIGTERM), end.said
        assert "Traceback" not in end.said
        codes.add(end.code)
        if end.code == DONE:
            stopped.assert_equals(whole)
            shutil.rmtree(stopped.run)
    assert in_child(stopped, stopped.log).code == DONE
    stopped.assert_equals(whole)


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.faults)])
def test_a_training_that_dies_within_any_write_leaves_what_can_be_resumed(stride, made):
    """Halfway through each write, and before each sync, rename and removal."""
    whole = made("whole", epochs=2)
    assert in_child(whole, whole.log).code == DONE
    call, code = 1, KILLED
    while code == KILLED:
        dying = made(f"dying{call}", epochs=2)

        def run(dying: Training = dying, call: int = call) -> None:
            with dying_at(call):
                dying()

        code = in_child(run, dying.log).code
        if code == KILLED:
            assert dying.steps >= 0
            assert in_child(dying, dying.log).code == DONE
        dying.assert_equals(whole)
        shutil.rmtree(dying.run)
        call += stride
    assert code == DONE
    assert call > 20


@pytest.mark.parametrize("room", [1000, 20_000])
def test_a_full_disk_is_told_and_leaves_the_last_state(room, made):
    training = made("full")
    assert in_child(training, training.log).code == DONE
    before = {path.name: path.read_bytes() for path in training.run.iterdir() if path.name != checkpoint.LOG}
    longer = made("full", epochs=5)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        longer()

    end = in_child(limited, longer.log)
    assert (end.code, end.said.count("\n")) == (FULL, 1), end.said
    after = {path.name: path.read_bytes() for path in training.run.iterdir() if path.name != checkpoint.LOG}
    assert after.keys() == before.keys()
    assert after[checkpoint.STATE] == before[checkpoint.STATE]
    assert after[checkpoint.WEIGHTS] == before[checkpoint.WEIGHTS]
    assert in_child(longer, longer.log).code == DONE


def test_a_folder_that_cannot_be_written_is_told_before_the_first_step(made):
    training = made("unwritable")
    training.run = Path("/proc/forecast/run")
    end = in_child(training, training.log)
    assert (end.code, end.said.count("\n")) == (FULL, 1), end.said
