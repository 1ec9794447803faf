"""The command line: one command a file, each a thin shell; here the app and its one error handler.

Nothing heavy is imported before a command runs, so that `forecast --help` answers at once.
"""

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from forecast_cli import __version__
from forecast_cli.cli import benchmark, evaluate, info, invert_topography, plot, rollout, simulate, talk, train
from forecast_cli.cli.streams import prepare_streams
from forecast_cli.errors import ForecastError, Stopped, broken_library, first_line, printable
from forecast_cli.signals import stoppable

__all__ = ["app", "main"]

EPILOG = (
    "Exit codes: 0 done, 1 bug, 2 usage or configuration, 3 unsuitable data, 4 incompatible run, 5 diverged, "
    "6 written but not to be trusted, 7 could not write, 8 out of memory, 9 a rank lost, 75 stopped cleanly: run again with --resume auto."
)


OUT_OF_MEMORY = 8
LESS_MEMORY = "Lower --batch-size, --hidden or data.memory; `forecast train --dry-run` tells what a step needs."


BROKEN_INSTALLATION = 2


def _repair(library: str) -> str:
    if library in sys.stdlib_module_names:
        return "It belongs to Python: check PYTHONPATH and files of that name, or install Python anew."
    return f"Repair the installation: pip install --force-reinstall {library}"


def _out_of_memory(error: Exception) -> bool:
    """Whether python, torch on a CPU, or torch on an accelerator could not allocate; torch is not imported to ask."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


@contextmanager
def _reported() -> Iterator[None]:
    """Turns what went wrong inside into one line on stderr and a documented exit code."""
    try:
        yield
    except ForecastError as error:
        if not isinstance(error, Stopped) or talk.is_first():  # all ranks stop together
            talk.complain(printable(str(error)))
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        talk.complain("interrupted; nothing was written under a final name.")
        raise typer.Exit(130) from error
    except Exception as error:
        if _out_of_memory(error):
            talk.complain(f"out of memory. {LESS_MEMORY}")
            raise typer.Exit(OUT_OF_MEMORY) from error
        library = broken_library(error)
        if library is None:
            raise
        talk.complain(printable(f"the library '{library}' cannot be used ({first_line(error)}). {_repair(library)}"))
        raise typer.Exit(BROKEN_INSTALLATION) from error


def with_home(argument: str) -> str:
    """An argument with a leading `~/` or `~user/`, also behind equals signs (--data=~/x.nc), as the home directory.

    Shells leave it as it is in quotes and behind an equals sign. A path that exists under that very name is kept.
    """
    before, path = re.fullmatch(r"((?:[^=/~]*=)*)(.*)", argument, re.DOTALL).groups()  # type: ignore[union-attr]
    if not re.match(r"~[^/]*/", path) or os.path.exists(path):  # noqa: PTH110 - False for a name that is too long
        return argument
    return before + os.path.expanduser(path)  # noqa: PTH111 - leaves what has no home


class _Commands(TyperGroup):
    """Reports failures, of its own options (`--help`, `--version`) too."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        with _reported():
            return super().make_context(info_name, [with_home(argument) for argument in args], *rest, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _reported():
            return super().invoke(ctx)


class _App(typer.Typer):
    """Every command has the options for how much it says; those with --resume end at a signal with the exit code of a stop."""

    def command(  # type: ignore[override]
        self, name: str, **options: Any
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        register = super().command(name, **options)

        def registered(function: Callable[..., None]) -> Callable[..., None]:
            resumable = "resume" in inspect.signature(function).parameters
            return register(talk.with_talk(stoppable(function) if resumable else function))

        return registered


app = _App(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # rich's own markup takes what stands in brackets for colours, and drops it
    help="Forecast fields in space and time: train, roll out, evaluate.",
    epilog=EPILOG,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"forecast {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    _wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    quiet: talk.Quiet = False,
    verbose: talk.Verbose = False,
    progress_every: talk.Every = None,
) -> None:
    context.with_resource(talk.talking(quiet, verbose, progress_every))


app.command("info")(info.info)
app.command("train")(train.train)
app.command("rollout")(rollout.rollout)
app.command("evaluate")(evaluate.evaluate)
app.command("invert-topography")(invert_topography.invert_topography)
app.command("plot")(plot.plot)
app.command("benchmark")(benchmark.benchmark)
simulations = _App(no_args_is_help=True, rich_markup_mode="markdown", help="Simulate a data set to train on.")
simulations.command("navier-stokes")(simulate.navier_stokes)
for _problem in simulate.HELP:
    _command = simulate.shallow_water if _problem == "shallow-water" else simulate.of_problem(_problem)
    simulations.command(_problem)(_command)
app.add_typer(simulations, name="simulate")


def main() -> None:
    """The console script."""
    prepare_streams()
    app(prog_name="forecast")
