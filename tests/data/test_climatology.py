"""Mean cycles: what they are, when there are any, and that they reach model and forecast."""

import numpy as np
import pytest
import xarray as xr
from files import travelling_wave, write_series

from forecast_cli.config import DataConfig
from forecast_cli.data.climatology import WINDOW, kinds, load_cycles, mean_cycles, save_cycles
from forecast_cli.data.cycles import positions
from forecast_cli.data.fields import Fields, open_fields
from forecast_cli.data.inputs import open_inputs
from forecast_cli.data.windows import Part, ReadFrames
from forecast_cli.errors import CheckpointError, ConfigError


def fields_at(tmp_path, freq: str, frames: int, calendar: str = "standard", start: str = "2001-01-01") -> Fields:
    return open_fields([str(write_series(tmp_path / "s.nc", frames=frames, freq=freq, calendar=calendar, start=start))])


def of_part(fields: Fields, frames: range, *wanted: str) -> dict[str, np.ndarray]:
    return dict(mean_cycles(fields, Part(range(1), frames), ReadFrames(fields.read), wanted))


@pytest.mark.parametrize(
    ("freq", "frames", "found"),
    [
        ("6h", 60, ["hour"]),
        ("6h", 1500, ["hour", "dayofyear", "month"]),
        ("D", 60, []),
        ("D", 365, ["dayofyear", "month"]),
        ("MS", 24, ["month"]),
        ("YS", 20, ["month"]),
    ],
)
def test_a_record_has_the_cycles_that_it_resolves_and_covers(tmp_path, freq, frames, found):
    fields = fields_at(tmp_path, freq, frames)
    assert kinds(fields.times, range(frames), fields.frame_bytes) == found


def test_a_cycle_too_large_for_a_file_is_left_out(tmp_path):
    assert kinds(fields_at(tmp_path, "6h", 1500).times, range(1500), 2**20) == ["hour", "month"]


def test_plain_numbers_have_no_cycle(trajectories):
    fields = open_fields([str(trajectories)])
    assert kinds(fields.times, range(20), fields.frame_bytes) == []


def test_the_mean_by_hour_is_that_of_the_part_alone(tmp_path):
    fields = fields_at(tmp_path, "6h", 60)
    cycle = of_part(fields, range(8, 40), "hour")["hour"]
    values = fields.read(0, 8, 40)
    for hour in (0, 6, 12, 18):
        np.testing.assert_allclose(cycle[hour], values[hour // 6 :: 4].mean(axis=0), rtol=1e-6)
    assert np.isnan(cycle[[h for h in range(24) if h % 6]]).all()


@pytest.mark.parametrize(
    ("dtype", "units", "first"), [("f8", "days since 0001-01-01", 737120), ("f4", "days since 2019-01-01", 59)]
)
def test_the_mean_by_hour_of_times_in_float_days_is_that_of_each_hour(tmp_path, dtype, units, first):
    """A field that is its hour: the mean of each hour is that hour, at once and in a forecast's file."""
    time = xr.Variable("time", (first + np.arange(72) / 24).astype(dtype), {"units": units})
    hours = np.arange(72.0).reshape(-1, 1, 1) % 24
    xr.Dataset({"u": (("time", "y", "x"), hours)}, {"time": time}).to_netcdf(tmp_path / "u.nc")
    fields = open_fields([str(tmp_path / "u.nc")])
    cycle = of_part(fields, range(72), "hour")["hour"]
    np.testing.assert_array_equal(cycle[:, 0, 0, 0], np.arange(24))


def test_the_mean_by_month_counts_months_of_the_calendar(tmp_path):
    fields = fields_at(tmp_path, "MS", 30, calendar="360_day")
    cycle = of_part(fields, range(30), "month")["month"]
    np.testing.assert_allclose(cycle[4], fields.read(0, 0, 30)[[4, 16, 28]].mean(axis=0), rtol=1e-6)


def test_the_mean_by_day_is_over_the_days_around_it(tmp_path):
    fields = fields_at(tmp_path, "D", 3 * 365)
    cycle = of_part(fields, range(3 * 365), "dayofyear")["dayofyear"]
    days = positions(fields.times.values, "dayofyear")
    for day in (0, 100, 364):
        near = np.minimum((days - day) % 366, (day - days) % 366) <= WINDOW
        np.testing.assert_allclose(cycle[day], fields.read(0, 0, len(days))[near].mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize(("calendar", "days"), [("360_day", 360), ("noleap", 365), ("all_leap", 366)])
def test_the_mean_by_day_closes_at_the_end_of_the_calendars_year(tmp_path, calendar, days):
    """Values are the days until the new year: around it they are -15, ..., 15, whose mean is 0."""
    time = xr.date_range("2001-01-01", periods=3 * days, freq="D", calendar=calendar, use_cftime=True)
    value = (np.arange(3 * days) + days // 2) % days - days // 2
    dataset = xr.Dataset({"u": (("time", "y", "x"), value[:, None, None] * np.ones((1, 2, 2), "f4"))}, {"time": time})
    dataset.to_netcdf(tmp_path / "u.nc")
    fields = open_fields([str(tmp_path / "u.nc")])
    cycle = of_part(fields, range(3 * days), "dayofyear")["dayofyear"][:, 0, 0, 0]
    np.testing.assert_allclose(cycle[[days - 2, days - 1, 0, 1]], [-2, -1, 0, 1], atol=1e-6)
    assert np.isfinite(cycle).all()
    assert len(cycle) == 366


def test_the_mean_by_day_has_day_366_without_a_leap_year(tmp_path):
    fields = fields_at(tmp_path, "D", 730)
    cycle = of_part(fields, range(365), "dayofyear")["dayofyear"]
    values = fields.read(0, 0, 365)
    np.testing.assert_allclose(cycle[365], np.r_[values[350:], values[:15]].mean(axis=0), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_missing_values_are_left_out_and_cells_without_any_stay_missing(tmp_path):
    values = travelling_wave(48, 4, 4)
    values[::5, 0, 0], values[:, 1, 1] = np.nan, np.nan
    time = xr.date_range("2001-01-01", periods=48, freq="h")
    xr.Dataset({"u": (("time", "y", "x"), values)}, {"time": time}).to_netcdf(tmp_path / "u.nc")
    cycle = of_part(open_fields([str(tmp_path / "u.nc")]), range(48), "hour")["hour"]
    np.testing.assert_allclose(cycle[:, 0], np.nanmean([values[:24], values[24:]], axis=0), rtol=1e-6)
    assert np.isnan(cycle[:, 0, 1, 1]).all()


def test_a_file_of_cycles_reads_back_what_was_written(tmp_path):
    fields = fields_at(tmp_path, "6h", 60)
    cycles = of_part(fields, range(60), "hour")
    save_cycles(tmp_path / "c.nc", cycles, fields)
    np.testing.assert_array_equal(load_cycles(tmp_path / "c.nc")["hour"], cycles["hour"])
    assert load_cycles(tmp_path / "none.nc") == {}
    (tmp_path / "c.nc").write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match=r"c\.nc: damaged"):
        load_cycles(tmp_path / "c.nc")


def test_the_usual_value_and_its_change_are_inputs(tmp_path):
    fields = fields_at(tmp_path, "6h", 60)
    cycles = of_part(fields, range(60), "hour")
    inputs = open_inputs(DataConfig(climatology_features="hour"), fields, cycles)
    assert list(inputs.forcing) == ["t2m by hour", "change of t2m by hour"]
    found = inputs.forcing_frames(0, 3, 6)
    np.testing.assert_array_equal(found[:, 0], cycles["hour"][[18, 0, 6], 0])
    np.testing.assert_array_equal(found[:, 1], (cycles["hour"][[18, 0, 6]] - cycles["hour"][[12, 18, 0]])[:, 0])
    with pytest.raises(
        ConfigError, match="climatology_features = month: the training part has no such cycle; it has hour"
    ):
        open_inputs(DataConfig(climatology_features="month"), fields, cycles)


def test_a_forecast_carries_the_cycles_of_its_training(forecast, series, tmp_path):
    """Also where they are inputs: the rollout reads them from the run, not from its data."""
    run, options = tmp_path / "run", ("--hidden", 4, "--context", 4, "--horizon", 2, "--epochs", 1)
    assert forecast("train", series, "-o", run, *options, "--set", "data.climatology_features=hour").exit_code == 0
    assert forecast("rollout", run, "--data", series, "-o", tmp_path / "fc.nc", "--steps", 4).exit_code == 0
    found = xr.load_dataset(tmp_path / "fc.nc")["t2m_climatology_hour"]
    np.testing.assert_array_equal(found, load_cycles(run / "climatology.nc")["hour"][:, 0])
    assert found.dims == ("hour", "lat", "lon")


def test_a_day_of_the_year_is_the_mean_over_fifteen_days_on_either_side(tmp_path):
    """A year of zeros but for the 101st day, which is 31: of 31 days each, 31 means are 1 and the others 0."""
    path = write_series(tmp_path / "s.nc", frames=365, freq="D", start="2001-01-01")
    with xr.load_dataset(path) as dataset:
        dataset["t2m"][:] = 0
        dataset["t2m"][100] = 31
    dataset.to_netcdf(path)
    cycle = of_part(open_fields([str(path)]), range(365), "dayofyear")["dayofyear"][:, 0, 0, 0]
    assert np.flatnonzero(cycle).tolist() == list(range(85, 116))
    np.testing.assert_allclose(cycle[85:116], 1, rtol=1e-6)
