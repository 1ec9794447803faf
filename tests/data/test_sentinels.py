"""Customary fill values that no attribute declares are refused where they lie alone, and are numbers where they do not."""

import json
import re

import netCDF4
import numpy as np
import pytest
import xarray as xr
from files import travelling_wave, write_series

from forecast_cli.data.fields import open_fields
from forecast_cli.data.sentinels import UndeclaredFill
from forecast_cli.errors import DataError

KELVIN = travelling_wave(40, 8, 10)
RANDOM = np.random.default_rng(0)


def refuse(values, attributes=None, encoding=None):
    variable = xr.DataArray(values, dims=("time", "y", "x"), name="t", attrs=attributes or {})
    variable.encoding = encoding or {}
    UndeclaredFill(variable, "t.nc").refuse(values)


def with_cells(values, *fills):
    found = np.array(values, np.float32)
    for column, fill in enumerate(fills):
        found[:, 0, column] = fill
    return found


@pytest.mark.parametrize(
    "fill",
    [-99.9, -999, -9999, -999.9, -99999, -32768, -32767, 9999, 99999, 65535, -8888, 1e10, 1e20, -1e30, -3.4028235e38],
)
@pytest.mark.parametrize("count", [1, 40, 80])
def test_a_customary_fill_value_alone_far_outside_is_refused(fill, count):
    values = KELVIN.copy()
    values[:count].reshape(count, -1)[:, 3] = fill
    with pytest.raises(
        DataError, match=re.escape(f"t.nc: 't' holds {np.float32(fill):g}, a fill value that the file does not")
    ):
        refuse(values)


def test_the_message_says_how_many_where_and_the_remedy():
    values = KELVIN.copy()
    values[5:7, 2, 3] = -999
    with pytest.raises(DataError) as refused:
        refuse(values)
    for part in (
        "in 2 of 3,200 values, first at time 5, y 2, x 3; the others lie within 272.8 and 287.2. ",
        "ncatted -a missing_value,t,o,f,-999 FILE",
        "see --nan mask",
        "declare a valid_range that holds it",
    ):
        assert part in str(refused.value)


def test_a_large_integer_is_named_with_all_of_its_digits():
    values = np.random.default_rng(1).integers(0, 100, (20, 4, 5)).astype(np.int32)
    values[3, 0, 0] = -(2**31)
    with pytest.raises(DataError, match=r"ncatted -a missing_value,t,o,l,-2147483648 FILE"):
        refuse(values)


def test_several_fill_values_are_named_together():
    with pytest.raises(DataError, match=r"holds -9999 and -999, fill values .* in 80 of 3,200 .*o,f,-9999,-999 FILE"):
        refuse(with_cells(KELVIN, -999, -9999))


def test_frames_of_nothing_but_a_fill_value_are_refused():
    values = KELVIN.copy()
    values[3:5] = -9999
    with pytest.raises(DataError, match="in 160 of 3,200 values, first at time 3, y 0, x 0"):
        UndeclaredFill(xr.DataArray(values, dims=("time", "y", "x"), name="t"), "t.nc").refuse(values[3:4])


def test_a_fill_value_among_packed_numbers_is_found_unpacked():
    packed = np.where(KELVIN > 286, -999, np.round(KELVIN * 10) - 2731.5)
    encoding = {"dtype": np.dtype("i2"), "scale_factor": 0.1, "add_offset": 273.15}
    with pytest.raises(DataError, match=r"'t' holds 173.25, .* ncatted -a missing_value,t,o,s,-999 FILE"):
        refuse((packed * 0.1 + 273.15).astype(np.float32), encoding=encoding)


REAL = {
    "depths around -9999 m": with_cells(-RANDOM.integers(0, 10900, (4, 60, 60)), -9999),
    "the deepest of a slope": -np.linspace(0, 9999, 1000).round().reshape(1, 10, 100),
    "temperatures of -32.768 degC": with_cells(KELVIN - 313, -32.768),
    "air as cold as -99.9 degC": with_cells(np.round(KELVIN - 370, 1), -99.9),
    "counts": RANDOM.poisson(9999, (40, 8, 10)).astype(float),
    "few counts": RANDOM.poisson(0.1, (40, 8, 10)).astype(float),
    "large counts": with_cells(RANDOM.integers(0, 20000, (40, 8, 10)), 9999),
    "pressures around 999.9 hPa": with_cells(np.round(KELVIN + 725, 1), 999.9),
    "levels that never leave -9998 but once": with_cells(np.full((40, 8, 10), -9998), -9999),
    "a number of no custom": with_cells(KELVIN, -1234),
}


@pytest.mark.parametrize("name", REAL)
def test_a_number_among_others_is_measured(name):
    refuse(REAL[name].astype(np.float32))


def test_a_declared_range_says_that_a_number_is_measured():
    refuse(with_cells(KELVIN, -999), {"valid_min": -1000.0})
    with pytest.raises(DataError):
        refuse(with_cells(KELVIN, -999), {"valid_max": 1000.0})


def test_a_few_frames_are_judged_by_the_whole_record():
    record = RANDOM.integers(-2000, 2000, (500, 2, 2)).astype(np.float32)
    record[7] = [[-999, 10], [12, 11]]
    check = UndeclaredFill(xr.DataArray(record, dims=("time", "y", "x"), name="t"), "t.nc")
    assert check.sentinels.extent(record[7:8]).alone() == [-999]
    check.refuse(record[7:8])


@pytest.fixture
def spoilt(tmp_path):
    """A file with -9999 in a corner at every time, undeclared."""
    path = write_series(tmp_path / "t.nc")
    with xr.open_dataset(path) as dataset:
        other = dataset.load()
    other["t2m"][:, 0, 0] = -9999
    other["t2m"].encoding = {"_FillValue": None}
    other["mask"] = other["t2m"][0] * 0 + 1
    other["mask"][0, 0] = -9999
    other.to_netcdf(tmp_path / "spoilt.nc")
    return tmp_path / "spoilt.nc"


TINY = ("--variable", "t2m", "--context", 3, "--horizon", 2, "--epochs", 1, "--hidden", "4", "-q")
COMMANDS = {
    "info": ("info", "spoilt.nc", "--variable", "t2m"),
    "train": ("train", "spoilt.nc", "-o", "run", *TINY),
    "static": ("train", "t.nc", "-o", "run", *TINY, "--static", "spoilt.nc:mask"),
    "forcing": ("train", "t.nc", "-o", "run", *TINY, "--forcing", "spoilt.nc:t2m"),
    "mask": ("train", "t.nc", "-o", "run", *TINY, "--mask", "spoilt.nc:mask"),
    "dry run": ("train", "spoilt.nc", "-o", "run", *TINY, "--dry-run"),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("spoilt")
def test_every_command_refuses_an_undeclared_fill_value(name, forecast, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = forecast(*COMMANDS[name])
    assert result.exit_code == 3, result.stderr
    assert "holds -9999, a fill value that the file does not declare" in result.stderr


def test_rollout_and_evaluate_refuse_one_in_context_and_truth(forecast, spoilt, tmp_path):
    good, run = tmp_path / "t.nc", tmp_path / "run"
    assert forecast("train", good, "-o", run, *TINY).exit_code == 0
    assert forecast("rollout", run, "--data", good, "--steps", 2, "-o", tmp_path / "fc.nc").exit_code == 0
    for command in (
        ("rollout", run, "--data", spoilt, "--steps", 2, "-o", tmp_path / "other.nc"),
        ("evaluate", tmp_path / "fc.nc", "--truth", spoilt, "-o", tmp_path / "s.nc"),
    ):
        result = forecast(*command)
        assert (result.exit_code, "holds -9999, a fill value" in result.stderr) == (3, True), result.stderr


def test_cells_that_a_mask_leaves_out_may_hold_anything(forecast, spoilt, tmp_path):
    with netCDF4.Dataset(spoilt, "a") as file:
        file["mask"][0, 0] = 0
    run, forecasted = tmp_path / "run", tmp_path / "fc.nc"
    assert forecast("train", spoilt, "-o", run, *TINY, "--mask", f"{spoilt}:mask").exit_code == 0
    assert forecast("rollout", run, "--data", spoilt, "--steps", 2, "-o", forecasted).exit_code == 0
    result = forecast("evaluate", forecasted, "--truth", spoilt, "-o", tmp_path / "s.nc")
    assert result.exit_code == 0, result.stderr


def test_info_prints_minimum_mean_and_maximum(forecast, tmp_path):
    path = write_series(tmp_path / "t.nc", frames=4, height=2, width=2)
    with netCDF4.Dataset(path, "a") as file:
        file["t2m"][:] = np.arange(16).reshape(4, 2, 2)
        file["t2m"][0, 0] = np.nan
    (variable,) = json.loads(forecast("info", path, "--json").stdout)["variables"]
    # 2 to 15 are left: their mean is 8.5.
    found = [variable[key] for key in ("missing", "minimum", "mean", "maximum")]
    assert found == [2 / 16, 2.0, 8.5, 15.0]
    assert "t2m 2 to 15, mean 8.5" in forecast("info", path).stderr


def test_info_of_a_variable_without_values_says_so(forecast, tmp_path):
    path = write_series(tmp_path / "t.nc", frames=4, height=2, width=2)
    with netCDF4.Dataset(path, "a") as file:
        file["t2m"][:] = np.nan
    (variable,) = json.loads(forecast("info", path, "--json").stdout)["variables"]
    assert (variable["missing"], variable["minimum"], variable["mean"]) == (1.0, None, None)
    assert "t2m has none" in forecast("info", path).stderr


def test_info_of_a_large_file_reads_a_share_and_says_so(forecast, tmp_path, monkeypatch):
    path = write_series(tmp_path / "t.nc", frames=60)
    frame = open_fields([str(path)]).frame_bytes
    monkeypatch.setattr("forecast_cli.data.summaries._BLOCK_BYTES", 6 * frame)
    monkeypatch.setattr("forecast_cli.data.summaries._BUDGET_BYTES", 30 * frame)
    assert json.loads(forecast("info", path, "--json").stdout)["share_read"] == 0.5
    assert "(from a sample: 0.5 of the frames)" in forecast("info", path).stderr
