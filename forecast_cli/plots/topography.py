"""Pictures of an inferred sea bed: maps on one scale, cross-sections with their uncertainty, the descent, what is left at gauges."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from forecast_cli.data.grid import is_latitude, is_longitude, map_places
from forecast_cli.plots.style import COLOURS, MISSING, PAPER, save, styled, with_unit

BAND = 1.96
"""Standard deviations on either side that hold 95 %."""
SHOWN = 3
"""Gauges whose series are drawn."""
BED = "viridis_r"


def plot_topography(dataset: xr.Dataset, path: Path, *, overwrite: bool = False) -> None:
    """Everything on a page: maps of depth, error and standard deviation, two cross-sections, the descent, and series at gauges."""
    maps = [name for name in ("depth_true", "depth", "depth_error", "depth_std") if name in dataset]
    if "depth_error" not in maps:
        maps.insert(0, "depth_initial")
    series = "eta_observed" in dataset
    with styled():
        figure = plt.figure(figsize=(PAPER, 4.6 + 1.8 * series), layout="constrained")
        rows: Any = figure.subfigures(2 + series, 1, height_ratios=[2.0, 2.3, 1.8][: 2 + series])
        _maps(rows[0], dataset, maps)
        below = rows[1].subplots(1, 3, width_ratios=[1, 1, 0.8])
        middle = _row_and_column(dataset)
        _section(below[0], dataset, 1, middle[0])
        _section(below[1], dataset, 0, middle[1])
        _descent(below[2], dataset)
        if series:
            _series(rows[2], dataset)
        figure.suptitle(_verdict(dataset), fontsize=9)
        save(figure, path, overwrite)


def _verdict(dataset: xr.Dataset) -> str:
    """What the bed is from, and whether to trust it; the reasons not to on lines of their own."""
    title = f"Sea bed from {dataset.attrs['observed_variables'].replace(',', ', ')}"
    if int(dataset.attrs["trustworthy"]):
        return f"{title}: trustworthy"
    return (
        f"{title}: not to be trusted\n{textwrap.fill(dataset.attrs['reasons'], 120, max_lines=2, placeholder=' ...')}"
    )


def _places(dataset: xr.Dataset) -> tuple[Any, Any]:
    """Coordinates along y and x; kilometres where the file has metres, longitudes as maps count them."""
    found = []
    for dim in map(str, dataset["depth"].dims):
        place = xr.DataArray(map_places(dataset[dim]), dims=dim, name=dim, attrs=dataset[dim].attrs)
        if place.attrs.get("units") == "m" and float(np.ptp(place.values)) > 2e3:
            place = (place / 1000).assign_attrs(place.attrs | {"units": "km"})
        found.append(place)
    return found[0], found[1]


def _label(place: xr.DataArray) -> str:
    if is_latitude(place):
        return "latitude [°N]"
    if is_longitude(place):
        return "longitude [°E]"
    return with_unit(str(place.name), str(place.attrs.get("units", "1")))


def _maps(figure: SubFigure, dataset: xr.Dataset, names: list[str]) -> None:
    y, x = _places(dataset)
    depths = np.concatenate(
        [dataset[name].values.ravel() for name in names if name in ("depth", "depth_true", "depth_initial")]
    )
    low, high = float(np.nanmin(depths)), float(np.nanmax(depths))
    margin = 0.0 if low < high else 1.0
    titles = {
        "depth_true": "true",
        "depth": "inferred [m]",
        "depth_initial": "start",
        "depth_error": "error [m]",
        "depth_std": "standard deviation [m]",
    }
    axes = figure.subplots(1, len(names), sharey=True)
    row, column = _row_and_column(dataset)
    for axis, name in zip(np.atleast_1d(axes), names, strict=True):
        values = dataset[name].values
        if name == "depth_error":
            bound = max(float(np.abs(values).max()), 1e-12)
            limits, colours = (-bound, bound), "RdBu_r"
        elif name == "depth_std":
            limits, colours = (0.0, float(values.max())), "magma_r"
        else:
            limits, colours = (low - margin, high + margin), BED
        axis.set_facecolor(MISSING)
        image = axis.pcolormesh(
            x, y, values, cmap=colours, vmin=limits[0], vmax=limits[1], shading="nearest", rasterized=True
        )
        axis.set_title(titles[name])
        axis.set_xlabel(_label(x))
        axis.set_aspect("equal" if 0.3 < float(np.ptp(x.values)) / max(float(np.ptp(y.values)), 1e-12) < 3 else "auto")
        axis.tick_params(axis="x", labelrotation=30)
        if name in ("depth", "depth_true"):
            axis.axhline(float(y[row]), color="white", linewidth=0.6, linestyle=":")
            axis.axvline(float(x[column]), color="white", linewidth=0.6, linestyle=":")
        if name == "depth" and "gauge_x" in dataset:
            rows, columns = (
                np.abs(dataset[dim].values[:, None] - dataset[name].values).argmin(axis=0)
                for dim, name in zip(dataset["depth"].dims, ("gauge_y", "gauge_x"), strict=True)
            )
            axis.plot(
                x.values[columns],
                y.values[rows],
                "w^",
                markersize=3,
                markeredgecolor="black",
                markeredgewidth=0.4,
            )
        if name in ("depth_initial", "depth_true"):
            axis.set_ylabel(_label(y))
        if name not in ("depth_initial", "depth_true"):
            figure.colorbar(image, ax=axis, pad=0.02, shrink=0.8)


def _row_and_column(dataset: xr.Dataset) -> tuple[int, int]:
    """Where the cross-sections are: through the shallowest cell away from the walls."""
    values = dataset["depth"].values
    height, width = values.shape
    rows, columns = slice(height // 8, height - height // 8), slice(width // 8, width - width // 8)
    inner = values[rows, columns]
    row, column = np.unravel_index(int(np.argmin(inner)), inner.shape)
    return int(row) + rows.start, int(column) + columns.start


def _section(axis: Axes, dataset: xr.Dataset, along: int, at: int) -> None:
    """Depth along x at a row (along = 1), or along y at a column (along = 0)."""
    places = _places(dataset)
    place, across = places[along], places[1 - along]

    def cut(name: str) -> np.ndarray:
        values = dataset[name].values
        return np.asarray(values[at] if along == 1 else values[:, at])

    depth = cut("depth")
    if "depth_std" in dataset:
        reach = BAND * cut("depth_std")
        axis.fill_between(place, depth - reach, depth + reach, color=COLOURS[1], alpha=0.3, linewidth=0, label="95 %")
    axis.plot(place, depth, color=COLOURS[1], linewidth=1.4, label="inferred")
    axis.plot(place, cut("depth_initial"), color="0.6", linewidth=0.9, label="start")
    if "depth_true" in dataset:
        axis.plot(place, cut("depth_true"), color="black", linewidth=1.0, linestyle="--", label="true")
    axis.invert_yaxis()
    axis.set_xlabel(_label(place))
    axis.set_ylabel("depth [m]" if along == 1 else "")
    name, _, unit = _label(across).partition(" [")
    axis.set_title(f"at {name} = {float(across[at]):.4g} {unit.rstrip(']')}")
    if along == 1:
        axis.legend(fontsize=7)


def _descent(axis: Axes, dataset: xr.Dataset) -> None:
    axis.plot(dataset["iteration"], dataset["chi2"], color=COLOURS[0])
    axis.axhline(1, color="0.6", linewidth=0.8, linestyle="--")
    axis.set_yscale("log")
    axis.set_xlabel("iteration")
    axis.set_title("chi2 (noise: 1)")


def _series(figure: SubFigure | Figure, dataset: xr.Dataset) -> None:
    """Observed and fitted elevation, and below it what is left, over a band of two deviations of the noise; at a few gauges."""
    count = dataset.sizes["gauge"]
    chosen = np.unique(np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int))
    time = dataset[next(d for d in dataset["eta_observed"].dims if d not in ("sample", "gauge"))]
    axes = figure.subplots(2, len(chosen), sharex=True, sharey="row", squeeze=False, height_ratios=[2, 1])
    noise = float(dataset["eta_observed"].attrs["noise"])
    for (above, below), gauge in zip(axes.T, chosen, strict=True):
        seen = dataset["eta_observed"].isel(sample=0, gauge=gauge).values
        fitted = dataset["eta_fitted"].isel(sample=0, gauge=gauge).values
        above.plot(time, fitted, color=COLOURS[1], linewidth=1, label="over the inferred bed")
        above.plot(time, seen, "k.", markersize=2.5, label="observed")
        above.set_title(f"gauge {gauge}")
        below.axhspan(-2 * noise, 2 * noise, color=MISSING, linewidth=0)
        below.plot(time, seen - fitted, "k.", markersize=2.5)
        below.set_xlabel(with_unit("time", str(time.attrs.get("units", "1"))) if time.dtype.kind == "f" else "time")
        below.tick_params(axis="x", labelrotation=30)
    axes[0, 0].set_ylabel("eta [m]")
    axes[1, 0].set_ylabel("left [m]\n(grey: 2 sd)")
    axes[0, -1].legend(fontsize=6)
