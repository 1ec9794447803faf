"""Ends that are asked for from outside: Ctrl-C, the batch system's signal, a time limit."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from types import FrameType
from typing import Any

from forecast_cli.errors import ConfigError, Stopped

VARIABLE = "FORECAST_STOP_SIGNALS"
"""Environment variable with the names of the signals that ask for a stop."""
USUAL = "SIGINT,SIGTERM,SIGUSR1"
ONE_REQUEST = 2.0
"""Seconds in which a further signal repeats the first: the batch system signals every process, and torchrun passes its own on."""


@contextmanager
def stop_at_signals(*, deadline: float | None = None) -> Iterator[Callable[[], str | None]]:
    """Inside, a signal only raises a flag, as does the deadline (of time.monotonic); a later signal ends the process at once.

    What is yielded says what asks for the end, if anything does: the name of the signal, or "time limit".
    """
    first: list[tuple[int, float]] = []

    def handler(number: int, _: FrameType | None) -> None:
        if not first:
            first.append((number, time.monotonic()))
        elif time.monotonic() - first[0][1] > ONE_REQUEST:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def asked() -> str | None:
        if first:
            return signal.Signals(first[0][0]).name
        return "time limit" if deadline is not None and time.monotonic() >= deadline else None

    with _handled(handler):
        yield asked


def stoppable(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which a signal ends as a clean stop outside of `stop_at_signals` too: while libraries load and data are read.

    An exception would do as well, but for libraries that take any for a missing part of theirs.
    """

    def handler(number: int, _: FrameType | None) -> None:
        with suppress(OSError):  # stderr is closed, full, or a pipe without a reader
            os.write(
                2,
                f"forecast: stopped ({signal.Signals(number).name}). The same command with --resume auto goes on.\n".encode(),
            )
        os._exit(Stopped.exit_code)

    @wraps(command)
    def watched(*given: Any, **named: Any) -> None:
        with _handled(handler):
            command(*given, **named)

    return watched


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside, the signals that ask for a stop go to the handler."""
    before = {}
    try:
        for number in _signals():
            before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _signals() -> list[signal.Signals]:
    names = os.environ.get(VARIABLE, USUAL).split(",")
    try:
        numbers = [signal.Signals["SIG" + name.strip().upper().removeprefix("SIG")] for name in names]
    except KeyError as error:
        raise ConfigError(f"{VARIABLE}: no signal {error}. Give names such as {USUAL}.") from error
    if never := {signal.SIGKILL, signal.SIGSTOP} & set(numbers):
        raise ConfigError(f"{VARIABLE}: {never.pop().name} cannot be caught. Give names such as {USUAL}.")
    return numbers
