"""What is logged, one line an event: when, how grave, what, and what belongs to it.

    2026-11-25T13:31:27.123+00:00 INFO epoch epoch=3 training_loss=0.0123
    2026-11-25T13:31:28.456+00:00 ERROR error rank=2 kind=DataError text="z.nc: cannot be read."

`_log.info("epoch", {"epoch": 3})` logs an event. What libraries log is the event `message`, and what warns the event `warning`.
The grammar stands in docs/data_format.md. Imports nothing heavy.
"""

import errno
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from forecast_cli.errors import ForecastError, OutputError, PeerError, Stopped

_BREAKS = re.compile(r'[\s="]')
_package = logging.getLogger("forecast_cli")
_log = logging.getLogger(__name__)
_warnings = logging.getLogger("py.warnings")


def event_of(record: logging.LogRecord) -> tuple[str, Mapping[str, Any]]:
    """The name of a logged event, and what belongs to it."""
    ours = record.name.startswith(("forecast_cli", _warnings.name))
    if ours and isinstance(record.args, Mapping):
        return record.msg, record.args
    try:
        text = record.getMessage()
    except (
        TypeError,
        ValueError,
    ):  # arguments that do not fit are the library's mistake, not a failure of the training
        text = str(record.msg)
    return "message", {"logger": record.name, "text": text}


def pairs(values: Mapping[str, Any]) -> str:
    """key=value, one after the other; a value is a word, or a string as in JSON where it holds blanks, quotes or equals signs."""
    return " ".join(f"{_BREAKS.sub('_', key)}={_shown(value)}" for key, value in values.items())


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return json.dumps(text) if not text or _BREAKS.search(text) else text


class RunLog(logging.Handler):
    """The log of a run. What comes before `open` is held until then. Ranks other than the first add their errors alone.

    What cannot be written is an OutputError for who logged it, once.
    """

    def __init__(self, rank: int | None = None) -> None:
        super().__init__(logging.ERROR if rank else logging.INFO)
        self.rank = rank
        self.path: Path | None = None
        self._held: list[bytes] = []
        self._descriptor = -1

    def open(self, path: Path) -> None:
        """Append to this file from now on, on a line of its own even where the last one was cut off."""
        self.path = path
        with self._writing():
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                os.write(self._descriptor, b"\n")
        for line in self._held:
            self._append(line)
        self._held = []

    def emit(self, record: logging.LogRecord) -> None:
        name, values = event_of(record)
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        ranked = values if self.rank is None else {"rank": self.rank, **values}
        line = f"{when} {record.levelname} {name} {pairs(ranked)}\n".encode(errors="backslashreplace")
        if self.path is None:
            self._held.append(line)
        else:
            self._append(line)

    def _append(self, line: bytes) -> None:
        """In one write, so that lines of several ranks do not mix."""
        if self._descriptor < 0:
            return
        with self._writing():
            if os.write(self._descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._release()
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}).") from error

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def close(self) -> None:
        self._release()
        super().close()


@contextmanager
def logging_to(log: RunLog) -> Iterator[None]:
    """Inside, what the package logs, what libraries warn of, and the failure that ends it all go to a log."""
    with _heard_by(log), warnings_logged():
        try:
            yield
        except Stopped:
            raise
        except Exception as error:
            values = {"kind": type(error).__name__, "text": error}
            if isinstance(error, ForecastError):
                values["exit_code"] = error.exit_code
            with suppress(OutputError):  # the first failure is the one to tell
                _log.log(logging.WARNING if isinstance(error, PeerError) else logging.ERROR, "error", values)
            raise
        finally:
            log.close()


class Console(logging.Handler):
    """Warnings, and events where they are wanted, as lines for people. Errors have their own line at the end of the command."""

    def __init__(self, say: Callable[[str], None], *, events: bool) -> None:
        super().__init__(logging.INFO if events else logging.WARNING)
        self.say = say
        self.addFilter(lambda record: record.levelno < logging.ERROR or not record.name.startswith("forecast_cli"))

    def emit(self, record: logging.LogRecord) -> None:
        name, values = event_of(record)
        if record.levelno < logging.WARNING:
            self.say(f"{name} {pairs(values)}")
        else:
            self.say(f"warning: {' '.join(str(values['text']).split())}")


@contextmanager
def heard_on(console: Console) -> Iterator[None]:
    """Inside, the console hears what is logged and what warns."""
    with _heard_by(console), warnings_logged():
        yield


@contextmanager
def _heard_by(handler: logging.Handler) -> Iterator[None]:
    """Of libraries the warnings, of this package what the handler's level lets through."""
    root, level = logging.getLogger(), _package.level
    root.addHandler(handler)
    _package.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        _package.setLevel(level)


@contextmanager
def warnings_logged() -> Iterator[None]:
    """Inside, what warns is logged."""

    def logged(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,  # noqa: ARG001
        line: str | None = None,  # noqa: ARG001
    ) -> None:
        _warnings.warning(
            "warning", {"category": category.__name__, "text": str(message), "where": f"{filename}:{lineno}"}
        )

    before = warnings.showwarning
    warnings.showwarning = logged
    try:
        yield
    finally:
        warnings.showwarning = before
