"""forecast invert-topography"""

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forecast_cli.cli import shared
from forecast_cli.errors import ConfigError, Stopped, Untrustworthy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forecast_cli.inversion import Outcome

FREE = "free"


def invert_topography(
    waves: Annotated[
        list[str], typer.Argument(help="Waves over the sea: eta, best with u and v; whole, with gaps, or at stations.")
    ],
    output: shared.Output,
    variable: Annotated[
        list[str] | None,
        typer.Option(
            "--variable",
            help="Use only these: eta,u; or by the file's names: eta=zeta,u=ubar. [default: eta, u, v as far as they are there]",
        ),
    ] = None,
    gauges: Annotated[
        str | None,
        typer.Option(help="CSV file with the columns x,y (or lon,lat, or column,row): use the waves only there."),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(help="FILE:variable or NAME: use the waves only where it is not 0; NAME=2 only where it is 2."),
    ] = None,
    initial_state: Annotated[
        str | None, typer.Option(help="File with the whole first frame: eta, and u, v if there are any.")
    ] = None,
    initial_velocity: Annotated[
        str, typer.Option(help="At the first frame: rest, FILE, or auto: what the waves say, else rest.")
    ] = "auto",
    time_step: Annotated[
        float | None,
        typer.Option(help="Steps of the waves' own model, in s: part of the physics. [default: the file's]"),
    ] = None,
    gravity: Annotated[
        str | None, typer.Option(help="In m s-2; free: infer it too. [default: the file's, else 9.81]")
    ] = None,
    coriolis: Annotated[
        float | None, typer.Option(help="In s-1. [default: the file's, else that of the latitude, else 0]")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="In m-1 s-1. [default: likewise]")] = None,
    friction: Annotated[float | None, typer.Option(help="In s-1. [default: the file's, else 0]")] = None,
    scheme: Annotated[
        str, typer.Option(help="Of the mass flux: upwind or centred. [default: the file's, else upwind]")
    ] = "",
    refine: Annotated[
        int, typer.Option(help="Cells of the model to one of the waves along each axis, for waves of a finer world.")
    ] = 1,
    run: Annotated[
        str | None,
        typer.Option(help="A run directory: its trained model, weights frozen, in the place of the equation."),
    ] = None,
    min_depth: Annotated[
        float | None,
        typer.Option(help="Shallowest water allowed, in m. [default: twice the waves, or 0.2 % of the deepest]"),
    ] = None,
    max_depth: Annotated[
        float | None, typer.Option(help="Deepest water allowed, in m. [default: what the time step is stable in]")
    ] = None,
    initial: Annotated[str, typer.Option(help="First guess of the depth: metres, FILE, or auto.")] = "auto",
    prior: Annotated[
        str, typer.Option(help="white, smooth, smooth:LENGTH in m, or auto: smooth where few cells are observed.")
    ] = "auto",
    soundings: Annotated[
        str | None, typer.Option(help="Known depths: CSV with x,y,depth[,std], or NetCDF with gaps.")
    ] = None,
    noise: Annotated[
        str | None, typer.Option(help="1% of the spread, 0.02 in the unit, or eta=1%,u=0.02. [default: estimated]")
    ] = None,
    iterations: Annotated[int, typer.Option(help="At most.")] = 2000,
    time_limit: Annotated[str | None, typer.Option(help="HH:MM:SS after which to write what is there.")] = None,
    uncertainty: Annotated[str, typer.Option(help="gauss-newton, ensemble or none.")] = "gauss-newton",
    truth: Annotated[str | None, typer.Option(help="FILE[:variable] of the true depth, to compare with.")] = None,
    resume: Annotated[str, typer.Option(help="auto: go on from an output that has not converged. never.")] = "never",
    dims: shared.Dims = None,
    select: shared.Select = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.", callback=shared.seed)] = 0,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    device: shared.Device = "cpu",
    overwrite: shared.Overwrite = False,
    json_: shared.Json = False,
) -> None:
    """Infer the depth of the sea from the waves above it, with its uncertainty, and say whether to trust it.

    Ctrl-C and the time limit write what is there (exit code 75); an answer that should not be trusted is written and says why (6).
    """
    from forecast_cli.data.noise import parse_noise
    from forecast_cli.devices import resolve_device
    from forecast_cli.inversion import Inversion, Physics, Source, invert
    from forecast_cli.signals import stop_at_signals

    if resume not in ("auto", "never"):
        raise ConfigError(f"--resume {resume}: expected auto or never.")
    deadline = time.monotonic() + shared.seconds_of(time_limit, "--time-limit") if time_limit else None
    free, numbers = _numbers(gravity=gravity, coriolis=coriolis, beta=beta, friction=friction)
    inversion = Inversion(
        Source(
            tuple(waves),
            _renamed(variable),
            shared.dims_of(dims),
            shared.assignments(select, "--select"),
            gauges,
            mask,
            initial_state,
            initial_velocity,
        ),
        Physics(time_step, numbers, free, scheme, min_depth, max_depth, run, refine),
        parse_noise(noise, ("eta", "u", "v")) if noise else {},
        initial,
        prior,
        soundings,
        truth,
        iterations,
        uncertainty,
        seed,
        shared.dtype_of(dtype),
        resolve_device(device),
    )
    with stop_at_signals(deadline=deadline) as asked, _told() as reporter:
        outcome = invert(
            inversion, output, overwrite=overwrite, resume=resume, reporter=reporter, stop=lambda: asked() is not None
        )
    _tell(output, outcome, json_)


def _renamed(variable: list[str] | None) -> dict[str, str] | None:
    """'eta,u' or 'eta=zeta' as ours to the file's."""
    names = shared.names(variable)
    if names is None:
        return None
    found = {}
    for text in names:
        ours, _, theirs = text.partition("=")
        if ours not in ("eta", "u", "v"):
            raise ConfigError(f"--variable {text}: expected eta, u or v, or eta=NAME with the file's name.")
        found[ours] = theirs or ours
    return found


def _numbers(gravity: str | None, **others: float | None) -> tuple[tuple[str, ...], dict[str, float]]:
    """What is to be inferred, and what is given."""
    numbers = {name: value for name, value in others.items() if value is not None}
    if gravity is None or gravity == FREE:
        return (("gravity",) if gravity else ()), numbers
    try:
        return (), numbers | {"gravity": float(gravity)}
    except ValueError as error:
        raise ConfigError(f"--gravity {gravity}: expected a number, or free.") from error


@contextmanager
def _told() -> "Iterator[Any]":
    """Lines for people, and a bar or a line every so often for the iterations."""
    with shared.progress_line("inverting", "iterations") as progress:

        class Reporter:
            def say(self, text: str) -> None:
                shared.say(text)

            def step(self, what: str, done: int, total: int, detail: str) -> None:
                progress(done, total, what, detail)

        yield Reporter()


def _tell(output: Path, outcome: "Outcome", json_: bool) -> None:
    """The verdict, as text, as JSON and as exit code."""
    verdict = outcome.verdict
    scores = "".join(f", {name} {value:.4g}" for name, value in outcome.scores.items())
    state = "converged" if verdict.converged else "not converged"
    shared.say(
        f"{output}: {state} after {outcome.iterations} iterations, {shared.duration(outcome.seconds)}, chi2 {outcome.chi2:.4g}{scores}"
    )
    if json_:
        shared.print_json(
            {
                "output": str(output),
                "converged": verdict.converged,
                "trustworthy": verdict.trustworthy,
                "reasons": verdict.reasons,
                "warnings": outcome.warnings,
                "chi2": outcome.chi2,
                "iterations": outcome.iterations,
                "seconds": outcome.seconds,
                **outcome.scores,
            }
        )
    if outcome.stopped:
        raise Stopped(f"stopped; {output} holds the depth so far. The same command with --resume auto goes on.")
    if not verdict.trustworthy:
        raise Untrustworthy(f"{output} is written, but not to be trusted: {'; '.join(verdict.reasons)}.")
