"""Pictures of numbers: scores against lead time, spectra, and the course of a training."""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from forecast_cli.errors import CheckpointError, DataError
from forecast_cli.evaluation import lead_times
from forecast_cli.evaluation.resampling import FEWEST
from forecast_cli.metrics import PURE_NUMBERS
from forecast_cli.plots.style import COLOURS, MARKERS, PAPER, STROKES, ahead, is_baseline, save, styled, with_unit

ERRORS = ("rmse", "mae", "relative_l2")
"""Metrics that are never below zero, and the better the closer to it."""


def plot_scores(dataset: xr.Dataset, path: Path, *, log: bool = False, overwrite: bool = False) -> None:
    """Every metric and region (row) and variable (column) of a score file against lead time, with bands of the intervals.

    log: errors on a logarithmic axis.
    """
    metrics, variables = dataset["metric"].values.tolist(), dataset["variable"].values.tolist()
    regions = dataset["region"].values.tolist() if "region" in dataset.dims else [None]
    rows = [(metric, region) for metric in metrics for region in regions]
    leads, unit = lead_times(dataset)
    with styled():
        figure, axes = _grid(len(rows), len(variables), dataset.sizes["model"])
        for (metric, region), row in zip(rows, axes, strict=True):
            part = dataset.sel(metric=metric) if region is None else dataset.sel(metric=metric, region=region)
            for variable, axis in zip(variables, row, strict=True):
                _scores(axis, part.sel(variable=variable), leads)
                units = str(dataset["units"].sel(variable=variable).values)
                name = {"bias": "bias", "relative_l2": "relative L2"}.get(metric, metric.upper()) + (
                    f", {region}" if region else ""
                )
                axis.set_ylabel(with_unit(name, "" if metric in PURE_NUMBERS else units))
                if metric in ERRORS and log:
                    axis.set_yscale("log")
                    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                    axis.yaxis.set_major_formatter("{x:g}")
                    axis.yaxis.set_minor_formatter(NullFormatter())
                elif metric in ERRORS:
                    axis.set_ylim(bottom=0)
                if metric == "bias":
                    axis.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        _finish(figure, axes, variables, with_unit("lead time", unit), dataset["model"].values.tolist())
        save(figure, path, overwrite)


def _scores(axis: Axes, scores: xr.Dataset, leads: list[float]) -> None:
    for index, model in enumerate(scores["model"].values.tolist()):
        here = scores.sel(model=model)
        values = here["score"].values
        if np.isnan(values).all():
            continue
        colour = COLOURS[index % len(COLOURS)]
        baseline = is_baseline(model)
        axis.plot(
            leads,
            values,
            linestyle="--" if baseline else STROKES[index // len(COLOURS) % len(STROKES)],
            linewidth=1.2 if baseline else 1.8,
            marker=MARKERS[index % len(MARKERS)] if len(leads) <= 30 else None,
            markersize=3,
            color=colour,
            label=model,
            zorder=2 if baseline else 3,
        )
        if "score_bounds" in here:
            low, high = here["score_bounds"].transpose("bound", "lead_time").values
            axis.fill_between(leads, low, high, color=colour, alpha=0.15, linewidth=0)
            _hatch(axis, here, leads, colour)


def _hatch(axis: Axes, scores: xr.Dataset, leads: list[float], colour: str) -> None:
    """Hatch the band of the intervals from each lead time at which they are not reliable to its neighbours."""
    if "independent_starts" not in scores:
        return
    few = scores["independent_starts"].values < FEWEST
    if few.any():
        near = np.convolve(few, np.ones(3), "same") > 0
        low, high = scores["score_bounds"].transpose("bound", "lead_time").values
        axis.fill_between(leads, low, high, where=near, facecolor="none", edgecolor=colour, hatch="///", linewidth=0)


def plot_spectra(dataset: xr.Dataset, path: Path, *, leads: list[int] | None = None, overwrite: bool = False) -> None:
    """Power against wavenumber of truth and forecasts, a row for each of some lead times (default: three).

    Raises DataError if the score file holds no spectra.
    """
    if "spectrum" not in dataset:
        raise DataError("the score file holds no spectra. Evaluate with --spectra.")
    numbers, unit = lead_times(dataset)
    leads = leads or sorted({0, len(numbers) // 2, len(numbers) - 1})
    variables, names = dataset["variable"].values.tolist(), dataset["field"].values.tolist()
    colours = [colour for colour in COLOURS if colour != "#000000"]  # black is the truth
    wavenumber = dataset["wavenumber"]
    with styled():
        figure, axes = _grid(len(leads), len(variables), len(names))
        for lead, row in zip(leads, axes, strict=True):
            for variable, axis in zip(variables, row, strict=True):
                here = dataset["spectrum"].isel(lead_time=lead).sel(variable=variable)
                for index, name in enumerate(names):
                    truth = name == "truth"
                    axis.loglog(
                        wavenumber,
                        here.sel(field=name),
                        color="black" if truth else colours[(index - 1) % len(colours)],
                        linewidth=2.2 if truth else 1.2,
                        linestyle="--" if is_baseline(name) else "-",
                        label=name,
                        zorder=1 if truth else 2,
                    )
                axis.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
                axis.set_ylabel(f"power {ahead(numbers[lead], unit)}")
        zonal = wavenumber.attrs["units"] == "1"
        label = with_unit("zonal wavenumber" if zonal else "wavenumber", wavenumber.attrs["units"])
        _finish(figure, axes, variables, label, names)
        save(figure, path, overwrite)


def plot_training(run: Path, path: Path, *, overwrite: bool = False) -> None:
    """Losses, and the closed-loop error of each variable, against epochs; the best epoch is marked.

    Raises CheckpointError where the run has no finished epoch.
    """
    rows = _rows(run / "metrics.csv")
    epochs = [row["epoch"] for row in rows]
    key = "validation_loss" if "validation_loss" in rows[0] else "training_loss"
    best = min(rows, key=lambda row: row[key])["epoch"]
    errors = [name for name in rows[0] if name.startswith("validation_rmse_")]
    with styled():
        count, marker = 1 + len(errors), "o" if len(rows) <= 30 else None
        width = min(PAPER, 0.6 + 3.2 * count)
        figure, axes = plt.subplots(1, count, figsize=(width, 2.6), squeeze=False, layout="constrained")
        for colour, part in zip(COLOURS, ("training", "validation"), strict=False):
            if f"{part}_loss" in rows[0]:
                axes[0, 0].semilogy(
                    epochs,
                    [row[f"{part}_loss"] for row in rows],
                    color=colour,
                    label=part,
                    marker=marker,
                    markersize=2.5,
                )
        axes[0, 0].set_ylabel("loss")
        axes[0, 0].legend()
        for axis, name in zip(axes[0, 1:], errors, strict=True):
            axis.plot(epochs, [row[name] for row in rows], color=COLOURS[1], marker=marker, markersize=2.5)
            axis.set_ylabel(f"validation RMSE of {name.removeprefix('validation_rmse_')}")
        for axis in axes[0]:
            axis.axvline(best, color="0.6", linestyle=":", linewidth=1)
            axis.set_xlabel("epoch")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes[0, 0].set_title(f"best epoch {best:g} of {len(rows)}", loc="left")
        save(figure, path, overwrite)


def _rows(file: Path) -> list[dict[str, float]]:
    try:
        with file.open(encoding="utf-8", newline="") as text:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(text)]
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror}). Is {file.parent} a run directory?"
        ) from error
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{file}: damaged ({error}).") from error
    if not rows:
        raise CheckpointError(f"{file}: no epoch has finished yet.")
    if missing := {"epoch", "training_loss"} - rows[0].keys():
        raise CheckpointError(f"{file}: damaged (it has no column {min(missing)}).")
    return rows


def _grid(rows: int, columns: int, curves: int) -> tuple[Figure, np.ndarray]:
    """Axes in rows and columns, high enough for a legend of so many curves."""
    size = (min(PAPER, 2.0 + 3.4 * columns), max(0.5 + 2.0 * rows, 0.2 + 0.17 * curves))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", sharex=True)
    return figure, axes


def _finish(figure: Figure, axes: np.ndarray, variables: list[str], label: str, names: list[str]) -> None:
    """Titles above, the label of x below, and one legend for all."""
    for axis, variable in zip(axes[0], variables, strict=True):
        axis.set_title(variable)
    for axis in axes[-1]:
        axis.set_xlabel(label)
    # A model without a first score (the climatology has no ACC) stands in the legend all the same.
    curves = {str(line.get_label()): line for axis in axes.flat for line in axis.get_lines()}
    known = [name for name in names if name in curves]
    figure.legend([curves[name] for name in known], known, loc="outside right upper")
