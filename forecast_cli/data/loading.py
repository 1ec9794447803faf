"""Batches of windows, read ahead of the training where they come from files.

Whoever reads, and however far ahead, batches and order are those of `Windows.batch`. Held frames need no reader. Files are
read by a thread, as the HDF5 library lets in one at a time, or by processes that open them for themselves. Such a process lives
as long as the pipe from its parent, however that ends, and blocks the signals that are meant for the training.
"""

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from forecast_cli.errors import DataError

if TYPE_CHECKING:  # a process that only reads loads no torch
    from forecast_cli.data.windows import Batch, Read, Windows

Places = Sequence[tuple[int, int]]
"""Sample and first frame of each window."""


def batches(
    windows: "Windows", choices: Iterable[Sequence[int] | np.ndarray], epoch: int = 0, *, ahead: int, workers: int = 0
) -> Generator["Batch"]:
    """The batch of each choice of windows, in order; from files, `ahead` of them are read before they are asked for.

    workers: processes that read; a thread if 0. Close the iterator to end before its end. An error of a reader is raised
    where its batch would have come.
    """
    if not windows.reads:
        for indices in choices:
            yield windows.batch(indices, epoch)
        return
    read = partial(_read_elsewhere, _processes(windows.reads, workers)) if workers else partial(together, windows.reads)
    readers = ThreadPoolExecutor(max(1, workers), "reader")
    pending: deque[tuple[Places, Future[list[np.ndarray]]]] = deque()
    try:
        for indices in choices:
            places = windows.places(indices, epoch)
            pending.append((places, readers.submit(read, places, windows.length)))
            if len(pending) > ahead:
                first, found = pending.popleft()
                yield windows.beside(first, *found.result())
        while pending:
            first, found = pending.popleft()
            yield windows.beside(first, *found.result())
    finally:
        readers.shutdown(cancel_futures=True)


def together(reads: Sequence["Read"], places: Places, length: int) -> list[np.ndarray]:
    """Windows side by side, (window, time, channel, height, width), from each source; frames that they share are read once."""
    stretches: list[tuple[int, int, int]] = []
    for sample, start in sorted(places):
        if stretches and (last := stretches[-1])[0] == sample and start <= last[2]:
            stretches[-1] = (sample, last[1], start + length)
        else:
            stretches.append((sample, start, start + length))
    found = []
    for read in reads:
        values: dict[tuple[int, int], np.ndarray] = {}
        for sample, first, stop in stretches:
            frames = read(sample, first, stop)
            values |= {(s, i): frames[i - first :][:length] for s, i in places if s == sample and first <= i < stop}
        found.append(np.stack([values[place] for place in places]))
    return found


class _Process:
    """A process that reads what it is told, one thing after the other."""

    def __init__(self, reads: Sequence["Read"]) -> None:
        # A child inherits the mask: a signal to the whole job, or Ctrl-C, is left to the parent.
        before = signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
        )
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert self.process.stdin
        assert self.process.stdout
        self.orders, self.results = self.process.stdin, self.process.stdout
        self._say(reads)

    def together(self, places: Places, length: int) -> list[np.ndarray]:
        """What `together` gives there."""
        try:
            self._say((places, length))
            found: list[np.ndarray] | Exception = pickle.load(self.results)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise DataError(
                "a process that reads the data has died, perhaps for lack of memory. Lower data.workers or data.memory."
            ) from error
        if isinstance(found, Exception):
            raise found
        return found

    def _say(self, order: object) -> None:
        pickle.dump(order, self.orders, pickle.HIGHEST_PROTOCOL)
        self.orders.flush()

    def __del__(self) -> None:
        if hasattr(self, "orders"):
            self.process.kill()  # it holds nothing but open files
            self.process.wait()
            for pipe in (self.orders, self.results):
                with suppress(OSError):
                    pipe.close()


@lru_cache(maxsize=1)
def _processes(reads: Sequence["Read"], count: int) -> SimpleQueue[_Process]:
    """Idle processes, kept from epoch to epoch: each takes a second to start."""
    idle: SimpleQueue[_Process] = SimpleQueue()
    for _ in range(count):
        idle.put(_Process(reads))
    return idle


def _read_elsewhere(idle: SimpleQueue[_Process], places: Places, length: int) -> list[np.ndarray]:
    process = idle.get()
    try:
        return process.together(places, length)
    finally:
        idle.put(process)


def serve() -> None:
    """What a reading process does: sources come first, then places and length, until the pipe ends."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries that print do not disturb
    reads = pickle.load(sys.stdin.buffer)
    while True:
        try:
            order = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            found: object = together(reads, *order)
        except Exception as error:
            error.add_note(traceback.format_exc())
            found = error
        pickle.dump(found, results, pickle.HIGHEST_PROTOCOL)
        results.flush()
