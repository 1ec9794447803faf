"""The simulator of Navier-Stokes flows against the published first-order scheme: cost and accuracy.

    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/first_order_flow.py [DURATION]

Both integrate the same random flows, recorded once a time unit up to DURATION (default 20), in turn, on one thread. Printed
for each precision: CPU milliseconds a sample and time unit, median (lowest to highest) of 7 repetitions; and the largest
relative L2 error of a sample in the last frame, against the simulator in float64 with steps of 0.0125.
"""

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from forecast_cli.equations.navier_stokes import NavierStokes, random_vorticity
from forecast_cli.simulate.navier_stokes import BATCH

REPETITIONS = 7


def first_order_frames(
    vorticity: Tensor, *, interval: float, count: int, viscosity: float = 1e-3, time_step: float = 1e-2
) -> Iterator[Tensor]:
    """The vorticity after each of `count` intervals, (batch, n, n) each, by the published scheme.

    Forward Euler for advection and forcing, Crank-Nicolson for diffusion, complex transforms of whole spectra, four of
    them inverse and one forward in a step, dealiased by the 2/3 rule. The multipliers are made once, outside the steps.
    Source: the data of Li et al. (2021), arXiv 2010.08895, and Horuz et al. (2025), arXiv 2508.03614.
    """
    n = vorticity.shape[-1]
    k = 2 * math.pi * n * torch.fft.fftfreq(n, dtype=vorticity.dtype)
    kx, ky = torch.meshgrid(k, k, indexing="ij")
    square = kx**2 + ky**2
    inverse = torch.where(square > 0, 1 / square.clamp(min=1.0), 0.0)
    kept = (kx.abs() <= 2 * math.pi * n / 3) & (ky.abs() <= 2 * math.pi * n / 3)
    multipliers = [1j * ky * inverse, -1j * kx * inverse, 1j * kx, 1j * ky]
    x = torch.arange(n, dtype=vorticity.dtype) / n
    phase = 2 * math.pi * (x.unsqueeze(1) + x)
    force = torch.fft.fft2(0.1 * (torch.sin(phase) + torch.cos(phase)))

    diffusion = viscosity * square * time_step / 2
    spectrum = torch.fft.fft2(vorticity)
    for _ in range(count):
        for _ in range(round(interval / time_step)):
            u, v, w_x, w_y = (torch.fft.ifft2(multiplier * spectrum).real for multiplier in multipliers)
            advection = kept * torch.fft.fft2(u * w_x + v * w_y)
            spectrum = ((1 - diffusion) * spectrum + time_step * (force - advection)) / (1 + diffusion)
        yield torch.fft.ifft2(spectrum).real


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
