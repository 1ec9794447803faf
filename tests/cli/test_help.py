import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "xarray", "pydantic", "numpy", "netCDF4", "h5py", "dask", "scores", "matplotlib", "safetensors")
COMMANDS = ["", "info", "train", "rollout", "evaluate", "plot", "simulate", "simulate navier-stokes"]

# Other tests have imported everything already: only a process of its own can tell.
PROBE = """
import json, sys
from typer.testing import CliRunner
from forecast_cli.cli import app
for command in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    print(json.dumps([result.exit_code, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def test_no_help_loads_anything_heavy():
    result = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(COMMANDS)], capture_output=True, text=True, check=True
    )
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [code for code, _ in told] == [0] * len(COMMANDS)
    first, last = set(told[0][1]), set(told[-1][1])
    assert "typer" in first
    assert not set(HEAVY) & first
    # Typer itself looks at the options of a command with pydantic, in versions from 0.29 on.
    assert not set(HEAVY) - {"pydantic"} & last


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, forecast):
    result = forecast(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    assert command in result.stdout


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (
            "train",
            "--variable --model --hidden --context --horizon --epochs --batch-size --learning-rate --seed --split --device --preset",
        ),
        (
            "train",
            "--config --set --resume --init-from --overwrite --report-activations --dry-run --json --split-along --dims --select",
        ),
        (
            "rollout",
            "--data --context --steps --lead-time --init-time --init-every --select --batch-size --device --overwrite --json",
        ),
        ("rollout", "--resume --time-limit"),
        ("evaluate", "--truth --metric --baseline --label --json --output"),
        (
            "simulate navier-stokes",
            "--samples --grid --coarsen --frames --duration --viscosity --seed --dtype --device",
        ),
    ],
)
def test_a_command_has_the_options_that_the_documentation_names(command, options):
    from typer.main import get_command

    from forecast_cli.cli import app

    found = get_command(app)
    for name in command.split():
        found = found.commands[name]
    assert set(options.split()) <= {option for parameter in found.params for option in parameter.opts}


def test_the_command_without_arguments_lists_the_commands(forecast):
    text = forecast().output
    for command in COMMANDS:
        assert command.split(" ")[0] in text
    assert "75 stopped cleanly" in " ".join(text.split())


def test_the_version_is_told(forecast):
    from forecast_cli import __version__

    assert forecast("--version").stdout == f"forecast {__version__}\n"
