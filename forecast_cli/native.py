"""Loops in C, compiled by the machine's own compiler the first time that they are wanted.

Where there is no compiler, or FORECAST_NATIVE=0, `load` gives None, and the caller does the same with torch.
A library is kept under its source, compiler and processor in a folder of mode 0700, `forecast-UID` in FORECAST_CACHE (else
XDG_CACHE_HOME/forecast, else ~/.cache/forecast), so that a folder that many machines share never serves one the code of
another, and one that many users share never the code of another user; where that cannot be had, it is made anew for each process.
"""

import atexit
import contextlib
import ctypes
import fcntl
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from forecast_cli.private import private_folder

FLAGS = ("-O3", "-march=native", "-std=c99", "-ffp-contract=fast", "-fPIC")
THREADED = ("-fopenmp",)


def load(source: Path) -> ctypes.CDLL | None:
    """The library of a C file, with threads where the compiler knows OpenMP; None where it cannot be had."""
    return _loaded(source, (*FLAGS, *THREADED)) or _loaded(source, FLAGS)


def why_unavailable() -> str:
    """The reason why `load` gives None, for a message."""
    if os.environ.get("FORECAST_NATIVE") == "0":
        return "FORECAST_NATIVE is 0"
    named = f"CC is '{os.environ['CC']}'" if os.environ.get("CC") else "CC is not set, so that it would be cc"
    if _compiler() is None:
        return f"there is no C compiler ({named})"
    return f"no C compiler makes a library that can be loaded ({named})"


@functools.cache
def _loaded(source: Path, flags: tuple[str, ...]) -> ctypes.CDLL | None:
    if os.environ.get("FORECAST_NATIVE") == "0":
        return None
    for find in (_cache, _own_folder):
        try:
            library = _library(find(), source, flags)
            return ctypes.CDLL(str(library)) if library else None
        except (OSError, subprocess.SubprocessError):
            continue  # a read-only home, a folder whose programs may not run, or a compiler that does not work
    return None


def _library(folder: Path, source: Path, flags: tuple[str, ...]) -> Path | None:
    """The library in a folder, compiled if need be; without a compiler, that of any compiler."""
    stem, compiler = f"{source.stem}-{_digest(source.read_text(), flags, _processor())}", _compiler()
    if compiler is None:
        return min(folder.glob(f"{stem}-*.so"), default=None)
    library = folder / f"{stem}-{_digest(compiler)[:8]}.so"
    if not library.exists():
        with _alone_in(folder):
            if not library.exists():
                _compile(compiler, flags, source, library)
    return library


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _compiler() -> tuple[str, ...] | None:
    """The program and the arguments that CC names, such as `ccache gcc` or `gcc -m64`; None where there is no such program."""
    named = os.environ.get("CC") or "cc"
    if whole := shutil.which(named):  # a path may have spaces
        return (whole,)
    try:
        words = shlex.split(named) or ["cc"]
    except ValueError:  # a quotation mark without its second
        return None
    program = shutil.which(words[0])
    return (program, *words[1:]) if program else None


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one process compile while the others wait for what it makes, where the disk knows locks."""
    file = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _cache() -> Path:
    """The folder whose libraries outlive the process; an OSError where there is none that is safe to load code from."""
    named = os.environ.get("FORECAST_CACHE")
    base = named or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "forecast")  # noqa: PTH118
    try:
        return private_folder(Path(base).expanduser())
    except RuntimeError as error:  # no HOME, and no entry of the user in the password database
        raise FileNotFoundError(str(error)) from error


@functools.cache
def _own_folder() -> Path:
    """A temporary folder of this process: what others may write to is no place to load code from."""
    folder = tempfile.mkdtemp(prefix="forecast-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _compile(compiler: tuple[str, ...], flags: tuple[str, ...], source: Path, library: Path) -> None:
    """Compile beside the final name, which is taken when the library is whole: processes may race.

    It is linked without an OpenMP library: torch has loaded one, whose threads are to be shared, not fought with.
    """
    partial = library.with_name(f"{library.name}.{os.getpid()}.partial")
    objects = partial.with_suffix(".o")
    try:
        for command in ([*flags, "-c", str(source), "-o", str(objects)], ["-shared", str(objects), "-o", str(partial)]):
            subprocess.run([*compiler, *command], check=True, capture_output=True, timeout=120)
        partial.replace(library)
    finally:
        partial.unlink(missing_ok=True)
        objects.unlink(missing_ok=True)


def _processor() -> str:
    """What tells processors apart whose native code differs."""
    try:
        lines = Path("/proc/cpuinfo").read_text("ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    kinds = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}
    return f"{platform.machine()}{platform.processor()}{sorted(kinds)}"
