"""Standard streams of the process: closed ones, full disks, and pipes whose reader has gone."""

import errno
import io
import os
import select
import sys
from typing import Any, TextIO

from forecast_cli.errors import OutputError

BROKEN_PIPE = 141
"""Exit code of a program that SIGPIPE ends, 128 + 13."""


def prepare_streams() -> None:
    """Reopen the standard streams, so that messages never end a command and a lost result always does.

    A closed descriptor is opened on the null device: the next file that is opened would take its number, and libraries would
    print their messages into it. A closed stdout refuses every write, a closed stderr takes it.
    """
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        if not _is_open(descriptor):
            os.open(os.devnull, mode)  # takes the lowest free number
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = _text(_Result(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Messages(2, "w", closefd=False), sys.stderr)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _text(raw: io.FileIO, before: TextIO | None) -> TextIO:
    """A stream of text in the encoding of an earlier one; a character that the encoding lacks is replaced."""
    encoding = before.encoding if before else "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="replace", line_buffering=True)


class _Waiting(io.FileIO):
    """A descriptor that waits where it would block: another program may have set its terminal or pipe so."""

    def write(self, content: Any) -> int:
        while (count := super().write(content)) is None:
            select.select((), (self,), ())
        return count


class _Messages(_Waiting):
    """stderr: what cannot be written is lost, since the work does not depend on it."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError:
            return len(memoryview(content).cast("B"))


class _Result(_Waiting):
    """stdout: what cannot be written raises OutputError; where the reader has gone, the process ends as SIGPIPE would end it."""

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self._drop()
            if isinstance(error, BrokenPipeError):
                raise SystemExit(BROKEN_PIPE) from error
            reason = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise OutputError(f"standard output: cannot be written ({reason}).") from error

    def _drop(self) -> None:
        """Send the rest to the null device: what is left in the buffer is written once more when Python ends."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
