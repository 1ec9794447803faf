"""Two ranks do what one does, to rounding; what ends one ends both."""

import csv
import os
import signal
import socket
import time
from pathlib import Path

import every_model
import numpy as np
import pytest
import torch
from every_model import Silent
from files import write_series
from ranks import run, start
from safetensors.torch import load_file

from forecast_cli import checkpoint, trainer
from forecast_cli.config import load_config
from forecast_cli.data.fields import open_fields
from forecast_cli.distributed import ALONE, Ranks, joined
from forecast_cli.errors import PeerError
from forecast_cli.launch import first_host, placed
from forecast_cli.models import MODELS

# Sums of gradients in another order, over some ten steps of an optimizer that divides by their size.
ROUNDING = {"rtol": 2e-4, "atol": 2e-5}
OPTIONS = ("--hidden", "4", "--context", "4", "--horizon", "2", "--set", "training.input_noise=0.1")


def rows(run_folder):
    return [
        {key: float(value) for key, value in row.items() if key != "seconds"}
        for row in csv.DictReader((run_folder / "metrics.csv").open())
    ]


def assert_alike(one, other):
    for name, tensor in load_file(one / "model.safetensors").items():
        torch.testing.assert_close(load_file(other / "model.safetensors")[name], tensor, **ROUNDING)
    for mine, theirs in zip(rows(one), rows(other), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)


@pytest.fixture(scope="module")
def gappy(tmp_path_factory):
    """A series some of whose values are missing, another number in each frame."""
    import numpy as np
    import xarray as xr

    path = write_series(tmp_path_factory.mktemp("gappy") / "gappy.nc", frames=51)
    dataset = xr.load_dataset(path)
    holes = np.random.default_rng(0).random(dataset.t2m.shape) < np.linspace(0, 0.5, 51)[:, None, None]
    gaps = path.with_name("gaps.nc")
    dataset.assign(t2m=dataset.t2m.where(~holes)).to_netcdf(gaps)
    return gaps


def test_two_ranks_of_a_batch_are_one_of_twice_the_batch_odd_numbers_and_gaps_included(gappy, tmp_path):
    """31 windows in steps of 6: the last step has one window, and so nothing for the second rank."""
    shared = ["train", gappy, *OPTIONS, "--nan", "mask", "--epochs", 2, "--split", "36,11,4"]
    codes, said = run([*shared, "--batch-size", 3, "-o", tmp_path / "two"], 2, tmp_path)
    assert codes == [0, 0], said
    assert "best epoch" in said[0]
    assert "epoch" not in said[1]
    assert run([*shared, "--batch-size", 6, "-o", tmp_path / "one"], 1, tmp_path)[0] == [0]
    assert_alike(tmp_path / "two", tmp_path / "one")


def test_two_ranks_train_every_model_as_one_does(trajectories, tmp_path):
    for size in (1, 2):
        (tmp_path / str(size)).mkdir()
    codes, said = run([trajectories, tmp_path / "2"], 2, tmp_path, (every_model.__file__,))
    assert codes == [0, 0], said
    every_model.train_all(str(trajectories), tmp_path / "1", 4)
    for name in MODELS:
        assert_alike(tmp_path / "2" / name, tmp_path / "1" / name)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted as Linux shows them")
def test_a_group_leaves_no_thread_behind(tmp_path):
    """One that still runs while Python ends may abort the process, its work done."""
    code = """
import sys
from pathlib import Path
import torch
from forecast_cli.distributed import joined
def threads():
    return sum("gloo" in task.read_text() for task in Path("/proc/self/task").glob("*/comm"))
with joined() as ranks:
    ranks.total(torch.ones(1))
    within = threads()
print(within > 0, threads(), file=sys.stderr)
"""
    assert run([], 2, tmp_path, ("-c", code)) == ([0, 0], ["True 0\n"] * 2)


def test_accumulated_batches_are_one_large_batch(gappy, tmp_path):
    for name, size, count in (("small", 2, 3), ("large", 6, 1)):
        config = load_config(
            options={
                "data.files": (str(gappy),),
                "data.nan": "mask",
                "data.context": 4,
                "data.horizon": 2,
                "model.hidden": "4",
                "training.epochs": 2,
                "training.batch_size": size,
                "training.accumulate": count,
            }
        )
        trainer.train(config, open_fields([str(gappy)]), tmp_path / name, device=torch.device("cpu"), reporter=Silent())
    assert_alike(tmp_path / "small", tmp_path / "large")


def test_a_signal_to_one_rank_stops_both_and_they_go_on_together(gappy, tmp_path):
    command = ["train", gappy, *OPTIONS, "--nan", "mask", "--epochs", 400, "-o", tmp_path / "run", "--resume", "auto"]
    started = start(command, 2, tmp_path)
    metrics = tmp_path / "run" / "metrics.csv"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 2)
    os.kill(started[1].pid, signal.SIGUSR1)
    assert [process.wait(timeout=60) for process in started] == [75, 75]
    lines = (tmp_path / "run" / "train.log").read_text().splitlines()
    assert sum(" start rank=0 " in line for line in lines) == 1
    assert " stop rank=0 reason=SIGUSR1 " in lines[-1]
    assert not any("rank=1" in line for line in lines)
    assert "stopped (SIGUSR1) at epoch" in (tmp_path / "rank0.txt").read_text()
    assert (tmp_path / "rank1.txt").read_text() == ""
    state = checkpoint.load_state(tmp_path / "run", "cpu")
    assert state["ranks"] == 2
    assert len(state["progress"]["losses"]) == 2
    codes, said = run(
        ["train", gappy, *OPTIONS, "--nan", "mask", "--epochs", 400, "-o", tmp_path / "run", "--resume", "must"],
        1,
        tmp_path,
    )
    assert codes == [4]
    assert "ranks: 2 -> 1" in said[0]


def test_a_failure_of_one_rank_ends_both_and_is_told_once(series, tmp_path):
    run_folder = tmp_path / "there"
    run_folder.mkdir()
    (run_folder / "precious.txt").write_text("mine")
    codes, said = run(["train", series, *OPTIONS, "--epochs", 1, "-o", run_folder], 2, tmp_path)
    assert codes == [7, 9]
    assert "exists" in said[0]
    assert said[1] == "forecast: rank 1: ended, for the reason that rank 0 gives.\n"
    assert all("Traceback" not in text for text in said)


def test_ranks_do_not_share_a_device_by_mistake(series, tmp_path):
    codes, said = run(["train", series, *OPTIONS, "-o", tmp_path / "run", "--device", "cpu:0"], 2, tmp_path)
    assert codes == [2, 2]
    assert all("--device cpu:0" in text and text.count("\n") == 1 for text in said)


def test_a_rank_that_is_killed_ends_the_other_with_a_line(gappy, tmp_path):
    started = start(["train", gappy, *OPTIONS, "--nan", "mask", "--epochs", 400, "-o", tmp_path / "run"], 2, tmp_path)
    metrics = tmp_path / "run" / "metrics.csv"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 2)
    started[1].kill()
    assert started[0].wait(timeout=60) == 9
    said = (tmp_path / "rank0.txt").read_text()
    assert "lost another rank" in said
    assert "Traceback" not in said
    assert checkpoint.load_state(tmp_path / "run", "cpu")["progress"]["epoch"] >= 2


def wait_for(happened) -> None:
    for _ in range(600):
        if happened():
            return
        time.sleep(0.1)
    pytest.fail("it did not happen in a minute")


def test_shares_are_disjoint_and_whole():
    items = list(range(7))
    assert sorted(item for rank in range(3) for item in items[Ranks(rank, 3).share]) == items
    assert items[ALONE.share] == items


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node[03-05,09],login", "node03"),
        ("gpu7", "gpu7"),
        ("a1,a2", "a1"),
        ("n-[1,4]-ib", "n-1-ib"),
        ("r[0-1]n[4-7],r2n0", "r0n4"),
        ("x[12]", "x12"),
    ],
)
def test_the_first_machine_of_a_list_of_slurm(hosts, first):
    assert first_host(hosts) == first


def test_a_step_of_slurm_places_its_ranks_and_steps_side_by_side_do_not_meet(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    told = {"JOB_ID": 4711, "PROCID": 5, "LOCALID": 1, "STEP_NUM_TASKS": 8, "STEP_NODELIST": "gpu[03-04]", "STEP_ID": 0}
    for name, value in told.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    first = placed()
    assert first[:4] == (5, 8, 1, "gpu03")
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    assert placed().port != first.port
    assert all(1024 < place.port < 32768 for place in (first, placed()))


def test_the_one_shell_of_an_interactive_step_has_no_other_ranks(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    for name, value in {"STEP_NUM_TASKS": "8", "STEP_ID": str(0xFFFFFFFA), "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert placed() is None


def test_an_environment_that_does_not_say_which_rank_is_one_line(monkeypatch, forecast, series):
    monkeypatch.setenv("RANK", "first")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = forecast("info", series)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "LOCAL_RANK" in result.stderr


def test_ranks_that_do_not_meet_say_where_they_tried(monkeypatch):
    """As where another process holds the port: here the first rank cannot listen on it."""
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        told = {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": taken.getsockname()[1]}
        for name, value in told.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(PeerError, match=r"the 2 ranks did not meet at localhost:\d+"), joined():
            pass


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_the_starts_of_a_rollout_and_of_its_evaluation(size, trajectories, trajectory_run, tmp_path):
    """Five starts in batches of two a rank; of three ranks one has nothing to do in the end."""
    import xarray as xr

    made, scores = {}, {}
    for count in (1, size):
        path, score = tmp_path / f"{count}.nc", tmp_path / f"scores{count}.nc"
        command = [
            "rollout",
            trajectory_run,
            "--data",
            trajectories,
            "--select",
            "sample=0:5",
            "--steps",
            9,
            "--batch-size",
            2,
        ]
        codes, said = run([*command, "-o", path], count, tmp_path)
        assert codes == [0] * count, said
        assert [bool(text) for text in said] == [True, *[False] * (count - 1)]
        made[count] = xr.load_dataset(path)
        codes, said = run(
            ["evaluate", path, "--truth", trajectories, "--baseline", "persistence", "-o", score], count, tmp_path
        )
        assert codes == [0] * count, said
        scores[count] = xr.load_dataset(score)
    xr.testing.assert_allclose(made[size].u, made[1].u, rtol=1e-5)
    xr.testing.assert_allclose(scores[size].score, scores[1].score, rtol=1e-5)


def test_a_rollout_on_two_ranks_is_stopped_and_resumed_to_the_bit(trajectories, trajectory_run, tmp_path):
    import xarray as xr

    command = [
        "rollout",
        trajectory_run,
        "--data",
        trajectories,
        "--select",
        "sample=0:5",
        "--context",
        4,
        "--batch-size",
        2,
    ]
    command += ["--steps", 4000, "--init-time", "2.0", "--resume", "auto"]
    whole, stopped = tmp_path / "whole.nc", tmp_path / "stopped.nc"
    assert run([*command, "-o", whole], 2, tmp_path)[0] == [0, 0]
    started = start([*command, "-o", stopped], 2, tmp_path)
    partial = tmp_path / "stopped.nc.partial"
    wait_for(partial.exists)
    time.sleep(1.0)
    os.kill(started[1].pid, signal.SIGTERM)
    codes = [process.wait(timeout=120) for process in started]
    assert codes in ([75, 75], [0, 0]), (tmp_path / "rank0.txt").read_text()
    assert run([*command, "-o", stopped], 2, tmp_path)[0] == [0, 0]
    assert np.array_equal(xr.load_dataset(whole).u, xr.load_dataset(stopped).u)


def test_without_gaps_nobody_need_be_asked_how_many_values_there_are(series, tmp_path):
    """Two ranks against one on whole fields, odd numbers included: the counts follow from the shapes."""
    shared = ["train", series, *OPTIONS, "--epochs", 2, "--split", "36,11,4"]
    assert run([*shared, "--batch-size", 3, "-o", tmp_path / "two"], 2, tmp_path)[0] == [0, 0]
    assert run([*shared, "--batch-size", 6, "-o", tmp_path / "one"], 1, tmp_path)[0] == [0]
    assert_alike(tmp_path / "two", tmp_path / "one")
