"""The simulator of Navier-Stokes flows against the published first-order scheme: cost and accuracy.

    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/first_order_flow.py [DURATION]

Both integrate the same random flows, recorded once a time unit up to DURATION (default 20), in turn, on one thread. Printed
for each precision: CPU milliseconds a sample and time unit, median (lowest to highest) of 7 repetitions; and the largest
relative L2 error of a sample in the last frame, against the simulator in float64 with steps of 0.0125.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from forecast_cli.benchmark.first_order import first_order_frames
from forecast_cli.equations.navier_stokes import NavierStokes, random_vorticity
from forecast_cli.simulate.navier_stokes import BATCH

REPETITIONS = 7


def last(frames: Iterator[Tensor]) -> Tensor:
    for frame in frames:
        final = frame
    return final


def error(fields: Tensor, reference: Tensor) -> float:
    """The largest relative L2 error of a sample."""
    return ((fields - reference).flatten(1).norm(dim=1) / reference.flatten(1).norm(dim=1)).max().item()


def spread(values: list[float]) -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main() -> None:
    torch.set_num_threads(1)
    duration = int(sys.argv[1]) if sys.argv[1:] else 20
    starts = torch.stack([random_vorticity(sample, seed=0, grid=64) for sample in range(BATCH)])
    record = {"interval": 1.0, "count": duration}
    reference = last(NavierStokes(64).frames(starts, time_step=0.0125, **record))
    print(f"{BATCH} flows on 64 x 64 points to t = {duration}")
    print("| precision | scheme | CPU ms | ratio | error |\n| --- | --- | --- | --- | --- |", flush=True)
    for dtype in (torch.float32, torch.float64):
        start = starts.to(dtype)
        schemes: dict[str, Callable[[Tensor], Iterator[Tensor]]] = {
            "first order": lambda start: first_order_frames(start, **record),
            "simulator": lambda start: NavierStokes(64, dtype=start.dtype).frames(start, **record),
        }
        costs: dict[str, list[float]] = {name: [] for name in schemes}
        finals = {}
        for _ in range(REPETITIONS):
            for name, scheme in schemes.items():
                began = time.process_time()
                finals[name] = last(scheme(start))
                costs[name].append(1e3 * (time.process_time() - began) / BATCH / duration)
        ratios = [slow / fast for slow, fast in zip(costs["first order"], costs["simulator"], strict=True)]
        for name, ratio in (("first order", ""), ("simulator", spread(ratios))):
            print(
                f"| {dtype} | {name} | {spread(costs[name])} | {ratio} | {error(finals[name], reference):.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
