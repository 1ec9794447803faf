"""The figures of docs/scaling.md.

python tests/benchmarks/scaling.py train [ROUNDS]      # steps on one rank and on two, in turns, round by round
torchrun --nproc-per-node 2 tests/benchmarks/scaling.py exchange
python tests/benchmarks/scaling.py estimate            # the model, for 8, 64 and 512 GPUs
"""

import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import xarray as xr

from forecast_cli import trainer
from forecast_cli.config import load_config
from forecast_cli.data.fields import open_fields
from forecast_cli.distributed import joined

WINDOWS, FRAMES, SIDE = 32, 15, 32
HIDDEN = "3x32"
EPOCHS = 3
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


class Clock:
    """Watches a training: wall and processor time at every step."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def begin(self, _: object) -> None: ...
    def step(self, *_: object) -> None:
        self.times.append((time.perf_counter(), time.process_time()))

    def epoch(self, _: object) -> None: ...

    def between(self, kind: int) -> list[float]:
        """Of every step but the first of an epoch, before which a state is written."""
        ticks = [tick[kind] for tick in self.times]
        steps = len(ticks) // EPOCHS
        return [ticks[n] - ticks[n - 1] for n in range(1, len(ticks)) if n % steps]


def steps(data: str, windows: str, run: str) -> None:
    """Train on these ranks, and print wall and processor times of the steps of this one."""
    options = {"data.files": (data,), "data.context": 10, "data.horizon": 5, "data.split": "1.0,0,0"}
    options |= {"model.hidden": HIDDEN, "training.batch_size": int(windows), "training.epochs": EPOCHS}
    clock = Clock()
    with joined() as ranks:
        fields, cpu = open_fields([data]), torch.device("cpu")
        trainer.train(load_config(options=options), fields, Path(run), device=cpu, reporter=clock, ranks=ranks)
    print(json.dumps([clock.between(0), clock.between(1)]))


def measured(ranks: int, windows: int, data: Path, run: Path) -> list[list[list[float]]]:
    """What `steps` prints on each rank."""
    command = [sys.executable, __file__, "steps", str(data), str(windows), str(run)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    started = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, env=os.environ | place | {"RANK": str(rank), "OMP_NUM_THREADS": "1"}
        )
        for rank in range(ranks)
    ]
    return [json.loads(process.communicate()[0]) for process in started]


def train(rounds: str = "5") -> None:
    """Steps on one rank and on two, in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = np.random.default_rng(0).standard_normal((WINDOWS, FRAMES, SIDE, SIDE)).astype("f4")
        data = folder / "noise.nc"
        xr.Dataset({"u": (("sample", "time", "y", "x"), values)}, {"time": np.arange(FRAMES)}).to_netcdf(data)
        found: dict[tuple[int, int], list[list[list[float]]]] = {setting: [] for setting in SETTINGS}
        for number in range(int(rounds)):
            for setting in SETTINGS:
                found[setting] += measured(*setting, data, folder / f"{setting}{number}")
            print(f"load {os.getloadavg()[0]:.1f}", flush=True)
        for (ranks, windows), told in found.items():
            for kind, what in enumerate(("step", "work of a rank")):
                show(f"{ranks} rank(s) of {windows} windows, {what}", [time for rank in told for time in rank[kind]])


def step_on(ranks: int, alone: float, parameters: float) -> float:
    """Seconds of a step on so many ranks, by the model of docs/scaling.md, of one that takes `alone` on one rank."""
    if ranks == 1:
        return alone
    bandwidth = BANDWIDTH_IN_NODE if ranks <= GPUS_A_NODE else BANDWIDTH_BETWEEN
    gradients = 2 * (ranks - 1) / ranks * 4 * parameters / bandwidth + 2 * math.log2(ranks) * NCCL_HOP
    return alone + gradients + 2 * (ranks - 1) * GLOO_HOP


def estimate() -> None:
    for parameters, alone in ((0.2e6, 0.02), (0.2e6, 0.2), (50e6, 0.2)):
        row = [alone / step_on(ranks, alone, parameters) for ranks in (8, 64, 512)]
        print(f"{parameters:.1e} parameters, {1000 * alone:.0f} ms: {', '.join(f'{share:.0%}' for share in row)}")


if __name__ == "__main__":
    {"exchange": exchanges, "estimate": estimate, "train": train, "steps": steps}[sys.argv[1]](*sys.argv[2:])
