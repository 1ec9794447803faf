"""Ends that are asked for from outside: Ctrl-C, the batch system's signal, a time limit."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from forecast_cli.errors import ConfigError

VARIABLE = "FORECAST_STOP_SIGNALS"
"""Environment variable with the names of the signals that ask for a stop."""
USUAL = "SIGINT,SIGTERM,SIGUSR1"


@contextmanager
def stop_at_signals(*, deadline: float | None = None) -> Iterator[Callable[[], bool]]:
    """Inside, a signal only raises a flag, as does the deadline (of time.monotonic); a second signal ends the process at once."""
    flagged: list[int] = []

    def handler(number: int, _: FrameType | None) -> None:
        if flagged:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        flagged.append(number)

    before = {number: signal.signal(number, handler) for number in _signals()}
    try:
        yield lambda: bool(flagged) or (deadline is not None and time.monotonic() >= deadline)
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _signals() -> list[signal.Signals]:
    names = os.environ.get(VARIABLE, USUAL).split(",")
    try:
        return [signal.Signals["SIG" + name.strip().upper().removeprefix("SIG")] for name in names]
    except KeyError as error:
        raise ConfigError(f"{VARIABLE}: no signal {error}. Give names such as {USUAL}.") from error
