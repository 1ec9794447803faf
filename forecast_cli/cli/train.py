"""forecast train"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forecast_cli.cli import shared
from forecast_cli.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from forecast_cli.config import RunConfig
    from forecast_cli.data.fields import Fields
    from forecast_cli.trainer import Cadence


def train(
    data: Annotated[list[str], typer.Argument(help=shared.DATA_HELP)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Run directory to create.")],
    variable: shared.Variables = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="minconvlstm, minconvgru, minconvexplstm, convlstm, convgru, distana, phydnet, cnn, resnet, unet, convnext, "
            "swin, finn or var."
        ),
    ] = None,
    hidden: Annotated[str | None, typer.Option(help="Channels of each layer: 4x40 or 32,32,64.")] = None,
    context: Annotated[int | None, typer.Option(help="True frames that the model sees.")] = None,
    horizon: Annotated[
        int | None, typer.Option(help="Closed-loop frames in the loss; 0 for all that there are.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training windows.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    precision: Annotated[str | None, typer.Option(help="32, or bf16: convolutions in bfloat16. [default: 32]")] = None,
    compile_: Annotated[bool, typer.Option("--compile", help="Let torch compile the model at its first step.")] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order and noise.", callback=shared.seed)] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Training,validation,test: fractions, counts or ranges 1979:2014,2015:2016,2017:2018."),
    ] = None,
    split_along: Annotated[str | None, typer.Option(help="time or sample.")] = None,
    nan: Annotated[str | None, typer.Option(help="Missing values: error, or mask to leave them out.")] = None,
    mask: shared.Mask = None,
    static: shared.Static = None,
    forcing: shared.Forcing = None,
    memory: Annotated[
        str | None, typer.Option(help="Hold data up to this size, read larger ones window by window. [default: 2G]")
    ] = None,
    stage_to: Annotated[
        Path | None, typer.Option(help="Folder on a local disk, such as $TMPDIR, to copy the files to before reading.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read such windows; 0: a thread.")] = None,
    dims: shared.Dims = None,
    select: shared.Select = None,
    time_as_steps: shared.TimeAsSteps = False,
    preset: Annotated[
        str | None,
        typer.Option(help="series, navier-stokes, navier-stokes-s15, navier-stokes-s25, geopotential or finn."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with the sections data, model and training.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, such as training.clip=0.5 (repeat).")
    ] = None,
    resume: Annotated[str, typer.Option(help="never, auto (go on or start) or must.")] = "never",
    allow_change: Annotated[
        bool, typer.Option("--allow-change", help="Resume in spite of changed options or data (they are logged).")
    ] = False,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(help="Write a state within an epoch too: every so many steps (500) or minutes (10m)."),
    ] = None,
    time_limit: shared.TimeLimit = None,
    init_from: Annotated[Path | None, typer.Option(help="Run whose weights to start from.")] = None,
    device: shared.Device = "auto",
    overwrite: shared.Overwrite = False,
    report_activations: Annotated[
        bool, typer.Option("--report-activations", help="Tell at the end which units are dead in the best model.")
    ] = False,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write the curves for TensorBoard too, in the run's folder tensorboard."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    json_: shared.Json = False,
) -> None:
    """Train a model on gridded fields and leave it in a run directory."""
    from forecast_cli.config import load_config
    from forecast_cli.data.fields import open_fields
    from forecast_cli.data.files import expand
    from forecast_cli.data.inputs import files_of, references
    from forecast_cli.data.output import require_folder_name
    from forecast_cli.data.protection import refuse_inputs
    from forecast_cli.data.staging import require_apart, stage

    started = time.monotonic()
    if resume not in ("never", "auto", "must"):
        raise ConfigError(f"--resume {resume}: expected never, auto or must.")
    options = {
        "data.files": tuple(expand(data)),
        "data.variables": shared.names(variable),
        "data.dims": shared.dims_of(dims),
        "data.select": shared.assignments(select, "--select"),
        "data.time_as_steps": time_as_steps or None,
        "data.nan": nan,
        "data.mask": mask,
        "data.static": shared.references(static),
        "data.forcing": shared.references(forcing),
        "data.split": split,
        "data.split_along": split_along,
        "data.context": context,
        "data.horizon": horizon,
        "data.memory": memory,
        "data.workers": workers,
        "model.name": model,
        "model.hidden": hidden,
        "training.epochs": epochs,
        "training.batch_size": batch_size,
        "training.learning_rate": learning_rate,
        "training.precision": precision,
        "training.compile": compile_ or None,
        "training.seed": seed,
    }
    run_config = load_config(preset=preset, file=config, assignments=set_ or (), options=options)
    inputs = run_config.data
    require_folder_name(output)
    read = [*inputs.files, *references(inputs)]
    # A training that resumes may take its configuration from its own run.
    settings = [config] if config and (overwrite or resume == "never") else []
    refuse_inputs(output, [*read, *settings, *_files_of_run(init_from)])
    if stage_to:
        refuse_inputs(stage_to / ".copies", read)
        require_apart(stage_to, output)
    copies = stage([*inputs.files, *files_of(inputs)], stage_to, shared.say) if stage_to and not dry_run else None
    open_data = partial(
        open_fields,
        inputs.files,
        dims=inputs.dims,
        select=inputs.select,
        time_as_steps=inputs.time_as_steps,
        copies=copies,
    )
    fields = open_data(variables=inputs.variables)
    if init_from:
        fields = _matched(init_from, fields, open_data, named=bool(inputs.variables))
    shared.note(fields)
    said, meant = fields.dataset.attrs.get("equation"), run_config.model.equation
    if meant and said and said != meant:
        shared.say(
            f"note: the file says that it was made with the equation {said}, not {meant}: nothing is taken from it."
        )

    from forecast_cli.devices import resolve_device
    from forecast_cli.models import ignored

    said_of_model = [text.split("=")[0].removeprefix("model.") for text in set_ or () if text.startswith("model.")]
    if unseen := ignored(run_config, fields.domain, [*said_of_model, *(["hidden"] if hidden else [])]):
        shared.say(f"note: {run_config.model.name} does not look at model.{', model.'.join(unseen)}.")

    if dry_run:
        _print_plan(run_config, fields, resolve_device(device), json_)
        return

    from forecast_cli import trainer
    from forecast_cli.checkpoint import learned_numbers
    from forecast_cli.distributed import joined
    from forecast_cli.trainer.tensorboard import require_tensorboard

    deadline = started + shared.seconds_of(time_limit, "--time-limit") if time_limit else None
    cadence = _cadence(checkpoint_every)
    if tensorboard:
        require_tensorboard()

    with joined() as ranks, _Reporter() as reporter:
        if ranks.size > 1 and ":" in device:
            raise ConfigError(f"--device {device}: each of several ranks takes its own. Give --device cuda, or auto.")
        progress = trainer.train(
            run_config,
            fields,
            output,
            device=resolve_device(device),
            reporter=reporter,
            resume=resume,
            allow_change=allow_change,
            init_from=init_from,
            overwrite=overwrite,
            cadence=cadence,
            deadline=deadline,
            tensorboard=tensorboard,
            ranks=ranks,
        )
        if not ranks.is_first:
            return
    shared.say(
        f"{output}: best epoch {progress.best_epoch} of {progress.epoch}, {_score_name(progress.rows)} {progress.best:.4g}"
    )
    learned = learned_numbers(output)
    for name, value in learned.items():
        shared.say(f"learned     {name} = {value:.6g}")
    activations = _report_activations(run_config, fields, output, resolve_device(device)) if report_activations else []
    if json_:
        result = {
            "run": str(output),
            "epochs": progress.epoch,
            "best_epoch": progress.best_epoch,
            "best": progress.best,
            "learned": learned,
            **({"activations": activations} if report_activations else {}),
        }
        shared.print_json(result | {"seconds": round(time.monotonic() - started, 1), "last": progress.rows[-1]})


def _files_of_run(run: Path | None) -> list[Path]:
    from forecast_cli.checkpoint import files_of

    return files_of(run) if run else []


def _matched(init_from: Path, fields: "Fields", open_data: "Callable[..., Fields]", *, named: bool) -> "Fields":
    """The fields with the variables of `--init-from` in their order, matched by name where the user names none.

    Raises CheckpointError if the fields do not suit the model of the run.
    """
    from forecast_cli.checkpoint import load_model
    from forecast_cli.errors import CheckpointError, DataError
    from forecast_cli.rollout import require_fit

    saved = load_model(init_from)
    trained = tuple(variable.name for variable in saved.domain.variables)
    if named and fields.names != trained:
        raise CheckpointError(
            f"--init-from {init_from}: its model forecasts {', '.join(trained)}, in this order; the variables here are "
            f"{', '.join(fields.names)}. Give --variable {','.join(trained)}, or train without --init-from."
        )
    if fields.names != trained:
        try:
            fields = open_data(variables=trained)
        except DataError as error:
            raise CheckpointError(
                f"--init-from {init_from}: its model forecasts {', '.join(trained)}; {error}"
            ) from error
        shared.say(f"note: variables as in {init_from}: {', '.join(trained)}")
    require_fit(saved, fields)
    shared.say(f"note: normalization statistics (mean, scale) of {init_from}, not of the data here")
    return fields


def _cadence(text: str | None) -> "Cadence":
    from forecast_cli.trainer import Cadence

    number = (text or "0").removesuffix("m")
    if text and not (number.isdigit() and int(number)):
        raise ConfigError(f"--checkpoint-every {text}: expected steps, such as 500, or minutes, such as 10m.")
    return Cadence(seconds=60 * int(number)) if text and text.endswith("m") else Cadence(steps=int(number))


def _report_activations(
    config: "RunConfig", fields: "Fields", run: Path, device: "torch.device"
) -> list[dict[str, Any]]:
    """Say what the activations of the best model do; the same for JSON."""
    from dataclasses import asdict

    from forecast_cli.activity import activity

    rows = activity(run, config, fields, device)
    for row in rows:
        shared.say(
            f"activation  {row.name} ({row.kind}): {row.dead_channels} of {row.channels} channels dead, "
            f"{row.dead_units} of {row.units} units dead, {row.zeros:.1%} zeros"
        )
    if not rows:
        shared.say(f"activation  {config.model.name} has none to report of")
    return [asdict(row) for row in rows]


def _score_name(rows: list[dict[str, float]]) -> str:
    return "validation loss" if rows and "validation_loss" in rows[-1] else "training loss"


def _print_plan(config: "RunConfig", fields: "Fields", device: "torch.device", as_json: bool) -> None:
    """What the run would take, and what speaks against it."""
    from dataclasses import asdict

    from forecast_cli.config import config_toml
    from forecast_cli.data.windows import parse_bytes
    from forecast_cli.devices import free_bytes
    from forecast_cli.planning import examine, plan

    found = plan(config, fields, free_bytes(device))
    if as_json:
        share = examine(config, fields)
        shared.print_json(asdict(found) | {"share_examined": share, "config": config.model_dump(mode="json")})
        return
    held = (
        "held in memory"
        if found.data_bytes <= parse_bytes(config.data.memory)
        else f"read window by window (data.memory = {config.data.memory})"
    )
    steps = found.steps_per_epoch * config.training.epochs
    shared.say(config_toml(config))
    shared.say(f"model       {config.model.name}, {found.parameters:,} parameters")
    shared.say(f"windows     {found.training_windows:,} to train on, {found.validation_windows:,} to validate")
    shared.say(f"batch       {' x '.join(map(str, found.window_shape))} (windows, frames, variables, height, width)")
    shared.say(f"steps       {found.steps_per_epoch:,} an epoch, {steps:,} in all")
    shared.say(f"data        {shared.size(found.data_bytes)}, {held}")
    shared.say(f"memory      about {shared.size(found.step_bytes)} for a step, beside the data")
    for warning in found.warnings:
        shared.say(f"warning: {warning}")
    share = examine(config, fields)
    frames = "all frames" if share == 1 else f"{share:.2g} of the frames, evenly spaced,"
    shared.say(f"examined    {frames} of the training and validation parts: training accepts what was read")


class _Reporter:
    """Epoch by epoch: a bar with rate and time left on a terminal, and one plain line an epoch."""

    def __init__(self) -> None:
        self.epochs = 0
        self.done_before: int | None = None
        self.steps = 0
        self.started = time.monotonic()

    def __enter__(self) -> "_Reporter":
        self._line = shared.progress_line("training", "steps")
        self._update = self._line.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._line.__exit__(*error)

    def begin(self, epochs: int) -> None:
        self.epochs = epochs

    def step(self, epoch: int, done: int, steps: int) -> None:
        if self.done_before is None:
            self.done_before = epoch * steps + done - 1
        self.steps = steps
        self._update(epoch * steps + done, self.epochs * steps)

    def epoch(self, row: dict[str, float]) -> None:
        parts = [f"epoch {row['epoch']}/{self.epochs}", f"training {row['training_loss']:.4g}"]
        if "validation_loss" in row:
            parts.append(f"validation {row['validation_loss']:.4g}" + (" (best)" if row["best"] else ""))
            parts += [
                f"rmse {key.removeprefix('validation_rmse_')} {value:.4g}"
                for key, value in row.items()
                if key.startswith("validation_rmse_")
            ]
        shared.say(", ".join(parts) + self._pace(int(row["epoch"])))

    def _pace(self, epoch: int) -> str:
        """How fast it goes and how long it may take; nothing where a resumed run only had an epoch to close."""
        if not self.steps:
            return ""
        elapsed = time.monotonic() - self.started
        done = epoch * self.steps - (self.done_before or 0)
        left = (self.epochs - epoch) * self.steps / done * elapsed
        return f"; {done / elapsed:.3g} steps/s, {shared.duration(left)} left"
