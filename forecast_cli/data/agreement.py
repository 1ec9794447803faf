"""Agreement of the files of one data set in units, grid, level and kind of times, or one line that names both files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cftime
import numpy as np
import xarray as xr

from forecast_cli.data.coordinates import first_difference, grid_coordinates, scalar_coordinates
from forecast_cli.data.roles import Roles, coordinate_of
from forecast_cli.data.times import GREGORIAN, TimeAxis, as_cftime, show
from forecast_cli.domain import TimeStep
from forecast_cli.errors import DataError
from forecast_cli.units import same_time_unit, same_unit

NONE: tuple[str, ...] = ()
VERTICAL = ("vertical",)
ALL = ("vertical", "member", "latitude", "longitude", "y", "x")
"""Quantities of single numbers that files must share: none beside each other, levels as samples, all along time."""

IGNORED, KIND, VALUES = "ignored", "kind", "values"
"""Of the times, files must share nothing, calendars and units, or also every time."""


@dataclass(frozen=True, eq=False)
class Part:
    """The dataset of a file, or of several that are joined, with the first file and the roles of the dimensions."""

    dataset: xr.Dataset
    place: str
    roles: Roles

    @property
    def times(self) -> xr.DataArray | None:
        return coordinate_of(self.dataset, self.roles.time, "time")

    @property
    def single(self) -> xr.Dataset:
        """The dataset with dimensions of one level, height or member as single numbers."""
        roles = (self.roles.time, self.roles.y, self.roles.x, self.roles.sample)
        return self.dataset.squeeze(
            [name for name, size in self.dataset.sizes.items() if size == 1 and name not in roles]
        )


def agreeing(
    parts: Sequence[Part], names: Sequence[str], problem: str, *, scalars: Sequence[str], times: str
) -> list[Part]:
    """Require that the parts of one data set agree, and lay all of them on the coordinates of the first.

    Parameters
    ----------
    parts : sequence of Part
        Files that follow each other or stand beside each other.
    names : sequence of str
        Variables that all of them hold, whose units must be the same.
    problem : str
        Beginning of the message of an error.
    scalars : sequence of str
        Quantities of levels, heights, members and places that must be the same. Others that differ are left out.
    times : {"ignored", "kind", "values"}
        Traits of the times that must be the same.

    Returns
    -------
    list of Part

    Raises
    ------
    DataError
        Names what differs, with both files and both values.
    """
    first, *others = parts
    dropped: set[str] = set()
    for other in others:
        for name, expected, actual in _differences(first, other, names, scalars, times=times):
            raise DataError(
                f"{problem}: {name} is {actual} in {other.place} but {expected} in {first.place}. "
                "Convert one of them, or read them one by one."
            )
        dropped |= _differing_scalars(first, other)
    shared = (first.roles.y, first.roles.x, first.roles.time if times == VALUES else None)
    return [replace(part, dataset=_laid_on(part.dataset, first.dataset, shared, dropped)) for part in parts]


def _differences(
    first: Part, other: Part, names: Sequence[str], scalars: Sequence[str], *, times: str
) -> Iterator[tuple[str, str, str]]:
    for name in names:
        expected, actual = (str(part.dataset[name].attrs.get("units", "")) for part in (first, other))
        if not same_unit(expected, actual):
            yield f"the unit of '{name}'", f"'{expected}'", f"'{actual}'"
    shapes = [_grid_shape(part) for part in (first, other)]
    if shapes[0] != shapes[1]:
        yield "the grid", shapes[0], shapes[1]
    if found := first_difference(*(grid_coordinates(part.dataset, part.roles) for part in (first, other))):
        yield found
    levels = [[one for one in scalar_coordinates(part.single) if one.quantity in scalars] for part in (first, other)]
    if found := first_difference(*levels):
        yield found
    if times != IGNORED and first.times is not None and other.times is not None:
        yield from _differences_of_times(first.times, other.times)
        if times == VALUES:
            yield from _differences_of_frames(first.times, other.times)


def _grid_shape(part: Part) -> str:
    sizes = part.dataset.sizes
    return " x ".join(f"{sizes.get(name, 'no')} {name}" for name in (part.roles.y, part.roles.x) if name)


def _differences_of_times(first: xr.DataArray, other: xr.DataArray) -> Iterator[tuple[str, str, str]]:
    calendars = [_calendar(time) for time in (first, other)]
    if calendars[0] != calendars[1]:
        yield f"the calendar of '{other.name}'", f"'{calendars[0] or 'none'}'", f"'{calendars[1] or 'none'}'"
    units = [str(time.attrs.get("units", "")) for time in (first, other)]
    if not any(calendars) and not same_time_unit(*units):
        yield f"the unit of '{other.name}'", f"'{units[0]}'", f"'{units[1]}'"


def _differences_of_frames(first: xr.DataArray, other: xr.DataArray) -> Iterator[tuple[str, str, str]]:
    expected, actual = np.ravel(first.values), np.ravel(other.values)
    if expected.shape != actual.shape:
        yield f"'{other.name}'", f"{expected.size} times", f"{actual.size} times"
    elif not np.array_equal(expected, actual):
        axis = TimeAxis(str(first.name), expected, TimeStep(1.0, "frame"))
        moved = np.flatnonzero(axis.find(actual) != np.arange(actual.size))
        if moved.size:
            frame = int(moved[0])
            yield f"'{other.name}' at frame {frame}", show(expected[frame]), show(actual[frame])


def _calendar(time: xr.DataArray) -> str:
    """Return the CF calendar of dates, with one name for the one in use; nothing for numbers."""
    values = np.ravel(time.values)
    calendar = (
        "standard" if values.dtype.kind == "M" else str(getattr(values[0], "calendar", "")) if values.size else ""
    )
    return "standard" if calendar in GREGORIAN else calendar


def _differing_scalars(first: Part, other: Part) -> set[str]:
    """Name the single numbers that are not the same in both."""
    expected, actual = scalar_coordinates(first.single), scalar_coordinates(other.single)
    return {
        one.name
        for one in actual
        if first_difference([before for before in expected if before.name == one.name], [one])
    }


def _laid_on(dataset: xr.Dataset, first: xr.Dataset, shared: Sequence[str | None], dropped: set[str]) -> xr.Dataset:
    """The dataset with shared axes of the first, which agree but for rounding, and without the single numbers to be dropped."""
    axes = {name: first[name].variable for name in shared if name and name in first.indexes and name in dataset.indexes}
    single = [name for name in dropped if name in dataset.variables and not dataset[name].ndim]
    return dataset.drop_vars(single).assign_coords(axes)


def with_dates_of_one_kind(parts: Sequence[Part]) -> Sequence[Part]:
    """The parts of one calendar, with cftime dates in all of them where datetime64 does not reach the times of one."""
    firsts = [part.times.values.flat[0] for part in parts if part.times is not None and part.times.size]
    calendars = [str(first.calendar) for first in firsts if isinstance(first, cftime.datetime)]
    if not calendars:
        return parts
    return [replace(part, dataset=_with_cftime(part, calendars[0])) if _kind(part) == "M" else part for part in parts]


def _kind(part: Part) -> str:
    return "" if part.times is None else part.times.dtype.kind


def _with_cftime(part: Part, calendar: str) -> xr.Dataset:
    times = part.times
    assert times is not None
    variable = xr.Variable(times.dims, as_cftime(times.values, calendar), times.attrs, times.encoding)
    return part.dataset.assign_coords({str(times.name): variable})
