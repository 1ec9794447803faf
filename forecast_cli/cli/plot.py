"""forecast plot"""

from pathlib import Path
from typing import Annotated, Any

import typer

from forecast_cli.cli import shared
from forecast_cli.errors import ConfigError, DataError


def plot(
    file: Annotated[str, typer.Argument(help="Scores, a forecast, or a data file.")],
    output: shared.Output,
    truth: Annotated[
        list[str] | None, typer.Option("--truth", help="For a forecast: the truth, to draw truth, forecast and error.")
    ] = None,
    variable: Annotated[str | None, typer.Option(help="Variable to draw. [default: the first]")] = None,
    start: Annotated[int, typer.Option(help="Which forecast (or sample) of the file, from 0; -1 is the last.")] = 0,
    lead: Annotated[
        str | None,
        typer.Option(help="Steps (of a data file: frames) to draw, such as 1,6,24. [default: five, spread evenly]"),
    ] = None,
    dims: shared.Dims = None,
    select: shared.Select = None,
    overwrite: shared.Overwrite = False,
) -> None:
    """Draw the picture that suits a file: scores against lead time, a forecast beside the truth, or fields."""
    from forecast_cli.data.output import refuse_overwrite

    refuse_overwrite(output, overwrite)
    options = {"dims": shared.dims_of(dims), "select": shared.assignments(select, "--select")}
    kind = _kind(file)
    if kind == "scores":
        _plot_scores(file, output, overwrite)
    elif kind == "forecast":
        _plot_forecast(Path(file), truth, output, overwrite, variable=variable, start=start, lead=lead, options=options)
    else:
        _plot_fields(file, output, overwrite, variable=variable, start=start, lead=lead, options=options)
    shared.say(f"{output}: written")


def _kind(file: str) -> str | None:
    """What `forecast` says of a file that it wrote; None for other files."""
    import xarray as xr

    try:
        with xr.open_dataset(file, engine="netcdf4", decode_times=False) as dataset:
            kind: str | None = dataset.attrs.get("forecast_kind")
            return kind
    except (OSError, ValueError, RuntimeError):
        return None  # open_fields knows more kinds of files, and says what is wrong


def _plot_scores(file: str, output: Path, overwrite: bool) -> None:
    import xarray as xr

    from forecast_cli import plots

    with xr.open_dataset(file, engine="netcdf4") as dataset:
        plots.plot_scores(dataset, output, overwrite=overwrite)


def _plot_forecast(
    file: Path,
    truth: list[str] | None,
    output: Path,
    overwrite: bool,
    *,
    variable: str | None,
    start: int,
    lead: str | None,
    options: dict[str, Any],
) -> None:
    from forecast_cli import plots
    from forecast_cli.data.forecasts import open_forecast
    from forecast_cli.evaluation import open_truth, truth_of

    forecast = open_forecast(file)
    name = _one_of(variable, forecast.variables)
    leads = [step - 1 for step in _steps(lead, forecast.leads, first=1)]
    row = _position(start, forecast.dataset.sizes[forecast.outer], "--start")
    known = truth_of(forecast, open_truth(forecast, truth, **options), name, row, leads) if truth else None
    plots.plot_forecast(forecast, known, output, variable=name, start=row, leads=leads, overwrite=overwrite)


def _plot_fields(
    file: str,
    output: Path,
    overwrite: bool,
    *,
    variable: str | None,
    start: int,
    lead: str | None,
    options: dict[str, Any],
) -> None:
    from forecast_cli import plots
    from forecast_cli.data.fields import open_fields

    fields = open_fields([file], variables=[variable] if variable else (), **options)
    name = _one_of(variable, fields.names)
    frames = _steps(lead, fields.frames, first=0)
    sample = _position(start, fields.samples, "--start")
    plots.plot_fields(fields, output, variable=name, sample=sample, frames=frames, overwrite=overwrite)


def _one_of(wanted: str | None, known: tuple[str, ...]) -> str:
    if wanted is not None and wanted not in known:
        raise DataError(f"--variable {wanted}: not in the file, which has {', '.join(known)}.")
    return wanted or known[0]


def _position(index: int, size: int, option: str) -> int:
    if not -size <= index < size:
        raise ConfigError(f"{option} {index}: the file has {size}, counted from 0.")
    return index % size


def _steps(text: str | None, count: int, *, first: int) -> list[int]:
    """The steps that the user lists, or up to five spread evenly from the first to the last."""
    last = count - 1 + first
    if text is None:
        number = min(5, count)
        return [first + round(i * (count - 1) / max(1, number - 1)) for i in range(number)]
    try:
        steps = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--lead {text}: expected whole numbers such as 1,6,24.") from error
    wrong = [step for step in steps if not first <= step <= last]
    if wrong:
        raise ConfigError(f"--lead {wrong[0]}: the file has {first} to {last}.")
    return steps
