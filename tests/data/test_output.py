"""Laws of writing: whole under the final name or not at all, and read back as written."""

from datetime import timedelta

import netCDF4
import numpy as np
import pytest
import xarray as xr

from forecast_cli.data.output import NetCDFWriter, refuse_overwrite, write_atomically, write_dataset
from forecast_cli.errors import OutputError

SIZES = {"time": 3, "x": 4}


def write_field(path, values=None, **options):
    with NetCDFWriter(path, **options) as file:
        file.field("u", SIZES, {"units": "m s-1"})
        file.write("u", (slice(None),), np.ones((3, 4), np.float32) if values is None else values)


def write_and_fail(path, failure, **options):
    with NetCDFWriter(path, **options) as file:
        file.field("u", SIZES, {})
        raise failure


def test_the_final_name_appears_only_at_the_end(tmp_path):
    path = tmp_path / "out.nc"
    with NetCDFWriter(path) as file:
        file.field("u", SIZES, {})
        file.write("u", (0,), np.ones(4, np.float32))
        file.sync()
        assert [entry.name for entry in tmp_path.iterdir()] == [file.partial.name]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.nc"]


def test_a_synced_block_is_on_the_disk(tmp_path):
    with NetCDFWriter(tmp_path / "out.nc") as file:
        file.field("u", SIZES, {})
        empty = file.partial.stat().st_size
        file.write("u", (slice(None),), np.random.default_rng(0).random((3, 4), np.float32))
        file.sync()
        assert file.partial.stat().st_size > empty


@pytest.mark.parametrize("failure", [ZeroDivisionError, KeyboardInterrupt, OutputError])
def test_a_failure_leaves_neither_a_final_nor_a_partial_file(tmp_path, failure):
    with pytest.raises(failure):
        write_and_fail(tmp_path / "out.nc", failure)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_the_file_that_was_to_be_replaced(tmp_path):
    path = tmp_path / "out.nc"
    write_field(path)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        write_and_fail(path, ZeroDivisionError, overwrite=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("operation", ["setncatts", "createVariable", "variables", "sync", "close"])
@pytest.mark.parametrize("error", [RuntimeError("NetCDF: HDF error"), OSError(28, "No space left on device")])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, operation, error):
    library = netCDF4.Dataset

    class FullDisk:
        def __init__(self, *arguments, **options):
            self.file = library(*arguments, **options)

        def __getattr__(self, name):
            if name == operation:
                raise error
            return getattr(self.file, name)

    monkeypatch.setattr(netCDF4, "Dataset", FullDisk)
    with pytest.raises(OutputError, match=r"out\.nc: cannot be written \((NetCDF: HDF error|No space left)") as raised:
        write_and_sync(tmp_path / "out.nc")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def write_and_sync(path):
    with NetCDFWriter(path) as file:
        file.field("u", SIZES, {})
        file.write("u", (0,), np.ones(4, np.float32))
        file.sync()


def test_a_failure_is_not_hidden_by_a_file_that_cannot_be_closed(tmp_path, monkeypatch):
    def fail(_):
        raise RuntimeError("NetCDF: HDF error")

    monkeypatch.setattr(netCDF4.Dataset, "close", fail)
    with pytest.raises(ZeroDivisionError):
        write_and_fail(tmp_path / "out.nc", ZeroDivisionError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("there.nc", "exists.*--overwrite"),
        ("folder", "is a folder"),
        ("missing/out.nc", "mkdir -p"),
        ("there.nc/out.nc", "folder"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_refused_at_once(tmp_path, path, said):
    (tmp_path / "there.nc").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=said):
        NetCDFWriter(tmp_path / path)
    with pytest.raises(OutputError, match=said):
        refuse_overwrite(tmp_path / path, False)
    assert (tmp_path / "there.nc").read_text() == "old"


def test_a_folder_that_goes_away_is_an_output_error(tmp_path):
    (tmp_path / "folder").mkdir()
    writer = NetCDFWriter(tmp_path / "folder" / "out.nc")
    (tmp_path / "folder").rmdir()
    with pytest.raises(OutputError, match="cannot be written"):
        writer.__enter__()


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        refuse_overwrite(tmp_path, True)


def test_overwrite_replaces(tmp_path):
    path = tmp_path / "out.nc"
    write_field(path)
    write_field(path, np.full((3, 4), 2, np.float32), overwrite=True)
    with xr.open_dataset(path) as read:
        assert (read.u == 2).all()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_nan_is_stored_as_the_fill_value_and_read_as_nan(tmp_path, dtype):
    values = np.arange(12, dtype=dtype).reshape(3, 4)
    values[1, 2] = np.nan
    values[2, 0] = np.inf
    with NetCDFWriter(tmp_path / "out.nc") as file:
        file.field("u", SIZES, {}, dtype=dtype)
        file.write("u", (slice(None),), values)
    with xr.open_dataset(tmp_path / "out.nc", mask_and_scale=False) as stored:
        assert stored.u.values[1, 2] == stored.u.attrs["_FillValue"]
    with xr.open_dataset(tmp_path / "out.nc") as read:
        np.testing.assert_array_equal(read.u.values, values)


def test_blocks_land_where_they_belong(tmp_path):
    values = np.random.default_rng(0).random((3, 4)).astype(np.float32)
    with NetCDFWriter(tmp_path / "out.nc") as file:
        file.field("u", SIZES, {"units": "K"}, chunks=(1, 4))
        for row in (2, 0):
            file.write("u", (row, slice(None)), values[row])
    with xr.open_dataset(tmp_path / "out.nc") as read:
        np.testing.assert_array_equal(read.u.values[[0, 2]], values[[0, 2]])
        assert read.u.isel(time=1).isnull().all()
        assert read.u.attrs == {"units": "K"}
        assert read.u.encoding["chunksizes"] == (1, 4)


@pytest.mark.parametrize(
    "values",
    [
        xr.date_range("1999-12-30", periods=5, freq="6h").values,
        xr.date_range("2000-02-27", periods=5, freq="D", calendar="360_day", use_cftime=True).values,
        xr.date_range("2000-02-27", periods=5, freq="D", calendar="noleap", use_cftime=True).values,
        (6 * np.arange(1, 6)).astype("timedelta64[h]").astype("timedelta64[ns]"),
        0.1 * np.arange(5),
        np.arange(5, dtype=np.int32),
        np.array(["north", "south", "east", "west", "up"]),
    ],
    ids=["dates", "360_day", "noleap", "timedelta", "numbers", "integers", "words"],
)
def test_a_coordinate_is_read_back_as_it_was(tmp_path, values):
    with NetCDFWriter(tmp_path / "out.nc") as file:
        file.coordinate("c", xr.Variable("c", values, {"long_name": "a coordinate"}))
    with xr.open_dataset(tmp_path / "out.nc") as read:
        np.testing.assert_array_equal(read.c.values, values)
        assert read.c.dtype.kind == values.dtype.kind
        assert read.c.attrs["long_name"] == "a coordinate"


def test_a_coordinate_keeps_the_units_and_calendar_it_came_with(tmp_path):
    times = xr.date_range("2000-01-01", periods=3, freq="6h")
    variable = xr.Variable(
        "time", times, {}, {"units": "hours since 1900-01-01", "calendar": "standard", "dtype": "float64"}
    )
    with NetCDFWriter(tmp_path / "out.nc") as file:
        file.coordinate("time", variable)
    with xr.open_dataset(tmp_path / "out.nc", decode_times=False) as stored:
        assert stored.time.attrs["units"] == "hours since 1900-01-01"
        assert stored.time.attrs["calendar"] == "standard"
        assert (np.diff(stored.time) == 6).all()


def test_a_dataset_is_read_back_as_it_was(tmp_path):
    dataset = xr.Dataset(
        {"rmse": (("model", "lead_time"), [[1.0, np.nan]], {"units": "K"}), "count": ((), 3)},
        coords={
            "model": ["ours"],
            "lead_time": ("lead_time", np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]")),
        },
        attrs={"averaged": "over all"},
    )
    write_dataset(dataset, tmp_path / "out.nc")
    with xr.open_dataset(tmp_path / "out.nc") as read:
        xr.testing.assert_equal(read, dataset)
        assert read.lead_time.values[0] == np.timedelta64(timedelta(hours=6))
        assert read.attrs["averaged"] == "over all"


def test_every_file_says_what_made_it(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/forecast", "simulate", "navier-stokes"])
    write_field(tmp_path / "out.nc")
    with xr.open_dataset(tmp_path / "out.nc") as read:
        assert read.attrs["Conventions"] == "CF-1.11"
        assert read.attrs["source"].startswith("forecast_cli ")
        assert read.attrs["history"].endswith("forecast simulate navier-stokes")


def test_content_is_replaced_atomically(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.toml"]


def test_content_that_cannot_be_written_leaves_the_old(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_atomically(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.toml"]
    assert path.read_bytes() == b"old"
