"""forecast plot"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forecast_cli.cli import shared
from forecast_cli.errors import ConfigError, DataError

if TYPE_CHECKING:
    from forecast_cli.plots import Picture

SHOWN = 4
"""Columns of a picture that nobody has chosen."""


PICTURES = {
    "run": ("training",),
    "closures": ("closures",),
    "scores": ("scores", "spectra"),
    "forecast": ("fields", "animation"),
    "topography": ("topography", "fields", "animation"),
    "data": ("fields", "animation"),
}
"""What can be drawn of each kind of file; the first is drawn unless another is asked for."""
FILM_FRAMES = 120
"""The most frames of a film that nobody has chosen."""


def plot(
    file: Annotated[
        str,
        typer.Argument(
            help="Scores, a forecast, a run directory, its closures.nc, an inferred sea bed, or a data file."
        ),
    ],
    output: shared.Output,
    what: Annotated[
        str | None,
        typer.Option(
            help="fields, animation, scores, spectra, training, closures or topography. [default: what suits the file]"
        ),
    ] = None,
    truth: Annotated[
        list[str] | None, typer.Option("--truth", help="For a forecast: the truth, to draw truth, forecast and error.")
    ] = None,
    variable: Annotated[str | None, typer.Option(help="Variable to draw. [default: the first]")] = None,
    start: Annotated[int, typer.Option(help="Which forecast (or sample) of the file, from 0; -1 is the last.")] = 0,
    lead: Annotated[
        str | None,
        typer.Option(help="Steps (of a data file: frames) to draw, such as 1,6,24. [default: some, spread evenly]"),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Scores: errors on a logarithmic axis.")] = False,
    rate: Annotated[int, typer.Option(help="Frames a second of a film.")] = 6,
    dims: shared.Dims = None,
    select: shared.Select = None,
    overwrite: shared.Overwrite = False,
) -> None:
    """Draw the picture that suits a file: scores, fields beside the truth, training curves; .gif and .mp4 are films."""
    from forecast_cli import plots
    from forecast_cli.data.forecasts import kind_of, open_written, trusting
    from forecast_cli.data.output import refuse_overwrite
    from forecast_cli.data.protection import refuse_inputs

    kind = kind_of(file)
    refuse_inputs(output, [Path(file) / "metrics.csv" if kind == "run" else file, *(truth or ())])
    refuse_overwrite(output, overwrite)
    what = what or ("animation" if output.suffix.lower() in (".gif", ".mp4") else PICTURES[kind][0])
    if what not in PICTURES[kind]:
        raise ConfigError(f"--what {what}: of {file} can be drawn {' or '.join(PICTURES[kind])}.")
    if rate < 1:
        raise ConfigError(f"--rate {rate}: expected at least 1.")
    options = {"dims": shared.dims_of(dims), "select": shared.assignments(select, "--select")}
    if kind == "run":
        plots.plot_training(Path(file), output, overwrite=overwrite)
    elif kind == "closures":
        with trusting(file), open_written(Path(file)) as dataset:
            plots.plot_closures(dataset, output, overwrite=overwrite)
    elif what == "topography":
        with trusting(file), open_written(Path(file)) as dataset:
            plots.plot_topography(dataset, output, overwrite=overwrite)
    elif kind == "scores":
        _plot_scores(file, output, what, lead, log, overwrite)
    else:
        film = what == "animation"
        made = _of_forecast if kind == "forecast" else _of_fields
        picture = made(file, truth, variable, start, lead, FILM_FRAMES if film else SHOWN, options)
        if film:
            plots.animate(picture, output, rate=rate, overwrite=overwrite)
        else:
            plots.plot_fields(picture, output, overwrite=overwrite)
    shared.say(f"{output}: written")


def _plot_scores(file: str, output: Path, what: str, lead: str | None, log: bool, overwrite: bool) -> None:
    from forecast_cli import plots
    from forecast_cli.data.forecasts import open_written, trusting

    with trusting(file), open_written(Path(file)) as dataset:
        if what == "scores":
            plots.plot_scores(dataset, output, log=log, overwrite=overwrite)
            return
        leads = [step - 1 for step in _steps(lead, dataset.sizes["lead_time"], 1, SHOWN)] if lead else None
        plots.plot_spectra(dataset, output, leads=leads, overwrite=overwrite)


def _of_forecast(
    file: str,
    truth: list[str] | None,
    variable: str | None,
    start: int,
    lead: str | None,
    most: int,
    options: dict[str, Any],
) -> "Picture":
    from forecast_cli import plots
    from forecast_cli.data.forecasts import open_forecast
    from forecast_cli.evaluation import open_truth, truth_of

    forecast = open_forecast(Path(file))
    name = _one_of(variable, forecast.variables)
    leads = [step - 1 for step in _steps(lead, forecast.leads, 1, most)]
    row = _position(start, forecast.dataset.sizes[forecast.outer], "--start")
    known = truth_of(forecast, open_truth(forecast, truth, **options), name, row, leads) if truth else None
    return plots.of_forecast(forecast, known, variable=name, start=row, leads=leads)


def _of_fields(
    file: str,
    truth: list[str] | None,
    variable: str | None,
    start: int,
    lead: str | None,
    most: int,
    options: dict[str, Any],
) -> "Picture":
    from forecast_cli import plots
    from forecast_cli.data.fields import open_fields

    fields = open_fields([file], variables=[variable] if variable else (), static=True, **options)
    if truth:
        raise ConfigError(f"--truth: {file} is no forecast to compare with it.")
    shared.note(fields)
    name = _one_of(variable, fields.names)
    frames = _steps(lead, fields.frames, 0, most)
    sample = _position(start, fields.samples, "--start")
    return plots.of_fields(fields, variable=name, sample=sample, frames=frames)


def _one_of(wanted: str | None, known: tuple[str, ...]) -> str:
    if wanted is not None and wanted not in known:
        raise DataError(f"--variable {wanted}: not in the file, which has {', '.join(known)}.")
    return wanted or known[0]


def _position(index: int, size: int, option: str) -> int:
    if not -size <= index < size:
        raise ConfigError(f"{option} {index}: the file has {size}, counted from 0.")
    return index % size


def _steps(text: str | None, count: int, first: int, most: int) -> list[int]:
    """The steps that the user lists, or up to `most` spread evenly from the first to the last."""
    last = count - 1 + first
    if text is None:
        number = min(most, count)
        return [first + round(i * (count - 1) / max(1, number - 1)) for i in range(number)]
    try:
        steps = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--lead {text}: expected whole numbers such as 1,6,24.") from error
    wrong = [step for step in steps if not first <= step <= last]
    if wrong:
        raise ConfigError(f"--lead {wrong[0]}: the file has {first} to {last}.")
    return steps
