"""Run the tests in environments that variables can set: other instruction sets, no compiler, no home, odd folders, another order.

python tests/environments.py                              # all of them
python tests/environments.py umask home -- tests/scan -x  # two of them, with arguments for pytest
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

Variables = dict[str, str]
COMPILERS = re.compile(r"(.*-)?(cc|c\+\+|c89|c99|gcc|g\+\+|clang|clang\+\+|cpp|tcc|icx|icpx|nvc)(-[\d.]+)?")


def _no_compiler(folder: Path) -> Variables:
    """A PATH of links to all programs but the compilers, and a cache without compiled code."""
    programs = folder / "programs"
    programs.mkdir()
    for place in map(Path, os.get_exec_path()):
        for program in place.iterdir() if place.is_dir() else ():
            if not COMPILERS.fullmatch(program.name) and not os.path.lexists(programs / program.name):
                (programs / program.name).symlink_to(program.absolute())
    return {"PATH": str(programs), "FORECAST_CACHE": str(folder / "cache")}


def _spaced(folder: Path) -> Variables:
    place = folder / "a folder with spaces"
    place.mkdir()
    return {"TMPDIR": str(place)}


ENVIRONMENTS: dict[str, Callable[[Path], Variables]] = {
    "plain": lambda _: {},
    "aten-default": lambda _: {"ATEN_CPU_CAPABILITY": "default"},
    "aten-avx2": lambda _: {"ATEN_CPU_CAPABILITY": "avx2"},
    "onednn-avx2": lambda _: {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "compiler": _no_compiler,
    "tmpdir": _spaced,
    "home": lambda _: {},
    "umask": lambda _: {},
    "order": lambda _: {},
}
REMOVED = {"home": ("HOME", "XDG_CACHE_HOME", "FORECAST_CACHE"), "compiler": ("CC", "CXX")}
OPTIONS = {"order": ("--order", "2")}
UMASKS = {"umask": 0o077}


def run(name: str, options: list[str]) -> int:
    """Run pytest in one environment; its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # tests become another user
        variables = {key: value for key, value in os.environ.items() if key not in REMOVED.get(name, ())}
        variables |= ENVIRONMENTS[name](Path(folder))
        command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *OPTIONS.get(name, ()), *options]
        return subprocess.run(command, env=variables, umask=UMASKS.get(name, -1), check=False).returncode


def main(words: list[str]) -> int:
    """Run the environments that are named, or all, and print a line for each at the end."""
    split = words.index("--") if "--" in words else len(words)
    chosen, options = words[:split] or list(ENVIRONMENTS), words[split + 1 :]
    unknown = set(chosen) - set(ENVIRONMENTS)
    if unknown:
        raise SystemExit(f"no environment {', '.join(sorted(unknown))}; there are {', '.join(ENVIRONMENTS)}")
    lines = []
    for name in chosen:
        print(f"=== {name}", flush=True)
        started = time.monotonic()
        code = run(name, options)
        lines.append((name, code, time.monotonic() - started))
    for name, code, seconds in lines:
        print(f"{name:14} {'passed' if code == 0 else f'FAILED (exit code {code})'} in {seconds / 60:.0f} min")
    return int(any(code for _, code, _ in lines))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
