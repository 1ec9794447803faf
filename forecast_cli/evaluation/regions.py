"""Parts of the grid that scores are taken over: boxes of coordinates, or masks."""

import re

import numpy as np

from forecast_cli.data.fields import Fields
from forecast_cli.data.grid import is_longitude, places, slack_of
from forecast_cli.data.inputs import mask_of
from forecast_cli.data.roles import coordinate_of
from forecast_cli.errors import ConfigError

_RANGE = re.compile(r"\s*(-?[\d.]*)\s*:\s*(-?[\d.]*)\s*")


def cells_of(text: str, fields: Fields) -> tuple[str, np.ndarray]:
    """The name and the cells, (height * width,) of bool, of NAME=Y0:Y1,X0:X1 or NAME=FILE:variable.

    Cells belong to a box by their centres; a bound that is left out is open, longitudes count modulo 360.
    Raises ConfigError for text that is neither, or for a box without cells.
    """
    name, equals, where = text.partition("=")
    if not name or not equals or not where:
        raise ConfigError(
            f"--region {text}: expected NAME=Y0:Y1,X0:X1 such as tropics=-20:20,0:360, or NAME=FILE:mask."
        )
    ranges = [_RANGE.fullmatch(part) for part in where.split(",")]
    if not all(ranges):
        return name, mask_of(where, fields, f"--region {name}=").ravel()
    axes = [role for role in ("y", "x") if getattr(fields.roles, role)]
    if len(ranges) != len(axes):
        raise ConfigError(
            f"--region {text}: expected {len(axes)} ranges, one along each of {', '.join(fields.grid_dims)}."
        )
    inside = np.ones(fields.domain.shape[1:], bool)
    for role, found in zip(axes, ranges, strict=True):
        assert found is not None
        along = _inside(fields, role, *_numbers(found, text))
        inside &= along[:, None] if role == "y" else along
    if not inside.any():
        raise ConfigError(f"--region {text}: there is no cell in it.")
    return name, inside.ravel()


def _numbers(found: re.Match[str], text: str) -> tuple[float, float]:
    try:
        return float(found[1] or "-inf"), float(found[2] or "inf")
    except ValueError as error:
        raise ConfigError(f"--region {text}: expected numbers as bounds.") from error


def _inside(fields: Fields, role: str, low: float, high: float) -> np.ndarray:
    """Rows or columns between two coordinates, both included; positions count where there is no coordinate."""
    dimension = getattr(fields.roles, role)
    coordinate = coordinate_of(fields.dataset, dimension, role)
    if coordinate is None:
        along = np.arange(fields.dataset.sizes[dimension])
        return np.asarray((along >= low) & (along <= high))
    along, slack = places(coordinate), slack_of(places(coordinate))
    if is_longitude(coordinate):
        return _east_of(along, low, high, slack)
    return np.asarray((along >= low - slack) & (along <= high + slack))


def _east_of(longitudes: np.ndarray, low: float, high: float, slack: float) -> np.ndarray:
    """Longitudes from the western bound eastwards to the eastern one, both counted modulo 360; an infinite bound is open."""
    if np.isfinite(high - low):
        width = min(high - low, 360) if high >= low else (high - low) % 360
        return np.asarray((longitudes - low + slack) % 360 <= width + 2 * slack)
    bound = low if np.isfinite(low) else high
    if np.isfinite(bound):
        # The turn in which the bound lies among the longitudes.
        west, east = longitudes.min() - slack, longitudes.max() + slack
        bound += next((turn for turn in (0, 360, -360) if west <= bound + turn <= east), 0)
    return np.asarray(longitudes >= bound - slack if np.isfinite(low) else longitudes <= bound + slack)
