"""forecast benchmark"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forecast_cli.cli import shared, talk
from forecast_cli.errors import ConfigError

if TYPE_CHECKING:
    from forecast_cli.benchmark import Row

KINDS = "train-step, epoch, rollout, scan, simulate, finn or activations"


def benchmark(
    what: Annotated[str, typer.Argument(help=f"{KINDS}.")] = "train-step",
    model: Annotated[
        list[str] | None, typer.Option(help="Models or activations to compare (repeat, or a,b). [default: all]")
    ] = None,
    scan: Annotated[
        list[str] | None,
        typer.Option(help="Backends: auto, native, fused, sequential; log_space is the papers' arrangement."),
    ] = None,
    length: Annotated[
        str | None, typer.Option(help="Contexts, each with a horizon of 1: 20,80. [default: 20,80]")
    ] = None,
    context: Annotated[int | None, typer.Option(help="In the place of --length, with --horizon.")] = None,
    horizon: Annotated[int, typer.Option(help="Closed-loop frames after --context.")] = 1,
    batch: Annotated[int, typer.Option(help="Windows a step.")] = 1,
    grid: Annotated[int, typer.Option(help="Cells along each side.")] = 16,
    hidden: Annotated[str | None, typer.Option(help="Channels of each layer, 4x40. [default: the papers']")] = None,
    threads: Annotated[str, typer.Option(help="1,2 to compare.")] = "1",
    precision: Annotated[str, typer.Option(help="32, bf16, or both: 32,bf16.")] = "32",
    repetitions: Annotated[int, typer.Option(help="Rounds; every round runs every case once.")] = 11,
    device: shared.Device = "cpu",
    plot: Annotated[Path | None, typer.Option(help="Picture to draw.")] = None,
    build: Annotated[bool, typer.Option("--build", help="Compile for this machine, and stop.")] = False,
    overwrite: shared.Overwrite = False,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON list of rows on stdout.")] = False,
) -> None:
    """Measure training steps, forecasts and solvers on this machine, in turns, beside what cannot be undercut."""
    if build:
        _build()
        return
    from forecast_cli.benchmark import BENCHMARKS, Settings
    from forecast_cli.config import load_config
    from forecast_cli.data.output import refuse_overwrite
    from forecast_cli.devices import resolve_device

    if what not in BENCHMARKS:
        raise ConfigError(f"benchmark {what}: expected {KINDS}.")
    if plot:
        from forecast_cli.plots.style import require_kind

        refuse_overwrite(plot, overwrite)
        require_kind(plot)
    chosen: dict[str, Any] = {
        "models": shared.names(model),
        "scans": shared.names(scan),
        "lengths": [(context, horizon)] if context else [(n, 1) for n in _numbers(length, "--length")] or None,
        "hidden": load_config(options={"model.hidden": hidden}).model.hidden if hidden else None,
    }
    settings = Settings(
        batch=batch,
        grid=grid,
        threads=_numbers(threads, "--threads"),
        precisions=precision.split(","),
        device=resolve_device(device),
        repetitions=repetitions,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    rows = BENCHMARKS[what](settings)
    if json_:
        from dataclasses import asdict

        shared.print_json([asdict(row) for row in rows])
    else:
        _print(rows)
    if plot:
        from forecast_cli.plots.benchmark import plot_benchmark

        plot_benchmark(rows, plot, overwrite=overwrite)
        shared.say(f"{plot}: written")


def _build() -> None:
    """Compile the loops in C ahead of the first use."""
    from forecast_cli.equations import wave_adjoint
    from forecast_cli.models import margins, space_norm
    from forecast_cli.native import why_unavailable
    from forecast_cli.scan import native

    loops = {
        "recurrence": native.is_available(),
        "norm over space": space_norm.is_available(),
        "margins": margins.is_available(),
        "shallow-water waves": wave_adjoint.is_available(),
    }
    for name, found in loops.items():
        shared.say(f"{name}: {'compiled' if found else 'not compiled: torch does it, slower'}")
    if not all(loops.values()):
        raise ConfigError(f"--build: {why_unavailable()}. Set CC to a C compiler that works here.")


def _numbers(text: str | None, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise ConfigError(f"{option} {text}: expected whole numbers, such as 20,80.") from error


def _print(rows: list["Row"]) -> None:
    """A table, each row beside the slowest of its kind; a column that says nothing is left out."""
    from rich.console import Console
    from rich.table import Table

    columns = ("model", "scan", "context", "horizon", "batch", "threads", "precision")
    told = {name: [str(getattr(row, name)) for row in rows] for name in columns}
    told["ms"] = [f"{row.median_ms:.3g}" for row in rows]
    told["range"] = [f"{row.low_ms:.3g}-{row.high_ms:.3g}" for row in rows]
    told["floor ms"] = [_figure(row.floor_ms) for row in rows]
    told["over floor"] = [f"{row.median_ms / row.floor_ms:.2f}" if row.floor_ms else "" for row in rows]
    told |= {"peak MiB": [_figure(row.peak_mib) for row in rows], "kept MiB": [_figure(row.kept_mib) for row in rows]}
    told["error"] = [_figure(row.error) for row in rows]
    slowest = [[other.median_ms for other in rows if _kind(other) == _kind(row)] for row in rows]
    told["times faster"] = [
        f"{max(alike) / row.median_ms:.2f}" if len(alike) > 1 else "" for row, alike in zip(rows, slowest, strict=True)
    ]
    told = {name: texts for name, texts in told.items() if any(text not in ("", "-") for text in texts)}
    table = Table(box=None, header_style="bold")
    for name in told:
        table.add_column(name, justify="left" if name in ("model", "scan") else "right")
    for texts in zip(*told.values(), strict=True):
        table.add_row(*texts)
    Console(stderr=True, quiet=talk.now.quiet, width=None if sys.stderr.isatty() else 160, soft_wrap=True).print(table)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _kind(row: "Row") -> tuple[object, ...]:
    """What rows must share to be compared: another scan, precision or number of threads of the same work."""
    model = row.model.split()[0]
    return row.benchmark, model, row.context, row.horizon, row.batch, row.device
