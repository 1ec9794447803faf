"""Apply each mutant of the table to a copy of the repository and run the tests that must notice it.

    PYTHONPATH=tests .venv/bin/python -m mutants [-n WORKERS] [NAME ...]

The tests first run on an unchanged copy, where they must pass. A mutant is killed if a test fails; it survives if
all pass. Exit code 0: all killed. 1: a mutant survives, is stale, or its tests do not run. 2: no such mutant.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mutants.record import Mutant, StaleMutantError
from mutants.table import MUTANTS

ROOT = Path(__file__).parents[2]
COPIED = ("forecast_cli", "tests", "docs", "sample_data", "pyproject.toml", "README.md", "Makefile")
SECONDS = 600
"""Time limit of one run of pytest."""
PASSED, FAILED = 0, 1
"""Exit codes of pytest."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants named in `arguments`, or all; return the exit code."""
    parser = argparse.ArgumentParser("python -m mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants to apply (default: all)")
    parser.add_argument("-n", type=int, default=2, metavar="WORKERS", help="mutants at a time (default: 2)")
    options = parser.parse_args(arguments)
    known = {mutant.name: mutant for mutant in MUTANTS}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no mutant '{unknown[0]}'. Choose one of {', '.join(known)}.")
    chosen = [known[name] for name in options.names or known]
    try:
        for mutant in chosen:
            mutant.mutated(ROOT)
    except StaleMutantError as error:
        print(error, file=sys.stderr)
        return 1
    if problem := unmutated(chosen):
        print(problem, file=sys.stderr)
        return 1
    width = max(len(mutant.name) for mutant in chosen)
    problems = 0
    with ThreadPoolExecutor(options.n) as pool:
        for mutant, (verdict, detail, seconds) in zip(chosen, pool.map(outcome, chosen), strict=True):
            print(f"{mutant.name:{width}}  {verdict:8}  {seconds:5.0f} s  {detail}", flush=True)
            problems += verdict != "killed"
    print(f"{len(chosen)} mutants, {len(chosen) - problems} killed")
    return int(problems > 0)


def unmutated(chosen: Sequence[Mutant]) -> str:
    """Run all tests of some mutants on an unchanged copy; return what is wrong, or nothing."""
    selected = {test for mutant in chosen for test in mutant.tests}
    # A function of a file that is run as a whole is not run twice.
    tests = sorted(test for test in selected if "::" not in test or test.partition("::")[0] not in selected)
    with copied() as tree:
        where = python(tree, "-c", "import forecast_cli; print(forecast_cli.__file__)").stdout.strip()
        if not Path(where).is_relative_to(tree):
            return f"the tests would import {where}, not the copy."
        code, output = tested(tree, tests, "--maxfail=5")
    return "" if code == PASSED else f"without a mutant the tests do not pass (pytest exit code {code}):\n{output}"


def outcome(mutant: Mutant) -> tuple[str, str, float]:
    """Apply a mutant to a copy and run its tests; return the verdict, a detail, and the seconds spent."""
    started = time.monotonic()
    with copied() as tree:
        (tree / mutant.file).write_text(mutant.mutated(tree))
        code, output = tested(tree, mutant.tests, "--exitfirst")
    seconds = time.monotonic() - started
    failed = re.search(r"^FAILED (\S+)", output, flags=re.MULTILINE)
    if code == FAILED and failed:
        return "killed", failed[1], seconds
    if code == PASSED:
        return "SURVIVED", f"{mutant.file}: {mutant.after.strip()!r}", seconds
    return "NOT RUN", f"pytest exit code {code}: {' '.join(output.split())[-200:]}", seconds


@contextmanager
def copied() -> Iterator[Path]:
    """Yield a temporary copy of the package, its tests, and what they read."""
    with TemporaryDirectory(prefix="forecast-mutant-") as folder:
        tree = Path(folder).resolve()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, tree / name)
        yield tree


def tested(tree: Path, tests: Sequence[str], *options: str) -> tuple[int | None, str]:
    """Run tests of a copy; return the exit code of pytest, None beyond the time limit, and its output."""
    settings = ("-n", "0", "--tb=line", "-rf", "-p", "no:cacheprovider", *options)
    try:
        done = python(tree, "-m", "pytest", *settings, *tests)
    except subprocess.TimeoutExpired:
        return None, f"not done after {SECONDS} s"
    return done.returncode, done.stdout + done.stderr


def python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a copy first on its path, for child processes too."""
    # Bytecode of a file that was mutated within the same second could be taken for that of the original.
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    line = [sys.executable, *arguments]
    return subprocess.run(line, cwd=tree, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)


if __name__ == "__main__":
    sys.exit(main())
