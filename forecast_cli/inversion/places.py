"""Places in tables, and the cells of a grid that they lie in."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from forecast_cli.data.fields import Fields
from forecast_cli.domain import Axis
from forecast_cli.errors import DataError
from forecast_cli.inversion.observed import Told

PLACES = (("x", "y"), ("lon", "lat"), ("column", "row"))
_NOT_READINGS = {name for pair in PLACES for name in pair} | {
    "id",
    "name",
    "number",
    "station",
    "gauge",
    "code",
    "label",
}
_READING = re.compile(r"[-+]?\.?\d|[-+]?(nan|inf)", re.IGNORECASE)
"""The beginning of a number or a time."""


def table(
    path: str, option: str, pairs: Sequence[tuple[str, str]], needed: Sequence[str] = (), *, degrees: bool
) -> tuple[dict[str, np.ndarray], tuple[str, str]]:
    """The columns of a CSV file with a header, and which of the pairs of place columns it has. degrees: the grid is in degrees."""
    rows = _rows(path, option)
    have = [str(name).strip().lower() for name in (rows[0] if rows else {})]
    pair = next((pair for pair in pairs if set(pair) <= set(have)), None)
    if pair is None or not set(needed) <= set(have):
        wanted = " or ".join(",".join((*pair, *needed)) for pair in pairs)
        raise DataError(
            f"{option} {path}: expected a header {wanted}, and a line for each place; here is {','.join(have) or 'nothing'}."
        )
    if pair == ("lon", "lat") and not degrees:
        raise DataError(
            f"{option} {path}: places by lon and lat, but the grid of the waves is in metres. Give x,y in its coordinates, or column,row."
        )
    columns: dict[str, np.ndarray] = {}
    for name in (*pair, *needed, *("std",) * ("std" in have)):
        texts = [
            str(next(value for key, value in row.items() if str(key).strip().lower() == name) or "").strip()
            for row in rows
        ]
        try:
            columns[name] = np.array([float(text) for text in texts])
        except ValueError as error:
            raise DataError(f"{option} {path}: column {name} holds what is no number ({error}).") from error
        if not np.isfinite(columns[name]).all():
            raise DataError(f"{option} {path}: column {name} holds what is no number.")
    return columns, pair


def _rows(path: str, option: str) -> list[dict[str, str]]:
    """The lines of a CSV file by the names in its header. DataError for what cannot be read."""
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file, skipinitialspace=True, restkey="(without a name)"))
    except OSError as error:
        raise DataError(f"{option} {path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{option} {path}: not text in UTF-8 ({error}). Save it in that encoding.") from error
    except csv.Error as error:
        raise DataError(f"{option} {path}: not a CSV file ({error}).") from error


def _refuse_readings(path: str) -> None:
    """DataError for a file of gauges with columns of numbers or times beside places and names."""
    readings: dict[str, None] = {}
    for row in _rows(path, "--gauges"):
        for key, value in row.items():
            name = str(key).strip()
            if name.lower() not in _NOT_READINGS and _READING.match(str(value or "").strip(" []'\"")):
                readings[name] = None
    if readings:
        raise DataError(
            f"--gauges {path}: the columns {', '.join(readings)} hold values, but gauge files hold places only. Remove them to use the "
            "waves at these places, or give recordings as eta(time, station) in NetCDF with --initial-state."
        )


def cells_of(
    columns: Mapping[str, np.ndarray], pair: tuple[str, str], coordinates: tuple[Axis, Axis], *, degrees: bool
) -> list[tuple[int, int] | None]:
    """The cell (row, column) of each place, None outside the grid. coordinates: the file's own (y, x).

    degrees: x is a longitude, counted modulo 360.
    """
    found: list[tuple[int, int] | None] = []
    y, x = coordinates
    for right, up in zip(columns[pair[0]], columns[pair[1]], strict=True):
        if pair == ("column", "row"):
            place = np.array([up, right])
        else:
            across = right - (x.first or 0)
            if degrees:  # eastwards of the western edge of the first cell
                edge = (x.spacing or 0) / 2
                across = (across + edge) % 360 - edge
            place = np.array([(up - (y.first or 0)) / (y.spacing or 1), across / (x.spacing or 1)])
        row, column = np.floor(place.clip(-2, max(y.size, x.size) + 2) + 0.5).astype(int)
        found.append((int(row), int(column)) if 0 <= row < y.size and 0 <= column < x.size else None)
    return found


def station_cells(path: str, fields: Fields, told: Told) -> tuple[tuple[int, int], ...]:
    """The cells of the stations in a CSV file, each once, in the coordinates of the waves."""
    degrees = fields.domain.grid == "latitude-longitude"
    columns, pair = table(path, "--gauges", PLACES, degrees=degrees)
    _refuse_readings(path)
    assert fields.domain.y is not None
    cells = cells_of(columns, pair, (fields.domain.y, fields.domain.x), degrees=degrees)
    return once_inside(cells, f"--gauges {path}", told)


def once_inside(cells: Sequence[tuple[int, int] | None], where: str, told: Told) -> tuple[tuple[int, int], ...]:
    inside = [cell for cell in cells if cell is not None]
    if not inside:
        raise DataError(
            f"{where}: no gauge lies inside the grid of the waves. Are its places in the coordinates of the file?"
        )
    if len(inside) < len(cells):
        told.warnings.append(
            f"{where}: {len(cells) - len(inside)} of {len(cells)} gauges lie outside the grid and are left out"
        )
    once = tuple(dict.fromkeys(inside))
    if len(once) < len(inside):
        told.warnings.append(f"{where}: {len(inside) - len(once)} gauges share a cell with another and are one with it")
    return once
