"""Values outside the valid range, and cells never written, are missing; whatever the type, the packing and the format."""

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from files import write_series

from forecast_cli.data.fields import open_fields
from forecast_cli.data.files import open_place
from forecast_cli.errors import DataError

STORED = np.arange(20).reshape(5, 2, 2)  # at the first time: 0 1 2 3


def write(path, kind, attributes, first=(), *, classic=False):
    """A variable whose stored numbers at the first time begin with `first`; returns what is read there."""
    with netCDF4.Dataset(path, "w", format="NETCDF3_CLASSIC" if classic else "NETCDF4") as file:
        for name, size in (("time", 5), ("y", 2), ("x", 2)):
            file.createDimension(name, size)
        variable = file.createVariable("t", kind, ("time", "y", "x"), endian=_endian(kind))
        variable.set_auto_maskandscale(False)
        variable.setncatts(attributes)
        values = STORED.astype(kind)
        values[0].flat[: len(first)] = first
        variable[:] = values
    return open_place(str(path)).dataset["t"].values[0].ravel()


def _endian(kind):
    return "big" if kind.startswith(">") else "native"


i1, i2 = np.int8, np.int16
PACKED = {"scale_factor": 0.5, "add_offset": 10.0}
CASES = {
    "valid_min": ("f4", {"valid_min": np.float32(1)}, (), [np.nan, 1, 2, 3]),
    "valid_max": ("f8", {"valid_max": 2.0}, (), [0, 1, 2, np.nan]),
    "bounds are valid": ("i4", {"valid_range": np.int32([1, 2])}, (), [np.nan, 1, 2, np.nan]),
    "a bound that float32 rounds": ("f4", {"valid_min": 0.1}, (np.float32(0.1),), [0.1, 1, 2, 3]),
    "of another type": ("f4", {"valid_min": i2(1)}, (), [np.nan, 1, 2, 3]),
    "of a wider type than the numbers": ("i2", {"valid_max": 10**6}, (30000,), [30000, 1, 2, 3]),
    "between whole numbers": ("i4", {"valid_min": 0.5}, (), [np.nan, 1, 2, 3]),
    "big-endian": (">i2", {"valid_range": i2([0, 500])}, (-1, 501), [np.nan, np.nan, 2, 3]),
    "bytes": ("u1", {"valid_max": np.uint8(200)}, (201, 200), [np.nan, 200, 2, 3]),
    "bytes read as unsigned": (
        "i1",
        {"_Unsigned": "true", "valid_range": i1([0, -56])},
        (-1, -56),
        [np.nan, 200, 2, 3],
    ),
    "packed, in packed numbers": ("i2", {**PACKED, "valid_range": i2([1, 2])}, (), [np.nan, 10.5, 11, np.nan]),
    "packed, in unpacked units": ("i2", {**PACKED, "valid_range": [10.5, 11.0]}, (), [np.nan, 10.5, 11, np.nan]),
    "packed downwards, in unpacked units": (
        "i2",
        {"scale_factor": -0.5, "add_offset": 10.0, "valid_range": [9.0, 9.5]},
        (),
        [np.nan, 9.5, 9, np.nan],
    ),
    "a range before its parts": ("f4", {"valid_range": [1.0, 9.0], "valid_min": 2.0}, (), [np.nan, 1, 2, 3]),
    "with missing values beside": (
        "i2",
        {"valid_max": i2(2), "missing_value": i2(1)},
        (),
        [0, np.nan, 2, np.nan],
    ),
    "several missing values": ("f4", {"missing_value": np.array([1.0, 2.0])}, (), [0, np.nan, np.nan, 3]),
    "a missing value that float32 rounds": ("f4", {"missing_value": -99.9}, (-99.9,), [np.nan, 1, 2, 3]),
    "a missing value written as text": ("f4", {"missing_value": "1"}, (), [0, np.nan, 2, 3]),
    "unwritten int16": ("i2", {}, (-32767,), [np.nan, 1, 2, 3]),
    "unwritten int32": ("i4", {}, (-2147483647,), [np.nan, 1, 2, 3]),
    "unwritten int64": ("i8", {}, (-9223372036854775806,), [np.nan, 1, 2, 3]),
    "unwritten uint16": ("u2", {}, (65535,), [np.nan, 1, 2, 3]),
    "unwritten, packed": ("i2", PACKED, (-32767,), [np.nan, 10.5, 11, 11.5]),
    "unwritten beside a missing value": ("i2", {"missing_value": i2(1)}, (-32767,), [np.nan, np.nan, 2, 3]),
    "bytes have no value for unwritten cells": ("u1", {}, (255,), [255, 1, 2, 3]),
    "a number beside the one for unwritten cells": ("i2", {}, (-32768,), [-32768, 1, 2, 3]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_cf_calls_missing_is_missing_and_nothing_else(name, tmp_path):
    kind, attributes, first, expected = CASES[name]
    np.testing.assert_array_equal(write(tmp_path / "t.nc", kind, attributes, first), np.array(expected, "f4"))


def test_unwritten_cells_of_a_classic_file_are_missing(tmp_path):
    found = write(tmp_path / "t.nc", "i2", {}, (-32767,), classic=True)
    np.testing.assert_array_equal(found, [np.nan, 1, 2, 3])


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"valid_range": [1.0, 2.0, 3.0]}, "valid_range = [1. 2. 3.] is not two numbers: ignored"),
        ({"valid_range": "1, 2"}, "valid_range = 1, 2 is not two numbers: ignored"),
        ({"valid_min": "low"}, "valid_min = low is not a number: ignored"),
        ({"valid_min": np.nan}, "valid_min = nan is not a number: ignored"),
        ({"valid_range": [2.0, 1.0]}, "valid_range: no number lies within: ignored"),
    ],
)
def test_a_range_without_meaning_is_ignored_with_a_note(attributes, said, tmp_path):
    np.testing.assert_array_equal(write(tmp_path / "t.nc", "f4", attributes), [0, 1, 2, 3])
    assert open_fields([str(tmp_path / "t.nc")]).notes == (f"{tmp_path / 't.nc'}: 't': {said}",)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_knows_the_valid_range_of_packed_numbers(tmp_path, zarr_format):
    pytest.importorskip("zarr")
    write(tmp_path / "t.nc", "i2", {**PACKED, "valid_range": i2([1, 2])})
    with xr.open_dataset(tmp_path / "t.nc", decode_cf=False) as stored:
        stored.to_zarr(tmp_path / "t.zarr", zarr_format=zarr_format, consolidated=False)
    found = open_place(str(tmp_path / "t.zarr")).dataset["t"].values[0].ravel()
    np.testing.assert_array_equal(found, [np.nan, 10.5, 11, np.nan])


def test_plain_hdf5_has_fill_values_of_its_own_and_none_of_netcdf(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("filled", (5, 2, 2), "i2", fillvalue=-7)[1:] = -32767
        file.create_dataset("zero", (5, 2, 2), "i2", fillvalue=0)[1:] = -32767
    found = open_place(str(tmp_path / "t.h5")).dataset
    assert (np.isnan(found["filled"].values).sum(), np.isnan(found["zero"].values).sum()) == (4, 0)
    assert found["filled"].values[1, 0, 0] == -32767


def test_whole_numbers_along_an_axis_keep_their_type(tmp_path):
    with netCDF4.Dataset(write_series(tmp_path / "t.nc"), "a") as file:
        file.createDimension("sample", 3)
        file.createVariable("sample", "i4", ("sample",))[:] = [5, 6, 7]
    assert open_place(str(tmp_path / "t.nc")).dataset["sample"].dtype == np.int32


def test_no_more_is_read_than_asked_for(tmp_path, monkeypatch):
    write(tmp_path / "t.nc", "i2", {"valid_range": i2([4, 9])})
    fields, read = open_fields([str(tmp_path / "t.nc")]), []
    from forecast_cli.data import missing

    whole = missing._Rule.__call__
    monkeypatch.setattr(missing._Rule, "__call__", lambda self, stored: read.append(stored.size) or whole(self, stored))
    np.testing.assert_array_equal(fields.read(0, 1, 3).ravel(), [4, 5, 6, 7, 8, 9, np.nan, np.nan])
    assert read == [8]


def test_a_value_outside_the_valid_range_is_refused_or_masked_in_training(forecast, tmp_path):
    with netCDF4.Dataset(write_series(tmp_path / "t.nc"), "a") as file:
        file["t2m"].valid_min = np.float32(150)
        file["t2m"][:, 0, 0] = -999
    command = ("train", tmp_path / "t.nc", "--context", 3, "--horizon", 2, "--epochs", 1, "--hidden", "4", "--dry-run")
    refused = forecast(*command, "-o", tmp_path / "run")
    assert refused.exit_code == 3
    assert "'t2m' is missing or infinite at frame 0, row 0, column 0" in refused.stderr
    assert forecast(*command, "-o", tmp_path / "run", "--nan", "mask").exit_code == 0


@pytest.mark.parametrize("kind", ["i4", "i8", "f8"])
def test_times_and_places_never_written_are_refused(tmp_path, kind):
    path = write_series(tmp_path / "s.nc", frames=5)
    for name, said in (("time", "time 'time' is missing at frame 4"), ("lat", "'lat' is nan at cell 5")):
        with xr.open_dataset(path, decode_times=False) as series, netCDF4.Dataset(tmp_path / f"{name}.nc", "w") as file:
            for axis, size in series.sizes.items():
                file.createDimension(axis, size)
                coordinate = file.createVariable(axis, kind if axis == name else "f8", (axis,))
                coordinate.units = series[axis].units
                coordinate[: size - (axis == name)] = series[axis].values[: size - (axis == name)]
            file.createVariable("t2m", "f4", series["t2m"].dims)[:] = series["t2m"].values
        with pytest.raises(DataError, match=said):
            open_fields([str(tmp_path / f"{name}.nc")])
