"""Laws of time axes: regular in seconds or in the calendar, extended exactly, or refused with the place."""

import cftime
import numpy as np
import pytest
import xarray as xr

from forecast_cli.data.cycles import positions
from forecast_cli.data.times import GREGORIAN, TimeAxis, bounds, in_nanoseconds, rounded_times, time_axis, without_times
from forecast_cli.domain import TimeStep
from forecast_cli.errors import ConfigError, DataError


def axis_of(values, **attributes) -> TimeAxis:
    return time_axis("time", xr.Variable("time", np.asarray(values), attributes), "file.nc")


def dates(start: str, periods: int, freq: str, calendar: str = "standard") -> np.ndarray:
    use_cftime = calendar != "standard"
    return xr.date_range(start, periods=periods, freq=freq, calendar=calendar, use_cftime=use_cftime).values


def middles(start: str, periods: int, calendar: str) -> np.ndarray:
    edges = dates(start, periods + 1, "MS", calendar)
    return edges[:-1] + np.diff(edges) / 2


def days_of_months(day: int) -> np.ndarray:
    """The same day of every month from 2001 to 2005, or the last of a month that is too short."""
    firsts = np.arange("2001-01", "2006-01", dtype="datetime64[M]")
    lengths = (firsts + 1).astype("datetime64[D]") - firsts.astype("datetime64[D]")
    return firsts.astype("datetime64[ns]") + np.minimum(day - 1, lengths.astype(int) - 1).astype("timedelta64[D]")


@pytest.mark.parametrize(
    ("start", "freq", "calendar", "step", "said"),
    [
        ("2000-01-01", "6h", "standard", TimeStep(21600.0, "second"), "6 hours"),
        ("2000-01-01", "D", "noleap", TimeStep(86400.0, "second"), "1 day"),
        ("2000-06-01", "YS", "360_day", TimeStep(360 * 86400.0, "second"), "360 days"),
        ("2000-01-01", "MS", "standard", TimeStep(1.0, "month"), "1 month"),
        ("2000-01-01", "MS", "noleap", TimeStep(1.0, "month"), "1 month"),
        ("2000-01-31", "3ME", "standard", TimeStep(3.0, "month"), "3 months"),
        ("2000-01-01", "YS", "standard", TimeStep(12.0, "month"), "1 year"),
    ],
)
@pytest.mark.parametrize("known", [5, 14])
def test_a_regular_axis_continues_as_its_calendar_does(start, freq, calendar, step, said, known):
    times = dates(start, 40, freq, calendar)
    axis = axis_of(times[:known])
    assert axis.step == step
    assert str(axis.step) == said
    assert (axis.at(range(40)) == times).all()


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
@pytest.mark.parametrize("known", [4, 14, 25])
def test_the_middle_of_a_month_stays_the_middle_in_leap_years_too(calendar, known):
    times = middles("2001-01-01", 60, calendar)
    assert (axis_of(times[:known]).at(range(60)) == times).all()


@pytest.mark.parametrize("day", [1, 15, 28, 29, 30, 31])
@pytest.mark.parametrize("known", [3, 13, 24])
def test_a_day_of_the_month_stays_that_day_or_the_last_of_a_shorter_month(day, known):
    times = days_of_months(day)
    assert (axis_of(times[:known]).at(range(60)) == times).all()


def test_stamps_that_wander_within_the_month_repeat_the_earlier_year():
    year = ["01-16", "02-15", "03-16", "04-16", "05-16", "06-15", "07-16", "08-16", "09-15", "10-16", "11-15", "12-16"]
    times = np.array([f"{y}-{day}" for y in range(2001, 2005) for day in year], "datetime64[ns]")
    assert (axis_of(times[:12]).at(range(48)) == times).all()


@pytest.mark.parametrize("known", [3, 4])
def test_years_without_a_leap_day_are_years_and_not_365_days(known):
    times = dates("2001-01-01", 12, "YS")
    axis = axis_of(times[:known])
    assert axis.step == TimeStep(12.0, "month")
    assert (axis.at(range(12)) == times).all()


def test_thirty_days_are_no_month():
    assert axis_of(dates("2001-03-02", 12, "30D")).step == TimeStep(30 * 86400.0, "second")


@pytest.mark.parametrize(("amount", "unit"), [(0.1, "1"), (0.5, "s"), (3.0, "days")])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_plain_numbers_have_the_step_that_was_meant(amount, unit, kind):
    axis = axis_of((7 + amount * np.arange(200)).astype(kind), units=unit)
    assert axis.step == TimeStep(amount, unit)
    assert not axis.is_dated
    assert axis.calendar is None
    np.testing.assert_allclose(axis.at([199, 200, 203]), 7 + amount * np.array([199, 200, 203]), rtol=1e-6)


def test_hours_stored_as_days_in_float32_are_hours():
    stored = (np.arange(100) / 24).astype(np.float32)
    decoded = xr.conventions.decode_cf_variable("time", xr.Variable("time", stored, {"units": "days since 2000-01-01"}))
    axis = time_axis("time", decoded, "file.nc")
    assert axis.step == TimeStep(3600.0, "second")
    assert [axis.index_of(f"2000-01-01T{hour:02d}") for hour in range(24)] == list(range(24))
    assert axis.period("2000-01-02", "2000-01-02") == range(24, 48)


def test_a_step_of_730_and_a_half_hours_is_kept():
    assert (
        axis_of(np.datetime64("1982-01-16T20:00", "ns") + np.arange(12) * np.timedelta64(43830, "m")).step.amount
        == 2629800
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.0, 1, 2, 4, 5], ("2 is followed by 4", "frame 3", "evenly")),
        ([0.0, 1, 1, 2, 3], ("time 1 ", "stands twice (frames 1 and 2)")),
        ([3.0, 2, 1, 0], ("3 is followed by 2", "frame 1", "evenly")),
        ([5.0, 5, 5], ("time 5 ", "stands twice (frames 0 and 1)")),
        ([1.0, 1], ("time 1 ", "stands twice (frames 0 and 1)")),
        (np.cumsum([1.0] * 1000 + [1.0009] * 1000), ("is followed by", "evenly")),
        (
            np.delete(dates("2000-01-01", 30, "h"), 7),
            ("2000-01-01T06:00:00 is followed by 2000-01-01T08:00:00", "frame 7"),
        ),
        (np.delete(dates("2000-01-01", 30, "MS"), 7), ("2000-07-01T00:00:00 is followed by 2000-09-01", "frame 7")),
        (
            np.delete(dates("2000-01-01", 30, "D", "360_day"), 7),
            ("2000-01-07T00:00:00 is followed by 2000-01-09", "frame 7"),
        ),
        (dates("2000-01-01", 4, "D")[[0, 1, 1, 2]], ("2000-01-02T00:00:00", "stands twice")),
    ],
)
def test_an_irregular_axis_is_refused_where_it_breaks(values, said):
    with pytest.raises(DataError) as error:
        axis_of(values)
    assert all(words in str(error.value) for words in ("file.nc", "'time'", "--time-as-steps", *said)), error.value
    assert "\n" not in str(error.value)


def test_a_missing_time_is_refused_with_its_frame():
    with pytest.raises(DataError, match=r"file.nc.*missing at frame 2"):
        axis_of([0.0, 1, np.nan, 3])


def test_times_in_words_are_refused():
    with pytest.raises(DataError, match="are text"):
        axis_of(["monday", "tuesday"])


def test_without_times_frames_are_counted():
    axis = without_times("time", 4)
    assert axis.step == TimeStep(1.0, "frame")
    assert axis.at([0, 3, 6]).tolist() == [0, 3, 6]


@pytest.mark.parametrize("calendar", ["standard", "360_day", "noleap"])
@pytest.mark.parametrize(
    ("text", "frame"),
    [("2000-01-02", 4), ("2000-01-02T06", 5), ("2000-01-02 06:00", 5), ("2000-01-02T06:00:00.0Z", 5), ("last", 19)],
)
def test_index_of_finds_the_frame_of_a_date(calendar, text, frame):
    assert axis_of(dates("2000-01-01", 20, "6h", calendar)).index_of(text) == frame


@pytest.mark.parametrize("first", [0.0, 1e8])
def test_index_of_finds_the_frame_of_a_number(first):
    axis = axis_of(first + 6.0 * np.arange(20))
    assert [axis.index_of(str(first + 6 * i)) for i in range(20)] == list(range(20))


@pytest.mark.parametrize("text", ["2000-01-01T03", "1999", "yesterday", "2000-13-01", "2000-02-30", "0", "9999", ""])
def test_a_date_that_no_frame_has_is_an_error_of_the_user(text):
    with pytest.raises(ConfigError, match=r"no frame at time|expected a date"):
        axis_of(dates("2000-01-01", 20, "6h")).index_of(text)


def test_the_thirtieth_of_february_exists_in_the_calendar_of_360_days():
    axis = axis_of(dates("2000-02-01", 40, "D", "360_day"))
    assert axis.index_of("2000-02-30") == 29
    assert axis.parse("2000-02-30") == cftime.datetime(2000, 2, 30, calendar="360_day")


@pytest.mark.parametrize("calendar", ["standard", "noleap"])
@pytest.mark.parametrize(
    ("start", "stop", "frames"),
    [
        ("2001", "2001", range(365, 730)),
        ("2001-02", "2001-02", range(365 + 31, 365 + 59)),
        ("2001-01-03", "2001-01-05", range(367, 370)),
        ("2001-01-03T00", "2001-01-05T00", range(367, 370)),
        ("2001-01-03T01", "2001-01-04T23", range(368, 369)),
        ("", "2000-12-31", range(365)),
        ("2001-12-31", "", range(729, 800)),
        ("2050", "2051", range(0)),
    ],
)
def test_a_period_includes_both_ends_and_all_of_a_year_month_or_day(calendar, start, stop, frames):
    leap = calendar == "standard"
    axis = axis_of(dates("2000-01-02" if leap else "2000-01-01", 800, "D", calendar))
    assert axis.period(start, stop) == frames


def test_a_period_of_numbers_includes_both_ends():
    axis = axis_of(np.arange(0, 5, 0.1, dtype=np.float32))
    assert axis.period("0.3", "0.7") == range(3, 8)


@pytest.mark.parametrize(
    ("text", "both"),
    [
        ("2001:2003", ("2001", "2003")),
        ("2001", ("2001", "2001")),
        ("2001:", ("2001", "")),
        (":2001-02", ("", "2001-02")),
        ("2001-01-01T06:30", ("2001-01-01T06:30",) * 2),
        ("2001-01-01T06:2001-01-02", ("2001-01-01T06", "2001-01-02")),
        ("2001-01-01T06:30:2001-01-02T07:30", ("2001-01-01T06:30", "2001-01-02T07:30")),
        ("2001-01-01T06:30:", ("2001-01-01T06:30", "")),
        ("2001-01-01T06:30/2001-01-02", ("2001-01-01T06:30", "2001-01-02")),
    ],
)
def test_the_colons_of_a_clock_do_not_split_a_range(text, both):
    assert bounds(text) == both


@pytest.mark.parametrize(
    ("freq", "duration", "steps"),
    [
        ("6h", "14d", 56),
        ("6h", "36h", 6),
        ("6h", "1.5d", 6),
        ("6h", "2w", 56),
        ("1min", "90s", None),
        ("1min", "90min", 90),
        ("MS", "6mo", 6),
        ("MS", "2y", 24),
        ("MS", "14d", None),
        ("6h", "2mo", None),
        ("6h", "5h", None),
        ("6h", "0d", None),
        ("6h", "12", None),
        ("6h", "1.2.3d", None),
        ("6h", "d", None),
        ("YS", "6mo", None),
        ("YS", "10y", 10),
    ],
)
def test_a_duration_is_a_whole_number_of_steps_or_an_error(freq, duration, steps):
    axis = axis_of(dates("2001-01-01", 10, freq))
    if steps:
        assert axis.steps_in(duration) == steps
    else:
        with pytest.raises(ConfigError, match="lead time"):
            axis.steps_in(duration)


def test_a_duration_of_plain_numbers_has_no_unit():
    axis = axis_of(0.5 * np.arange(10))
    assert axis.steps_in("3") == 6
    with pytest.raises(ConfigError, match="expected a number"):
        axis.steps_in("3h")


def test_lead_times_of_dated_series_are_time_since_the_start():
    lead = axis_of(dates("2000-01-01", 10, "6h")).lead_times(3)
    assert (lead.values == np.array([6, 12, 18], "timedelta64[h]")).all()
    assert lead.attrs["standard_name"] == "forecast_period"
    assert lead.encoding["units"] == "hours"


def test_lead_times_of_months_count_steps():
    lead = axis_of(dates("2000-01-01", 10, "3MS")).lead_times(3)
    assert lead.values.tolist() == [1, 2, 3]
    assert "3 months" in lead.attrs["long_name"]


def test_lead_times_of_numbers_keep_the_unit_of_the_file():
    lead = axis_of(0.5 * np.arange(10), units="s").lead_times(3)
    assert lead.values.tolist() == [0.5, 1.0, 1.5]
    assert (lead.attrs["units"], lead.attrs["standard_name"]) == ("s", "forecast_period")


def test_lead_times_of_numbers_without_unit_are_no_period_of_time():
    lead = axis_of(0.5 * np.arange(10)).lead_times(3)
    assert lead.attrs["units"] == "1"
    assert "standard_name" not in lead.attrs


@pytest.mark.parametrize("calendar", ["standard", "360_day", "noleap"])
def test_times_beyond_the_end_are_stored_in_the_units_and_calendar_of_the_file(calendar, tmp_path):
    source = xr.Dataset({"u": ("time", np.zeros(10))}, coords={"time": dates("2000-02-25", 10, "6h", calendar)})
    source.time.encoding["units"] = "hours since 1900-01-01"
    source.to_netcdf(tmp_path / "source.nc")
    with xr.open_dataset(tmp_path / "source.nc") as opened:
        axis = time_axis("time", opened.time.variable, "source.nc")
    encoded = xr.conventions.encode_cf_variable(axis.variable("valid_time", axis.at(range(8, 30))), name="valid_time")
    assert encoded.attrs["units"] == "hours since 1900-01-01"
    assert encoded.attrs["calendar"] == source.time.dt.calendar
    assert (np.diff(encoded.values) == 6).all()


STORED = [
    ("days since 0001-01-01", 737120, "f8", "standard"),
    ("days since 0001-01-01", 100000, "f8", "standard"),
    ("days since 0001-01-01", 737120, "f8", "noleap"),
    ("days since 2019-01-01", 59, "f4", "standard"),
    ("days since 2019-01-01", 59, "f4", "360_day"),
    ("days since 2000-01-01", 7000, "f4", "standard"),
    ("days since 1900-01-01", 43000, "f4", "standard"),
    ("hours since 0001-01-01", 24 * 737120, "f8", "standard"),
    ("seconds since 1970-01-01", 86400 * 18000, "f4", "standard"),
]


def decoded(units, numbers, calendar="standard") -> TimeAxis:
    """The axis of numbers as a file stores them."""
    variable = xr.Variable("time", numbers, {"units": units, "calendar": calendar})
    first, last = cftime.num2date(numbers[[0, -1]].astype(float), units, calendar)
    beyond = calendar not in GREGORIAN or first.year < 1678 or last.year > 2261
    coder = xr.coders.CFDatetimeCoder(use_cftime=beyond or None)
    return time_axis("time", xr.conventions.decode_cf_variable("time", variable, decode_times=coder), "file.nc")


@pytest.mark.parametrize(("units", "first", "dtype", "calendar"), STORED)
def test_every_stored_hour_is_that_hour(units, first, dtype, calendar):
    per_day = {"days": 1, "hours": 24, "seconds": 86400}[units.split()[0]]
    axis = decoded(units, (first + per_day * np.arange(72) / 24).astype(dtype), calendar)
    assert axis.step == TimeStep(3600.0, "second")
    assert positions(axis.rounded, "hour").tolist() == 3 * list(range(24))
    days = positions(axis.rounded, "dayofyear").reshape(3, 24)
    assert (days == days[:, :1]).all()
    assert np.diff(days[:, 0]).tolist() == [1, 1]
    assert [axis.show(frame)[-8:] for frame in (0, 1, 23)] == ["00:00:00", "01:00:00", "23:00:00"]
    # Beyond the record, too.
    assert positions(axis.at([71, 72, 73]), "hour").tolist() == [23, 0, 1]
    day = axis.show(24)[:10]
    assert axis.period(day, day) == range(24, 48)
    assert axis.index_of(f"{day}T05") == 29


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_times_that_are_exact_stay_as_they_are(unit):
    exact = np.datetime64("2000-01-01T00:00:07", "ns") + np.arange(9) * np.timedelta64(
        {"s": 7001, "ms": 1000500}[unit], unit
    )
    assert (axis_of(exact).rounded == exact).all()
    assert (axis_of(exact).at(range(9)) == exact).all()


def test_the_end_of_a_day_or_a_month_is_not_the_next_one():
    ends = dates("2001-01-01", 36, "ME") + np.timedelta64(86399, "s")
    axis = axis_of(ends)
    assert positions(axis.rounded, "month").tolist() == 3 * list(range(12))
    assert axis.period("2002", "2002") == range(12, 24)
    days = dates("2001-01-01", 400, "D") + np.timedelta64(86399, "s")
    assert positions(axis_of(days).rounded, "dayofyear")[:365].tolist() == list(range(365))


def test_rounding_goes_to_the_coarsest_round_time_within_the_slack():
    stored = np.array(["2000-12-31T23:59:58", "2001-01-01T00:59:57", "2001-01-01T02:30:03"], "datetime64[ns]")
    found = rounded_times(stored, 3.6)
    assert found.tolist() == np.array(["2001-01-01T00", "2001-01-01T01", "2001-01-01T02:30"], "datetime64[ns]").tolist()
    assert (rounded_times(stored, 1.0) == stored).all()
    assert (rounded_times(stored.reshape(3, 1), 3.6) == found.reshape(3, 1)).all()


@pytest.mark.parametrize("year", [1, 1600, 2500, 9999])
def test_years_beyond_the_range_of_nanoseconds_are_years(year):
    axis = decoded(f"days since {year:04d}-01-01", np.arange(40.0))
    assert axis.show(0) == f"{year:04d}-01-01T00:00:00"
    assert axis.show(39) == f"{year:04d}-02-09T00:00:00"
    assert axis.step == TimeStep(86400.0, "second")
    assert (axis.at([40])[0].month, axis.at([40])[0].day) == (2, 10)
    assert axis.period(f"{year:04d}-02", "") == range(31, 40)


@pytest.mark.parametrize(("origin", "known"), [(1500, False), (1900, True), (2500, False)])
def test_months_since_count_in_every_century(origin, known):
    days = [cftime.datetime(origin, month, 1, calendar="standard") for month in range(1, 13)]
    found = in_nanoseconds(np.array(days, object))
    assert (found.dtype.kind == "M") == known
    axis = axis_of(found)
    assert axis.step == TimeStep(1.0, "month")
    assert [axis.show(0)[:7], axis.show(11)[:7]] == [f"{origin}-01", f"{origin}-12"]


def test_a_record_of_more_than_292_years_has_its_own_length():
    years = dates("1700-01-01", 400, "YS")
    axis = axis_of(years)
    assert axis.step == TimeStep(12.0, "month")
    assert axis.period("1750", "1799") == range(50, 100)
    assert axis.find(years[[0, 399]]).tolist() == [0, 399]


@pytest.mark.parametrize("freq", ["D", "MS", "YS"])
def test_times_beyond_2262_are_refused_and_never_others(freq):
    axis = axis_of(dates("2250-01-01", 12, freq) if freq == "YS" else dates("2261-01-01", 12, freq))
    with pytest.raises(DataError, match="beyond 2262-04-11, the last of dates in nanoseconds"):
        axis.at([600])


def test_durations_of_more_than_292_years_are_refused():
    axis = axis_of(dates("2000-01-01", 12, "YS", "360_day"))
    assert len(axis.lead_times(290)) == 290
    with pytest.raises(DataError, match="longer than 292 years"):
        axis.lead_times(300)


@pytest.mark.parametrize(
    ("start", "stop", "frames"), [("0001", "9999", 48), ("2262", "12000", 0), ("1999", "2000-01-01", 1)]
)
def test_a_period_may_reach_beyond_the_range_of_nanoseconds(start, stop, frames):
    assert len(axis_of(dates("2000-01-01", 48, "D")).period(start, stop)) == frames


def test_dates_of_two_kinds_meet_where_the_calendar_is_the_same():
    axis = axis_of(dates("2000-01-01", 48, "D"))
    wanted = np.array(
        [cftime.datetime(2000, 1, 3, calendar="standard"), cftime.datetime(2400, 1, 1, calendar="standard")]
    )
    assert axis.find(wanted).tolist() == [2, -1]
    assert axis.find(np.array([cftime.datetime(2000, 1, 3, calendar="noleap")])).tolist() == [-1]


def test_frames_between_two_times_include_both():
    axis = decoded("days since 0001-01-01", 737120 + np.arange(48) / 24)
    inside = axis.between(axis.parse("2019-03-01T01"), axis.parse("2019-03-01T05"))
    assert np.flatnonzero(inside).tolist() == [1, 2, 3, 4, 5]
