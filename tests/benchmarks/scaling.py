"""The figures of docs/scaling.md.

python tests/benchmarks/scaling.py train [ROUNDS]      # steps on one rank and on two, in turns, round by round
torchrun --nproc-per-node 2 tests/benchmarks/scaling.py exchange
python tests/benchmarks/scaling.py estimate            # the model, for 8, 64 and 512 GPUs
"""

import csv
import math
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import xarray as xr

sys.path.insert(0, str(Path(__file__).parents[1]))
from ranks import run

from forecast_cli.distributed import joined

WINDOWS, FRAMES, SIDE = 32, 15, 32
HIDDEN = "3x32"
SHORT, LONGER = 2, 6
"""Epochs, and how many more."""
SETTINGS = [(1, 8), (1, 4), (2, 4)]
"""Ranks, and windows of each."""
SIZES = (10**4, 10**5, 10**6, 10**7)
"""Bytes of gradients in an exchange."""

# Assumed, not measured.
GPUS_A_NODE = 8
BANDWIDTH_IN_NODE, BANDWIDTH_BETWEEN = 200e9, 20e9
"""Bytes a second of NCCL's rings: NVLink; one network card of 200 Gbit/s a node."""
NCCL_HOP, GLOO_HOP = 10e-6, 30e-6
"""Seconds that a small message takes to a neighbour: between GPUs, and by TCP."""


def show(name: str, found: list[float]) -> None:
    """Median and range, in milliseconds."""
    values = [1000 * value for value in found]
    print(f"{name:<42} {statistics.median(values):9.3g} ms ({min(values):.3g} to {max(values):.3g}), n = {len(values)}")


def exchanges() -> None:
    """Times of a flag, of counts and of sums of gradients, between the ranks that this runs on."""
    with joined() as ranks:

        def timed(exchange, times=200):
            found = []
            for _ in range(times):
                ranks.wait()
                begun = time.perf_counter()
                exchange()
                found.append(time.perf_counter() - begun)
            return found

        results = {"flag of one byte": timed(lambda: ranks.any(False))}
        counts = torch.zeros(FRAMES - 1, dtype=torch.int64)
        results["counts of 14 frames"] = timed(lambda: ranks.total(counts))
        for size in SIZES:
            gradient = torch.zeros(size // 4)
            results[f"sum of {size:.0e} bytes"] = timed(lambda values=gradient: dist.all_reduce(values), 50)
    if ranks.is_first:
        for name, found in results.items():
            show(name, found)


def trained(data: Path, ranks: int, windows: int, epochs: int, folder: Path) -> tuple[list[float], float]:
    """Seconds a step of each epoch but the first; processor seconds of all ranks from start to end."""
    out, before = folder / "run", resource.getrusage(resource.RUSAGE_CHILDREN)
    line = ["train", data, "-o", out, "--hidden", HIDDEN, "--context", 10, "--horizon", 5, "--epochs", epochs]
    codes, said = run([*line, "--batch-size", windows, "--split", "1.0,0,0", "--overwrite"], ranks, folder)
    assert set(codes) == {0}, said
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    steps = WINDOWS // (ranks * windows)
    walls = [float(row["seconds"]) / steps for row in csv.DictReader((out / "metrics.csv").open())][1:]
    return walls, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def train(rounds: int) -> None:
    """Wall and processor time of a step; the latter from the difference of a long and a short training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = (WINDOWS, FRAMES, SIDE, SIDE)
        values = np.random.default_rng(0).standard_normal(shape).astype("f4")
        data = folder / "noise.nc"
        xr.Dataset({"u": (("sample", "time", "y", "x"), values)}, {"time": np.arange(FRAMES)}).to_netcdf(data)
        walls: dict[tuple[int, int], list[float]] = {setting: [] for setting in SETTINGS}
        work: dict[tuple[int, int], list[float]] = {setting: [] for setting in SETTINGS}
        for _ in range(rounds):
            for setting in SETTINGS:
                found, long = trained(data, *setting, SHORT + LONGER, folder)
                _, short = trained(data, *setting, SHORT, folder)
                walls[setting] += found
                work[setting].append((long - short) / (LONGER * WINDOWS / setting[1]))
            print(f"load {os.getloadavg()[0]:.1f}", flush=True)
        for ranks, windows in SETTINGS:
            show(f"{ranks} rank(s) of {windows} windows, step", walls[ranks, windows])
            show(f"{ranks} rank(s) of {windows} windows, work of a rank", work[ranks, windows])


def step_on(ranks: int, alone: float, parameters: float) -> float:
    """Seconds of a step on so many ranks, by the model of docs/scaling.md, of one that takes `alone` on one rank."""
    if ranks == 1:
        return alone
    bandwidth = BANDWIDTH_IN_NODE if ranks <= GPUS_A_NODE else BANDWIDTH_BETWEEN
    gradients = 2 * (ranks - 1) / ranks * 4 * parameters / bandwidth + 2 * math.log2(ranks) * NCCL_HOP
    return alone + gradients + 3 * (ranks - 1) * GLOO_HOP


def estimate() -> None:
    for parameters, alone in ((0.2e6, 0.02), (0.2e6, 0.2), (50e6, 0.2)):
        row = [alone / step_on(ranks, alone, parameters) for ranks in (8, 64, 512)]
        print(f"{parameters:.1e} parameters, {1000 * alone:.0f} ms: {', '.join(f'{share:.0%}' for share in row)}")


if __name__ == "__main__":
    {"exchange": exchanges, "estimate": estimate, "train": lambda: train(int((sys.argv[2:] or [5])[0]))}[sys.argv[1]]()
