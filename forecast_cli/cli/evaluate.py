"""forecast evaluate"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forecast_cli.cli import shared, talk
from forecast_cli.errors import ConfigError
from forecast_cli.launch import placed

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from rich.table import Table

SHOWN = 10
"""Lead times in the terminal's table; the file has all."""


def evaluate(
    forecast: Annotated[list[Path], typer.Argument(help="Forecasts that `forecast rollout` wrote.")],
    truth: Annotated[list[str], typer.Option("--truth", help=shared.DATA_HELP)],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Score file to write.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="rmse, relative_l2, mae, bias, acc (repeat, or a,b). [default: rmse]")
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="persistence, persistence:N, climatology, climatology:hour, :dayofyear, :month (repeat, or a,b)."
        ),
    ] = None,
    region: Annotated[
        list[str] | None, typer.Option(help="Part of the grid: NAME=Y0:Y1,X0:X1 or NAME=FILE:mask (repeat).")
    ] = None,
    climatology: Annotated[
        str, typer.Option(help="What the anomalies of acc depart from: mean, hour, dayofyear or month.")
    ] = "mean",
    bootstrap: Annotated[
        int | None,
        typer.Option(help="Draws of the starts, for 95 % intervals and differences from the first forecast."),
    ] = None,
    block: Annotated[
        int | None,
        typer.Option(help="Consecutive starts drawn together. [default: by their number, overlap and autocorrelation]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.", callback=shared.seed)] = 0,
    spectra: Annotated[bool, typer.Option("--spectra", help="Add power spectra of forecasts and truth.")] = False,
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
    from forecast_cli.data.protection import refuse_inputs

    if block is not None and bootstrap is None:
        raise ConfigError("--block says how --bootstrap draws: give both, such as --bootstrap 1000 --block 5.")
    if output:
        masks = [where for text in region or () if ":" in (where := text.partition("=")[2])]
        refuse_inputs(output, [*forecast, *truth, *masks])
        refuse_overwrite(output, overwrite)
    labels = shared.names(label) or ()
    if labels and len(labels) != len(forecast):
        raise ConfigError(f"--label: {len(labels)} names for {len(forecast)} forecasts.")
    files = [open_forecast(path, labels[i] if labels else None) for i, path in enumerate(forecast)]
    with _sharing() as (share, total):
        scores = evaluation.evaluate(
            files,
            truth,
            share=share,
            total=total,
            metrics=shared.names(metric) or ("rmse",),
            baselines=shared.names(baseline) or (),
            regions=region or (),
            climatology=climatology,
            bootstrap=evaluation.Bootstrap(bootstrap, block, seed) if bootstrap is not None else None,
            spectra=spectra,
            dims=shared.dims_of(dims),
            select=shared.assignments(select, "--select"),
        )
    if share.start:
        return  # the first rank writes and tells
    if output:
        write_dataset(scores, output, overwrite=overwrite)
    _print_table(scores)
    if note := evaluation.note_on_pairs(scores):
        shared.say(f"note: {note}")
    if json_:
        shared.print_json(evaluation.as_json(scores))


@contextmanager
def _sharing() -> "Iterator[tuple[slice, Callable[[np.ndarray], np.ndarray]]]":
    """Which blocks this rank evaluates, and the sum of an array over all ranks; alone, no torch is loaded."""
    if placed() is None:
        yield slice(None), lambda part: part
        return
    import torch

    from forecast_cli.distributed import joined

    with joined() as ranks:
        yield ranks.share, lambda part: ranks.total(torch.from_numpy(part)).numpy()


def _print_table(scores: "xr.Dataset") -> None:
    """A table for each metric, variable and region at up to SHOWN lead times, spread evenly, and how it came about."""
    from rich.console import Console

    console = Console(stderr=True, quiet=talk.now.quiet, width=None if sys.stderr.isatty() else 120)
    for region in scores["region"].values.tolist() if "region" in scores.dims else [None]:
        part = scores if region is None else scores.sel(region=region)
        for metric in scores["metric"].values.tolist():
            for variable in scores["variable"].values.tolist():
                console.print(_table(part.sel(metric=metric, variable=variable), region, console.width))
    starts, most = scores.attrs["starts"], scores.attrs["forecast_starts"]
    of_all = f" of {most}" if starts < most else ""
    told = f"{starts}{of_all} start{'s' if starts != 1 else ''}; weights: {scores.attrs['weights']}; {scores.attrs['averaging']}"
    if "score_bounds" in scores:
        told += (
            f" Intervals: 95 %, {scores.attrs['bootstrap']} draws of blocks of {scores.attrs['bootstrap_block']} starts; "
            "* differs from the first forecast."
        )
    for line in (told, scores.attrs.get("bootstrap_notes"), _spectra_note(scores)):
        if line:
            console.print(line, markup=False)


def _spectra_note(scores: "xr.Dataset") -> str:
    """A sentence for spectra that are not over all starts."""
    if "spectrum_starts" not in scores:
        return ""
    few, most = (int(count) for count in (scores["spectrum_starts"].min(), scores["spectrum_starts"].max()))
    starts = scores.attrs["starts"]
    if few == starts:
        return ""
    span = f"{few}" if few == most else f"{few} to {most}"
    return (
        f"Spectra: means over the {span} of {starts} starts at which truth and every model have a field without gaps."
    )


def _table(scores: "xr.Dataset", region: str | None, width: int) -> "Table":
    """Models against lead times, the best of each column in bold, with intervals where there are any."""
    import numpy as np
    from rich.markup import escape
    from rich.table import Table

    from forecast_cli.evaluation import lead_times
    from forecast_cli.metrics import PURE_NUMBERS

    leads, unit = lead_times(scores)
    metric, variable, units = (str(scores[name].values) for name in ("metric", "variable", "units"))
    models = scores["model"].values.tolist()
    column = 25 if "score_bounds" in scores else 13  # -0.0001234, or 0.351* [0.311, 0.395]
    fit = (width - max(20, *map(len, models)) - 4) // column
    count = min(SHOWN, max(fit, 2), len(leads))
    shown = sorted(set(np.linspace(0, len(leads) - 1, count).round().astype(int).tolist()))
    title = f"{metric} of {variable}" + (f" [{units}]" if units not in ("", "1") and metric not in PURE_NUMBERS else "")
    table = Table(title=escape(title + (f", {region}" if region else "")), title_justify="left")
    table.add_column(escape("lead time" + (f" [{unit}]" if unit not in ("", "1") else "")), no_wrap=True)
    for lead in shown:
        table.add_column(f"{leads[lead]:g}", justify="right", no_wrap=True)
    values = scores["score"].transpose("model", "lead_time").values
    badness = -values if metric == "acc" else np.abs(values)
    best = np.nanmin(np.where(np.isnan(badness), np.inf, badness), axis=0)
    for m, model in enumerate(models):
        cells = [
            f"[bold]{escape(_cell(scores, m, lead))}[/bold]"
            if badness[m, lead] == best[lead]
            else escape(_cell(scores, m, lead))
            for lead in shown
        ]
        table.add_row(escape(model), *cells)
    return table


def _cell(scores: "xr.Dataset", model: int, lead: int) -> str:
    """A score, and its interval if there is one: * where it differs from the first forecast's, ? where it is not reliable."""
    import math

    from forecast_cli.evaluation.resampling import FEWEST

    at = scores.isel(model=model, lead_time=lead)
    value = float(at["score"])
    if math.isnan(value):
        return "-"
    if "score_bounds" not in scores:
        return f"{value:.4g}"
    low, high = at["score_bounds"].values
    below, above = at["difference_bounds"].values
    star = "*" if (below > 0 or above < 0) and float(at["difference_independent_starts"]) >= FEWEST else ""
    doubt = "?" if float(at["independent_starts"]) < FEWEST else ""
    interval = "-" if math.isnan(low) else f"{low:.3g}, {high:.3g}"
    return f"{value:.3g}{star} [{interval}]{doubt}"
