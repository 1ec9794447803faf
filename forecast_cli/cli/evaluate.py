"""forecast evaluate"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forecast_cli.cli import shared
from forecast_cli.errors import ConfigError

if TYPE_CHECKING:
    import xarray as xr

SHOWN = 10
"""Lead times in the terminal's table; the file has all."""


def evaluate(
    forecast: Annotated[list[Path], typer.Argument(help="Forecasts that `forecast rollout` wrote.")],
    truth: Annotated[list[str], typer.Option("--truth", help=shared.DATA_HELP)],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Score file to write.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="rmse, mae, bias, acc (repeat, or a,b). [default: rmse]")
    ] = None,
    baseline: Annotated[
        list[str] | None, typer.Option(help="persistence, persistence:N, climatology (repeat, or a,b).")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Name of each forecast, in order. [default: its model]")
    ] = None,
    dims: shared.Dims = None,
    select: shared.Select = None,
    overwrite: shared.Overwrite = False,
    json_: shared.Json = False,
) -> None:
    """Score forecasts against the truth, per variable and lead time, beside baselines."""
    from forecast_cli import evaluation
    from forecast_cli.data.forecasts import open_forecast
    from forecast_cli.data.output import refuse_overwrite, write_dataset

    if output:
        refuse_overwrite(output, overwrite)
    labels = shared.names(label) or ()
    if labels and len(labels) != len(forecast):
        raise ConfigError(f"--label: {len(labels)} names for {len(forecast)} forecasts.")
    files = [open_forecast(path, labels[i] if labels else None) for i, path in enumerate(forecast)]
    scores = evaluation.evaluate(
        files,
        truth,
        metrics=shared.names(metric) or ("rmse",),
        baselines=shared.names(baseline) or (),
        dims=shared.dims_of(dims),
        select=shared.assignments(select, "--select"),
    )
    if output:
        write_dataset(scores, output, overwrite=overwrite)
    _print_table(scores)
    if json_:
        shared.print_json(evaluation.as_json(scores))


def _print_table(scores: "xr.Dataset") -> None:
    """Scores at up to SHOWN lead times, spread evenly, the best of each column in bold."""
    import numpy as np
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from forecast_cli.evaluation import lead_times

    leads, unit = lead_times(scores)
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)
    models = scores["model"].values.tolist()
    fit = (console.width - max(20, *map(len, models)) - 4) // 13  # a number such as -0.0001234 takes 13 columns
    shown = sorted(
        set(np.linspace(0, len(leads) - 1, min(SHOWN, max(fit, 2), len(leads))).round().astype(int).tolist())
    )
    for metric in scores["metric"].values.tolist():
        for variable in scores["variable"].values.tolist():
            units = str(scores["units"].sel(variable=variable).values)
            title = f"{metric} of {variable}" + (f" [{units}]" if units not in ("", "1") and metric != "acc" else "")
            table = Table(title=escape(title), title_justify="left")
            table.add_column(escape("lead time" + (f" [{unit}]" if unit not in ("", "1") else "")), no_wrap=True)
            for lead in shown:
                table.add_column(f"{leads[lead]:g}", justify="right")
            values = scores["score"].sel(metric=metric, variable=variable).values[:, shown]
            badness = -values if metric == "acc" else np.abs(values)
            best = np.nanmin(np.where(np.isnan(badness), np.inf, badness), axis=0)
            for model, row, bad in zip(models, values, badness, strict=True):
                cells = ["-" if np.isnan(value) else f"{value:.4g}" for value in row]
                table.add_row(
                    escape(model),
                    *(
                        f"[bold]{cell}[/bold]" if b == top else cell
                        for cell, b, top in zip(cells, bad, best, strict=True)
                    ),
                )
            console.print(table)
    console.print(
        f"{scores.attrs['starts']} starts; weights: {scores.attrs['weights']}; {scores.attrs['averaging']}",
        markup=False,
    )
