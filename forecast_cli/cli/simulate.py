"""forecast simulate"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from forecast_cli.cli import shared
from forecast_cli.errors import ConfigError


def navier_stokes(
    output: shared.Output,
    samples: Annotated[int, typer.Option(help="Independent flows.")] = 1,
    grid: Annotated[int, typer.Option(help="Points along each side of the unit torus.")] = 64,
    coarsen: Annotated[int, typer.Option(help="Block size of the means that are written.")] = 4,
    frames: Annotated[int, typer.Option(help="Frames a flow.")] = 50,
    duration: Annotated[
        float | None, typer.Option(help="Time of the last frame. [default: one time unit a frame]")
    ] = None,
    viscosity: Annotated[float, typer.Option(help="Kinematic viscosity.")] = 1e-3,
    time_step: Annotated[
        float | None, typer.Option(help="Longest step of the solver. [default: suited to each flow]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the initial vorticity.", callback=shared.seed)] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    device: shared.Device = "auto",
    overwrite: shared.Overwrite = False,
    json_: shared.Json = False,
) -> None:
    """Forced two-dimensional turbulence on a periodic square, as vorticity (sample, time, y, x)."""
    from forecast_cli.devices import resolve_device
    from forecast_cli.simulate.navier_stokes import NavierStokesPlan, simulate_navier_stokes

    plan = NavierStokesPlan(
        samples,
        grid,
        coarsen,
        frames,
        duration,
        viscosity,
        time_step,
        seed,
        dtype=shared.dtype_of(dtype),
        device=resolve_device(device),
    )
    with shared.progress_line("simulating", "samples") as progress:
        simulate_navier_stokes(plan, output, overwrite=overwrite, progress=progress)
    cells = grid // coarsen
    shared.say(f"{output}: {samples} flows of {frames} frames on {cells} x {cells} cells")
    if json_:
        shared.print_json(
            {"output": str(output), "samples": samples, "frames": frames, "height": cells, "width": cells}
        )


Samples = Annotated[int, typer.Option(help="Trajectories: the published training and test state, then draws.")]
Cells = Annotated[
    str | None, typer.Option("--grid", help="Cells: 49, or along y x along x: 32x48. [default: the published]")
]
Frames = Annotated[int | None, typer.Option(help="Frames in all, the first at time 0. [default: the published]")]
Duration = Annotated[float | None, typer.Option(help="Time of the last frame. [default: the published]")]
Every = Annotated[int, typer.Option(help="Write every so many frames.")]
Seed = Annotated[int, typer.Option(help="Seed of the draws and of the noise.", callback=shared.seed)]
Param = Annotated[list[str] | None, typer.Option(help="NAME=VALUE of a parameter of the equation (repeat).")]
Boundary = Annotated[
    list[str] | None,
    typer.Option(
        help="SIDE=KIND[:VALUE[:LENGTH]], such as left=dirichlet:1; all=periodic. Sides: left, right, bottom, top."
    ),
]
ClosureChoice = Annotated[
    list[str] | None,
    typer.Option("--closure", help="NAME=FUNCTION where an equation knows several: retardation=langmuir."),
]
NoiseText = Annotated[
    str | None, typer.Option("--noise", help="1% of each variable's spread, 0.02 in its unit, or eta=1%,u=0.02.")
]
Scheme = Annotated[
    str, typer.Option("--scheme", help="Of Burgers' advection: upwind (as published) or limited (second order).")
]
SolverName = Annotated[str, typer.Option("--solver", help="auto, rk4, heun, euler; dopri5, bosh3, dopri8 (adaptive).")]
Step = Annotated[float | None, typer.Option("--time-step", help="Longest step of the solver. [default: a stable one]")]
Tolerance = Annotated[float, typer.Option(help="Of an adaptive solver, relative to each variable's spread.")]
Dtype = Annotated[str, typer.Option(help="float32 or float64 in the file; computed in float64.")]

HELP = {
    "burgers": "A steepening wave, u(sample, time, x).",
    "burgers-2d": "A steepening wave in the plane, u(sample, time, y, x).",
    "allen-cahn": "Two phases that separate, u(sample, time, x).",
    "diffusion-sorption": "A solute in a soil that holds it back, c and c_tot(sample, time, x).",
    "diffusion-reaction": "Activator and inhibitor, u and v(sample, time, y, x).",
    "shallow-water": "Waves over a sea bed, eta, u and v(sample, time, y, x), and depth(y, x).",
}
"""The finite-volume problems by name."""


def of_problem(name: str) -> Callable[..., None]:
    """The command that simulates a problem without a sea bed."""

    def command(
        output: shared.Output,
        samples: Samples = 1,
        grid: Cells = None,
        frames: Frames = None,
        duration: Duration = None,
        every: Every = 1,
        seed: Seed = 0,
        param: Param = None,
        boundary: Boundary = None,
        closure: ClosureChoice = None,
        noise: NoiseText = None,
        scheme: Scheme = "",
        solver: SolverName = "auto",
        time_step: Step = None,
        tolerance: Tolerance = 1e-8,
        dtype: Dtype = "float32",
        device: shared.Device = "cpu",
        overwrite: shared.Overwrite = False,
        json_: shared.Json = False,
    ) -> None:
        _simulate(
            name,
            output,
            grid=grid,
            param=param,
            noise=noise,
            dtype=dtype,
            device=device,
            overwrite=overwrite,
            json_=json_,
            samples=samples,
            frames=frames,
            duration=duration,
            every=every,
            seed=seed,
            boundaries=shared.assignments(boundary, "--boundary"),
            closures=shared.assignments(closure, "--closure"),
            scheme=scheme,
            solver=solver,
            time_step=time_step,
            tolerance=tolerance,
        )

    command.__doc__ = HELP[name]
    return command


def shallow_water(
    output: shared.Output,
    samples: Samples = 1,
    grid: Cells = None,
    frames: Frames = None,
    duration: Duration = None,
    every: Every = 1,
    seed: Seed = 0,
    topography: Annotated[
        str, typer.Option(help="flat, seamount, ridge or shelf; or FILE[:variable] of depths or elevations.")
    ] = "flat",
    depth: Annotated[float, typer.Option(help="Depth of the flat bottom of a named topography, in m.")] = 100.0,
    min_depth: Annotated[
        float | None,
        typer.Option(help="Deepen land and shallower water to this many metres. [default: land is refused]"),
    ] = None,
    param: Param = None,
    noise: NoiseText = None,
    scheme: Annotated[str, typer.Option(help="Of the mass flux: upwind (as published) or centred.")] = "",
    time_step: Step = None,
    dtype: Dtype = "float32",
    device: shared.Device = "cpu",
    overwrite: shared.Overwrite = False,
    json_: shared.Json = False,
) -> None:
    """Waves over a sea bed, eta, u and v(sample, time, y, x), and depth(y, x)."""
    from forecast_cli.simulate.finite_volumes import SeaBed

    _simulate(
        "shallow-water",
        output,
        grid=grid,
        param=param,
        noise=noise,
        dtype=dtype,
        device=device,
        overwrite=overwrite,
        json_=json_,
        samples=samples,
        frames=frames,
        duration=duration,
        every=every,
        seed=seed,
        scheme=scheme,
        time_step=time_step,
        sea_bed=SeaBed(topography, depth, min_depth),
    )


def _simulate(
    name: str,
    output: Path,
    *,
    grid: str | None,
    param: list[str] | None,
    noise: str | None,
    dtype: str,
    device: str,
    overwrite: bool,
    json_: bool,
    **options: Any,
) -> None:
    """Make the plan, carry it out, and tell of it; `options` are the plan's, None for its defaults."""
    from forecast_cli.data.noise import parse_noise
    from forecast_cli.devices import resolve_device
    from forecast_cli.equations import PROBLEMS
    from forecast_cli.simulate.finite_volumes import Plan, simulate

    problem = PROBLEMS[name]
    names = [variable.name for variable in problem.equation.VARIABLES]
    plan = Plan(
        name,
        grid=_cells(grid, len(problem.cells)),
        parameters=shared.numbers(param, "--param"),
        noise=parse_noise(noise, names) if noise else {},
        dtype=shared.dtype_of(dtype),
        device=resolve_device(device),
        **{key: value for key, value in options.items() if value is not None},
    )
    with shared.progress_line("simulating", "samples") as progress:
        made = simulate(plan, output, overwrite=overwrite, progress=progress)
    for text in made.notes:
        shared.say(f"note: {text}")
    size = " x ".join(map(str, made.cells))
    shared.say(f"{output}: {plan.samples} x {made.frames} frames of {', '.join(names)} on {size} cells; {made.solver}")
    if json_:
        shared.print_json(
            {
                "output": str(output),
                "samples": plan.samples,
                "frames": made.frames,
                "cells": made.cells,
                "solver": made.solver,
            }
        )


def _cells(text: str | None, dimensions: int) -> tuple[int, ...] | None:
    """'49' or '32x48'; one number along every axis."""
    if text is None:
        return None
    try:
        cells = tuple(int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise ConfigError(f"--grid {text}: expected a number of cells such as 49, or 32x48.") from error
    return cells * dimensions if len(cells) == 1 else cells
