"""The scripts for batch systems are shell, name options that exist, and requeue a job exactly where it stopped cleanly."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from forecast_cli.cli import app

DOCS = Path(__file__).parents[1] / "docs"
SCRIPTS = sorted((DOCS / "hpc").iterdir())
COMMAND = re.compile(r"(?:\bforecast|-m forecast_cli) ((?:[^\n|&;]|\|\|)*)")


def commands(text):
    """The `forecast` commands of a text, as lists of words."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line.lstrip().startswith("#"):
            for found in COMMAND.findall(line.replace("|| code=$?", "")):
                yield shlex.split(found.rstrip("' "), comments=True)


def unknown_options(words):
    """Those that the command does not have."""
    command = get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    assert not hasattr(command, "commands"), words
    known = {option for parameter in command.params for option in parameter.opts}
    return {word for word in words if re.match(r"--?[a-z]", word)} - known


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_shell_whose_options_exist(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    found = list(commands(path.read_text()))
    assert found
    assert [unknown_options(words) for words in found] == [set()] * len(found)


@pytest.mark.parametrize("page", ["hpc.md", "scaling.md"])
def test_a_page_names_options_that_exist(page):
    blocks = re.findall(
        r"^(?: {4}|```bash\n)(.*?)(?:\n\n|\n```|\Z)", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL
    )
    found = [words for block in blocks for words in commands(block)]
    assert found
    assert [unknown_options(words) for words in found] == [set()] * len(found)


def test_an_option_that_does_not_exist_is_seen():
    (words,) = commands("srun forecast train z.nc \\\n    --no-such 3 -o run || code=$?")
    assert unknown_options(words) == {"--no-such"}


def test_every_script_is_explained():
    page = (DOCS / "hpc.md").read_text()
    assert [path.name for path in SCRIPTS if f"(hpc/{path.name})" not in page] == []


@pytest.fixture
def cluster(tmp_path):
    """Runs a script among stand-ins for the batch system; gives the exit code and what was asked of it."""
    binaries, asked = tmp_path / "bin", tmp_path / "asked"
    binaries.mkdir()
    stands_in = {
        "srun": 'while [[ $1 == -* ]]; do shift; done; exec "$@"',
        "mpiexec": 'shift 4; exec "$@"',
        "scontrol": f'echo "scontrol $*" >> "{asked}"; [ "$1" = requeue ] || echo node01',
        "qsub": f'echo "qsub $*" >> "{asked}"',
        # As torchrun does, whatever the ranks end with.
        "torchrun": 'while [ "$1" != -m ]; do shift; done; shift 2; forecast "$@" || exit 1',
        "forecast": 'if [ "$1" = train ]; then mkdir -p runs/z; printf "%s" "$LAST" > runs/z/train.log; exit "$CODE"; fi',
    }
    for name, body in stands_in.items():
        (binaries / name).write_text(f"#!/bin/bash\n{body}\n")
        (binaries / name).chmod(0o755)
    (tmp_path / "nodes").write_text("node01\nnode02\n")

    def run(path, code):
        asked.unlink(missing_ok=True)
        event = {0: "INFO end reason=epochs", 75: "INFO stop rank=0 reason=SIGUSR1", 3: "ERROR error kind=DataError"}[
            code
        ]
        environment = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "CODE": str(code),
            "LAST": f"2026-11-25T13:31:27.123+00:00 {event}\n",
            "SLURM_CPUS_PER_TASK": "8",
            "SLURM_JOB_ID": "7",
            "SLURM_NNODES": "4",
            "SLURM_ARRAY_TASK_ID": "1",
            "SLURM_JOB_NODELIST": "node[01-04]",
            "PBS_JOBID": "7.server",
            "PBS_O_WORKDIR": str(tmp_path),
            "PBS_NODEFILE": str(tmp_path / "nodes"),
        }
        done = subprocess.run(["bash", str(path)], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.stderr == ""
        return done.returncode, asked.read_text().splitlines() if asked.exists() else []

    return run


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_job_is_sent_again_where_it_stopped_cleanly_and_nowhere_else(path, cluster):
    again = f"qsub {path.name}" if path.suffix == ".pbs" else "scontrol requeue 7"
    for code in (0, 3, 75):
        left, asked = cluster(path, code)
        assert (again in asked) == (code == 75)
        assert left == (min(code, 1) if "torchrun" in path.read_text() else code)
