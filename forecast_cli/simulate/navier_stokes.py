"""Flows on a periodic square, written as CF NetCDF with one trajectory a sample."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from forecast_cli.data.output import FieldType, open_writer
from forecast_cli.equations.navier_stokes import LONGEST_STEP, NavierStokes, coarsened, random_vorticity
from forecast_cli.errors import ConfigError, DivergedError

BATCH = 16
"""Samples integrated together; they do not depend on it beyond rounding. CPU milliseconds a sample and time unit at 64 x 64,
for 4 / 8 / 16 / 24 / 32: float32 0.53 / 0.44 / 0.41 / 0.41 / 0.47, float64 0.76 / 0.65 / 0.69 / 0.72 / 0.87."""


@dataclass(frozen=True)
class NavierStokesPlan:
    """What to simulate: defaults are the published data's, recorded after every time unit.

    grid: points along each side of the unit torus. coarsen: block size of the means that are written.
    duration: time of the last frame; None is one time unit a frame. time_step: the longest of the solver;
    None suits it to each flow, up to LONGEST_STEP.
    """

    samples: int = 1
    grid: int = 64
    coarsen: int = 4
    frames: int = 50
    duration: float | None = None
    viscosity: float = 1e-3
    time_step: float | None = None
    seed: int = 0
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        for name in ("samples", "grid", "coarsen", "frames"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} {getattr(self, name)}: expected at least 1.")
        for name in ("duration", "viscosity", "time_step"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and np.isfinite(value)):
                raise ConfigError(f"--{name.replace('_', '-')} {value}: expected a positive number.")
        if self.grid % 2 or self.grid < 4:
            raise ConfigError(f"--grid {self.grid}: expected an even number, at least 4.")
        if self.grid % self.coarsen:
            raise ConfigError(f"--coarsen {self.coarsen} does not divide --grid {self.grid}.")


def simulate_navier_stokes(
    plan: NavierStokesPlan, path: Path, *, overwrite: bool = False, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write `vorticity(sample, time, y, x)` of `plan.samples` random flows to `path`.

    progress: called with (samples done, samples in all).
    Raises DivergedError if the step is too long for the flow, OutputError if `path` cannot be written.
    """
    cells = plan.grid // plan.coarsen
    duration = plan.duration or float(plan.frames)
    interval = duration / plan.frames
    flow = NavierStokes(plan.grid, plan.viscosity, dtype=plan.dtype, device=plan.device)
    dtype: FieldType = "f8" if plan.dtype == torch.float64 else "f4"

    with open_writer(path, overwrite=overwrite) as file:
        file.attributes(
            {
                "title": "Two-dimensional Navier-Stokes flow on the unit torus",
                "equation": "w_t + u . grad w = nu lap w + 0.1 (sin 2 pi (x + y) + cos 2 pi (x + y))",
                "references": "arXiv 2010.08895; arXiv 2508.03614",
                "boundary_conditions": "periodic",
                "viscosity": plan.viscosity,
                "grid": plan.grid,
                "coarsen": plan.coarsen,
                "time_step": interval / max(1, np.ceil(interval / plan.time_step - 1e-9))
                if plan.time_step
                else f"at most {LONGEST_STEP}, suited to the speed of each flow",
                "seed": plan.seed,
            }
        )
        # Means over blocks of grid points sit at the middle of their points.
        centres = (np.arange(cells) * plan.coarsen + (plan.coarsen - 1) / 2) / plan.grid
        times = interval * np.arange(1, plan.frames + 1)
        time = {"long_name": "time since the initial state", "units": "1"}
        file.coordinate("time", xr.Variable("time", times, time))
        file.coordinate("y", xr.Variable("y", centres, {"axis": "Y", "long_name": "second coordinate", "units": "1"}))
        file.coordinate("x", xr.Variable("x", centres, {"axis": "X", "long_name": "first coordinate", "units": "1"}))
        file.field(
            "vorticity",
            {"sample": plan.samples, "time": plan.frames, "y": cells, "x": cells},
            {"long_name": "vorticity", "units": "1"},
            chunks=(1, plan.frames, cells, cells),
            dtype=dtype,
        )
        for first in range(0, plan.samples, BATCH):
            members = range(first, min(first + BATCH, plan.samples))
            start = torch.stack([random_vorticity(sample, seed=plan.seed, grid=plan.grid) for sample in members])
            frames = flow.frames(start, interval=interval, count=plan.frames, time_step=plan.time_step)
            # The solver's first axis is x; files carry y before x.
            block = torch.stack([coarsened(frame, plan.coarsen) for frame in frames], dim=1).mT
            if not torch.isfinite(block).all():
                raise DivergedError(
                    f"the flow of samples {members.start} to {members.stop - 1} left the finite numbers "
                    f"with time steps of up to {plan.time_step or LONGEST_STEP:g}. Give a smaller --time-step."
                )
            file.write("vorticity", (slice(members.start, members.stop),), block.cpu().numpy())
            file.sync()
            if progress:
                progress(members.stop, plan.samples)
