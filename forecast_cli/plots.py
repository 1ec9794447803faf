"""Pictures of scores and fields, readable at the width of a paper and safe for the colour-blind."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from forecast_cli.data.fields import Fields
from forecast_cli.data.forecasts import ForecastFile
from forecast_cli.data.output import refuse_overwrite
from forecast_cli.data.times import show
from forecast_cli.errors import OutputError
from forecast_cli.evaluation import lead_times

# Okabe and Ito (2008): eight colours that most people can tell apart.
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=_COLOURS),
    "figure.dpi": 150,
    "savefig.dpi": 200,
    "legend.frameon": False,
}


def plot_scores(dataset: xr.Dataset, path: Path, *, overwrite: bool = False) -> None:
    """Every metric (row) and variable (column) of a score file against lead time; baselines dashed."""
    metrics, variables = dataset["metric"].values.tolist(), dataset["variable"].values.tolist()
    leads, unit = lead_times(dataset)
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            len(metrics),
            len(variables),
            figsize=(1.2 + 3.6 * len(variables), 0.6 + 2.4 * len(metrics)),
            squeeze=False,
            layout="constrained",
            sharex=True,
        )
        for row, metric in enumerate(metrics):
            for column, variable in enumerate(variables):
                axis = axes[row, column]
                for index, model in enumerate(dataset["model"].values.tolist()):
                    values = dataset["score"].sel(model=model, metric=metric, variable=variable).values
                    if np.isnan(values).all():
                        continue
                    baseline = model.split(":")[0] in ("persistence", "climatology")
                    marker = "o" if len(leads) <= 30 else None
                    axis.plot(
                        leads,
                        values,
                        linestyle="--" if baseline else "-",
                        linewidth=1.2 if baseline else 1.8,
                        marker=marker,
                        markersize=2.5,
                        color=_COLOURS[index % 8],
                        label=model,
                    )
                units = str(dataset["units"].sel(variable=variable).values)
                name = metric.upper() if metric != "bias" else "bias"
                axis.set_ylabel(name + (f" [{units}]" if metric != "acc" and units not in ("", "1") else ""))
                if row == 0:
                    axis.set_title(variable, fontsize=9)
                if row == len(metrics) - 1:
                    axis.set_xlabel(f"lead time [{unit}]" if unit not in ("", "1") else "lead time")
                if metric in ("rmse", "mae"):
                    axis.set_ylim(bottom=0)
                if metric == "bias":
                    axis.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        # A model without a first score (the climatology has no ACC) stands in the legend all the same.
        curves = {line.get_label(): line for axis in axes.flat for line in axis.get_legend_handles_labels()[0]}
        known = [model for model in dataset["model"].values.tolist() if model in curves]
        figure.legend([curves[model] for model in known], known, loc="outside right center")
        _save(figure, path, overwrite)


def plot_forecast(
    forecast: ForecastFile,
    truth: np.ndarray | None,
    path: Path,
    *,
    variable: str,
    start: int,
    leads: Sequence[int],
    overwrite: bool = False,
) -> None:
    """One forecast at some lead times: truth, forecast and error in rows where the truth is known, else the forecast alone.

    truth: (lead, y, x) at the same lead times, or None. leads: positions along lead_time.
    """
    dataset = forecast.dataset
    predicted = forecast.read(variable, {forecast.outer: start, "lead_time": list(leads)})
    rows = (
        {"forecast": predicted}
        if truth is None
        else {"truth": truth, "forecast": predicted, "error": predicted - truth}
    )
    numbers, unit = lead_times(dataset)
    titles = [f"lead {numbers[lead]:g}" + (f" {unit}" if unit not in ("", "1") else "") for lead in leads]
    units = str(dataset[variable].attrs.get("units", ""))
    dims = [str(dimension) for dimension in dataset[variable].dims[2:]]
    axes = {dimension: dataset[dimension].values for dimension in dims if dimension in dataset.coords}
    name = f"{dataset[variable].attrs.get('long_name', variable)}"
    _panels(rows, titles, path, name=name, units=units, dims=dims, coordinates=axes, overwrite=overwrite)


def plot_fields(
    fields: Fields, path: Path, *, variable: str, sample: int, frames: Sequence[int], overwrite: bool = False
) -> None:
    """The fields of a data file at some frames."""
    channel = fields.names.index(variable)
    values = np.stack([fields.read(sample, frame, frame + 1)[0, channel] for frame in frames])
    described = fields.domain.variables[channel]
    dims = fields.grid_dims
    coordinates = {name: fields.dataset[name].values for name in dims if name in fields.dataset.coords}
    titles = [show(fields.times.values[frame]).replace("T00:00:00", "") for frame in frames]
    _panels(
        {"": values},
        titles,
        path,
        name=described.long_name or variable,
        units=described.units,
        dims=dims,
        coordinates=coordinates,
        overwrite=overwrite,
    )


def _panels(
    rows: dict[str, np.ndarray],
    titles: Sequence[str],
    path: Path,
    *,
    name: str,
    units: str,
    dims: Sequence[str],
    coordinates: dict[str, np.ndarray],
    overwrite: bool,
) -> None:
    """Rows of maps with a shared scale for fields and a symmetric one for errors; lines for fields in one dimension."""
    fields = np.concatenate([values.ravel() for label, values in rows.items() if label != "error"])
    low, high = _span(fields)
    # A quantity around zero reads best on a symmetric scale.
    symmetric = low < 0 < high and min(-low, high) > 0.3 * max(-low, high)
    if symmetric:
        high = max(-low, high)
        low = -high
    label = name + (f" [{units}]" if units not in ("", "1") else "")
    flat = next(iter(rows.values()))
    one_dimensional = flat.ndim == 2 or flat.shape[1] == 1
    aspect = 1.0 if one_dimensional else np.clip(flat.shape[2] / flat.shape[1], 0.6, 2.2)
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(
            len(rows),
            len(titles),
            figsize=(1.6 + 1.7 * aspect * len(titles), 0.5 + 1.8 * len(rows)),
            squeeze=False,
            layout="constrained",
            sharex=True,
            sharey="row" if one_dimensional else True,
        )
        for row, (kind, values) in enumerate(rows.items()):
            error = kind == "error"
            bound = max(map(abs, _span(values)))
            limits = (-bound, bound) if error else (low, high)
            colours = "RdBu_r" if error else ("PuOr_r" if symmetric else "viridis")
            for axis, field in zip(axes[row], values, strict=True):
                if one_dimensional:
                    x = coordinates.get(dims[-1], np.arange(field.size))
                    axis.plot(x, field.reshape(-1), color=_COLOURS[0])
                    axis.set_ylim(limits)
                else:
                    mesh = _map(axis, field, limits, colours, [coordinates.get(name) for name in dims])
            axes[row, 0].set_ylabel("\n".join(part for part in (kind, label if one_dimensional else dims[0]) if part))
            if not one_dimensional:
                figure.colorbar(
                    mesh,
                    ax=axes[row],
                    label="error" + (f" [{units}]" if units not in ("", "1") else "") if error else label,
                    pad=0.01,
                    aspect=12,
                )
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=9)
        for axis in axes[-1]:
            axis.set_xlabel(dims[-1])
        _save(figure, path, overwrite)


def _map(
    axis: Axes, field: np.ndarray, limits: tuple[float, float], colours: str, coordinates: Sequence[np.ndarray | None]
) -> QuadMesh:
    """A map of one field (y, x), over its coordinates or the numbers of its cells."""
    y, x = (np.arange(size) if known is None else known for size, known in zip(field.shape, coordinates, strict=True))
    return axis.pcolormesh(
        x, y, field, vmin=limits[0], vmax=limits[1], cmap=colours, shading="nearest", rasterized=True
    )


def _span(values: np.ndarray) -> tuple[float, float]:
    """Least and largest value, a little apart even where all are equal or missing."""
    present = values[np.isfinite(values)]
    low, high = (float(present.min()), float(present.max())) if present.size else (0.0, 0.0)
    margin = 0.0 if low < high else max(1e-6, 1e-3 * abs(low))
    return low - margin, high + margin


def _save(figure: Figure, path: Path, overwrite: bool) -> None:
    """Write the picture under its final name only when it is whole."""
    known = figure.canvas.get_supported_filetypes()
    kind = path.suffix.lstrip(".").lower()
    if kind not in known:
        plt.close(figure)
        raise OutputError(f"{path}: cannot make a picture of kind '{kind}'. Known are {', '.join(sorted(known))}.")
    refuse_overwrite(path, overwrite)
    partial = path.with_name(path.name + ".partial")
    try:
        figure.savefig(partial, format=kind)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}).") from error
    finally:
        partial.unlink(missing_ok=True)
        plt.close(figure)
