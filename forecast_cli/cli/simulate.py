"""forecast simulate"""

from typing import Annotated

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
    time_step: Annotated[float | None, typer.Option(help="Longest step of the solver. [default: 6.4 / grid]")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the initial vorticity.")] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    device: shared.Device = "auto",
    overwrite: shared.Overwrite = False,
    json_: shared.Json = False,
) -> None:
    """Forced two-dimensional turbulence on a periodic square, as vorticity (sample, time, y, x)."""
    import torch

    from forecast_cli.devices import resolve_device
    from forecast_cli.simulate import NavierStokesPlan, simulate_navier_stokes

    kinds = {"float32": torch.float32, "float64": torch.float64}
    if dtype not in kinds:
        raise ConfigError(f"--dtype {dtype}: expected {' or '.join(kinds)}.")
    plan = NavierStokesPlan(
        samples,
        grid,
        coarsen,
        frames,
        duration,
        viscosity,
        time_step,
        seed,
        dtype=kinds[dtype],
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
