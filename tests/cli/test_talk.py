"""How much is said, by every command: stdout is for --json alone, errors are said in spite of --quiet."""

import json
import time

import pytest
from files import write_series

from forecast_cli.cli import shared, talk

TINY = ("--hidden", 4, "--context", 4, "--horizon", 2, "--epochs", 1)
COMMANDS = [
    "info",
    "info run",
    "train",
    "train --dry-run",
    "rollout",
    "evaluate",
    "plot",
    "simulate navier-stokes",
    "simulate burgers",
    "simulate shallow-water",
    "invert-topography",
    "benchmark",
    "benchmark --build",
]
WITHOUT_JSON = ("plot", "benchmark --build")


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    from typer.testing import CliRunner

    from forecast_cli.cli import app

    path = tmp_path_factory.mktemp("waves") / "waves.nc"
    line = ["simulate", "shallow-water", "--grid", "12", "--dtype", "float64", "--topography", "seamount"]
    made = CliRunner().invoke(app, [*line, "--frames", "41", "--noise", "1%", "-o", str(path)])
    assert made.exit_code == 0, made.output
    return path


@pytest.fixture
def line(forecast, series, series_run, waves, tmp_path):
    """A command that succeeds, by its name."""

    def made(command):
        if command == "evaluate":
            assert forecast("rollout", series_run, "--data", series, "-o", tmp_path / "fc.nc").exit_code == 0
        small = ("--frames", 3, "-o", tmp_path / "made.nc")
        quick = ("--uncertainty", "none", "--iterations", 8, "--noise", "1%")
        return {
            "info": ("info", series),
            "info run": ("info", series_run),
            "train": ("train", series, "-o", tmp_path / "run", *TINY),
            "train --dry-run": ("train", series, "-o", tmp_path / "run", *TINY, "--dry-run"),
            "rollout": ("rollout", series_run, "--data", series, "-o", tmp_path / "made.nc"),
            "evaluate": ("evaluate", tmp_path / "fc.nc", "--truth", series),
            "plot": ("plot", series, "-o", tmp_path / "made.png"),
            "simulate navier-stokes": ("simulate", "navier-stokes", "--grid", 16, *small),
            "simulate burgers": ("simulate", "burgers", "--grid", 12, *small),
            "simulate shallow-water": ("simulate", "shallow-water", "--grid", 12, "--topography", "seamount", *small),
            "invert-topography": ("invert-topography", waves, *quick, "-o", tmp_path / "bed.nc"),
            "benchmark": (
                *("benchmark", "train-step", "--model", "minconvlstm", "--hidden", "2x4"),
                *("--grid", 8, "--length", 3, "--repetitions", 1),
            ),
            "benchmark --build": ("benchmark", "--build"),
        }[command]

    return made


@pytest.mark.parametrize("command", COMMANDS)
def test_stdout_is_for_json_alone_and_quiet_says_nothing(command, forecast, line):
    arguments = line(command)
    said = forecast(*arguments)
    assert (said.stdout, said.stderr == "") == ("", False), said.output
    replaced = () if command.startswith(("info", "evaluate", "benchmark")) else ("--overwrite",)
    quiet = forecast(*arguments, *replaced, "--quiet")
    assert (quiet.exit_code, quiet.output) == (said.exit_code, said.stderr.splitlines(True)[-1] * (said.exit_code > 0))
    if command not in WITHOUT_JSON:
        told = forecast(*arguments, *replaced, "--json", "-q")
        json.loads(told.stdout)
        assert told.stdout.count("\n") == 1


def test_every_command_is_tried_here():
    from typer.main import get_command

    from forecast_cli.cli import app

    assert set(get_command(app).commands) == {command.split()[0] for command in COMMANDS}


@pytest.mark.parametrize("line", [("--quiet", "info", "none.nc"), ("info", "none.nc", "-q")])
def test_errors_are_said_in_spite_of_quiet(line, forecast):
    result = forecast(*line)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (3, "", 1)
    assert "none.nc" in result.stderr


@pytest.mark.parametrize("where", ["before", "after"])
def test_verbose_says_what_is_logged_before_the_command_or_after_it(where, forecast, series, tmp_path):
    before, after = (("--verbose",), ()) if where == "before" else ((), ("-v",))
    result = forecast(*before, "train", series, "-o", tmp_path / "run", *TINY, *after)
    assert result.exit_code == 0, result.output
    logged = [" ".join(text.split(" ")[2:]) for text in (tmp_path / "run" / "train.log").read_text().splitlines()]
    assert len(logged) > 3
    said = result.stderr.splitlines()
    assert [text for text in logged if said.count(text) != 1] == []
    assert "checkpoint" not in forecast("train", series, "-o", tmp_path / "other", *TINY).stderr


def test_quiet_and_verbose_together_are_refused(forecast, series):
    result = forecast("-q", "info", series, "--verbose")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_a_warning_of_a_library_is_one_line_and_quiet_hides_it(forecast, series, monkeypatch):
    def warned(*_, **__):
        import warnings

        warnings.warn("something\nodd", RuntimeWarning, stacklevel=1)
        return fields(*_, **__)

    from forecast_cli.data import fields as module

    fields = module.open_fields
    monkeypatch.setattr(module, "open_fields", warned)
    assert forecast("info", series).stderr.count("warning: something odd\n") == 1
    assert forecast("info", series, "--quiet").output == ""


def lines_of_progress(monkeypatch, **options):
    """What is said in ten steps of a second each."""
    clock, said = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(shared, "say", said.append)
    with talk.talking(False, False, options.get("every")), shared.progress_line("forecasting", "frames") as progress:
        for done in range(1, 11):
            clock[0] += 1
            progress(done, 10)
    return said


def test_lines_of_progress_come_as_often_as_asked_for(monkeypatch):
    assert lines_of_progress(monkeypatch) == []
    assert lines_of_progress(monkeypatch, every=4.0) == [
        "forecasting: 4 of 10 frames, 6 s left",
        "forecasting: 8 of 10 frames, 2 s left",
    ]


def test_the_environment_may_ask_for_lines_of_progress(forecast, series, tmp_path, monkeypatch):
    monkeypatch.setenv("FORECAST_PROGRESS_EVERY", "0.0001")
    assert "training: 1 of 10 steps" in forecast("train", series, "-o", tmp_path / "run", *TINY).stderr
    assert forecast("info", series, "--progress-every", 0).exit_code == 2


@pytest.mark.parametrize("command", ["info", "train --dry-run", "plot"])
def test_ranks_other_than_the_first_say_nothing_but_their_errors(command, forecast, line, monkeypatch):
    arguments = line(command)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert forecast("--verbose", *arguments).output == ""
    assert forecast("info", write_series.__name__).stderr.startswith("forecast: rank 1: ")
