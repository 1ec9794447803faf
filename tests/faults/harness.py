"""Processes that end when they should not: forked after the imports, so that one costs a fraction of a second.

A child runs a function that takes nothing. It sees the parent's memory as it was, and leaves only files behind.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from forecast_cli.errors import ForecastError

DONE = 0


@dataclass(frozen=True)
class End:
    """How a child ended. code: its exit code, or minus the signal's number. said: what it wrote to stderr. seconds: how long it took."""

    code: int
    said: str
    seconds: float


def in_child(run: Callable[[], object], log: Path, *, kill: Callable[[int], None] = lambda _: None) -> End:
    """Call `run` in a child process, while `kill` does something to the child's number.

    A ForecastError ends the child as it ends a command: with its message in one line, and its exit code.
    """
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_child(run, log)
    kill(child)
    _, status = os.waitpid(child, 0)
    return End(os.waitstatus_to_exitcode(status), log.read_text() if log.exists() else "", time.monotonic() - started)


def _be_child(run: Callable[[], object], log: Path) -> None:
    """Run and exit, without any of the parent's own ends: open tests, buffers, handlers."""
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        torch.set_num_threads(1)  # the threads of the parent are not in the child
        run()
        code = DONE
    except ForecastError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def kill_at_random(
    run: Callable[[], object],
    log: Path,
    *,
    within: float,
    random: np.random.Generator,
    number: int = signal.SIGKILL,
) -> End:
    """Call `run` in a child that gets a signal after a random time of at most `within` seconds, if it has not ended by then."""
    wait = random.uniform(0, within)

    def kill(child: int) -> None:
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
            time.sleep(0.001)
        os.kill(child, number)

    return in_child(run, log, kill=kill)


def killed_until(
    kills: int, run: Callable[[], object], log: Path, *, within: float, random: np.random.Generator
) -> Iterator[End]:
    """Call `run` again and again, each time killed at a random instant or done, until it was killed so often; then once more to its end.

    Gives each end. Whatever is neither a kill nor a success is an AssertionError with what the child said.
    """
    while kills:
        end = kill_at_random(run, log, within=within, random=random)
        assert end.code in (DONE, -signal.SIGKILL), end.said
        kills -= end.code == -signal.SIGKILL
        yield end
    end = in_child(run, log)
    assert end.code == DONE, end.said
    yield end


CALLS = ("fsync", "pwrite", "ftruncate", "replace", "rename", "unlink", "rmdir")
"""What changes files or makes them safe, among what python code does to a disk."""


@contextmanager
def dying_at(call: int) -> Iterator[Callable[[], int]]:
    """Inside, the process dies at its n-th call of those that change files: halfway through a write, else before the call.

    For use in a child. Gives the number of calls so far.
    """
    counted = 0
    real = {name: getattr(os, name) for name in CALLS}

    def dying(name: str) -> Callable[..., object]:
        def function(*given: object, **options: object) -> object:
            nonlocal counted
            counted += 1
            if counted == call:
                if name == "pwrite":
                    file, content, at = given
                    real[name](file, memoryview(content)[: len(content) // 2], at)
                os.kill(os.getpid(), signal.SIGKILL)
            return real[name](*given, **options)

        return function

    for name in CALLS:
        setattr(os, name, dying(name))
    try:
        yield lambda: counted
    finally:
        for name, function in real.items():
            setattr(os, name, function)
