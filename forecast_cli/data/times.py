"""Time axes: dated (numpy or cftime), plain numbers, or no times at all; evenly spaced or refused.

A series of months or years is evenly spaced in the calendar, and that is regular enough: it then
counts steps instead of seconds.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, partial
from typing import Any

import cftime
import numpy as np
import pandas as pd
import xarray as xr

from forecast_cli.domain import TimeStep
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.units import seconds_per

# How far a time may lie off the even grid, as a share of the step: files store times in float32 or as rounded hours.
_UNEVEN = 1e-3

_ROUND = (86400, 43200, 21600, 10800, 3600, 1800, 900, 600, 300, 60, 30, 15, 10, 5, 1)
"""Seconds whose multiples since midnight are round times, the coarsest first."""
_NEAR = 0.5
"""Seconds that days and longer steps may lie off a round time: a day's end at 23:59:59 is no midnight."""
GREGORIAN = ("standard", "gregorian", "proleptic_gregorian")

_DURATION = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_MONTHS = {"mo": 1, "y": 12}


@dataclass(frozen=True, eq=False)
class TimeAxis:
    """The times of a record, which continue beyond its end in equal steps.

    values: datetime64[ns], cftime objects, or numbers; (frames,).
    attributes, encoding: the file's (units, calendar), so that output can say the same.
    """

    name: str
    values: np.ndarray
    step: TimeStep
    attributes: dict[str, Any] = field(default_factory=dict)
    encoding: dict[str, Any] = field(default_factory=dict)

    @property
    def is_dated(self) -> bool:
        return self.values.dtype.kind in "MO"

    @cached_property
    def calendar(self) -> str | None:
        """CF name of the calendar; None for plain numbers."""
        if self.values.dtype.kind == "M":
            return "proleptic_gregorian"
        return str(self.values[0].calendar) if self.is_dated else None

    @cached_property
    def rounded(self) -> np.ndarray:
        """The times without the rounding of their storage: 00:59:59.999997 is 01:00."""
        return rounded_times(self.values, self._rounding) if self.is_dated else self.values

    def show(self, frame: int) -> str:
        """The time of a frame for people."""
        return show(self.rounded[frame])

    def at(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Times of frames, rounded as `rounded`, also of frames beyond the end of the record.

        Raises DataError for times that dates in nanoseconds do not reach.
        """
        count = len(self.values)
        return np.array(
            [self.rounded[i] if i < count else self._beyond(i - count + 1) for i in map(int, indices)],
            self.values.dtype,
        )

    def _beyond(self, steps: int) -> Any:
        last = self.rounded[-1]
        if not self.is_dated:
            return last + steps * self.step.amount
        if self.step.unit == "second":
            seconds = steps * self.step.amount
            if not isinstance(last, np.datetime64):
                return last + timedelta(seconds=seconds)
            if _seconds_of(last) + seconds < _seconds_of(_LAST):
                return last + np.timedelta64(round(seconds * 1e9), "ns")
        else:
            date = self._months_beyond(steps)
            if not isinstance(last, np.datetime64):
                return date
            if _is_in_nanoseconds(date):
                return np.datetime64(date, "ns")
        raise DataError(
            f"{steps} steps of {self.step} after {show(last)} are beyond {show(_LAST)[:10]}, the last of dates in nanoseconds. "
            "Give fewer steps."
        )

    def _months_beyond(self, steps: int) -> Any:
        dates, last = self._dates, self._dates[-1]
        months = round(steps * self.step.amount)
        if self._place_in_month:
            return self._place_in_month(months_later(last, months))
        # The same month of an earlier year says best where in the month the time stands.
        per_year = 12 / self.step.amount
        if per_year.is_integer() and len(dates) >= per_year:
            years_back = -(-steps // int(per_year))
            return months_later(dates[-1 + steps - years_back * int(per_year)], 12 * years_back)
        return months_later(last, months)

    @cached_property
    def _place_in_month(self) -> Callable[[Any], Any] | None:
        """Puts a date where all dates of this axis stand in their months; None if they wander."""
        day = max(date.day for date in self._dates)
        places = (_month_end, _month_middle, partial(_month_day, day=day))
        return next((place for place in places if all(place(date) == date for date in self._dates)), None)

    @cached_property
    def _dates(self) -> list[Any]:
        return dates_of(self.rounded)

    @cached_property
    def _shortest_step(self) -> float:
        """The shortest step, in seconds or units of the axis; 0 for a single frame."""
        steps = np.abs(np.diff(_elapsed(self.values, self.values[0])))
        return float(steps.min()) if steps.size else 0.0

    @cached_property
    def _slack(self) -> float:
        """The distance, in seconds or units of the axis, at which a time still means a frame."""
        return max(_UNEVEN * self._shortest_step, min(self._resolution, self._shortest_step / 4))

    @cached_property
    def _rounding(self) -> float:
        """The distance, in seconds or units of the axis, at which a time still means a round one."""
        share = rounding_of(self._shortest_step) if self.is_dated else _UNEVEN * self._shortest_step
        return max(share, min(self._resolution, self._shortest_step / 4))

    @cached_property
    def _resolution(self) -> float:
        """Seconds between neighbouring numbers of a file that holds its times in float32; 0 for others."""
        unit, _, origin = str(self.encoding.get("units", "")).partition(" since ")
        length = seconds_per(unit.strip())
        if not self.is_dated or not origin or length is None or self.encoding.get("dtype") != np.float32:
            return 0.0
        calendar = str(self.encoding.get("calendar", self.calendar))
        ends = as_cftime(self.values[[0, -1]], calendar)
        largest = np.abs(cftime.date2num(ends, f"{unit} since {origin}", calendar)).max()
        return length * float(np.spacing(np.float32(largest)))

    def lead_times(self, steps: int) -> xr.Variable:
        """The coordinate lead_time of `steps` forecast frames, with units as DESIGN says."""
        counts = np.arange(1, steps + 1)
        attributes = {"standard_name": "forecast_period", "long_name": "time since the forecast's start"}
        if self.step.unit == "second":
            if steps * self.step.amount >= _seconds_of(_LAST):
                raise DataError(
                    f"{steps} steps of {self.step} are longer than 292 years, the longest duration in nanoseconds. Give fewer steps."
                )
            nanoseconds = np.rint(counts * self.step.amount * 1e9).astype("timedelta64[ns]")
            unit, _ = duration_unit(np.array([self.step.amount]))
            return xr.Variable("lead_time", nanoseconds, attributes, {"units": unit, "dtype": "float64"})
        if self.step.unit == "month":
            return xr.Variable(
                "lead_time", counts, {"long_name": f"steps of {self.step} since the forecast's start", "units": "1"}
            )
        units = self.attributes.get("units", "1")
        if units == "1":  # no period of time
            del attributes["standard_name"]
        return xr.Variable("lead_time", counts * self.step.amount, attributes | {"units": units})

    def variable(self, dimensions: str | tuple[str, ...], values: np.ndarray) -> xr.Variable:
        """Times of this axis as a variable in the file's own units and calendar."""
        encoding: dict[str, Any] = {key: value for key, value in self.encoding.items() if key in ("units", "calendar")}
        if self.is_dated:
            encoding["dtype"] = "float64"
        attributes = {
            key: value for key, value in self.attributes.items() if key not in ("bounds", "axis", "standard_name")
        }
        return xr.Variable(dimensions, values, attributes, encoding)

    def index_of(self, text: str) -> int:
        """The frame at the time that the user wrote, or `last`. Raises ConfigError if there is none."""
        if text == "last":
            return len(self.values) - 1
        wanted = self.parse(text)
        matches = np.flatnonzero(np.abs(_elapsed(self.values, wanted)) <= self._slack)
        if len(matches) != 1:
            raise ConfigError(
                f"no frame at time {text}: the record runs from {self.show(0)} to {self.show(-1)} every {self.step}."
            )
        return int(matches[0])

    def find(self, wanted: np.ndarray) -> np.ndarray:
        """The frames at some times, within a thousandth of a step; -1 where there is none. Shape of `wanted`."""
        try:
            values, wanted = _alike(self.values, wanted)
            known, there = _elapsed(values, values[0]), _elapsed(wanted, values[0])
        except TypeError:  # dates of another calendar, or dates and numbers
            return np.full(wanted.shape, -1)
        nearest = np.searchsorted((known[1:] + known[:-1]) / 2, there)
        return np.where(np.abs(known[nearest] - there) <= self._slack, nearest, -1)

    def parse(self, text: str) -> Any:
        """What the user wrote, as a value of this axis."""
        try:
            if not self.is_dated:
                return float(text)
            *whole, fraction = _date_parts(text)
            if self.values.dtype.kind == "M":
                if whole[0] > 9999:
                    return _LAST
                stamp = "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}".format(*whole)
                return _nearest_in_nanoseconds(pd.Timestamp(stamp)) + np.timedelta64(round(fraction * 1e9), "ns")
            return cftime.datetime(*whole, calendar=str(self.calendar)) + timedelta(seconds=fraction)
        except ValueError as error:
            kind = "a date such as 2019-03-05T06" if self.is_dated else "a number, as the file has no dates"
            raise ConfigError(f"time '{text}': expected {kind}.") from error

    def period(self, start: str, stop: str) -> range:
        """Frames from `start` to `stop`, both included: a year, a month or a day stands for all of it.

        An empty bound is open.
        """
        inside = np.ones(len(self.values), bool)
        if start:
            slack = self._rounding if _is_date(start) else self._slack
            inside &= _elapsed(self.values, self.parse(start)) >= -slack
        if stop:
            inside &= self._until(stop)
        frames = np.flatnonzero(inside)
        return range(int(frames[0]), int(frames[-1]) + 1) if len(frames) else range(0)

    def _until(self, text: str) -> np.ndarray:
        end, parts = self.parse(text), text.count("-")
        if not self.is_dated or not _is_date(text):
            return _elapsed(self.values, end) <= self._slack
        (date,) = dates_of(np.array([end]))
        after = date + timedelta(days=1) if parts == 2 else months_later(date, 1 if parts == 1 else 12)
        after = _nearest_in_nanoseconds(after) if isinstance(end, np.datetime64) else after
        return _elapsed(self.values, after) < -self._rounding

    def between(self, first: Any, last: Any) -> np.ndarray:
        """Frames from one time to another, both as `parse` gives them and both included."""
        since, until = _elapsed(self.values, first), _elapsed(self.values, last)
        return np.asarray((since >= -self._slack) & (until <= self._slack))

    def steps_in(self, duration: str) -> int:
        """The number of steps in a duration such as 14d, 36h, 6mo, 2y, or a plain number of time units."""
        match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([a-z]*)\s*", duration)
        amount, unit = (float(match[1]), match[2]) if match else (0.0, "?")
        if self.step.unit == "second" and unit in _DURATION:
            steps = amount * _DURATION[unit] / self.step.amount
        elif self.step.unit == "month" and unit in _MONTHS:
            steps = amount * _MONTHS[unit] / self.step.amount
        elif self.step.unit not in ("second", "month") and not unit:
            steps = amount / self.step.amount
        else:
            known = {"second": _DURATION, "month": _MONTHS}.get(self.step.unit)
            raise ConfigError(
                f"lead time '{duration}': expected a number" + (f" with one of {', '.join(known)}." if known else ".")
            )
        if steps < 1 or abs(steps - round(steps)) > 1e-6:
            raise ConfigError(f"lead time {duration} is not a whole number of time steps of {self.step}.")
        return round(steps)


_LAST = np.datetime64("2262-04-11", "ns")
_FIRST = np.datetime64("1677-09-22", "ns")
"""The ends of dates in nanoseconds since 1970, to a day."""


def _seconds_of(date: np.datetime64) -> float:
    return float(date.astype("datetime64[s]").astype(int))


def _is_in_nanoseconds(date: pd.Timestamp) -> bool:
    return bool(pd.Timestamp(_FIRST).as_unit("us") <= date.as_unit("us") <= pd.Timestamp(_LAST).as_unit("us"))


def _nearest_in_nanoseconds(date: pd.Timestamp) -> np.datetime64:
    """A date in nanoseconds, the first or the last of them for one beyond."""
    if _is_in_nanoseconds(date):
        return np.datetime64(date, "ns")
    return _LAST if date.year > 2000 else _FIRST


def _is_date(text: str) -> bool:
    """Whether the text is a year, a month or a day, and no time of day."""
    return bool(re.fullmatch(r"[\d-]+", text))


def in_nanoseconds(dates: np.ndarray) -> np.ndarray:
    """Dates of a Gregorian calendar as datetime64[ns]; as they are, in an array of objects, where nanoseconds do not reach."""
    if all(1678 <= date.year <= 2261 for date in dates):
        return np.array([np.datetime64(date.isoformat(), "ns") for date in dates])
    return dates


def as_cftime(values: np.ndarray, calendar: str) -> np.ndarray:
    """Dates as cftime objects of a calendar; those that are such objects stay as they are."""
    if values.dtype.kind == "O":
        return values
    stamps = dates_of(values.ravel())
    parts = [(s.year, s.month, s.day, s.hour, s.minute, s.second, s.microsecond) for s in stamps]
    found = np.empty(len(parts), object)
    found[:] = [cftime.datetime(*part, calendar=calendar) for part in parts]
    return found.reshape(values.shape)


def _alike(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of times, both as cftime objects where one of them is, and of a Gregorian calendar."""
    calendar = next((v.flat[0].calendar for v in (first, second) if v.dtype.kind == "O" and v.size), None)
    if {first.dtype.kind, second.dtype.kind} != {"M", "O"} or calendar not in GREGORIAN:
        return first, second
    return as_cftime(first, calendar), as_cftime(second, calendar)


def rounding_of(step: float) -> float:
    """Seconds at which times of a step [s] still mean a round one: a thousandth of the step, half a second for days and longer ones."""
    return _UNEVEN * step if 0 < step < 86400 else _NEAR


def rounded_times(values: np.ndarray, slack: float) -> np.ndarray:
    """Dates that all lie within `slack` seconds of a round time of the day as these times; any shape.

    Round are multiples of 1 s to a day that are at least four times the slack. Where a date lies near none, all stay as they are.
    """
    if slack <= 0 or not values.size:
        return values
    if values.dtype.kind == "M":
        second = 10**9
        of_day = values.astype("datetime64[ns]").astype(np.int64) % (86400 * second)
    else:
        second = 10**6
        of_day = np.vectorize(_microseconds_of_day, otypes=[np.int64])(values)
    shift, open_ = np.zeros(values.shape, np.int64), np.ones(values.shape, bool)
    for unit in _ROUND:
        if unit >= 4 * slack:
            off = (of_day + unit * second // 2) // (unit * second) * (unit * second) - of_day
            near = open_ & (np.abs(off) <= slack * second)
            shift[near], open_ = off[near], open_ & ~near
    if open_.any():
        return values
    if values.dtype.kind == "M":
        return values + shift.astype("timedelta64[ns]")
    return np.vectorize(lambda date, microseconds: date + timedelta(microseconds=int(microseconds)), otypes=[object])(
        values, shift
    )


def _microseconds_of_day(date: Any) -> int:
    return int(((date.hour * 60 + date.minute) * 60 + date.second) * 10**6 + date.microsecond)


def duration_unit(seconds: np.ndarray) -> tuple[str, int]:
    """The largest unit, and its seconds, in which durations have four decimals at most: months of 30.4375 days."""
    units = (("days", 86400), ("hours", 3600), ("minutes", 60))
    return next(
        (
            (u, s)
            for u, s in units
            if np.allclose(seconds / s, np.round(seconds / s, 4), rtol=0, atol=1e-9) and seconds.min() >= s
        ),
        ("seconds", 1),
    )


def show(value: Any) -> str:
    """A time for people."""
    if isinstance(value, np.datetime64):
        return pd.Timestamp(value).isoformat()
    return value.isoformat() if isinstance(value, cftime.datetime) else f"{value:.12g}"


def without_times(name: str, frames: int) -> TimeAxis:
    """The axis of a file that has no times: frames 0, 1, 2 and on."""
    return TimeAxis(name, np.arange(frames, dtype=float), TimeStep(1.0, "frame"))


def time_axis(name: str, variable: xr.Variable, source: str) -> TimeAxis:
    """The time axis that a file's coordinate describes.

    Raises DataError, naming the place, if the times are not evenly spaced in seconds or in the calendar.
    """
    values = np.asarray(variable.values)
    if values.dtype.kind == "M":
        values = values.astype("datetime64[ns]")
    elif values.dtype.kind != "O":
        if values.dtype.kind not in "iuf":
            raise DataError(
                f"{source}: the times '{name}' are text. Store them as numbers with CF units, or drop the coordinate."
            )
        values = values.astype(float)
    attributes = dict(variable.attrs)
    if pd.isna(values).any():
        raise DataError(f"{source}: time '{name}' is missing at frame {int(np.flatnonzero(pd.isna(values))[0])}.")
    axis = TimeAxis(name, values, TimeStep(1.0, "frame"), attributes, dict(variable.encoding))
    if len(values) < 2:
        return axis
    return TimeAxis(name, values, _step(axis, source), attributes, dict(variable.encoding))


def _step(axis: TimeAxis, source: str) -> TimeStep:
    # In float32 the ends may be off by minutes, and so would be the step.
    values = axis.rounded if axis._resolution else axis.values
    elapsed = _elapsed(values, values[0])
    steps = np.diff(elapsed)
    mean = (elapsed[-1] - elapsed[0]) / (len(elapsed) - 1)
    slack = max(_UNEVEN * mean, min(axis._resolution, mean / 4))
    even = (steps > 0).all() and np.abs(elapsed - mean * np.arange(len(elapsed))).max() <= slack
    values = axis.rounded
    months = _whole_months(values) if axis.is_dated and mean >= 28 * 86400 else 0
    # The first days of 2001, 2002 and 2003 are even in days too, but the next ones are not.
    if months and (not even or (_same_day(values) and axis.calendar != "360_day")):
        return TimeStep(float(months), "month")
    if even and axis.is_dated:
        whole = abs(mean - round(mean)) <= slack / len(steps)  # hours stored as days in float32
        return TimeStep(round(float(mean), 0 if whole else 6), "second")
    if even:
        return TimeStep(as_meant(float(mean), values), str(axis.attributes.get("units", "1")))
    if (steps == 0).any():
        twice = int((steps == 0).argmax())
        raise DataError(
            f"{source}: the time {show(values[twice])} of '{axis.name}' stands twice (frames {twice} and {twice + 1}). "
            f"Remove one of them, or number the frames with --time-as-steps."
        )
    wrong = int(np.abs(steps - np.median(steps)).argmax())
    raise DataError(
        f"{source}: the times '{axis.name}' are not evenly spaced: "
        f"{show(values[wrong])} is followed by {show(values[wrong + 1])} (frame {wrong + 1}). "
        f"Fill or select an evenly spaced part, for example with --select {axis.name}=START:STOP, "
        "or number the frames with --time-as-steps."
    )


def as_meant(step: float, values: np.ndarray) -> float:
    """The step between numbers, without the digits that their storage has added: in float32 a step of 0.1 is 0.10000000149."""
    with np.errstate(over="ignore"):
        through_float32 = bool((values.astype(np.float32) == values).all())
    return float(f"{step:.{6 if through_float32 else 12}g}")


def _elapsed(values: np.ndarray, origin: Any) -> np.ndarray:
    """Time since `origin`: seconds between dates, the axis's own unit between numbers."""
    if values.dtype.kind == "M":
        if not isinstance(origin, np.datetime64):
            raise TypeError(f"dates, and {origin!r}")
        # In two parts: a difference of more than 292 years has more nanoseconds than 64 bits count.
        whole, start = values.astype("datetime64[s]"), origin.astype("datetime64[s]")
        rest = (values - whole).astype(float) - float((origin - start).astype(np.int64))
        return (whole - start).astype(float) + 1e-9 * rest
    if values.dtype.kind == "O":
        return np.vectorize(lambda value: (value - origin).total_seconds(), otypes=[float])(values)
    return values - origin


def dates_of(values: np.ndarray) -> list[Any]:
    """Dates with their year, month and day, in microseconds: those reach beyond 2262."""
    return [pd.Timestamp(value).as_unit("us") for value in values] if values.dtype.kind == "M" else list(values)


def _whole_months(values: np.ndarray) -> int:
    """The number of calendar months between successive dates; 0 if they are not regular in the calendar."""
    dates = dates_of(values)
    months = np.diff([12 * date.year + date.month for date in dates])
    days = [date.day for date in dates]
    # Mid-month and end-of-month stamps wander by up to three days (28 to 31).
    regular = months.min() > 0 and (months == months[0]).all() and max(days) - min(days) <= 3
    return int(months[0]) if regular else 0


def _same_day(values: np.ndarray) -> bool:
    """Whether all dates stand on the same day of the month, at the same time."""
    return len({(date.day, date.hour, date.minute, date.second) for date in dates_of(values)}) == 1


def months_later(date: Any, months: int) -> Any:
    """The date `months` calendar months later, on the same day or the last of a shorter month."""
    years, month = divmod(date.year * 12 + date.month - 1 + months, 12)
    first = date.replace(year=years, month=month + 1, day=1)
    return _month_day(first, day=date.day)


def _month_length(date: Any) -> int:
    return int(date.days_in_month if isinstance(date, pd.Timestamp) else date.daysinmonth)


def _month_end(date: Any) -> Any:
    return date.replace(day=_month_length(date))


def _month_middle(date: Any) -> Any:
    return date.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=_month_length(date)) / 2


def _month_day(date: Any, *, day: int) -> Any:
    return date.replace(day=min(day, _month_length(date)))


def bounds(text: str) -> tuple[str, str]:
    """The two dates of 'start:stop' or 'start/stop'; a single date is both. 'T06:30' holds no such colon."""
    between = "/" if "/" in text else r"^:|:$|:(?=\d{4})" if re.search(r"\d[T ]\d", text) else ":"
    start, *stop = re.split(between, text, maxsplit=1)
    return start, stop[0] if stop else start


def _date_parts(text: str) -> tuple[Any, ...]:
    """Year, month, day, hour, minute, second and fraction of a second in '2019', '2019-03', '2019-03-05T06' and so on."""
    pattern = r"(\d{1,5})(?:-(\d{1,2}))?(?:-(\d{1,2}))?(?:[T ](\d{1,2}))?(?::(\d{2}))?(?::(\d{2}))?(\.\d+)?Z?"
    match = re.fullmatch(pattern, text.strip())
    if not match:
        raise ValueError(text)
    *whole, fraction = match.groups()
    defaults = (1, 1, 1, 0, 0, 0)
    return (
        *(int(part) if part else default for part, default in zip(whole, defaults, strict=True)),
        float(fraction or 0),
    )
