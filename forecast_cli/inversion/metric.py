"""Grids and times in metres and seconds, whatever the file has."""

from dataclasses import replace

import numpy as np

from forecast_cli.data.bathymetry import EARTH, metres_of
from forecast_cli.data.fields import Fields
from forecast_cli.domain import Axis, TimeStep
from forecast_cli.errors import DataError
from forecast_cli.inversion.observed import Told
from forecast_cli.physics.grid import Grid
from forecast_cli.units import seconds_per

ROTATION = 7.2921e-5
"""Angular velocity of the Earth [s-1]."""


def metric_grid(fields: Fields, told: Told) -> tuple[Grid, float | None]:
    """The grid in metres, and the latitude of its middle where it is in degrees: then y is 0 there, and it is taken as a plane."""
    domain = fields.domain
    y, x = domain.y, domain.x
    assert y is not None
    for axis in (y, x):
        if axis.spacing is None or axis.first is None:
            raise DataError(
                f"{fields.source}: '{axis.name}' has no evenly spaced coordinate. Interpolate the waves to an even grid."
            )
        if axis.spacing <= 0:
            raise DataError(
                f"{fields.source}: '{axis.name}' descends. Turn the data round: ncpdq -a -{axis.name} IN OUT."
            )
        if not 1e-6 <= axis.spacing <= 1e9:
            raise DataError(
                f"{fields.source}: cells of {axis.spacing:g} {axis.units} along '{axis.name}' are none of a sea. Correct the coordinate."
            )
    if domain.grid != "latitude-longitude":
        return Grid(tuple(_scaled(axis, metres_of(axis, fields.source)) for axis in (y, x))), None
    middle = float(y.first or 0.0) + float(y.spacing or 0.0) * (y.size - 1) / 2
    degree = EARTH * np.pi / 180
    dy, dx = degree * float(y.spacing or 0.0), degree * float(np.cos(np.deg2rad(middle))) * float(x.spacing or 0.0)
    told.notes.append(
        f"degrees taken as a plane of {x.size * dx / 1000:.4g} km by {y.size * dy / 1000:.4g} km at latitude {middle:.4g}"
    )
    axes = (Axis("y", y.size, "m", -(y.size - 1) / 2 * dy, dy), Axis("x", x.size, "m", dx / 2, dx))
    return Grid(axes), middle


def _scaled(axis: Axis, metres: float) -> Axis:
    return replace(axis, units="m", first=(axis.first or 0.0) * metres, spacing=(axis.spacing or 0.0) * metres)


def seconds(step: TimeStep, source: str) -> float:
    """A time step in seconds. DataError where the file's unit is no unit of time."""
    length = seconds_per(step.unit)
    if length is None:
        told = {
            "month": "regular in the calendar only",
            "frame": "without times, or there is one only (--select takes times by their values)",
        }.get(step.unit, f"in '{step.unit}'")
        raise DataError(
            f"{source}: the frames are {told}. Give the file a time coordinate in seconds, minutes, hours, days or dates."
        )
    return float(step.amount * length)
