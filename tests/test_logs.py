"""What happened in a training can be read back, by people and programs."""

import json
import logging
import os
import re
import subprocess
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_trainer import CPU, stopped_and_resumed, trained

from forecast_cli import checkpoint, trainer
from forecast_cli.errors import ConfigError, DivergedError, OutputError
from forecast_cli.logs import RunLog, event_of, logging_to, pairs
from forecast_cli.trainer.environment import revision_of

ROOT = Path(__file__).parents[1]
log = logging.getLogger("forecast_cli.tests")
TINY = ("--hidden", 4, "--context", 4, "--horizon", 2)


def documented_parser():
    """The one that the documentation shows."""
    page = (ROOT / "docs/data_format.md").read_text()
    names = {}
    exec(re.search(r"## train.log.*?```python\n(.*?)```", page, re.DOTALL).group(1), names)
    return names["parsed"]


parsed = documented_parser()


def events(run):
    return [parsed(line) for line in (run / "train.log").read_text().splitlines()]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_text_is_read_back_as_it_was(texts):
    values = {f"key{number}": text for number, text in enumerate(texts)}
    line = f"2026-11-25T13:31:27.123+00:00 INFO event {pairs(values)}"
    assert len(line.splitlines()) == 1
    assert parsed(line) == ("2026-11-25T13:31:27.123+00:00", "INFO", "event", values)


def test_the_lines_of_the_documentation_follow_its_grammar():
    page = (ROOT / "docs/data_format.md").read_text()
    lines = re.findall(r"^    (20\d\d-\d\d-\S+ [A-Z]+ .*)$", page, re.MULTILINE)
    assert [parsed(line)[2] for line in lines] == ["start", "epoch", "stop"]


def test_every_session_is_logged_in_one_file_to_its_end(series, tmp_path):
    run = stopped_and_resumed(series, tmp_path / "run", 20)
    trained(series, run, resume="must", training__epochs=4)
    told = [event for event in events(run) if event[2] not in ("checkpoint", "scan")]
    assert [event[2] for event in told] == ["resume", "epoch", "epoch", "end", "resume", "epoch", "end"]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", event[0]) for event in told)
    assert (told[0][3]["epochs_done"], int(told[0][3]["steps_done"])) == ("1", 20 - int(told[0][3]["steps_an_epoch"]))
    row = trainer.Progress(**checkpoint.load_state(run, CPU)["progress"]).rows[-1]
    assert {key: float(value) for key, value in told[-2][3].items() if key != "best"} == row
    assert told[-1][3]["reason"] == "epochs"


def test_the_reason_of_a_stop_is_logged_and_told(forecast, series, tmp_path):
    result = forecast("train", series, "-o", tmp_path / "run", *TINY, "--epochs", 40000, "--time-limit", 3)
    assert result.exit_code == 75
    assert "stopped (time limit) at epoch" in result.stderr
    *_, (_, level, event, told) = events(tmp_path / "run")
    assert (level, event, told["reason"]) == ("INFO", "stop", "time limit")


def test_a_failure_is_logged_with_its_kind(series, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer.loop, "weighted_loss", lambda forecast, *_: forecast.fields.sum() * float("nan"))
    with pytest.raises(DivergedError):
        trained(series, tmp_path / "run")
    _, level, event, told = events(tmp_path / "run")[-1]
    assert (level, event, told["kind"], told["exit_code"]) == ("ERROR", "error", "DivergedError", "5")
    assert "the loss became nan" in told["text"]


def test_a_full_disk_under_the_log_is_one_line(forecast, series, tmp_path, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    monkeypatch.setattr(checkpoint, "LOG", "/dev/full")
    result = forecast("train", series, "-o", tmp_path / "run", *TINY, "--epochs", 1)
    assert (result.exit_code, result.stderr) == (
        7,
        "forecast: /dev/full: cannot be written (No space left on device).\n",
    )


def test_a_broken_log_does_not_hide_the_failure_that_broke_it():
    def fail():
        with logging_to(full := RunLog()):
            full.open(Path("/dev/full"))
            raise ConfigError("the first failure")

    with pytest.raises(ConfigError, match="the first failure"):
        fail()


def test_what_cannot_be_logged_is_told_once(tmp_path):
    full = RunLog()
    with logging_to(full):
        full.open(tmp_path / "log")
        os.dup2(os.open("/dev/full", os.O_WRONLY), full._descriptor)
        with pytest.raises(OutputError, match="No space left"):
            log.info("one", {"a": 1})
        log.info("two", {"a": 2})


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path):
    (tmp_path / "log").write_text("2026-11-25T13:31:27.123+00:00 INFO ep")
    with logging_to(kept := RunLog()):
        log.info("before", {"a": 1})
        kept.open(tmp_path / "log")
        log.info("after", {"a": 2})
    cut, first, second = (tmp_path / "log").read_text().splitlines()
    assert cut.endswith(" ep")
    assert (parsed(first)[2:], parsed(second)[2:]) == (("before", {"a": "1"}), ("after", {"a": "2"}))


def test_what_libraries_warn_of_is_logged(tmp_path):
    with logging_to(kept := RunLog()):
        kept.open(tmp_path / "log")
        warnings.warn("two\nlines", RuntimeWarning, stacklevel=1)
        logging.getLogger("some.library").warning("%d of them", 3)
        logging.getLogger("some.library").info("not this")
        logging.getLogger("some.library").warning("%(many)d of them", {"many": 4})
    first, *others = (parsed(line) for line in (tmp_path / "log").read_text().splitlines())
    assert first[1:3] == ("WARNING", "warning")
    assert (first[3]["category"], first[3]["text"]) == ("RuntimeWarning", "two\nlines")
    assert Path(__file__).name in first[3]["where"]
    assert {other[2] for other in others} == {"message"}
    assert [other[3]["text"] for other in others] == ["3 of them", "4 of them"]


def test_arguments_that_do_not_fit_a_librarys_message_are_no_failure_of_ours():
    record = logging.LogRecord("some.library", logging.WARNING, "file.py", 1, "%d of them", ("many",), None)
    assert event_of(record) == ("message", {"logger": "some.library", "text": "%d of them"})


def test_other_ranks_log_their_errors_alone_with_their_rank(tmp_path):
    def fail():
        with logging_to(kept := RunLog(3)):
            kept.open(tmp_path / "log")
            log.info("epoch", {"epoch": 1})
            log.warning("changes", {"text": "some"})
            raise ConfigError("not here")

    with pytest.raises(ConfigError):
        fail()
    (told,) = (parsed(line) for line in (tmp_path / "log").read_text().splitlines())
    assert told[1:] == ("ERROR", "error", {"rank": "3", "kind": "ConfigError", "text": "not here", "exit_code": "2"})


def test_each_session_says_what_it_ran_on(series, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_JWT", "secret")
    run = trained(series, tmp_path / "run", training__epochs=1)
    monkeypatch.delenv("SLURM_JOB_ID")
    trained(series, run, resume="must", training__epochs=2)
    first, second = json.loads((run / "environment.json").read_text())
    assert (first["batch"], second["batch"]) == ({"SLURM_JOB_ID": "4711"}, {})
    assert [place["device"] for place in first["ranks"]] == ["cpu"]
    assert first["ranks"][0]["device_name"]
    assert {"forecast_cli", "python", "torch", "numpy", "xarray", "netCDF4", "hdf5"} <= first["versions"].keys()
    page = (ROOT / "docs/data_format.md").read_text()
    assert [key for key in first if f"`{key}`" not in page] == []


def test_a_damaged_list_of_sessions_does_not_keep_a_run_from_going_on(series, tmp_path):
    run = trained(series, tmp_path / "run", training__epochs=1)
    (run / "environment.json").write_text('[{"started": ')
    trained(series, run, resume="must")
    assert len(json.loads((run / "environment.json").read_text())) == 1


def test_the_revision_is_that_of_a_checkout_which_holds_the_file(tmp_path):
    def git(*arguments):
        name = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *name, *arguments], check=True, capture_output=True)

    ours, theirs = tmp_path / "ours.py", tmp_path / "installed.py"
    ours.write_text("")
    theirs.write_text("")
    assert revision_of(ours) is None
    git("init")
    git("add", "ours.py")
    git("commit", "-m", "first")
    assert re.fullmatch("[0-9a-f]{40}", revision_of(ours))
    assert revision_of(theirs) is None
    ours.write_text("changed")
    assert revision_of(ours).endswith("-dirty")
