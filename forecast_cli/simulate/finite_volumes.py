"""Finite-volume problems, computed with their known closures and written as CF NetCDF, one trajectory a sample."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from forecast_cli.data.bathymetry import Bathymetry, read_bathymetry
from forecast_cli.data.files import is_there, split_variable
from forecast_cli.data.noise import Noise, with_noise
from forecast_cli.data.output import FieldType, Writer, open_writer, refuse_overwrite
from forecast_cli.data.protection import refuse_inputs
from forecast_cli.equations import PROBLEMS, Equation, Problem
from forecast_cli.equations.shallow_water import TOPOGRAPHIES, named_depth
from forecast_cli.errors import ConfigError, DivergedError
from forecast_cli.physics.grid import Grid
from forecast_cli.physics.integrate import ADAPTIVE, Solver, frames, stable_steps, steps_of

MORE_STEPS = 50
"""Adaptive steps that a solution may take, in units of the fixed ones that would be stable at its start."""
BATCH_BYTES = 2**28
"""Samples integrated together fit into this, or are one."""


@dataclass(frozen=True)
class SeaBed:
    """What lies below the waves, by its name or as FILE[:variable]; depths in m.

    depth: of the flat bottom that named ones rise from. min_depth: land and shallower water are deepened to it; None refuses land.
    """

    name: str = "flat"
    depth: float = 100.0
    min_depth: float | None = None


@dataclass(frozen=True)
class Plan:
    """What to simulate; None takes what the problem says.

    grid: cells along (x,) or (y, x). frames: in all, the first at time 0, `duration` apart from the last. every: frames
    from one that is written to the next. parameters, boundaries, closures, scheme: see Equation.build. time_step: the longest
    step of a solver with fixed steps. tolerance: of an adaptive one.
    """

    problem: str
    samples: int = 1
    grid: tuple[int, ...] | None = None
    frames: int | None = None
    duration: float | None = None
    every: int = 1
    seed: int = 0
    parameters: Mapping[str, float] = field(default_factory=dict)
    boundaries: Mapping[str, str] = field(default_factory=dict)
    closures: Mapping[str, str] = field(default_factory=dict)
    scheme: str = ""
    noise: Mapping[str, Noise] = field(default_factory=dict)
    solver: str = "auto"
    time_step: float | None = None
    tolerance: float = 1e-8
    sea_bed: SeaBed = field(default_factory=SeaBed)
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        for name, least in (("samples", 1), ("frames", 2), ("every", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"--{name} {value}: expected at least {least}.")
        for name in ("duration", "time_step", "tolerance"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"--{name.replace('_', '-')} {value}: expected a positive number.")
        if self.sea_bed.min_depth is not None and not self.sea_bed.min_depth > 0:
            raise ConfigError(f"--min-depth {self.sea_bed.min_depth:g}: expected a positive number of metres.")
        if self.every > (self.frames or PROBLEMS[self.problem].frames) - 1:
            raise ConfigError(f"--every {self.every}: only the first frame would be written.")


@dataclass(frozen=True)
class Prepared:
    """Everything that is decided before the first step. interval, count: between written frames, and of those after the first."""

    problem: Problem
    equation: Equation
    states: Tensor
    interval: float
    count: int
    solver: Solver
    notes: tuple[str, ...]


class Made(NamedTuple):
    """What was simulated, for the user: cells along the axes, written frames, how it was solved, and notes, a line each."""

    cells: tuple[int, ...]
    frames: int
    solver: str
    notes: tuple[str, ...]


def simulate(
    plan: Plan, path: Path, *, overwrite: bool = False, progress: Callable[[int, int], None] | None = None
) -> Made:
    """Write the trajectories of a plan to `path`.

    Computed in float64 (float32 on mps), with the same time step for all samples.
    progress: called with (samples done, samples in all).
    Raises ConfigError for impossible plans, DataError for unsuitable sea beds, DivergedError where the solution leaves the finite
    numbers, OutputError where `path` cannot be written.
    """
    refuse_inputs(path, [plan.sea_bed.name] if plan.sea_bed.name not in TOPOGRAPHIES else [])
    refuse_overwrite(path, overwrite)
    prepared = prepare(plan)
    equation, names = prepared.equation, [variable.name for variable in prepared.equation.VARIABLES]
    batch = max(1, BATCH_BYTES // (8 * prepared.states[0].numel() * (prepared.count + 1)))
    with open_writer(path, overwrite=overwrite) as file:
        _lay_out(file, plan, prepared)
        for first in range(0, plan.samples, batch):
            start = prepared.states[first : first + batch]
            later = frames(equation, start, prepared.interval, prepared.count, prepared.solver)
            record = torch.cat([start.unsqueeze(1), later], dim=1).cpu().numpy()
            if not np.isfinite(record).all():
                raise DivergedError(
                    f"{plan.problem} left the finite numbers in samples {first} to {first + len(start) - 1}. "
                    "Give a smaller --time-step, more cells, or other --param."
                )
            _require_stable(plan, prepared, record)
            for sample, trajectory in enumerate(record, first):
                generator = np.random.default_rng([plan.seed, sample, 1])
                # The start of waves is known: their inversion takes it as it is.
                noisy = with_noise(trajectory, plan.noise, names, generator, exact=1 if equation.STATIC else 0)
                for channel, name in enumerate(names):
                    file.write(name, (sample,), noisy[:, channel].reshape(len(noisy), *_sizes(equation.grid).values()))
            file.sync()
            if progress:
                progress(first + len(start), plan.samples)
    solver = prepared.solver
    how = (
        f"tolerance {solver.tolerance:g}"
        if solver.name in ADAPTIVE
        else f"steps of {prepared.interval / solver.steps:.4g}"
    )
    cells = tuple(axis.size for axis in equation.grid.axes)
    return Made(cells, prepared.count + 1, f"{solver.name}, {how}", prepared.notes)


def prepare(plan: Plan) -> Prepared:
    """Decide everything; raises what `simulate` raises before its first step."""
    problem = PROBLEMS[plan.problem]
    cells, number = plan.grid or problem.cells, plan.frames or problem.frames
    if len(cells) != len(problem.cells) or min(cells) < 2:
        wanted = "a number of cells" if len(problem.cells) == 1 else "cells along y x cells along x, such as 32x48"
        raise ConfigError(
            f"--grid {'x'.join(map(str, cells))}: {plan.problem} takes {wanted}, at least 2 along each axis."
        )
    bed = _bathymetry(plan.sea_bed, (cells[0], cells[1]), problem) if problem.equation.STATIC else None
    grid = Grid.uniform(cells, bed.extent if bed else problem.extent, units=problem.units)
    equation = problem.equation.build(
        grid, parameters=plan.parameters, boundaries=plan.boundaries, closures=plan.closures, scheme=plan.scheme
    )
    dtype = torch.float32 if torch.device(plan.device).type == "mps" else torch.float64
    duration = plan.duration or problem.duration
    if bed:
        equation = replace(equation, static=torch.as_tensor(bed.depth[None, None], device=plan.device, dtype=dtype))
        duration = plan.duration or _crossings(bed, number - 1)
    draws = [problem.initial(grid, n, np.random.default_rng([plan.seed, n])) for n in range(plan.samples)]
    states = torch.as_tensor(np.stack(draws), device=plan.device, dtype=dtype)
    interval = duration / (number - 1)
    solver = _solver(plan, equation, states, interval)
    written = replace(solver, steps=solver.steps * plan.every, most=solver.most * plan.every)
    notes = bed.notes if bed else ()
    return Prepared(problem, equation, states, interval * plan.every, (number - 1) // plan.every, written, notes)


def _bathymetry(bed: SeaBed, cells: tuple[int, int], problem: Problem) -> Bathymetry:
    """A named sea bed in the problem's basin, or that of a file in its own."""
    if not (bed.depth > 0 and math.isfinite(bed.depth)):
        raise ConfigError(f"--depth {bed.depth:g}: expected a positive number of metres.")
    if bed.name in TOPOGRAPHIES:
        depth = named_depth(bed.name, Grid.uniform(cells, problem.extent), bed.depth)
        return Bathymetry(np.maximum(depth, bed.min_depth or 0.0), problem.extent, ())
    if not is_there(split_variable(bed.name)[0]):
        raise ConfigError(f"--topography {bed.name}: neither a file nor one of {', '.join(TOPOGRAPHIES)}.")
    return read_bathymetry(bed.name, cells, min_depth=bed.min_depth)


def _crossings(bed: Bathymetry, intervals: int) -> float:
    """Two crossings of a basin by its waves, in intervals of two digits [s]."""
    crossing = max(upper - lower for lower, upper in bed.extent) / math.sqrt(9.81 * float(bed.depth.mean()))
    return intervals * float(f"{2 * crossing / intervals:.2g}")


def _solver(plan: Plan, equation: Equation, states: Tensor, interval: float) -> Solver:
    """The solver, with steps that are stable for the initial states and the values at the boundary."""
    name = equation.SOLVERS[0] if plan.solver == "auto" else plan.solver
    equation.require_solver(name, "--solver")
    resolved = [condition.resolved(equation.parameters) for condition in equation.conditions.values()]
    values = ("dirichlet", "dirichlet-ghost", "robin", "cauchy")
    held = [float(condition.value) for condition in resolved if condition.kind in values]
    lower = states.amin(dim=(0, 2, 3)).clamp(max=min(held, default=math.inf))
    upper = states.amax(dim=(0, 2, 3)).clamp(min=max(held, default=-math.inf))
    if name in ADAPTIVE:
        if plan.time_step is not None:
            raise ConfigError(
                f"--time-step: {name} chooses its own steps. Give --tolerance, or a solver with fixed steps."
            )
        scale = (states.amax(dim=(0, 2, 3)) - states.amin(dim=(0, 2, 3))).clamp(min=1e-12)
        # What starts as a constant has the size of what comes in.
        scale = torch.where(scale > 1e-12, scale, 1.0).view(-1, 1, 1)
        most = MORE_STEPS * (1 + interval / equation.stable_step("rk4", lower, upper))
        return Solver(name, tolerance=plan.tolerance, scale=scale, most=most)
    limit = equation.stable_step(name, lower, upper)
    if plan.time_step is None:
        return Solver(name, stable_steps(interval, limit))
    return Solver(name, steps_of(interval, plan.time_step, limit, name=name, where="--time-step"))


def _require_stable(plan: Plan, prepared: Prepared, record: np.ndarray) -> None:
    """ConfigError where fixed steps, stable for the initial states, are too long for what became of them."""
    solver, bounds = prepared.solver, (torch.from_numpy(f(record, axis=(0, 1, 3, 4))) for f in (np.min, np.max))
    if solver.name in ADAPTIVE:
        return
    limit, step = prepared.equation.stable_step(solver.name, *bounds), prepared.interval / solver.steps
    if step > limit * (1 + 1e-9):
        raise ConfigError(
            f"{plan.problem}: steps of {step:.4g} are too long for what the solution becomes; "
            f"the limit of {solver.name} is then {limit:.4g}. "
            f"Give --time-step {0.9 * limit:.2g}, or --solver dopri5."
        )


def _lay_out(file: Writer, plan: Plan, prepared: Prepared) -> None:
    """Dimensions, coordinates, empty variables, the sea bed, and everything that the solver used."""
    problem, equation = prepared.problem, prepared.equation
    grid, count = equation.grid, prepared.count + 1
    file.attributes(_attributes(plan, prepared))
    times = prepared.interval * np.arange(count)
    # Without a date to count from it is no time coordinate of CF: no axis T.
    time = {"long_name": "time since the initial state", "units": problem.time_units}
    file.coordinate("time", xr.Variable("time", times, time))
    for axis, places in zip(grid.axes, grid.centres(), strict=True):
        said = {"axis": axis.name.upper(), "long_name": f"{axis.name} of the cell's centre", "units": axis.units}
        if axis.units == "m":
            said["standard_name"] = f"projection_{axis.name}_coordinate"
        file.coordinate(axis.name, xr.Variable(axis.name, places.ravel(), said))
    sizes = _sizes(grid)
    dtype: FieldType = "f8" if plan.dtype == torch.float64 else "f4"
    if equation.static is not None:
        said = {
            "long_name": "depth of the resting water",
            "standard_name": "sea_floor_depth_below_mean_sea_level",
            "units": "m",
            "positive": "down",
        }
        file.field(equation.STATIC, sizes, said, dtype=dtype)
        file.write(equation.STATIC, (), equation.static[0, 0].cpu().numpy())
    for variable in equation.VARIABLES:
        said = {"long_name": variable.long_name, "units": variable.units}
        said |= {"standard_name": variable.standard_name} if variable.standard_name else {}
        chunks = (1, count, *sizes.values())
        file.field(variable.name, {"sample": plan.samples, "time": count, **sizes}, said, chunks=chunks, dtype=dtype)


def _sizes(grid: Grid) -> dict[str, int]:
    return {axis.name: axis.size for axis in grid.axes}


def _attributes(plan: Plan, prepared: Prepared) -> dict[str, str | float | int]:
    """What the solver used, by the names that `forecast train --model finn` looks for."""
    equation, solver = prepared.equation, prepared.solver
    found: dict[str, str | float | int] = {
        "title": prepared.problem.title,
        "equation": equation.NAME,
        "references": "arXiv 2408.10649" if equation.STATIC else "arXiv 2111.11798",
        "solver": solver.name,
        "seed": plan.seed,
    }
    found |= (
        {"tolerance": solver.tolerance} if solver.name in ADAPTIVE else {"time_step": prepared.interval / solver.steps}
    )
    found |= {name: float(value) for name, value in equation.parameters.items()}
    found |= {f"boundary_{side}": str(condition) for side, condition in equation.conditions.items()}
    found |= {f"closure_{name}": str(choice) for name, choice in equation.closures.items()}
    if all(condition.kind == "periodic" for condition in equation.conditions.values()):
        found["boundary_conditions"] = "periodic"
    found |= {"scheme": equation.scheme} if equation.scheme else {}
    if plan.noise:
        found["noise"] = ",".join(f"{name}={noise}" for name, noise in plan.noise.items())
    if equation.STATIC:
        found["topography"] = plan.sea_bed.name
        found |= {"flat_depth": plan.sea_bed.depth} if plan.sea_bed.name in TOPOGRAPHIES else {}
        found |= {"min_depth": plan.sea_bed.min_depth} if plan.sea_bed.min_depth else {}
    if prepared.notes:
        found["comment"] = "; ".join(prepared.notes)
    return found
