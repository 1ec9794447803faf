"""Options and small talk that several commands share."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forecast_cli.cli import talk
from forecast_cli.cli.talk import say
from forecast_cli.errors import ConfigError

if TYPE_CHECKING:
    from forecast_cli.data.fields import Fields

DATA_HELP = "NetCDF, HDF5, Zarr or MATLAB files: paths, quoted globs, file.h5:/path/inside."

Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--variable", help="Variable to use, in this order (repeat, or a,b). [default: all on the largest grid]"
    ),
]
Dims = Annotated[
    str | None,
    typer.Option("--dims", help="Roles of dimensions where they cannot be told: time=t,y=lat,x=lon,sample=n."),
]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", help="Pick along a dimension: level=500, sample=0:10, time=1990:1999 (repeat)."),
]
TimeAsSteps = Annotated[
    bool, typer.Option("--time-as-steps", help="Number the frames 0, 1, 2, ..., whatever the file says of times.")
]
Mask = Annotated[
    str | None,
    typer.Option(
        "--mask",
        help="Cells to use: FILE:variable or NAME, where it is not 0; NAME=2 where it is 2. Implies --nan mask.",
    ),
]
Static = Annotated[
    list[str] | None,
    typer.Option("--static", help="Input that does not change: NAME in the data, or FILE:variable (repeat)."),
]
Forcing = Annotated[
    list[str] | None,
    typer.Option("--forcing", help="Input that is known ahead: NAME in the data, or FILE:variable (repeat)."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
TimeLimit = Annotated[
    str | None, typer.Option("--time-limit", help="HH:MM:SS after which to stop, exit code 75; --resume auto goes on.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what stands under the output's name.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="File to write.")]


def seed(value: int | None) -> int | None:
    """A seed as an option gives it. Raises ConfigError for one that the generators, or the file that keeps it, cannot hold."""
    if value is not None and not 0 <= value < 2**63:
        raise ConfigError(f"--seed {value}: expected a whole number from 0 to 2^63 - 1.")
    return value


def names(values: Iterable[str] | None) -> tuple[str, ...] | None:
    """Repeated or comma-separated names as one tuple; None where none were given."""
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip()) if values else None


def references(values: Iterable[str] | None) -> tuple[str, ...] | None:
    """Repeated or comma-separated FILE:variable as one tuple; a file that exists keeps the commas of its name."""
    found: list[str] = []
    for value in values or ():
        file = value.rpartition(":")[0]
        whole = "," in file and os.path.exists(file)  # noqa: PTH110 - False for a name that is too long
        found += [value] if whole else names([value]) or ()
    return tuple(found) or None


def assignments(values: Iterable[str] | None, option: str) -> dict[str, str] | None:
    """'key=value' texts as a mapping; None where none were given. Raises ConfigError for text without '='."""
    if not values:
        return None
    found = {}
    for value in values:
        key, equals, choice = value.partition("=")
        if not equals or not key or not choice:
            raise ConfigError(f"{option} {value}: expected {option} NAME=VALUE.")
        found[key.strip()] = choice.strip()
    return found


def numbers(values: Iterable[str] | None, option: str) -> dict[str, float]:
    """'name=1.5' texts as a mapping. Raises ConfigError for what is no number."""
    found = {}
    for name, text in (assignments(values, option) or {}).items():
        try:
            found[name] = float(text)
        except ValueError as error:
            raise ConfigError(f"{option} {name}={text}: expected a number.") from error
    return found


def dims_of(text: str | None) -> dict[str, str] | None:
    """The value of --dims as role to dimension."""
    return assignments(text.split(","), "--dims") if text else None


def note(fields: "Fields") -> None:
    """Tell what a user should know of how the files were read."""
    for text in fields.notes:
        say(f"note: {text}")


def print_json(content: Any) -> None:
    """The one thing that goes to stdout, once for all ranks."""
    if talk.is_first():
        typer.echo(json.dumps(content))


@contextmanager
def progress_line(what: str, unit: str) -> Iterator[Callable[..., None]]:
    """Report (done, in all[, what is done[, in what unit]]) with time left: a bar on a terminal, else a plain line now and then."""
    started = last = time.monotonic()
    if sys.stderr.isatty() and not talk.now.quiet:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None, unit=unit)

            def drawn(done: int, total: int, doing: str = what, counted: str = unit) -> None:
                bar.update(task, completed=done, total=total, description=doing, unit=counted)

            yield drawn
        return

    def plain(done: int, total: int, doing: str = what, counted: str = unit) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= talk.now.every:
            last = now
            left = (now - started) / max(done, 1) * (total - done)
            say(f"{doing}: {done} of {total} {counted}, {duration(left)} left")

    yield plain


def seconds_of(text: str, option: str) -> float:
    """'D-HH:MM:SS', 'HH:MM:SS', 'MM:SS' or seconds as seconds. Raises ConfigError."""
    days, dash, clock = text.rpartition("-")
    try:
        parts = [float(part) for part in clock.split(":")]
        whole_days = int(days) if dash else 0
    except ValueError:
        parts, whole_days = [], 0
    if not 1 <= len(parts) <= 3 or whole_days < 0 or any(part < 0 for part in parts) or not whole_days + sum(parts) > 0:
        raise ConfigError(f"{option} {text}: expected HH:MM:SS or D-HH:MM:SS, more than nothing.")
    return 86400 * whole_days + sum(part * 60**place for place, part in enumerate(reversed(parts)))


def dtype_of(name: str) -> Any:
    """The torch dtype called float32 or float64. Raises ConfigError for others."""
    import torch

    kinds = {"float32": torch.float32, "float64": torch.float64}
    if name not in kinds:
        raise ConfigError(f"--dtype {name}: expected {' or '.join(kinds)}.")
    return kinds[name]


def duration(seconds: float) -> str:
    """Seconds for people: 45 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"
