"""How much is said: --quiet, --verbose and --progress-every, before the command or after it; of several ranks only the first speaks.

All but the object of --json goes to stderr, so that stdout belongs to it. Errors are said always.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import typer

from forecast_cli.errors import ConfigError


@dataclass(frozen=True)
class Talk:
    """quiet: errors alone. verbose: what is logged, too. every: seconds between lines of progress, where there is no bar."""

    quiet: bool = False
    verbose: bool = False
    every: float = 30.0


now = Talk()
"""What holds for the command that runs."""

Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say what is logged, too.")]
Every = Annotated[
    float | None,
    typer.Option(
        "--progress-every",
        envvar="FORECAST_PROGRESS_EVERY",
        help="Seconds between lines of progress where there is no terminal. [default: 30]",
        show_default=False,
    ),
]


def say(text: str) -> None:
    """A line for people."""
    if not now.quiet:
        typer.echo(text, err=True)


def is_first() -> bool:
    """Whether this process is the first of its ranks, or alone."""
    from forecast_cli.launch import placed

    place = placed()
    return place is None or place.rank == 0


def complain(text: str) -> None:
    """An error, with the rank that it happened on where there are several."""
    from forecast_cli.launch import placed

    try:
        place = placed()
    except ConfigError:
        place = None
    rank = f"rank {place.rank}: " if place and place.size > 1 else ""
    typer.echo(f"forecast: {rank}{text}", err=True)


@contextmanager
def talking(quiet: bool, verbose: bool, every: float | None) -> Iterator[None]:
    """Inside, as much is said as these options ask for, beside those outside."""
    global now
    before = now
    quiet, verbose = quiet or before.quiet, verbose or before.verbose
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose say opposite things: give one.")
    if every is not None and not every > 0:
        raise ConfigError(f"--progress-every {every:g}: expected seconds, more than 0.")
    silent = quiet or not is_first()
    now = Talk(silent, verbose and not silent, before.every if every is None else every)
    try:
        yield
    finally:
        now = before


def with_talk(command: Callable[..., None]) -> Callable[..., None]:
    """The command with options for how much it says."""

    @wraps(command)
    def told(*given: Any, quiet: bool, verbose: bool, progress_every: float | None, **named: Any) -> None:
        from forecast_cli.logs import Console, heard_on

        with talking(quiet, verbose, progress_every), heard_on(Console(say, events=now.verbose)):
            command(*given, **named)

    own, only = inspect.signature(command), inspect.Parameter.KEYWORD_ONLY
    further = [
        inspect.Parameter("quiet", only, default=False, annotation=Quiet),
        inspect.Parameter("verbose", only, default=False, annotation=Verbose),
        inspect.Parameter("progress_every", only, default=None, annotation=Every),
    ]
    told.__signature__ = own.replace(parameters=[*own.parameters.values(), *further])  # type: ignore[attr-defined]
    return told
