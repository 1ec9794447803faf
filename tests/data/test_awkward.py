"""Awkward files, each with its verdict: what is understood of it, or the line that refuses it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest
import scipy.io
import xarray as xr
from files import travelling_wave

from forecast_cli.data.fields import Fields, open_fields
from forecast_cli.errors import DataError

T, Y, X = 8, 4, 6
WAVE = travelling_wave(T, Y, X)
LAT = ("lat", np.linspace(60, 45, Y), {"units": "degrees_north"})
LON = ("lon", np.linspace(10, 35, X), {"units": "degrees_east"})
HOURS = ("time", np.arange(T), {"units": "hours since 2001-01-01"})


def dataset(values: np.ndarray = WAVE, **coords: Any) -> xr.Dataset:
    """t(time, lat, lon), hourly on a region unless other coordinates are given."""
    return xr.Dataset({"t": (("time", "lat", "lon"), values)}, {"time": HOURS, "lat": LAT, "lon": LON} | coords)


def written(**encoding: Any) -> Callable[[Path], None]:
    return lambda path: dataset().to_netcdf(path, encoding={"t": encoding})


def with_coords(**coords: Any) -> Callable[[Path], None]:
    return lambda path: dataset(**coords).to_netcdf(path)


def globe(longitudes: np.ndarray) -> Callable[[Path], None]:
    lon = ("lon", longitudes, {"units": "degrees_east"})
    values = travelling_wave(T, Y, len(longitudes))
    return lambda path: dataset(values, lon=lon).to_netcdf(path)


def times(values: Any, units: str, **attributes: str) -> Callable[[Path], None]:
    return with_coords(time=("time", np.asarray(values), {"units": units} | attributes))


def hdf5(
    arrays: dict[str, Any], attributes: dict[str, dict[str, Any]] | None = None, **options: Any
) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "w", **options) as file:
            for name, values in arrays.items():
                file[name] = values
            for name, content in (attributes or {}).items():
                file.require_group(name).attrs.update(content)
        if "userblock_size" in options:
            with path.open("r+b") as file:
                file.write(b"MATLAB 7.3 MAT-file")

    return write


def matlab(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda path: scipy.io.savemat(path, arrays)


def fill_of_two_kinds(path: Path) -> None:
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("time", T), ("lat", Y), ("lon", X)):
            file.createDimension(name, size)
        t = file.createVariable("t", "i2", ("time", "lat", "lon"), fill_value=-32768)
        t.setncatts({"missing_value": -999.0, "scale_factor": -0.5, "add_offset": 10.0})
        t.set_auto_maskandscale(False)
        t[:] = np.arange(T * Y * X).reshape(T, Y, X)
        t[0, 0, :2] = [-32768, -999]


def undeclared(value: float, kind: str = "f4") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        values = WAVE.astype(kind)
        values[3, 1, 2] = value
        data = dataset(values)
        data["t"].encoding["_FillValue"] = None
        data.to_netcdf(path)

    return write


def curved(reverse: bool) -> Callable[[Path], None]:
    """Latitudes and longitudes in two dimensions, also in the other order."""
    y, x = np.meshgrid(np.arange(Y), np.arange(X), indexing="ij")
    dims = ("ni", "nj") if reverse else ("nj", "ni")
    data = xr.Dataset(
        {"t": (("time", "nj", "ni"), WAVE)},
        {
            "time": HOURS,
            "nlat": (dims, (50 + y + 0.1 * x).transpose((1, 0) if reverse else (0, 1)), {"units": "degrees_north"}),
            "nlon": (dims, (10 + x + 0.1 * y).transpose((1, 0) if reverse else (0, 1)), {"units": "degrees_east"}),
        },
    ).rename(nj="y", ni="x")
    return lambda path: data.to_netcdf(path)


def in_group(*groups: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        for i, group in enumerate(groups):
            dataset().to_netcdf(path, group=group, mode="a" if i else "w")

    return write


def bounded(path: Path) -> None:
    data = dataset()
    data["lat"].attrs["bounds"] = "lat_bnds"
    data["time"].attrs["bounds"] = "time_bnds"
    data["lat_bnds"] = (("lat", "nv"), np.stack([data["lat"] - 2.5, data["lat"] + 2.5], axis=1))
    data["time_bnds"] = (("time", "nv"), np.stack([np.arange(T), np.arange(T) + 1], axis=1))
    data.to_netcdf(path)


def said_of(variable: str, **attributes: Any) -> Callable[[Path], None]:
    """A file whose attributes are of kinds that no program should give them."""

    def write(path: Path) -> None:
        dataset().to_netcdf(path)
        with h5py.File(path, "r+") as file:
            file[variable].attrs.update(attributes)

    return write


def the_well(bc: str) -> Callable[[Path], None]:
    return hdf5(
        {
            "dimensions/time": np.arange(5.0),
            "dimensions/x": np.linspace(0, 1, 8),
            "dimensions/y": np.linspace(0, 1, 6),
            "t0_fields/buoyancy": np.random.default_rng(0).random((3, 5, 8, 6), np.float32),
            "t0_fields/constant": np.zeros((3,)),
            "t1_fields/velocity": np.random.default_rng(0).random((3, 5, 8, 6, 2), np.float32),
            "scalars/rayleigh": 1e6,
        },
        {"dimensions": {"spatial_dims": ["x", "y"]}, "boundary_conditions/all": {"bc_type": bc}},
    )


def radar(path: Path) -> None:
    hdf5(
        {"image1/image_data": np.zeros((9, 8), np.uint16)},
        {"image1/calibration": {"calibration_formulas": "GEO=0.01*PV"}},
    )(path)


@dataclass(frozen=True)
class Case:
    """One file. Understood if `refused` is empty: variables, (sample, frame, height, width), boundary, words of the note."""

    write: Callable[[Path], None]
    refused: tuple[str, ...] = ()
    variables: tuple[str, ...] = ("t",)
    shape: tuple[int, int, int, int] = (1, T, Y, X)
    boundary: str = "zeros"
    note: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    name: str = "file.nc"
    also: Callable[[Fields], bool] = lambda _: True


NS = np.random.default_rng(0).random((5, 8, 6, 3), np.float32)
"""Vorticity as MATLAB 7.3 stores it: (time, y, x, sample)."""

CASES = {
    "packed": Case(written(dtype="i2", scale_factor=0.01, add_offset=280.0, _FillValue=-32767)),
    "packed with a negative factor": Case(
        written(dtype="i2", scale_factor=-0.01, add_offset=280.0, _FillValue=-32767),
        also=lambda fields: np.allclose(fields.read(0, 0, T)[:, 0], WAVE, atol=0.006),
    ),
    "two fill values of two types": Case(
        fill_of_two_kinds,
        also=lambda fields: (
            np.isnan(fields.read(0, 0, 1)).sum() == 2 and fields.read(0, 0, 1)[0, 0, 0, 2] == 10 - 0.5 * 2
        ),
        options={"dims": {"time": "time"}},
    ),
    "the default fill value undeclared": Case(
        undeclared(9.969209968386869e36), ("'t' holds 9.96921e+36", "ncatted", "--nan mask")
    ),
    "the same in double": Case(undeclared(9.969209968386869e36, "f8"), ("'t' holds 9.96921e+36",)),
    "1e20 undeclared": Case(undeclared(1e20), ("'t' holds 1e+20, a fill value that the file does not declare",)),
    "a large number that is none": Case(
        undeclared(3.3e20), also=lambda fields: np.nanmax(fields.read_checked(0, 0, T)) > 1e20
    ),
    "latitudes descend": Case(with_coords(), also=lambda fields: fields.domain.y.spacing == -5),
    "latitudes ascend": Case(with_coords(lat=("lat", LAT[1][::-1], LAT[2])), also=lambda f: f.domain.y.spacing == 5),
    "longitudes 0..360": Case(globe(np.arange(0, 360, 30.0)), shape=(1, T, Y, 12), boundary="cylinder"),
    "longitudes 20..380": Case(globe(np.arange(20, 380, 30.0)), shape=(1, T, Y, 12), boundary="cylinder"),
    "longitudes -180..180": Case(globe(np.arange(-180, 180, 30.0)), shape=(1, T, Y, 12), boundary="cylinder"),
    "a last longitude that is the first": Case(
        globe(np.arange(0, 361, 30.0)),
        shape=(1, T, Y, 12),
        boundary="cylinder",
        note="longitude 360 repeats 0: left out",
    ),
    "latitudes in two dimensions": Case(
        curved(False), also=lambda f: {"nlat", "nlon"} <= f.spatial_coordinates().keys()
    ),
    "latitudes in two dimensions, turned": Case(
        curved(True), also=lambda fields: fields.spatial_coordinates()["nlat"].dims == ("y", "x")
    ),
    "a year of 360 days": Case(times(np.arange(T), "days since 2001-02-25", calendar="360_day")),
    "a year without leap days": Case(times(np.arange(T), "days since 2004-02-25", calendar="noleap")),
    "years before datetime64": Case(times(np.arange(T), "days since 0001-01-01", calendar="julian")),
    "calendar months": Case(
        times([0, 31, 59, 90, 120, 151, 181, 212], "days since 2001-01-01"),
        also=lambda f: str(f.times.step) == "1 month",
    ),
    "months since": Case(times(np.arange(T), "months since 1958-1-1"), also=lambda f: str(f.times.step) == "1 month"),
    "years since": Case(times(np.arange(T), "years since 1958-1-1"), also=lambda f: str(f.times.step) == "1 year"),
    "parts of months since": Case(
        times(0.5 * np.arange(T), "months since 1958-1-1"), ("parts of a month", "--time-as-steps")
    ),
    "Januaries and Februaries": Case(
        times([0, 1, 13, 25, 37, 49, 61, 73], "months since 1958-1-1"),
        ("1958-01-01T00:00:00 is followed by 1958-02-01", "--select time=START:STOP", "--time-as-steps"),
    ),
    "the same as steps": Case(
        times([0, 1, 13, 25, 37, 49, 61, 73], "months since 1958-1-1"),
        options={"time_as_steps": True},
        also=lambda fields: fields.times.values.tolist() == list(range(T)),
    ),
    "times that nobody can decode": Case(
        times(np.arange(T), "fortnights since 2001-01-01"), ("cannot be decoded", "--time-as-steps")
    ),
    "the same undecoded": Case(times(np.arange(T), "fortnights since 2001-01-01"), options={"time_as_steps": True}),
    "a time that stands twice": Case(
        times([0, 1, 2, 3, 3, 4, 5, 6], "hours since 2001-01-01"),
        ("T03:00:00", "stands twice (frames 3 and 4)"),
    ),
    "times all 0": Case(times(np.zeros(T), "1"), ("time 0 of 'time' stands twice",)),
    "times in no order": Case(
        times([3, 0, 1, 2, 4, 7, 6, 5], "hours since 2001-01-01"),
        note="not in order: sorted",
        also=lambda f: np.array_equal(f.read(0, 0, T)[:, 0], WAVE[[1, 2, 3, 0, 4, 7, 6, 5]]),
    ),
    "times that run backwards": Case(times(np.arange(T)[::-1], "hours since 2001-01-01"), note="not in order: sorted"),
    "a gap in the times": Case(
        times([0, 1, 2, 4, 5, 6, 7, 8], "hours since 2001-01-01"), ("not evenly spaced", "frame 3")
    ),
    "attributes that no output could carry": Case(
        said_of(
            "t", **{"CLASS": "x", "_ARRAY_DIMENSIONS": "x", "a/b": 1, "none": np.empty(0), "flag": True, "fine": 1}
        ),
        also=lambda fields: fields.dataset["t"].attrs == {"fine": 1},
    ),
    "gaps marked by what is no number": Case(
        said_of("lat", missing_value="x"), also=lambda fields: "missing_value" not in fields.dataset["lat"].encoding
    ),
    "half precision": Case(
        hdf5({"density": NS.astype("f2"), "t-coordinate": np.arange(9.0), "x-coordinate": np.arange(6.0)}),
        ("'/density' has numbers of 16 bits", "Store it as float32"),
        name="2D_CFD.hdf5",
    ),
    "times beyond all calendars": Case(
        times(1e18 * np.arange(T), "hours since 2001-01-01"), ("cannot be decoded", "--time-as-steps")
    ),
    "a calendar of another world": Case(
        times(np.arange(T), "days since 2001-01-01", calendar="lunar"), ("cannot be decoded", "--time-as-steps")
    ),
    "a scale that is a text": Case(
        said_of("t", scale_factor="x"), ("file.nc", "'t' cannot be read", "copy or download")
    ),
    "a scale without bounds": Case(said_of("t", scale_factor=1e308), ("'t' is missing or infinite",)),
    "a coordinate scaled by a text": Case(said_of("lat", scale_factor="x"), ("file.nc: damaged or truncated",)),
    "a standard name of three numbers": Case(
        said_of("lat", standard_name=np.arange(3), units=np.arange(2)), boundary="zeros"
    ),
    "a longitude that is missing": Case(
        with_coords(lon=("lon", [10, 15, np.nan, 25, 30, 35], LON[2])), ("coordinate 'lon' is nan at cell 2",)
    ),
    "a last longitude that is missing": Case(
        with_coords(lon=("lon", [10, 15, 20, 25, 30, np.nan], LON[2])), ("coordinate 'lon' is nan at cell 5",)
    ),
    "latitudes that are all the same": Case(
        with_coords(lat=("lat", np.full(Y, 7.0), LAT[2])), ("'lat' is 7 in all cells",)
    ),
    "times as text": Case(with_coords(time=("time", [f"day {i}" for i in range(T)])), ("are text",)),
    "one group": Case(in_group("run/fields"), note="fields found in group /run/fields"),
    "two groups": Case(in_group("run1", "run2"), ("fields in several groups", "file.nc:/run1", "file.nc:/run2")),
    "bounds": Case(bounded),
    "a map without time": Case(
        lambda path: dataset().isel(time=0, drop=True).to_netcdf(path),
        ("has no time: a static field", "--static", "file.nc:t"),
    ),
    "a map for forecast info": Case(
        lambda path: dataset().isel(time=0, drop=True).to_netcdf(path),
        shape=(1, 1, Y, X),
        options={"static": True},
        note="no time, a static field: an input for --static",
    ),
    "The Well": Case(
        the_well("PERIODIC"),
        variables=("buoyancy", "velocity_x", "velocity_y"),
        shape=(3, 5, 6, 8),
        boundary="circular",
        name="well.hdf5",
    ),
    "The Well between walls": Case(
        the_well("WALL"), variables=("buoyancy", "velocity_x", "velocity_y"), shape=(3, 5, 6, 8), name="well.hdf5"
    ),
    "PDEBench, tensor": Case(
        hdf5({"tensor": NS[..., 0], "t-coordinate": np.arange(9.0), "x-coordinate": np.linspace(0, 1, 6)}),
        variables=("tensor",),
        shape=(5, 8, 1, 6),
        name="1D_Advection.hdf5",
    ),
    "PDEBench, an array a variable": Case(
        hdf5(
            {
                "density": NS,
                "Vx": NS,
                "t-coordinate": np.arange(9.0),
                "x-coordinate": np.arange(6.0),
                "y-coordinate": np.arange(3.0),
            }
        ),
        variables=("Vx", "density"),
        shape=(5, 8, 3, 6),
        name="2D_CFD.hdf5",
    ),
    "Fourier operator, MATLAB 7.3": Case(
        hdf5({"u": NS, "a": NS[0], "t": np.arange(5.0)[:, None]}, userblock_size=512),
        variables=("u",),
        shape=(3, 5, 8, 6),
        boundary="circular",
        name="ns.mat",
        also=lambda fields: np.array_equal(fields.read(2, 0, 5)[:, 0], NS[..., 2]),
    ),
    "Fourier operator, MATLAB 5": Case(
        matlab(u=NS.transpose(3, 2, 1, 0), a=NS[0].transpose(2, 1, 0), t=np.arange(5.0)),
        variables=("u",),
        shape=(3, 5, 8, 6),
        boundary="circular",
        name="ns.mat",
        also=lambda fields: np.array_equal(fields.read(2, 0, 5)[:, 0], NS[..., 2]),
    ),
    "MATLAB 5 with vectors": Case(
        matlab(usol=WAVE[:, 0].T, x=np.arange(X)[:, None], t=np.arange(float(T))[:, None]),
        variables=("usol",),
        shape=(1, T, 1, X),
        name="burgers.mat",
        also=lambda fields: np.array_equal(fields.read(0, 0, T)[:, 0, 0], WAVE[:, 0]),
    ),
    "MATLAB 5 without vectors": Case(
        matlab(usol=WAVE[:, 0]), ("'usol' has an axis of 8", "named dimensions"), name="b.mat"
    ),
    "MATLAB 5, complex": Case(
        matlab(u=WAVE[:, 0] * 1j, x=np.arange(X), t=np.arange(T)), ("'u' is complex",), name="b.mat"
    ),
    "HDF5 without names": Case(
        hdf5({"u": WAVE}), ("cannot tell which dimension is time", "--dims time="), name="plain.h5"
    ),
    "HDF5 without fields": Case(
        hdf5({"a": np.arange(3), "b/c": 1.0}), ("no variable with at least two dimensions. It has a",), name="plain.h5"
    ),
    "KNMI radar": Case(radar, ("a radar image of KNMI", "Convert such files to NetCDF"), name="radar.h5"),
    "Zarr": Case(lambda path: dataset().to_zarr(path, consolidated=False), name="file.zarr"),
    "a folder": Case(lambda path: path.mkdir(), ("a folder, and no Zarr store",), name="folder"),
    "a text": Case(lambda path: path.write_text("time,lat\n"), ("neither NetCDF nor HDF5",)),
    "nothing": Case(lambda path: path.write_bytes(b""), ("the file is empty",)),
    "half a MATLAB file": Case(
        lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200)), ("file.mat:",), name="file.mat"
    ),
    "a variable too few": Case(with_coords(), ("no variable 'temp'", "Variables: t"), options={"variables": ["temp"]}),
    "a variable nearly right": Case(with_coords(), ("did you mean t",), options={"variables": ["tt"]}),
    "a dimension nearly right": Case(
        with_coords(), ("no such dimension (did you mean lat?)",), options={"select": {"lta": "50"}}
    ),
    "a descending range": Case(with_coords(), shape=(1, T, 2, X), options={"select": {"lat": "56:46"}}),
    "a range across Greenwich": Case(
        globe(np.arange(0, 360, 30.0)),
        shape=(1, T, Y, 5),
        options={"select": {"lon": "-60:60"}},
        also=lambda fields: fields.dataset["lon"].values.tolist() == [-60, -30, 0, 30, 60],
    ),
    "western longitudes of an eastern file": Case(
        globe(np.arange(0, 360, 30.0)),
        shape=(1, T, Y, 2),
        options={"select": {"lon": "-100:-60"}},
        also=lambda fields: fields.dataset["lon"].values.tolist() == [-90, -60],
    ),
}


def test_the_table_is_long_enough():
    assert len(CASES) >= 40


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("error::xarray.SerializationWarning")
def test_an_awkward_file_is_understood_or_refused_in_one_line(name, tmp_path):
    case = CASES[name]
    case.write(tmp_path / case.name)
    if case.refused:
        with pytest.raises(DataError) as error:
            open_fields([str(tmp_path / case.name)], **case.options).read_checked(0, 0, 5)
        message = str(error.value)
        assert "\n" not in message
        assert [words for words in case.refused if words not in message] == [], message
        return
    fields = open_fields([str(tmp_path / case.name)], **case.options)
    assert set(fields.names) == set(case.variables)
    assert (fields.samples, fields.frames, *fields.domain.shape[1:]) == case.shape
    assert fields.domain.boundary == case.boundary
    assert (case.note in "; ".join(fields.notes)) if case.note else not fields.notes
    assert fields.read(0, 0, fields.frames).shape == (case.shape[1], len(case.variables), *case.shape[2:])
    assert case.also(fields)


def test_files_packed_differently_are_one_series(tmp_path):
    for i, (scale, offset) in enumerate([(0.01, 280.0), (-0.02, 270.0)]):
        part = dataset(time=("time", T * i + np.arange(T), HOURS[2]))
        packing = {"dtype": "i2", "scale_factor": scale, "add_offset": offset, "_FillValue": -32767}
        part.to_netcdf(tmp_path / f"{i}.nc", encoding={"t": packing})
    fields = open_fields([str(tmp_path / "*.nc")])
    assert fields.frames == 2 * T
    np.testing.assert_allclose(fields.read(0, 0, 2 * T)[:, 0], np.concatenate([WAVE, WAVE]), atol=0.011)


def test_variables_in_separate_files_stand_beside_each_other(tmp_path):
    for name, start in (("u", 0), ("u", T), ("v", 0), ("v", T)):
        part = dataset(WAVE + start, time=("time", start + np.arange(T), HOURS[2])).rename(t=name)
        part.to_netcdf(tmp_path / f"{name}{start}.nc")
    fields = open_fields([str(tmp_path / "*.nc")], variables=["v", "u"])
    assert (fields.names, fields.frames) == (("v", "u"), 2 * T)
    np.testing.assert_array_equal(fields.read(0, 0, 2 * T)[:, 1], np.concatenate([WAVE, WAVE + T]))
    (tmp_path / "v8.nc").unlink()
    with pytest.raises(DataError, match="different variables, which do not stand on the same grid and times"):
        open_fields([str(tmp_path / "*.nc")])


def test_without_zarr_a_store_says_what_to_install(tmp_path, monkeypatch):
    from forecast_cli.data import files

    dataset().to_zarr(tmp_path / "file.zarr", consolidated=False)
    monkeypatch.setattr(files, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"pip install 'forecast_cli\[zarr\]'"):
        open_fields([str(tmp_path / "file.zarr")])


def test_notes_are_told_and_steps_are_kept_from_training_to_scores(forecast, tmp_path):
    """Times in no order, that cannot be decoded: the whole way with --time-as-steps, and the note where they are sorted."""
    values = travelling_wave(40, Y, X)
    units = {"units": "fortnights since 2001-01-01"}
    data, run, fc = tmp_path / "d.nc", tmp_path / "run", tmp_path / "fc.nc"
    xr.Dataset(
        {"t": (("time", "lat", "lon"), values)}, {"time": ("time", np.arange(40), units), "lat": LAT, "lon": LON}
    ).to_netcdf(data)
    tiny = ("--hidden", 4, "--context", 4, "--horizon", 2, "--epochs", 1, "--time-as-steps")
    for command in (("train", data, "-o", run, *tiny), ("rollout", run, "--data", data, "-o", fc, "--steps", 3)):
        result = forecast(*command)
        assert result.exit_code == 0, result.output
    result = forecast("evaluate", fc, "--truth", data, "--baseline", "persistence", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["lead_time"] == [1, 2, 3]
    CASES["times in no order"].write(tmp_path / "mixed.nc")
    assert "note: " in forecast("info", tmp_path / "mixed.nc").stderr


SHARED = {
    "E1_north_america.nc": "",
    "era5_uk_t2m_hourly_201903.nc": "",
    "etopo5_hawaii.nc": "",
    "etopo5_mid_atlantic_ridge.nc": "",
    "monthly_navy_winds.cdf": "",
    "awkward/RAD_NL25_RAP_5min_201008260230.h5": "Convert such files to NetCDF first",
    "awkward/geocat_T2m.nc": "",
    "awkward/geocat_absolute.nc": "",
    "awkward/geocat_hgt.nc": "--time-as-steps",
    "awkward/geocat_pre.8912.mon.nc": "--time-as-steps",
    "awkward/stars_test_stageiv_xyt_borked.nc": "",
    "pde/AC.mat": "",
    "pde/burgers_shock.mat": "",
}


@pytest.mark.parametrize("name", SHARED)
def test_real_files_are_understood_or_refused_in_one_line(name, shared_data, forecast):
    result = forecast("info", shared_data / name)
    assert result.exit_code == (3 if SHARED[name] else 0), result.output
    assert SHARED[name] in result.output
    assert not SHARED[name] or result.stderr.count("\n") == 1
