"""Pictures of what a finite volume network has learned: its closures beside those that the equation knows."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from forecast_cli.errors import DataError
from forecast_cli.plots.style import COLOURS, MISSING, PAPER, save, styled, with_unit

LINE, MAPS = (3.4, 2.8), (PAPER, 2.1)
"""Sizes of the picture of a function of one variable, and of a row of maps, in inches."""


def plot_closures(dataset: xr.Dataset, path: Path, *, overwrite: bool = False) -> None:
    """Every learned function against its inputs: a curve of one, maps of two; grey where the training part never was.

    Raises DataError if the file holds numbers only.
    """
    names = [str(name) for name in dataset.data_vars if f"{name}_known" in dataset]
    if not names:
        found = ", ".join(_number(dataset, str(name)) for name in dataset.data_vars)
        raise DataError(f"there is no function to draw, only numbers: {found}.")
    lines = [name for name in names if dataset[name].ndim == 1]
    maps = [name for name in names if dataset[name].ndim == 2]
    numbers = [str(name) for name, value in dataset.data_vars.items() if value.ndim == 0]
    with styled():
        width = MAPS[0] if maps else LINE[0] * len(lines)
        height = LINE[1] * bool(lines) + MAPS[1] * len(maps)
        figure = plt.figure(figsize=(width, height), layout="constrained")
        rows = figure.subfigures(
            bool(lines) + len(maps), 1, squeeze=False, height_ratios=[LINE[1]] * bool(lines) + [MAPS[1]] * len(maps)
        )[:, 0]
        if lines:
            axes = rows[0].subplots(1, len(lines), squeeze=False)[0]
            for name, axis in zip(lines, axes, strict=True):
                _curve(axis, dataset, name)
        for name, row in zip(maps, rows[bool(lines) :], strict=True):
            _maps(row, dataset, name)
        if numbers:
            figure.suptitle(", ".join(_number(dataset, name) for name in numbers), fontsize=8)
        save(figure, path, overwrite)


def _number(dataset: xr.Dataset, name: str) -> str:
    units = dataset[name].attrs["units"]
    return f"{name} = {float(dataset[name]):.4g}" + ("" if units == "1" else f" {units}")


def _label(variable: xr.DataArray, fallback: str) -> str:
    return with_unit(str(variable.attrs.get("long_name", fallback)), str(variable.attrs.get("units", "1")))


def _seen(dataset: xr.Dataset, name: str) -> np.ndarray | None:
    """How often the training part was at each point, if the file says so."""
    key = f"{dataset[name].attrs['closure']}_seen"
    return dataset[key].values if key in dataset else None


def _curve(axis: Axes, dataset: xr.Dataset, name: str) -> None:
    learned, known, seen = dataset[name], dataset[f"{name}_known"], _seen(dataset, name)
    place = dataset[learned.dims[0]]
    axis.plot(place, known, color="black", linewidth=1.2, linestyle="--", label="of the equation", zorder=3)
    axis.plot(place, learned, color=COLOURS[1], linewidth=2, label="learned", zorder=2)
    axis.set_xlabel(_label(place, str(place.name)))
    axis.set_ylabel(_label(learned, name))
    if seen is not None:
        # How often: a low band along the bottom, on a scale of its own.
        band = axis.twinx()
        usual = np.quantile(seen[seen > 0], 0.9)  # one value, such as clean soil, may outweigh all others
        band.fill_between(
            place, np.minimum(seen / usual, 1), step="mid", color=MISSING, linewidth=0, label="seen in training"
        )
        band.set_ylim(0, 5)
        band.axis("off")
        axis.set_zorder(band.get_zorder() + 1)
        axis.patch.set_visible(False)
        handles = [*axis.get_legend_handles_labels()[0], *band.get_legend_handles_labels()[0]]
        axis.legend(handles=handles)
    else:
        axis.legend()


def _maps(figure: Figure, dataset: xr.Dataset, name: str) -> None:
    """Learned, known and their difference over two inputs."""
    learned, known, seen = dataset[name], dataset[f"{name}_known"], _seen(dataset, name)
    first, second = (dataset[dim] for dim in learned.dims)
    hidden = np.zeros(learned.shape, bool) if seen is None else seen == 0
    fields = {"learned": learned.values, "of the equation": known.values, "difference": (learned - known).values}
    fields = {title: np.where(hidden, np.nan, values) for title, values in fields.items()}
    bound = np.nanmax(np.abs(np.stack([fields["learned"], fields["of the equation"]])))
    for axis, (title, values) in zip(figure.subplots(1, 3, sharey=True), fields.items(), strict=True):
        limit = np.nanmax(np.abs(values)) if title == "difference" else bound
        colours = plt.get_cmap("RdBu_r" if title == "difference" else "PuOr_r").with_extremes(bad=MISSING)
        image = axis.pcolormesh(
            second, first, values, cmap=colours, vmin=-limit, vmax=limit, shading="nearest", rasterized=True
        )
        axis.set_title(title)
        axis.set_xlabel(_label(second, str(second.name)))
        if title == "learned":
            axis.set_ylabel(_label(first, str(first.name)))
        if title != "learned":
            label = name if title == "of the equation" else f"error of {name}"
            figure.colorbar(image, ax=axis, label=with_unit(label, str(learned.attrs["units"])))
