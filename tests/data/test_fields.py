"""Laws of opening files: every layout is read as what was written, lazily, or refused in one line."""

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from files import travelling_wave, write_series, write_trajectories

from forecast_cli.data.fields import open_fields
from forecast_cli.data.files import expand
from forecast_cli.data.roles import Roles
from forecast_cli.domain import Axis, TimeStep, Variable
from forecast_cli.errors import DataError

WAVE = travelling_wave(24, 4, 5)


def dataset_of(values=WAVE, dims=("time", "lat", "lon"), name="u", **coords) -> xr.Dataset:
    return xr.Dataset({name: (dims, values)}, coords=coords)


def write(path, dataset: xr.Dataset, **options) -> str:
    dataset.to_netcdf(path, **options)
    return str(path)


def read(*files, **options) -> np.ndarray:
    """All frames of the first sample."""
    fields = open_fields([str(file) for file in files], **options)
    return fields.read(0, 0, fields.frames)


def refused(*files, **options) -> str:
    with pytest.raises(DataError) as error:
        read(*files, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT", "NETCDF4", "NETCDF4_CLASSIC"])
def test_reads_are_what_was_written(tmp_path, form):
    path = write(tmp_path / "u.nc", dataset_of(), format=form)
    np.testing.assert_array_equal(read(path), WAVE[:, None])
    np.testing.assert_array_equal(open_fields([path]).read(0, 7, 9), WAVE[7:9, None])


def test_packed_values_are_unpacked_and_fill_values_are_missing(tmp_path):
    values = WAVE.copy()
    values[3, 1, 2] = np.nan
    packing = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32768}
    path = write(tmp_path / "u.nc", dataset_of(values), encoding={"u": packing})
    np.testing.assert_allclose(read(path), values[:, None], atol=0.0051)  # half of the scale factor, and float32
    assert np.isnan(read(path)).sum() == 1


def test_opening_does_not_load_the_data(tmp_path, monkeypatch):
    path = write(tmp_path / "u.nc", dataset_of(time=np.arange(24.0)))
    shapes = []
    get = xr.backends.netCDF4_.NetCDF4ArrayWrapper._getitem

    def counted(array, key):
        values = get(array, key)
        shapes.append(values.shape)
        return values

    monkeypatch.setattr(xr.backends.netCDF4_.NetCDF4ArrayWrapper, "_getitem", counted)
    fields = open_fields([path])
    assert all(len(shape) <= 1 for shape in shapes)
    shapes.clear()
    fields.read(0, 3, 5)
    assert shapes == [(2, 4, 5)]


def test_the_layout_of_the_reference_code_is_understood(tmp_path):
    values = np.stack([WAVE, WAVE + 1])[:, :, None]
    dims = ("sample", "time", "dim", "height", "width")
    path = write(tmp_path / "u.nc", dataset_of(values, dims).assign(t=("time", 0.25 * np.arange(24))))
    fields = open_fields([path])
    assert fields.roles == Roles("time", "height", "width", "sample")
    assert fields.squeezed == ("dim",)
    assert fields.is_trajectories
    assert (fields.samples, fields.frames, fields.domain.shape) == (2, 24, (1, 4, 5))
    assert (fields.times.name, fields.times.step) == ("t", TimeStep(0.25, "1"))
    np.testing.assert_array_equal(fields.read(1, 0, 24), values[1])


def test_the_yearly_files_of_weatherbench_are_one_series(tmp_path):
    whole = write_series(tmp_path / "whole.nc", frames=40, freq="D", start="2000-12-15", name="z")
    with xr.open_dataset(whole) as dataset:
        for year, part in dataset.groupby("time.year"):
            part.to_netcdf(tmp_path / f"z_{year}.nc")
    files = [str(tmp_path / "z_2001.nc"), str(tmp_path / "z_2000.nc")]
    fields = open_fields(files)
    assert not fields.is_trajectories
    assert fields.times.step == TimeStep(86400.0, "second")
    np.testing.assert_array_equal(fields.read(0, 0, 40), read(whole))
    np.testing.assert_array_equal(read(tmp_path / "z_*.nc"), read(whole))
    assert fields.times.encoding["units"].startswith("days since 2000-12-15")


def test_files_of_trajectories_are_joined_along_sample(tmp_path):
    for name, first in (("a", 0), ("b", 10)):
        values = np.stack([WAVE + first, WAVE + first + 1])
        write(tmp_path / f"{name}.nc", dataset_of(values, ("sample", "time", "y", "x")))
    fields = open_fields([str(tmp_path / "b.nc"), str(tmp_path / "a.nc")])
    assert fields.samples == 4
    np.testing.assert_allclose(
        [fields.read(i, 0, 24).mean() - WAVE.mean() for i in range(4)], [10, 11, 0, 1], atol=1e-4
    )


@pytest.mark.parametrize("times", [{}, {"time": np.arange(24.0)}, {"t": ("time", 0.5 * np.arange(24))}])
def test_files_of_the_same_times_are_samples(tmp_path, times):
    for i in range(3):
        write(tmp_path / f"{i}.nc", dataset_of(WAVE + i, ("time", "y", "x"), **times))
        write(tmp_path / f"v{i}.nc", dataset_of(WAVE + i, ("time", "y", "x")).assign(times))
    for pattern in ("[0-9].nc", "v*.nc"):
        fields = open_fields([str(tmp_path / pattern)])
        assert (fields.samples, fields.frames) == (3, 24)
        assert fields.times.step.amount == (0.5 if "t" in times else 1.0)
        np.testing.assert_array_equal(fields.read(2, 0, 24), WAVE[:, None] + 2)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (dataset_of(time=np.arange(23, 47.0)), "stands twice"),
        (dataset_of(time=np.arange(30, 54.0)), "not evenly spaced"),
        (dataset_of(time=np.arange(24, 48.0), name="v"), "different variables"),
        (dataset_of(WAVE[:, :3], time=np.arange(24, 48.0)), "do not fit together"),
        (dataset_of(time=np.arange(24, 48.0), lat=10.0 + np.arange(4)), "do not fit together"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path, other, said):
    first = write(
        tmp_path / "a.nc",
        dataset_of(time=np.arange(24.0), **({"lat": np.arange(4.0)} if "lat" in other.coords else {})),
    )
    assert said in refused(first, write(tmp_path / "b.nc", other))


@pytest.fixture
def groups(tmp_path):
    path = tmp_path / "file.h5"
    with netCDF4.Dataset(path, "w") as file:
        group = file.createGroup("run").createGroup("fields")
        for name, size in (("time", 24), ("y", 4), ("x", 5)):
            group.createDimension(name, size)
        for name, offset in (("u", 0), ("v", 1)):
            group.createVariable(name, "f4", ("time", "y", "x"))[:] = WAVE + offset
    return path


def test_a_place_inside_hdf5_is_a_dataset_or_a_group(groups):
    np.testing.assert_array_equal(read(f"{groups}:/run/fields/v"), WAVE[:, None] + 1)
    assert open_fields([f"{groups}:/run/fields"]).names == ("u", "v")
    np.testing.assert_array_equal(read(f"{groups}:/run/fields/"), np.stack([WAVE, WAVE + 1], axis=1))


def test_a_place_that_is_not_there_lists_what_is(groups):
    message = refused(f"{groups}:/run/u")
    assert "no '/run/u' in it" in message
    assert f"{groups}:/run/fields/u" in message


def test_hdf5_without_named_dimensions_takes_their_roles_from_the_user(tmp_path):
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        file["other"] = np.zeros((2, 3))
        file["group/u"] = WAVE
    message = refused(f"{path}:/group/u")
    names = [word.split("=")[0] for word in message.split("(")[1].split(")")[0].split(", ")]
    dims = dict(zip(("time", "y", "x"), names, strict=True))
    np.testing.assert_array_equal(read(f"{path}:/group/u", dims=dims), WAVE[:, None])


def test_wrong_dims_of_a_named_variable_list_its_own(groups):
    assert "'u' has the dimensions time, y, x" in refused(
        groups.as_posix() + ":/run/fields/u", dims={"time": "phony_dim_0"}
    )


def test_fields_in_one_dimension_have_height_one(tmp_path):
    fields = open_fields([write(tmp_path / "u.nc", dataset_of(WAVE[:, 0], ("time", "x")))])
    assert fields.domain.y is None
    assert fields.domain.shape == (1, 1, 5)
    np.testing.assert_array_equal(fields.read(0, 0, 24), WAVE[:, None, :1])


def test_any_order_of_the_dimensions_is_read_as_time_y_x(tmp_path):
    path = write(tmp_path / "u.nc", dataset_of(WAVE.transpose(2, 0, 1), ("lon", "time", "lat")))
    np.testing.assert_array_equal(read(path), WAVE[:, None])


def test_variables_are_channels_in_the_order_asked_for(tmp_path):
    dataset = dataset_of().assign(
        v=(("time", "lat", "lon"), WAVE + 1), mask=(("lat", "lon"), WAVE[0]), co2=("time", WAVE[:, 0, 0])
    )
    path = write(tmp_path / "u.nc", dataset)
    assert open_fields([path]).names == ("u", "v")
    np.testing.assert_array_equal(read(path, variables=["v", "u"]), np.stack([WAVE + 1, WAVE], axis=1))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (["t2"], ("no variable 't2'", "did you mean t2m?", "Variables: t2m, mask")),
        (["co2"], ("'co2' is not a field",)),
        (["t2m", "mask"], ("different dimensions",)),
    ],
)
def test_a_variable_that_cannot_be_had_is_refused(tmp_path, variables, said):
    dataset = dataset_of(name="t2m").assign(mask=(("lat", "lon"), WAVE[0]), co2=("time", WAVE[:, 0, 0]))
    message = refused(write(tmp_path / "u.nc", dataset), variables=variables)
    assert all(words in message for words in ("u.nc", *said))


def test_fields_on_different_grids_ask_for_a_choice(tmp_path):
    dataset = dataset_of().assign(v=(("time", "y", "x"), WAVE))
    assert "u(time, lat, lon), v(time, y, x). Choose with --variable" in refused(write(tmp_path / "u.nc", dataset))


@pytest.mark.parametrize(
    ("coords", "attributes", "grid", "boundary"),
    [
        ({}, {}, "index", "zeros"),
        ({}, {"boundary_conditions": "periodic"}, "index", "circular"),
        ({"y": np.arange(4.0), "x": np.arange(5.0)}, {"boundary_conditions": "Periodic"}, "cartesian", "circular"),
        ({"lat": ("y", np.arange(4.0)), "lon": ("x", np.arange(5.0))}, {}, "latitude-longitude", "zeros"),
        ({"lat": ("y", np.arange(4.0)), "lon": ("x", 72.0 * np.arange(5))}, {}, "latitude-longitude", "cylinder"),
    ],
)
def test_the_grid_tells_its_kind_and_boundary(tmp_path, coords, attributes, grid, boundary):
    dataset = dataset_of(WAVE, ("time", "y", "x"), **coords).assign_attrs(attributes)
    domain = open_fields([write(tmp_path / "u.nc", dataset)]).domain
    assert (domain.grid, domain.boundary) == (grid, boundary)


def test_names_units_and_coordinates_survive(tmp_path):
    fields = open_fields([str(write_series(tmp_path / "u.nc"))])
    assert fields.domain.variables == (Variable("t2m", "K", "temperature"),)
    assert fields.domain.y == Axis("lat", 6, "degrees_north", 50.0, -2.0)
    assert fields.domain.x == Axis("lon", 8, "degrees_east", 10.0, 2.0)
    coordinates = fields.spatial_coordinates()
    assert set(coordinates) == {"lat", "lon"}
    assert coordinates["lat"].attrs["standard_name"] == "latitude"


def test_a_coordinate_under_another_name_than_its_dimension_survives(tmp_path):
    dataset = dataset_of(WAVE, ("time", "y", "x")).assign(lat=("y", 50.0 - np.arange(4)), lon=("x", np.arange(5.0)))
    fields = open_fields([write(tmp_path / "u.nc", dataset)])
    assert fields.domain.y == Axis("y", 4, "", 50.0, -1.0)
    assert set(fields.spatial_coordinates()) == {"lat", "lon"}


def test_a_chosen_level_survives_as_a_coordinate(tmp_path):
    path = write(tmp_path / "u.nc", dataset_of(WAVE[:, None], ("time", "level", "lat", "lon"), level=[500]))
    fields = open_fields([path])
    assert fields.squeezed == ("level",)
    assert fields.spatial_coordinates()["level"].values == 500


@pytest.mark.parametrize(
    ("calendar", "start", "freq", "step"),
    [
        ("360_day", "2000-02-01", "D", "1 day"),
        ("noleap", "2000-02-01", "MS", "1 month"),
        ("standard", "1500-01-01", "D", "1 day"),
    ],
)
def test_calendars_are_understood(tmp_path, calendar, start, freq, step):
    times = xr.date_range(start, periods=24, freq=freq, calendar=calendar, use_cftime=True)
    fields = open_fields([write(tmp_path / "u.nc", dataset_of(time=times))])
    assert fields.times.calendar == calendar
    assert str(fields.domain.time_step) == step
    assert (fields.times.values == times.values).all()


@pytest.fixture
def levels(tmp_path):
    """u(sample, time, level, lat, lon) = 1000 sample + 100 level index + frame, on descending latitudes."""
    sample, time, level = np.meshgrid(np.arange(6), np.arange(24), np.arange(3), indexing="ij")
    values = np.broadcast_to((1000 * sample + 100 * level + time)[..., None, None], (6, 24, 3, 4, 5)).astype(np.float32)
    coords = {
        "time": xr.date_range("2000-01-30", periods=24, freq="6h"),
        "level": [250, 500, 850],
        "lat": [48.0, 46, 44, 42],
    }
    return write(tmp_path / "levels.nc", dataset_of(values, ("sample", "time", "level", "lat", "lon"), **coords))


def test_a_further_dimension_lists_its_values(levels):
    assert "250, 500, 850" in refused(levels)


@pytest.mark.parametrize(
    ("select", "first", "samples", "frames", "height"),
    [
        ({"level": "500"}, 100, 6, 24, 4),
        ({"level": "500", "sample": "2:5"}, 2100, 3, 24, 4),
        ({"level": "850", "sample": "4"}, 4200, 1, 24, 4),
        ({"level": "250", "time": "2000-02"}, 8, 6, 16, 4),
        ({"level": "250", "time": "2000-01-31:2000-02-01"}, 4, 6, 8, 4),
        ({"level": "250", "time": "2000-01-31T06/2000-01-31T12"}, 5, 6, 2, 4),
        ({"level": "250", "time": "2000-01-31T06:00:2000-01-31T12:00"}, 5, 6, 2, 4),
        ({"level": "250", "time": "2000-02-03:"}, 16, 6, 8, 4),
        ({"level": "250", "lat": "43:46"}, 0, 6, 24, 2),
        ({"level": "250", "y": "44:"}, 0, 6, 24, 3),
        ({"level": "250", "lon": "1:4"}, 0, 6, 24, 4),
    ],
)
def test_select_takes_values_ranges_and_dates(levels, select, first, samples, frames, height):
    fields = open_fields([levels], select=select)
    assert (fields.samples, fields.frames, fields.domain.shape[1]) == (samples, frames, height)
    assert fields.read(0, 0, 1).max() == first
    assert fields.domain.shape[2] == (3 if "lon" in select else 5)


def test_a_level_that_a_file_has_alone_is_selected_already(tmp_path):
    path = write(tmp_path / "u.nc", dataset_of(level=500.0))
    np.testing.assert_array_equal(read(path, select={"level": "500"}), WAVE[:, None])
    assert "--select level=850 selects nothing: its value is 500.0" in refused(path, select={"level": "850"})
    assert "expected a value" in refused(path, select={"level": "400:600"})


def test_select_keeps_the_numbers_of_the_samples(levels):
    assert open_fields([levels], select={"level": "250", "sample": "2:4"}).dataset["sample"].values.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("select", "said"),
    [
        ({"level": "300"}, "selects nothing: its values run from 250 to 850"),
        ({"level": "250", "lta": "44"}, "no such dimension (did you mean lat?)"),
        ({"level": "high"}, "expected a value or start:stop"),
        ({"level": "250", "time": "2010"}, "selects nothing"),
        ({"level": "250", "sample": "7:9"}, "selects nothing"),
        ({"level": "250:500"}, "'level'"),
    ],
)
def test_a_selection_that_cannot_be_made_says_so(levels, select, said):
    assert said in refused(levels, select=select)


def damaged(tmp_path, kind: str) -> str:
    path = tmp_path / f"{kind}.nc"
    if kind.startswith("truncated"):
        write(path, dataset_of(lat=np.arange(4.0)), format=kind.removeprefix("truncated_"))
        path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"time,u\n1,2\n", "CDF": b"CDF of a\nnormal"}[kind])
    return str(path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("truncated_NETCDF3_CLASSIC", "truncated"),
        ("truncated_NETCDF3_64BIT", "truncated"),
        ("truncated_NETCDF4", "truncated"),
        ("empty", "empty"),
        ("text", "neither NetCDF nor HDF5"),
        ("CDF", "truncated"),
        ("missing", "cannot be read"),
        ("folder", "a folder, and no Zarr store"),
    ],
)
def test_what_is_no_whole_file_is_refused(tmp_path, kind, said):
    path = damaged(tmp_path, kind)
    message = refused(path)
    assert path in message
    assert said in message


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"])
@pytest.mark.parametrize("kinds", [["f4"], ["f8", "i1"], ["i2", "S1", "f4"]])
def test_a_classic_file_with_records_is_whole_to_its_last_value(tmp_path, form, kinds):
    path = tmp_path / "records.nc"
    with netCDF4.Dataset(path, "w", format=form) as file:
        file.title = "odd"
        for name, size in (("time", None), ("y", 3), ("x", 5)):
            file.createDimension(name, size)
        for i, kind in enumerate(kinds):
            file.createVariable(f"v{i}", kind, ("time", "y", "x"))[:7] = np.ones((7, 3, 5), kind)
    assert read(path).shape[0] == 7
    path.write_bytes(path.read_bytes()[:-4])
    assert "truncated" in refused(path)


def test_a_damaged_block_is_refused_when_it_is_read(tmp_path):
    path = tmp_path / "u.nc"
    write(path, dataset_of(), encoding={"u": {"zlib": True, "complevel": 9, "chunksizes": (24, 4, 5)}})
    content = bytearray(path.read_bytes())
    start = content.index(b"\x78\xda")  # the head of a zlib stream
    content[start + 50 : start + 90] = bytes(40)
    path.write_bytes(content)
    assert "u.nc: 'u' cannot be read from frame 0" in refused(path)


@pytest.mark.parametrize("origin", [1, 1500, 1900, 2500])
def test_months_since_any_year_are_those_months(tmp_path, origin):
    time = xr.Variable("time", np.arange(24.0), {"units": f"months since {origin:04d}-01-01"})
    fields = open_fields([write(tmp_path / "u.nc", dataset_of().assign_coords(time=time))])
    assert [fields.times.show(0), fields.times.show(23)] == [
        f"{origin:04d}-01-01T00:00:00",
        f"{origin + 1:04d}-12-01T00:00:00",
    ]
    assert fields.times.step == TimeStep(1.0, "month")


def test_files_before_and_beyond_2262_are_one_series(tmp_path):
    places = []
    for first in (0, 24):
        time = xr.Variable("time", first + np.arange(24.0), {"units": "days since 2262-03-08"})
        places.append(write(tmp_path / f"{first}.nc", dataset_of().assign_coords(time=time)))
    times = open_fields(places).times
    assert [times.show(0), times.show(47)] == ["2262-03-08T00:00:00", "2262-04-24T00:00:00"]
    assert times.step == TimeStep(86400.0, "second")


def test_times_that_cannot_be_decoded_are_refused(tmp_path):
    dataset = dataset_of(time=("time", np.arange(24.0), {"units": "fortnights since yesterday"}))
    assert "u.nc: the times cannot be decoded" in refused(write(tmp_path / "u.nc", dataset))


def test_a_file_without_frames_is_refused(tmp_path):
    assert "'time' has length 0" in refused(write(tmp_path / "u.nc", dataset_of(WAVE[:0])))


@pytest.mark.parametrize(
    ("files", "said"), [(["*.nothing"], r"\*\.nothing: no file matches"), ([], "no data file given")]
)
def test_files_that_are_none_are_refused(files, said):
    with pytest.raises(DataError, match=said):
        expand(files)


def test_globs_are_written_out_in_order(tmp_path):
    for name in ("b.nc", "a.nc", "c.txt"):
        (tmp_path / name).touch()
    assert expand([f"{tmp_path}/*.nc", "d.nc"]) == [f"{tmp_path}/a.nc", f"{tmp_path}/b.nc", "d.nc"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gap_is_named_with_its_place(tmp_path, value):
    values = np.stack([WAVE, WAVE])
    values[1, 6, 2, 3] = value
    fields = open_fields([write(tmp_path / "u.nc", dataset_of(values, ("sample", "time", "y", "x")))])
    with pytest.raises(DataError, match=r"u\.nc: 'u' is missing or infinite at sample 1, frame 6, row 2, column 3"):
        fields.read_checked(1, 4, 10)
    np.testing.assert_array_equal(fields.read_checked(1, 7, 10), WAVE[7:10, None])


def test_real_files_are_understood(shared_data):
    uk = open_fields([str(shared_data / "era5_uk_t2m_hourly_201903.nc")])
    assert (uk.domain.shape, uk.frames, str(uk.domain.time_step)) == ((1, 33, 49), 744, "1 hour")
    winds = open_fields([str(shared_data / "monthly_navy_winds.cdf")])
    assert (winds.names, winds.domain.boundary) == (("UWND", "VWND"), "cylinder")
    projection = open_fields([str(shared_data / "E1_north_america.nc")])
    assert (projection.times.calendar, str(projection.domain.time_step)) == ("360_day", "360 days")


def test_the_files_made_for_other_tests_are_what_they_say(tmp_path):
    fields = open_fields([str(write_trajectories(tmp_path / "u.nc"))])
    assert (fields.samples, fields.frames, fields.domain.boundary) == (6, 20, "circular")


def test_joined_files_that_each_count_their_samples_from_0_are_counted_on(tmp_path):
    for name in ("a", "b"):
        with xr.open_dataset(write_trajectories(tmp_path / f"{name}.nc", samples=3)) as dataset:
            dataset.assign_coords(sample=[0, 1, 2]).to_netcdf(tmp_path / f"numbered_{name}.nc")
    fields = open_fields([str(tmp_path / "numbered_*.nc")], select={"sample": "2:5"})
    assert fields.dataset["sample"].values.tolist() == [2, 3, 4]
