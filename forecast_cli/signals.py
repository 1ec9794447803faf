"""Ends that are asked for from outside: Ctrl-C, the batch system's signal."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_at_signals() -> Iterator[Callable[[], bool]]:
    """Inside, SIGINT and SIGTERM only raise a flag; a second signal ends the process at once."""
    flagged: list[int] = []

    def handler(number: int, _: FrameType | None) -> None:
        if flagged:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        flagged.append(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(flagged)
    finally:
        for number, old in before.items():
            signal.signal(number, old)
