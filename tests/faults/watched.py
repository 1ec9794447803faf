"""Commands in a child process that may crash, hang or ask for all memory: how each ended, and what speaks against it.

A child is forked after the imports, so that one costs a tenth of a second, and runs the command as `typer.testing` does.
"""

import faulthandler
import json
import os
import re
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from forecast_cli.cli import app

HANG = 90
"""Seconds after which a command is taken to hang; the slowest takes a few, on a busy machine ten times as many."""
MEMORY = 3 * 2**30
"""Bytes that a command may allocate beside what the parent holds."""
DOCUMENTED = {0, 2, 3, 4, 5, 6, 7, 8}
WRITTEN = (0, 6)
"""Exit codes with which there is a result."""


@dataclass(frozen=True)
class End:
    """How a command ended.

    code: its exit code, or minus the signal's number. crash: a traceback of python or of a signal, or of a hang, else "".
    warned: warnings of libraries. wrong: what was wrong with the result, else "".
    """

    code: int
    stdout: str = ""
    stderr: str = ""
    crash: str = ""
    warned: tuple[str, ...] = ()
    wrong: str = ""

    @property
    def complaint(self) -> str:
        """What speaks against how the command ended; "" if it ended as the manual says."""
        if "Timeout (" in self.crash:
            return f"hangs\n{self.crash}"
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}\n{self.crash}"
        if self.crash:
            return f"a traceback\n{self.crash}"
        if self.code not in DOCUMENTED:
            return f"exit code {self.code}, which is not documented\n{self.stderr}"
        if self.warned:
            return f"a warning of a library: {self.warned[0]}"
        return self.wrong if self.code == 0 else self._about_the_refusal()

    @property
    def crashed_in(self) -> str:
        """The file of the library that took the process down with it; "" where none did."""
        place = re.search(r'most recent call first\):\n  File "([^"]+)"', self.crash)
        return place[1] if self.code < 0 and place and "/forecast_cli/" not in place[1] else ""

    def _about_the_refusal(self) -> str:
        """A refusal is one line, the last one; or, of the command line itself, the usage."""
        if self.code == 2 and "Usage:" in self.stderr:
            return ""
        said = self.stderr.removesuffix("\n").split("\n")
        lines = [line for line in said if line.startswith("forecast: ")]
        if len(lines) != 1 or said[-1] != lines[0]:
            return f"exit code {self.code} without a last line that says why:\n{self.stderr}"
        if re.search(r"0x[0-9a-f]{6,}|<class |<function |<[\w.]+ object", lines[0]):
            return f"python's own words in {lines[0]}"
        return "" if len(lines[0]) < 1000 else f"a line of {len(lines[0])} characters"


def command(arguments: Sequence[object], folder: Path, check: Callable[[str], str] | None = None) -> End:
    """Run a command line with `folder` as the working directory.

    check: takes stdout after exit code 0, and says what is wrong with the result; "" if nothing is.
    """
    folder.mkdir(exist_ok=True)
    end, log = folder / ".end.json", folder / ".stderr"
    child = os.fork()
    if child == 0:
        _be_child([str(argument) for argument in arguments], folder, check or (lambda _: ""), end, log)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if end.exists():
        told = json.loads(end.read_text())
        end.unlink()
        log.unlink()
        return End(**(told | {"warned": tuple(told["warned"])}))
    return End(code, crash=log.read_text(errors="replace")[:4000] or "(nothing said)")


def _be_child(arguments: list[str], folder: Path, check: Callable[[str], str], end: Path, log: Path) -> None:
    """Run and exit, without any of the parent's own ends: open tests, buffers, handlers."""
    try:
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        faulthandler.enable(file=said)
        faulthandler.dump_traceback_later(HANG, exit=True, file=said)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(folder)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("default")
            warnings.simplefilter("ignore", DeprecationWarning)
            result = CliRunner().invoke(app, arguments)
        crash = wrong = ""
        if result.exception and not isinstance(result.exception, SystemExit):
            crash = "".join(traceback.format_exception(result.exception))[-4000:]
        elif result.exit_code == 0:
            wrong = check(result.stdout)
        told = {
            "code": result.exit_code,
            "stdout": result.stdout,
            "stderr": result.stderr,
            "crash": crash,
            "warned": [f"{w.category.__name__}: {w.message} ({w.filename}:{w.lineno})" for w in warned],
            "wrong": wrong,
        }
        beside = end.with_suffix(".partial")
        beside.write_text(json.dumps(told))
        beside.rename(end)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(0)
