"""Pictures of fields: maps with shared scales on real coordinates, lines for fields in one dimension, and films."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.animation import FFMpegWriter, FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from forecast_cli.data.fields import Fields
from forecast_cli.data.forecasts import ForecastFile
from forecast_cli.data.grid import is_latitude, is_longitude, is_scale, map_places
from forecast_cli.data.times import show
from forecast_cli.errors import OutputError
from forecast_cli.evaluation import lead_times
from forecast_cli.plots.coastlines import coastlines
from forecast_cli.plots.style import COLOURS, MISSING, PAPER, ahead, save, styled, with_unit, written
from forecast_cli.units import metres_per

PERCENTILES = (0.5, 99.5)
"""The scale of a map spans these: a single odd cell must not take the colours from all others."""


@dataclass(frozen=True, eq=False)
class Picture:
    """Rows of fields with a title for each column.

    rows: "truth", "forecast" and "error", or "" alone, to (column, y, x), or (column, x). places: coordinates along y and x.
    units_ratio: length of the unit of y relative to that of x.
    """

    rows: Mapping[str, np.ndarray]
    titles: Sequence[str]
    name: str
    units: str
    dims: Sequence[str]
    places: Sequence[np.ndarray]
    geographical: bool
    units_ratio: float = 1.0

    @property
    def is_line(self) -> bool:
        values = next(iter(self.rows.values()))
        return values.ndim == 2 or values.shape[1] == 1

    @cached_property
    def aspect(self) -> float:
        """Height of a unit along y relative to one along x: on the globe a degree of longitude shrinks with latitude."""
        if not self.geographical:
            return self.units_ratio
        return float(1 / max(np.cos(np.deg2rad(np.mean(self.places[0]))), 0.2))

    @cached_property
    def shape(self) -> float:
        """Width of a map relative to its height, kept within what fits on a page."""
        y, x = (float(np.ptp(place)) * len(place) / max(1, len(place) - 1) for place in self.places)
        return float(np.clip(x / max(self.aspect * y, 1e-12), 0.4, 3.0))

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The scale of all fields but the errors; symmetric for a quantity around zero."""
        low, high = _span(np.concatenate([values.ravel() for kind, values in self.rows.items() if kind != "error"]))
        if self.is_symmetric:
            return -max(-low, high), max(-low, high)
        return low, high

    @cached_property
    def is_symmetric(self) -> bool:
        low, high = _span(np.concatenate([values.ravel() for kind, values in self.rows.items() if kind != "error"]))
        return low < 0 < high and min(-low, high) > 0.3 * max(-low, high)

    def scale(self, kind: str) -> tuple[tuple[float, float], str]:
        """Limits and colours of a row; lines show all of an error, maps nearly all."""
        if kind == "error":
            bound = max(map(abs, _span(self.rows[kind])))
            if self.is_line:
                bound = 1.05 * float(np.nanmax(np.abs(self.rows[kind]), initial=bound / 1.05))
            return (-bound, bound), "RdBu_r"
        return self.limits, "PuOr_r" if self.is_symmetric else "viridis"

    def label(self, kind: str) -> str:
        return with_unit("error" if kind == "error" else self.name, self.units)


def of_forecast(
    forecast: ForecastFile, truth: np.ndarray | None, *, variable: str, start: int, leads: Sequence[int]
) -> Picture:
    """One forecast at some lead times: truth, forecast and error where the truth is known, else the forecast alone.

    truth: (lead, y, x) at the same lead times, or None. leads: positions along lead_time.
    """
    dataset = forecast.dataset
    predicted = forecast.read(variable, {forecast.outer: start, "lead_time": list(leads)})
    rows = {"": predicted} if truth is None else {"truth": truth, "forecast": predicted, "error": predicted - truth}
    numbers, unit = lead_times(dataset)
    titles = [ahead(numbers[lead], unit) for lead in leads]
    field = dataset[variable]
    return _picture(rows, titles, str(field.attrs.get("long_name", variable)), field)


def of_fields(fields: Fields, *, variable: str, sample: int, frames: Sequence[int]) -> Picture:
    """The fields of a data file at some frames."""
    channel = fields.names.index(variable)
    values = np.stack([fields.read(sample, frame, frame + 1)[0, channel] for frame in frames])
    titles = [_title(fields.times.rounded[frame]) for frame in frames]
    return _picture(
        {"": values}, titles, fields.domain.variables[channel].long_name or variable, fields.dataset[variable]
    )


def _title(time: Any) -> str:
    """A time without the zeros at its end, or with six digits where it is a number."""
    if isinstance(time, (float, np.floating)):
        return f"{time:g}"
    text = show(time)
    return text.removesuffix("T00:00:00").removesuffix(":00").replace("T", " ")


def _picture(rows: Mapping[str, np.ndarray], titles: Sequence[str], name: str, field: xr.DataArray) -> Picture:
    sizes = next(iter(rows.values())).shape[1:]
    dims = [str(dimension) for dimension in field.dims[-len(sizes) :]]
    known = [place if place is not None and is_scale(place) else None for place in map(field.coords.get, dims)]
    places = [np.arange(size) if place is None else map_places(place) for size, place in zip(sizes, known, strict=True)]
    globe = len(known) == 2 and known[0] is not None and known[1] is not None
    geographical = globe and is_latitude(known[0]) and is_longitude(known[1])  # type: ignore[arg-type]
    units = str(field.attrs.get("units", ""))
    labels = [
        d if place is None else with_unit(d, str(place.attrs.get("units", "")))
        for d, place in zip(dims, known, strict=True)
    ]
    if geographical:
        labels = ["latitude [°N]", "longitude [°E]"]
    return Picture(rows, titles, name, units, labels, places, geographical, _units_ratio(known))


def _units_ratio(coordinates: Sequence[xr.DataArray | None]) -> float:
    """Length of the unit of y relative to that of x; 1 where one of them is no unit of length."""
    metres = [None if place is None else metres_per(str(place.attrs.get("units", ""))) for place in coordinates]
    return metres[0] / metres[1] if len(metres) == 2 and metres[0] and metres[1] else 1.0


def plot_fields(picture: Picture, path: Path, *, overwrite: bool = False) -> None:
    """All rows and columns at once."""
    with styled():
        figure, axes = _layout(picture, len(picture.titles))
        for row, (kind, values) in zip(axes, picture.rows.items(), strict=True):
            for axis, field in zip(row, values, strict=True):
                _draw(axis, field, picture, kind)
            _label_row(figure, row, picture, kind)
        for axis, title in zip(axes[0], picture.titles, strict=True):
            axis.set_title(title)
        save(figure, path, overwrite)


def animate(picture: Picture, path: Path, *, rate: int = 6, overwrite: bool = False) -> None:
    """A film of the columns, `rate` a second, rows side by side; GIF, or MP4 where ffmpeg is installed."""
    kind = path.suffix.lower()
    if kind not in (".gif", ".mp4"):
        raise OutputError(f"{path}: a film is a .gif or a .mp4.")
    if kind == ".mp4" and not FFMpegWriter.isAvailable():
        raise OutputError(f"{path}: a .mp4 needs ffmpeg, which is not installed. Write a .gif, or install ffmpeg.")
    with styled():
        side = replace(picture, titles=list(picture.rows))
        figure, axes = _layout(side, len(picture.rows), rows=1)
        for axis, row in zip(axes[0], picture.rows, strict=True):
            _label_row(figure, np.array([axis]), picture, row, first=axis is axes[0, 0])

        def show_frame(column: int) -> list[Axes]:
            for axis, (row, values) in zip(axes[0], picture.rows.items(), strict=True):
                for drawn in (*axis.collections, *axis.lines):
                    drawn.remove()
                _draw(axis, values[column], picture, row)
                axis.set_title(f"{row} {picture.titles[column]}".strip())
            return list(axes[0])

        film = FuncAnimation(figure, show_frame, frames=len(picture.titles), blit=False)
        writer = PillowWriter(fps=rate) if kind == ".gif" else FFMpegWriter(fps=rate)
        written(figure, path, overwrite, lambda partial: film.save(partial, writer=writer, dpi=110))


def _layout(picture: Picture, columns: int, rows: int | None = None) -> tuple[Figure, np.ndarray]:
    """A page of panels in the shape of the maps, as wide as a paper at most."""
    rows = len(picture.rows) if rows is None else rows
    wide = 1.6 if picture.is_line else picture.shape
    bar = 0.0 if picture.is_line else 0.9
    panel = min((PAPER - 0.6 - bar) / columns, 3.2 if columns > 1 else 4.2, 2.6 * max(wide, 0.6))
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(0.6 + bar + panel * columns, 0.5 + (panel / wide + 0.25) * rows),
        squeeze=False,
        layout="constrained",
        sharex=True,
        sharey="row" if picture.is_line else True,
    )
    for axis in axes[-1]:
        axis.set_xlabel(picture.dims[-1])
    return figure, axes


def _label_row(figure: Figure, row: np.ndarray, picture: Picture, kind: str, *, first: bool = True) -> None:
    """Name the row at its left, and give maps a colour bar at its right."""
    if picture.is_line:
        # Names of quantities may be longer than a panel is high.
        label = "\n".join(textwrap.wrap(picture.label(kind), 18))
        row[0].set_ylabel(label if label.startswith("error") else "\n".join(filter(None, (kind, label))))
        return
    if first:
        row[0].set_ylabel("\n".join(filter(None, (kind if len(row) > 1 else "", picture.dims[0]))))
    (limits, colours), values = picture.scale(kind), picture.rows[kind].ravel()
    beyond = np.fmin.reduce(values) < limits[0], np.fmax.reduce(values) > limits[1]
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    scale = plt.cm.ScalarMappable(plt.Normalize(*limits), colours)
    figure.colorbar(scale, ax=list(row), label=picture.label(kind), pad=0.01, aspect=14, extend=extend)


def _draw(axis: Axes, field: np.ndarray, picture: Picture, kind: str) -> None:
    limits, colours = picture.scale(kind)
    if picture.is_line:
        axis.plot(picture.places[-1], field.reshape(-1), color=COLOURS[1 if kind == "error" else 0])
        margin = 0.05 * (limits[1] - limits[0])
        axis.set_ylim(limits[0] - margin, limits[1] + margin)
        return
    y, x = picture.places
    axis.set_facecolor(MISSING)
    axis.pcolormesh(x, y, field, vmin=limits[0], vmax=limits[1], cmap=colours, shading="nearest", rasterized=True)
    axis.set_aspect(picture.aspect if 0.4 < picture.shape < 3.0 else "auto")
    if picture.geographical:
        bounds = axis.get_xlim(), axis.get_ylim()
        for longitude, latitude in coastlines(bounds[0], bounds[1]):
            axis.plot(longitude, latitude, color="0.15", linewidth=0.5)
        axis.set(xlim=bounds[0], ylim=bounds[1])


def _span(values: np.ndarray) -> tuple[float, float]:
    """The range that holds nearly all values, a little apart even where all are equal or missing."""
    present = values[np.isfinite(values)]
    low, high = map(float, np.percentile(present, PERCENTILES)) if present.size else (0.0, 0.0)
    margin = 0.0 if low < high else max(1e-6, 1e-3 * abs(low))
    return low - margin, high + margin
