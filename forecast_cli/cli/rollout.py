"""forecast rollout"""

import time
from pathlib import Path
from typing import Annotated

import typer

from forecast_cli.cli import shared
from forecast_cli.errors import CheckpointError, ConfigError


def rollout(
    run: Annotated[Path, typer.Argument(help="Run directory of a trained model.")],
    data: Annotated[list[str], typer.Option("--data", help=shared.DATA_HELP)],
    output: shared.Output,
    context: Annotated[int | None, typer.Option(help="True frames that the model sees. [default: as trained]")] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Frames to forecast. [default: to the end of a trajectory; the horizon of a series]"),
    ] = None,
    lead_time: Annotated[
        str | None, typer.Option(help="Instead of --steps: 14d, 36h, 6mo, or a number in the file's time unit.")
    ] = None,
    init_time: Annotated[
        list[str] | None,
        typer.Option(help="Time of the last true frame, or `last` to forecast beyond the file (repeat)."),
    ] = None,
    init_every: Annotated[
        int | None, typer.Option(help="Steps between starts in a series. [default: a quarter of the forecast]")
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            help="Mask of a run trained with missing values: FILE:variable or NAME, cells where it is not 0; NAME=2 where it is 2. "
            "[default: as trained]"
        ),
    ] = None,
    static: shared.Static = None,
    forcing: shared.Forcing = None,
    dims: shared.Dims = None,
    select: shared.Select = None,
    param: Annotated[
        list[str] | None,
        typer.Option(help="For finn: NAME=VALUE of a known parameter, other than in training (repeat)."),
    ] = None,
    boundary: Annotated[
        list[str] | None, typer.Option(help="For finn: SIDE=KIND[:VALUE[:LENGTH]], other than in training (repeat).")
    ] = None,
    naming: Annotated[
        str,
        typer.Option(help="cf, or weatherbench2: time, prediction_timedelta, latitude, longitude, 2m_temperature, ..."),
    ] = "cf",
    batch_size: Annotated[int, typer.Option(help="Forecasts computed together.")] = 16,
    resume: Annotated[
        str, typer.Option(help="After a stop or a kill: never, auto (go on or start) or must. The result is the same.")
    ] = "never",
    time_limit: shared.TimeLimit = None,
    device: shared.Device = "auto",
    overwrite: shared.Overwrite = False,
    json_: shared.Json = False,
) -> None:
    """Forecast from a trained model, closed loop, and write NetCDF, or Zarr to a name that ends in .zarr.

    Trajectories start after their first frames; a long series starts regularly in its test part.
    Mask, static fields and forcing are those of the training; name them again where they lie elsewhere.
    Ctrl-C, SIGTERM and the time limit stop after a block of steps (exit code 75).
    """
    from forecast_cli.checkpoint import files_of, load_model
    from forecast_cli.data.fields import open_fields
    from forecast_cli.data.inputs import references
    from forecast_cli.data.output import refuse_overwrite
    from forecast_cli.data.protection import refuse_inputs
    from forecast_cli.devices import resolve_device
    from forecast_cli.distributed import joined
    from forecast_cli.rollout import choose_starts, require_fit, roll_out
    from forecast_cli.signals import stop_at_signals

    deadline = time.monotonic() + shared.seconds_of(time_limit, "--time-limit") if time_limit else None
    if resume not in ("never", "auto", "must"):
        raise ConfigError(f"--resume {resume}: expected never, auto or must.")
    for name, value in (
        ("--context", context),
        ("--steps", steps),
        ("--init-every", init_every),
        ("--batch-size", batch_size),
    ):
        if value is not None and value < 1:
            raise ConfigError(f"{name} {value}: expected at least 1.")
    if steps and lead_time:
        raise ConfigError("--steps and --lead-time say the same thing: give one.")
    refuse_inputs(output, [*data, *files_of(run)])
    refuse_overwrite(output, overwrite or resume != "never")  # one that is there may be complete
    others = {"parameters": shared.numbers(param, "--param"), "boundaries": shared.assignments(boundary, "--boundary")}
    saved = load_model(run, resolve_device(device), others={key: value for key, value in others.items() if value})
    elsewhere = {"mask": mask, "static": shared.references(static), "forcing": shared.references(forcing)}
    trained = saved.config.data.model_copy(update={key: value for key, value in elsewhere.items() if value})
    refuse_inputs(output, references(trained))
    if mask and not saved.model.masked:
        raise CheckpointError(
            f"--mask {mask}: {run} was trained without --mask or --nan mask. Leave it out, or train with one."
        )
    chosen = {**trained.select, **(shared.assignments(select, "--select") or {})}
    fields = open_fields(
        data,
        variables=[v.name for v in saved.domain.variables],
        dims=shared.dims_of(dims) or trained.dims,
        select=chosen,
        time_as_steps=trained.time_as_steps,
    )
    shared.note(fields)
    require_fit(saved, fields)
    context = context or trained.context
    if lead_time:
        steps = fields.times.steps_in(lead_time)
    steps = steps or (max(1, fields.frames - context) if fields.is_trajectories else trained.horizon)
    starts = choose_starts(saved, fields, context=context, steps=steps, init_times=init_time or (), every=init_every)
    with (
        joined() as ranks,
        shared.progress_line("forecasting", "frames") as progress,
        stop_at_signals(deadline=deadline) as stop,
    ):
        notes = roll_out(
            saved,
            fields,
            starts,
            output,
            context=context,
            steps=steps,
            told=trained,
            naming=naming,
            batch_size=batch_size,
            overwrite=overwrite,
            resume=resume,
            stop=stop,
            progress=progress if ranks.is_first else None,
            ranks=ranks,
        )
    if not ranks.is_first:
        return
    for text in notes:
        shared.say(f"note: {text}")
    count = f"{len(starts)} forecast{'s' if len(starts) != 1 else ''}"
    shared.say(f"{output}: {count} of {steps} steps of {fields.domain.time_step}, context {context}")
    if json_:
        shared.print_json(
            {
                "output": str(output),
                "model": saved.config.model.name,
                "starts": len(starts),
                "steps": steps,
                "context": context,
                "notes": notes,
            }
        )
