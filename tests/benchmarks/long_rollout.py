"""Memory of a rollout of 100,000 steps on 8 x 8 cells: it must not grow with the steps.

    python tests/benchmarks/long_rollout.py [STEPS]

Prints the memory of the process ten times on the way, and the size and time at the end.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from files import write_trajectories
from typer.testing import CliRunner

from forecast_cli.checkpoint import load_model
from forecast_cli.cli import app
from forecast_cli.data.fields import open_fields
from forecast_cli.rollout import choose_starts, roll_out


def resident() -> float:
    """MiB of memory that this process holds now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def main(steps: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        data, run, path = Path(place) / "data.nc", Path(place) / "run", Path(place) / "forecast.nc"
        write_trajectories(data, height=8, width=8)
        options = ["--hidden", "8,8", "--context", "4", "--horizon", "2", "--epochs", "1"]
        result = CliRunner().invoke(app, ["train", str(data), "-o", str(run), *options])
        assert result.exit_code == 0, result.output
        fields = open_fields([str(data)])
        saved = load_model(run)
        starts = choose_starts(saved, fields, context=4, steps=steps)[:2]
        started, told = time.monotonic(), 0

        def progress(done: int, total: int) -> None:
            nonlocal told
            if 10 * done // total > told:
                told = 10 * done // total
                print(f"{done // len(starts):7} steps  {resident():7.1f} MiB", flush=True)

        print(f"{0:7} steps  {resident():7.1f} MiB")
        roll_out(saved, fields, starts, path, context=4, steps=steps, progress=progress)
        print(f"{path.stat().st_size / 2**20:.0f} MiB on disk, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
