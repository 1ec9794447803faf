"""A rollout that is killed, stopped or refused its disk loses nothing but the time since its last commit.

The marked tests are the long ones: `make test-faults`.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from faults.harness import DONE, dying_at, in_child, kill_at_random, killed_until
from safetensors import safe_open

from forecast_cli.checkpoint import load_model
from forecast_cli.data.fields import open_fields
from forecast_cli.data.forecasts import open_written
from forecast_cli.errors import Stopped
from forecast_cli.rollout import choose_starts, roll_out
from forecast_cli.signals import stop_at_signals

STEPS, BLOCK = 160, 16
KILLED, STOPPED, FULL = -signal.SIGKILL, Stopped.exit_code, 7


class Rollout:
    """A rollout of six trajectories in two batches of blocks of 16 steps, each committed."""

    def __init__(self, run: Path, data: Path, folder: Path, name: str) -> None:
        self.saved, self.data = load_model(run), data
        self.path, self.log, self.seen = folder / name, folder / "said.txt", folder / "seen.txt"
        self.ends_at: int | None = None

    def __call__(self, *, resume: str = "auto", overwrite: bool = False, steps: int = STEPS) -> None:
        fields = open_fields([str(self.data)])
        starts = choose_starts(self.saved, fields, context=4, steps=steps)
        with stop_at_signals() as stop:
            roll_out(
                self.saved,
                fields,
                starts,
                self.path,
                context=4,
                steps=steps,
                batch_size=4,
                resume=resume,
                overwrite=overwrite,
                stop=stop,
                progress=self._see,
            )

    def _see(self, done: int, _: int) -> None:
        if not self.seen.exists():
            self.seen.write_text(str(done))
        if self.ends_at and done >= self.ends_at:
            os.kill(os.getpid(), signal.SIGTERM)

    @property
    def state(self) -> Path:
        return self.path.with_name(f"{self.path.name}.partial.state")

    @property
    def committed(self) -> int:
        """Frames that a commit holds."""
        if not self.state.exists():
            return 0
        with safe_open(self.state, framework="np") as file:
            position = json.loads(file.metadata()["told"])["position"]
        return position["first"] * STEPS + (min(4, 6 - position["first"]) * position["lead"])

    @property
    def left(self) -> list[str]:
        """What lies beside the output."""
        return sorted(
            entry.name for entry in self.path.parent.iterdir() if entry not in (self.path, self.log, self.seen)
        )

    def values(self) -> xr.Dataset:
        with open_written(self.path) as dataset:
            return dataset.load()

    def require_whole_or_nothing(self, expected: xr.Dataset) -> None:
        if self.path.exists():
            xr.testing.assert_equal(self.values(), expected)

    def remove(self) -> None:
        shutil.rmtree(self.path) if self.path.is_dir() else self.path.unlink()


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch) -> None:
    monkeypatch.setattr("forecast_cli.rollout.BLOCK_STEPS", BLOCK)
    monkeypatch.setattr("forecast_cli.rollout.COMMIT_SECONDS", 0)


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    """In memory where that can be: what a process has written survives it anywhere, and a sync costs nothing there."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as place:
        yield Path(place)


@pytest.fixture(params=["fc.nc", "fc.zarr"])
def rollout(request, trajectory_run, trajectories, folder) -> Rollout:
    return Rollout(trajectory_run, trajectories, folder, request.param)


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, xr.Dataset]:
    """By ending, what `expected` has found."""
    return {}


@pytest.fixture
def expected(rollout, uninterrupted) -> xr.Dataset:
    """The forecast of a rollout that nothing has interrupted."""
    if rollout.path.suffix not in uninterrupted:
        assert in_child(rollout, rollout.log).code == DONE, rollout.log.read_text()
        uninterrupted[rollout.path.suffix] = rollout.values()
        rollout.remove()
    return uninterrupted[rollout.path.suffix]


def follow_kills(rollout: Rollout, expected: xr.Dataset, kills: int, seed: int) -> None:
    """Kill, go on, kill, ... and look at the disk after each; once complete, begin anew."""
    seconds = in_child(rollout, rollout.log).seconds
    rollout.remove()
    committed = 0
    for end in killed_until(kills, rollout, rollout.log, within=seconds, random=np.random.default_rng(seed)):
        rollout.require_whole_or_nothing(expected)
        if rollout.seen.exists():
            assert committed <= int(rollout.seen.read_text()) <= committed + 4 * BLOCK, "went on where the commit was"
            rollout.seen.unlink()
        committed = max(committed, rollout.committed)
        assert rollout.committed == committed or rollout.path.exists(), "a commit is never lost"
        if end.code == DONE:
            assert rollout.path.exists()
            assert rollout.left == []
            rollout.remove()
            committed = 0


def test_a_rollout_survives_kills_at_random_instants(rollout, expected):
    follow_kills(rollout, expected, kills=8, seed=0)


@pytest.mark.faults
def test_a_rollout_survives_fifty_kills_at_random_instants(rollout, expected):
    follow_kills(rollout, expected, kills=50, seed=1)


def die_at(rollout: Rollout, call: int, **options) -> int:
    """The exit code of a rollout that dies at a certain call."""

    def run() -> None:
        with dying_at(call):
            rollout(steps=3 * BLOCK, **options)

    return in_child(run, rollout.log).code


def follow_deaths(rollout: Rollout, calls: Iterator[int]) -> int:
    """Die at each call, go on, and look whether the forecast is the same. Returns how many calls there were."""
    rollout(steps=3 * BLOCK)
    expected, deaths = rollout.values(), 0
    rollout.remove()
    for call in calls:
        code = die_at(rollout, call)
        rollout.require_whole_or_nothing(expected)
        if code == DONE:
            break
        assert code == KILLED, rollout.log.read_text()
        deaths += 1
        end = in_child(lambda: rollout(steps=3 * BLOCK), rollout.log)
        assert end.code == DONE, end.said
        xr.testing.assert_equal(rollout.values(), expected)
        assert rollout.left == [], f"after a death at call {call}"
        rollout.remove()
    return deaths


def test_a_rollout_may_die_at_some_of_its_writes(rollout):
    assert follow_deaths(rollout, iter(range(3, 10**6, 41 if rollout.path.suffix == ".zarr" else 13))) >= 6


@pytest.mark.faults
def test_a_rollout_may_die_at_any_of_its_writes(rollout):
    """At every third where chunks and their metadata are files of their own: they are many, and alike."""
    assert follow_deaths(rollout, iter(range(1, 10**6, 3 if rollout.path.suffix == ".zarr" else 1))) > 50


@pytest.mark.faults
def test_the_file_that_is_to_be_replaced_is_whole_until_the_new_one_is(rollout):
    """Dying on the way, and at each of the last sixty calls, when the names change and the old one goes."""

    def write(**options) -> int:
        with dying_at(10**6) as calls:
            rollout(**options)
            return calls()

    write(steps=5)
    old = rollout.values()
    last = write(steps=3 * BLOCK, resume="never", overwrite=True)
    new = rollout.values()
    for call in (*range(1, last - 60, 15), *range(last - 60, last + 2)):
        write(steps=5, resume="never", overwrite=True)
        code = die_at(rollout, call, resume="never", overwrite=True)
        if rollout.path.exists():
            found = rollout.values()
            xr.testing.assert_equal(found, new if found.sizes == new.sizes else old)
        else:  # a folder cannot replace a folder at once: it stands aside
            aside = rollout.path.with_name("fc.zarr.replaced")
            xr.testing.assert_equal(xr.open_zarr(aside, decode_timedelta=False).load(), old)
        rollout(steps=3 * BLOCK, overwrite=True)
        xr.testing.assert_equal(rollout.values(), new)
        assert rollout.left == [], f"after a death at call {call}"
    assert code == DONE, "there are no calls beyond the last"


def follow_signals(rollout: Rollout, expected: xr.Dataset, times: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    seconds = in_child(rollout, rollout.log).seconds
    codes = []
    for _ in range(times):
        if rollout.path.exists():
            rollout.remove()
        codes.append(kill_at_random(rollout, rollout.log, within=seconds, random=random, number=signal.SIGTERM).code)
        if codes[-1] == STOPPED:
            assert rollout.state.exists()
            assert rollout.log.read_text().count("\n") == 1
        rollout.require_whole_or_nothing(expected)
    # Before the handler stands and after it is gone, SIGTERM does what it always does.
    assert set(codes) <= {DONE, STOPPED, -signal.SIGTERM}
    assert STOPPED in codes
    assert in_child(rollout, rollout.log).code == DONE
    xr.testing.assert_equal(rollout.values(), expected)


def test_a_signal_at_a_random_instant_leaves_what_can_be_gone_on_with(rollout, expected):
    follow_signals(rollout, expected, times=5, seed=2)


@pytest.mark.faults
def test_fifty_signals_at_random_instants(rollout, expected):
    follow_signals(rollout, expected, times=50, seed=3)


@pytest.mark.parametrize("limit", [200, 20_000, 60_000, 150_000])
def test_a_full_disk_is_one_line_and_what_is_written_is_kept(rollout, expected, limit):
    """No file may grow beyond a limit, from the layout to the last block."""

    def on_a_full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        rollout()

    end = in_child(on_a_full_disk, rollout.log)
    if rollout.path.suffix == ".zarr" and end.code == DONE:
        return  # no file of a store is as large as that
    assert (end.code, end.said.count("\n")) == (FULL, 1), end.said
    assert "cannot be written" in end.said
    assert not rollout.path.exists()
    assert set(rollout.left) in (set(), {f"{rollout.path.name}.partial", rollout.state.name})
    assert in_child(rollout, rollout.log).code == DONE, rollout.log.read_text()
    xr.testing.assert_equal(rollout.values(), expected)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 192 KiB, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("no right to mount a disk")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_gets_full_and_is_cleared_loses_nothing(small_disk, rollout, expected):
    (small_disk / "others").write_bytes(bytes(120_000))
    rollout.path = small_disk / rollout.path.name
    end = in_child(rollout, rollout.log)
    assert (end.code, end.said.count("\n")) == (FULL, 1), end.said
    assert "No space left" in end.said
    assert not rollout.path.exists()
    (small_disk / "others").unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert in_child(rollout, rollout.log).code == DONE, rollout.log.read_text()
    xr.testing.assert_equal(rollout.values(), expected)
    assert rollout.left == []


def test_a_folder_that_may_not_be_written_is_one_line(rollout):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "read_only"
        folder.mkdir()
        rollout.data, rollout.path = Path(shutil.copy(rollout.data, place)), folder / rollout.path.name
        Path(place).chmod(0o755)
        rollout.data.chmod(0o644)
        folder.chmod(0o555)

        def as_somebody() -> None:
            if os.geteuid() == 0:  # root may write anywhere
                os.seteuid(65534)
            rollout()

        end = in_child(as_somebody, rollout.log)
        assert (end.code, end.said.count("\n")) == (FULL, 1), end.said
        assert "Permission denied" in end.said
        assert list(folder.iterdir()) == []


def stopped(rollout: Rollout) -> None:
    """Leave a rollout half done."""
    rollout.ends_at = 6 * STEPS // 2
    assert in_child(rollout, rollout.log).code == STOPPED
    assert rollout.committed >= rollout.ends_at
    rollout.ends_at = None


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "huge header"])
def test_a_damaged_state_is_refused_in_one_line(rollout, damage):
    stopped(rollout)
    content = bytearray(rollout.state.read_bytes())
    if damage == "flipped":
        content[-1] ^= 1
    elif damage == "huge header":
        content[:8] = (2**62).to_bytes(8, "little")
    rollout.state.write_bytes(content[: {"cut": len(content) // 2, "emptied": 0}.get(damage)])
    end = in_child(rollout, rollout.log)
    assert (end.code, end.said.count("\n")) == (4, 1), end.said
    assert "--resume never" in end.said
    assert in_child(lambda: rollout(resume="never"), rollout.log).code == DONE


@pytest.mark.parametrize("size", [0, 100, 9_000])
def test_a_partial_file_that_was_cut_is_refused_in_one_line(rollout, size):
    if rollout.path.suffix == ".zarr":
        pytest.skip("a store is many files")
    stopped(rollout)
    os.truncate(rollout.path.with_name("fc.nc.partial"), size)
    end = in_child(rollout, rollout.log)
    assert (end.code, end.said.count("\n")) == (4, 1), end.said
    assert "bytes are left" in end.said
