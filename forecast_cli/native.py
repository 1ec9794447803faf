"""Loops in C, compiled by the machine's own compiler the first time that they are wanted.

Where there is no compiler, or FORECAST_NATIVE=0, `load` gives None, and the caller does the same with torch.
A library is kept under its source, compiler and processor in FORECAST_CACHE (else XDG_CACHE_HOME/forecast, else
~/.cache/forecast), so that a folder that many machines share never serves one the code of another; where that cannot be
written, it is made anew for each process.
"""

import atexit
import contextlib
import ctypes
import fcntl
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

FLAGS = ("-O3", "-march=native", "-std=c99", "-ffp-contract=fast", "-fPIC")
THREADED = ("-fopenmp",)


def load(source: Path) -> ctypes.CDLL | None:
    """The library of a C file, with threads where the compiler knows OpenMP; None where it cannot be had."""
    return _loaded(source, (*FLAGS, *THREADED)) or _loaded(source, FLAGS)


@functools.cache
def _loaded(source: Path, flags: tuple[str, ...]) -> ctypes.CDLL | None:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or os.environ.get("FORECAST_NATIVE") == "0":
        return None
    key = hashlib.sha256(f"{source.read_text()}{compiler}{flags}{_processor()}".encode()).hexdigest()[:16]
    for find in (_cache, _own_folder):
        try:
            folder = find()
            library = folder / f"{source.stem}-{key}.so"
            if not library.exists():
                folder.mkdir(parents=True, exist_ok=True)
                with _alone_in(folder):
                    if not library.exists():
                        _compile(compiler, flags, source, library)
            return ctypes.CDLL(str(library))
        except (OSError, subprocess.SubprocessError):
            continue  # a read-only home, a folder whose programs may not run, or a compiler that does not work
    return None


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
    """The folder whose libraries outlive the process."""
    cache = os.environ.get("FORECAST_CACHE")
    return Path(cache) if cache else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "forecast"


@functools.cache
def _own_folder() -> Path:
    """A temporary folder of this process: what others may write to is no place to load code from."""
    folder = tempfile.mkdtemp(prefix="forecast-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _compile(compiler: str, flags: tuple[str, ...], source: Path, library: Path) -> None:
    """Compile beside the final name, which is taken when the library is whole: processes may race.

    It is linked without an OpenMP library: torch has loaded one, whose threads are to be shared, not fought with.
    """
    partial = library.with_name(f"{library.name}.{os.getpid()}.partial")
    objects = partial.with_suffix(".o")
    try:
        for command in ([*flags, "-c", str(source), "-o", str(objects)], ["-shared", str(objects), "-o", str(partial)]):
            subprocess.run([compiler, *command], check=True, capture_output=True, timeout=120)
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
