"""A signal asks for an end once, however often it arrives; one that comes later insists."""

import os
import signal
import subprocess
import sys
import time

import pytest

from forecast_cli import signals
from forecast_cli.errors import ConfigError
from forecast_cli.signals import stop_at_signals


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_only_raises_a_flag_that_says_its_name(name):
    with stop_at_signals() as asked:
        assert asked() is None
        os.kill(os.getpid(), signal.Signals[name])
        assert asked() == name


def test_a_deadline_asks_for_an_end_too():
    with stop_at_signals(deadline=time.monotonic() - 1) as asked:
        assert asked() == "time limit"


def test_the_same_request_passed_on_by_a_launcher_is_no_second_one(monkeypatch):
    """The batch system signals all processes of a step, and torchrun then signals its ranks: each rank is told twice."""
    with stop_at_signals() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked() == "SIGTERM"
    monkeypatch.setattr(signals, "ONE_REQUEST", -1.0)
    sent = []
    monkeypatch.setattr(signal, "raise_signal", sent.append)
    with stop_at_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        assert sent == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert sent == [signal.SIGTERM]


def test_a_second_signal_ends_a_process_that_does_not_stop():
    code = """
import signal, time
from forecast_cli import signals
signals.ONE_REQUEST = 0.2
with signals.stop_at_signals():
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=20) == -signal.SIGTERM


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_while_libraries_load_is_a_clean_stop_too(name, series, tmp_path):
    """The signal comes with the import of the data rooms, before torch's."""
    code = f"""
import builtins, os, signal, sys
load = builtins.__import__
def signalled(name, *rest, **named):
    if name == "forecast_cli.data.fields":
        os.kill(os.getpid(), signal.{name})
    return load(name, *rest, **named)
builtins.__import__ = signalled
from forecast_cli.cli import main
sys.argv = ["forecast", "train", {str(series)!r}, "-o", {str(tmp_path / "run")!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        75,
        f"forecast: stopped ({name}). The same command with --resume auto goes on.\n",
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("names", ["SIGNOT", "TERM,KILL", ""])
def test_names_that_cannot_be_caught_are_refused(names, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv(signals.VARIABLE, names)
    with pytest.raises(ConfigError, match=signals.VARIABLE), stop_at_signals():
        pass
    assert signal.getsignal(signal.SIGTERM) == before
