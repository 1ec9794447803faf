"""What is written reads back as it was: values, attributes, coordinates, calendar; by us and by plain xarray."""

import subprocess
import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from files import write_series

from forecast_cli.data.fields import open_fields
from forecast_cli.data.forecasts import open_forecast
from forecast_cli.data.output import open_writer, write_dataset
from forecast_cli.errors import OutputError

KINDS = ["file.nc", "file.zarr"]
TINY = ("--hidden", "4", "--context", "4", "--horizon", "2", "--epochs", "1")


def opened(path: Path, **options) -> xr.Dataset:
    """With plain xarray, as a user would."""
    return xr.open_zarr(path, **options).load() if path.suffix == ".zarr" else xr.load_dataset(path, **options)


def everything(calendar: str) -> xr.Dataset:
    """Every kind of variable that a file may hold."""
    time = xr.date_range("2001-02-25", periods=5, freq="6h", calendar=calendar, use_cftime=calendar != "standard")
    values = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    values[2, 1, 1] = np.nan
    y, x = np.arange(3.0), np.arange(4)
    return xr.Dataset(
        {
            "t2m": (("time", "y", "x"), values, {"units": "K", "standard_name": "air_temperature", "levels": [1, 2]}),
            "count": ("x", np.arange(4, dtype=np.int64), {"flag": 3}),
            "precise": ("y", np.array([0.1, 1e-300, -1e300])),
        },
        {
            "time": ("time", time, {"long_name": "time"}),
            "y": ("y", y, {"units": "m", "axis": "Y"}),
            "x": ("x", x, {"axis": "X"}),
            "lat": (("y", "x"), y[:, None] + 0.1 * x, {"units": "degrees_north"}),
            "station": ("x", ["a", "bb", "ccc", "ü"]),
            "elapsed": ("time", np.arange(5).astype("timedelta64[h]").astype("timedelta64[ns]")),
        },
        {"title": "all kinds", "number": 7},
    )


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day", "julian"])
def test_a_dataset_reads_back_bit_for_bit(tmp_path, name, calendar):
    before = everything(calendar)
    write_dataset(before, tmp_path / name)
    after = opened(tmp_path / name)
    for variable in before.variables:
        xr.testing.assert_equal(before[variable].variable, after[variable].variable)
        told = {key: value for key, value in after[variable].attrs.items() if key != "dtype"}
        for key, value in before[variable].attrs.items():
            np.testing.assert_array_equal(told.pop(key), value)
        assert told == {}, variable
    assert after["time"].encoding["calendar"] == {"standard": "proleptic_gregorian"}.get(calendar, calendar)
    assert {key: after.attrs[key] for key in before.attrs} == before.attrs
    assert after.attrs["Conventions"] == "CF-1.11"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.filterwarnings("error")
def test_numbers_of_either_byte_order_are_written_without_complaint(tmp_path, name, order):
    coordinate = xr.Variable("x", np.arange(3.0).astype(np.dtype("f8").newbyteorder(order)))
    with open_writer(tmp_path / name) as file:
        file.coordinate("x", coordinate)
    np.testing.assert_array_equal(opened(tmp_path / name)["x"], [0, 1, 2])


@pytest.mark.parametrize("name", KINDS)
def test_what_was_written_is_read_as_fields(tmp_path, name):
    before = everything("noleap")[["t2m"]]
    write_dataset(before, tmp_path / name)
    fields = open_fields([str(tmp_path / name)])
    np.testing.assert_array_equal(fields.read(0, 0, 5)[:, 0], before["t2m"].values)
    assert (fields.times.calendar, str(fields.times.step), fields.domain.variables[0].units) == (
        "noleap",
        "6 hours",
        "K",
    )


@pytest.mark.parametrize("naming", ["cf", "weatherbench2"])
@pytest.mark.parametrize("name", KINDS)
def test_a_forecast_is_the_same_in_every_form(series, series_run, forecast, tmp_path, name, naming):
    plain, other, picture = tmp_path / "plain.nc", tmp_path / name, tmp_path / "p.png"
    for path, options in ((plain, ()), (other, ("--naming", naming, "--overwrite"))):
        assert forecast("rollout", series_run, "--data", series, "-o", path, "--steps", 3, *options).exit_code == 0
    first, second = open_forecast(plain).dataset.load(), open_forecast(other).dataset.load()
    xr.testing.assert_equal(first, second)
    for variable in first.variables:
        assert first[variable].attrs == second[variable].attrs, variable
    scores = [
        forecast("evaluate", path, "--truth", series, "--baseline", "climatology:hour", "--json")
        for path in (plain, other)
    ]
    assert scores[0].stdout == scores[1].stdout
    assert forecast("plot", other, "-o", picture).exit_code == 0


def test_weatherbench_finds_its_own_names(series, series_run, forecast, tmp_path):
    path = tmp_path / "wb.zarr"
    done = forecast("rollout", series_run, "--data", series, "-o", path, "--steps", 3, "--naming", "weatherbench2")
    assert done.exit_code == 0
    dataset = xr.open_zarr(path, decode_timedelta=True)
    assert dataset["2m_temperature"].dims == ("time", "prediction_timedelta", "latitude", "longitude")
    assert dataset["prediction_timedelta"].values[1] == np.timedelta64(12, "h")
    assert dataset["time"].dtype.kind == "M"


def test_trajectories_have_no_names_for_weatherbench(trajectories, trajectory_run, forecast, tmp_path):
    options = ("-o", tmp_path / "fc.nc", "--naming", "weatherbench2")
    result = forecast("rollout", trajectory_run, "--data", trajectories, *options)
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert "for dated series" in result.output


def test_the_header_of_a_forecast_is_what_cf_expects(series, series_run, forecast, tmp_path):
    assert forecast("rollout", series_run, "--data", series, "-o", tmp_path / "fc.nc", "--steps", 3).exit_code == 0
    with netCDF4.Dataset(tmp_path / "fc.nc") as file:
        assert file.Conventions == "CF-1.11"
        assert {"title", "history", "source"} <= set(file.ncattrs())
        names = {name: getattr(file[name], "standard_name", "") for name in ("init_time", "lead_time", "valid_time")}
        assert names == {"init_time": "forecast_reference_time", "lead_time": "forecast_period", "valid_time": "time"}
        for name in ("init_time", "valid_time"):
            assert " since " in file[name].units
            assert file[name].calendar
        assert "valid_time" in file["t2m"].coordinates.split()
        assert file["t2m"].units == "K"
        assert all(dimension in file.variables for dimension in file["t2m"].dimensions)
        assert not any("_FillValue" in file[name].ncattrs() for name in ("init_time", "lead_time", "valid_time", "lat"))


def test_months_and_two_dimensional_coordinates_and_bounds_go_along(forecast, tmp_path):
    data, run, out = tmp_path / "d.nc", tmp_path / "run", tmp_path / "fc.nc"
    with xr.open_dataset(write_series(tmp_path / "s.nc", freq="MS", calendar="360_day", frames=60)) as series:
        dataset = series.load()
    dataset["lat"].attrs["bounds"] = "lat_bnds"
    dataset["lat_bnds"] = (("lat", "nv"), np.stack([dataset["lat"] - 1, dataset["lat"] + 1], axis=1))
    dataset["area"] = (("lat", "lon"), np.ones((6, 8)), {"units": "m2"})
    dataset = dataset.set_coords("area")
    dataset.to_netcdf(data)
    assert forecast("train", data, "-o", run, *TINY).exit_code == 0
    assert forecast("rollout", run, "--data", data, "-o", out, "--steps", 3).exit_code == 0
    after = xr.load_dataset(out, decode_timedelta=False)
    np.testing.assert_array_equal(after["lat_bnds"], dataset["lat_bnds"])
    np.testing.assert_array_equal(after["area"], dataset["area"])
    assert after["lat"].attrs["bounds"] == "lat_bnds"
    assert after["init_time"].values[0].calendar == "360_day"
    assert "t2m_climatology_month" in after


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from forecast_cli.data.output import open_writer
from forecast_cli.errors import OutputError

resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # what a file may grow to: a disk that is full
try:
    with open_writer(Path(sys.argv[1]), overwrite=True) as file:
        file.field("u", {"time": 4, "x": 100_000}, {}, chunks=(1, 100_000))
        for i in range(4):
            file.write("u", (i,), np.random.default_rng(i).random(100_000, np.float32))
            file.sync()
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("name", KINDS)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, name):
    write_dataset(everything("standard"), tmp_path / name)
    before = opened(tmp_path / name)
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path / name], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert f"{name}: cannot be written" in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    xr.testing.assert_identical(opened(tmp_path / name), before)


def test_a_killed_writer_leaves_no_final_store(tmp_path):
    def killed() -> None:
        with open_writer(tmp_path / "file.zarr") as file:
            file.field("u", {"x": 3}, {})
            assert [entry.name for entry in tmp_path.iterdir()] == [file.partial.name]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_store_is_not_replaced(tmp_path):
    (tmp_path / "data.zarr").mkdir()
    (tmp_path / "data.zarr" / "kept").touch()
    with pytest.raises(OutputError, match="is a folder"):
        write_dataset(everything("standard"), tmp_path / "data.zarr", overwrite=True)
    assert (tmp_path / "data.zarr" / "kept").exists()


def packed_coordinates(path: Path) -> Path:
    """A series on the fixed grid of a geostationary satellite: its coordinates are packed into 16 bits."""
    with xr.open_dataset(write_series(path.with_name("s.nc"))) as series:
        values = series["t2m"].values
    with netCDF4.Dataset(path, "w") as file:
        for name, size in zip(("time", "y", "x"), values.shape, strict=True):
            file.createDimension(name, size)
        time = file.createVariable("time", "f8", ("time",))
        time[:], time.units = 300 * np.arange(len(values)), "seconds since 2020-01-01"
        for name, scale, offset in (("y", -5.6e-5, 0.128212), ("x", 5.6e-5, -0.101332)):
            axis = file.createVariable(name, "i2", (name,))
            axis.set_auto_maskandscale(False)
            axis[:] = np.arange(axis.size)
            axis.setncatts({"scale_factor": np.float32(scale), "add_offset": np.float32(offset), "units": "rad"})
        file.createVariable("t2m", "f4", ("time", "y", "x"))[:] = values
    return path


@pytest.mark.parametrize("name", KINDS)
def test_packed_coordinates_are_packed_once(forecast, tmp_path, name):
    data, run, out = packed_coordinates(tmp_path / "d.nc"), tmp_path / "run", tmp_path / name
    assert forecast("train", data, "-o", run, *TINY).exit_code == 0
    assert forecast("rollout", run, "--data", data, "-o", out, "--steps", 2).exit_code == 0
    with xr.open_dataset(data) as source:
        for axis in ("y", "x"):
            stored = opened(out, mask_and_scale=False)[axis]
            assert (stored.values.tolist(), stored.dtype) == (list(range(source[axis].size)), np.int16)
            np.testing.assert_allclose(opened(out)[axis], source[axis], rtol=1e-6)
    assert forecast("evaluate", out, "--truth", data).exit_code == 0


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        ([-10.0, 0.0, 10.0], {"dtype": "uint16", "scale_factor": 0.01, "add_offset": 0.0}),
        ([0.0, 0.005, 0.01], {"dtype": "int16", "scale_factor": 0.01, "add_offset": 0.0}),
        ([np.nan, 0.0, 0.01], {"dtype": "int16", "scale_factor": 0.01, "add_offset": 0.0}),
        ([0.0, 0.5, 1.0], {"dtype": "int32"}),
    ],
    ids=["negative", "between the steps", "missing", "halves"],
)
@pytest.mark.filterwarnings("error")
def test_a_coordinate_that_its_packing_cannot_hold_is_written_unpacked(tmp_path, name, values, encoding):
    coordinate = xr.Variable("x", values, {"units": "m", "valid_range": np.array([0, 9], "i2")}, encoding)
    with open_writer(tmp_path / name) as file:
        file.coordinate("x", coordinate)
    written = opened(tmp_path / name)["x"]
    np.testing.assert_array_equal(written, values)
    assert "valid_range" not in written.attrs


def test_bounds_and_areas_stay_out_of_the_list_of_coordinates(forecast, tmp_path):
    data, run, out = tmp_path / "d.nc", tmp_path / "run", tmp_path / "fc.nc"
    with xr.open_dataset(write_series(tmp_path / "s.nc")) as series:
        dataset = series.load()
    for axis in ("lat", "lon"):
        dataset[axis].attrs["bounds"] = f"{axis}_bnds"
        dataset[f"{axis}_bnds"] = ((axis, "bnds"), np.stack([dataset[axis] - 1, dataset[axis] + 1], axis=1))
    dataset["area"] = (("lat", "lon"), np.ones((6, 8)), {"units": "m2"})
    dataset["t2m"].attrs["cell_measures"] = "area: area"
    dataset.assign_coords(height=2.0).to_netcdf(data)
    assert forecast("train", data, "-o", run, *TINY).exit_code == 0
    assert forecast("rollout", run, "--data", data, "-o", out, "--steps", 2).exit_code == 0
    with netCDF4.Dataset(out) as file:
        assert file["t2m"].coordinates == "valid_time height"
        assert (file["lat"].bounds, file["lat_bnds"].dimensions) == ("lat_bnds", ("lat", "bnds"))
        assert file["lat_bnds"].ncattrs() == []


def test_coordinates_and_fields_without_a_name_get_one(forecast, tmp_path):
    data, run, out = tmp_path / "d.nc", tmp_path / "run", tmp_path / "fc.nc"
    with xr.open_dataset(write_series(tmp_path / "s.nc")) as series:
        dataset = series.load()
    for name in ("t2m", "lat", "lon"):
        dataset[name].attrs = {"units": dataset[name].attrs["units"]}
    dataset.to_netcdf(data)
    assert forecast("train", data, "-o", run, *TINY).exit_code == 0
    assert forecast("rollout", run, "--data", data, "-o", out, "--steps", 2).exit_code == 0
    with netCDF4.Dataset(out) as file:
        assert (file["lat"].standard_name, file["lon"].standard_name) == ("latitude", "longitude")
        assert file["t2m"].long_name == "t2m"


def test_plain_times_have_no_standard_name_of_dates(trajectories, trajectory_run, forecast, tmp_path):
    out = tmp_path / "fc.nc"
    assert forecast("rollout", trajectory_run, "--data", trajectories, "-o", out).exit_code == 0
    with netCDF4.Dataset(out) as file:
        for name in ("init_time", "valid_time"):
            assert "standard_name" not in file[name].ncattrs()
