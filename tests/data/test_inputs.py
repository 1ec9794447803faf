"""Static fields, forcing, clocks and maps: the right values at the right cells and times, or one line that says why not."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from files import travelling_wave, write_series

from forecast_cli.config import DataConfig
from forecast_cli.data.fields import Fields, open_fields
from forecast_cli.data.inputs import masked, open_inputs
from forecast_cli.data.statistics import input_statistics
from forecast_cli.data.windows import Part
from forecast_cli.errors import ConfigError, DataError

FRAMES, HEIGHT, WIDTH = 60, 6, 8


@pytest.fixture
def fields(tmp_path) -> Fields:
    """Six-hourly from 2000-01-01 on 6 x 8 cells around the globe."""
    return open_fields([str(write_series(tmp_path / "series.nc"))])


def beside(fields: Fields, tmp_path, name: str, values: np.ndarray, *roles: str) -> str:
    """A file with one variable on the coordinates of the fields; returns FILE:variable."""
    dims = [getattr(fields.roles, role) for role in roles]
    coords = {dim: fields.dataset[dim] for dim in dims if dim in fields.dataset.coords}
    xr.DataArray(values, coords, dims, name=name).to_netcdf(tmp_path / f"{name}.nc")
    return f"{tmp_path}/{name}.nc:{name}"


def test_the_hour_turns_once_a_day_also_beyond_the_record(fields):
    inputs = open_inputs(DataConfig(calendar_features=("hour",)), fields)
    frames = inputs.forcing_frames(0, 58, 66)
    assert frames.shape == (8, 2, 1, 1)
    hours = 2 * np.pi * (np.arange(58, 66) * 6 % 24) / 24
    np.testing.assert_allclose(frames[:, :, 0, 0], np.stack([np.sin(hours), np.cos(hours)], axis=1), atol=1e-6)


@pytest.mark.parametrize(("calendar", "days"), [("standard", 366), ("noleap", 365), ("360_day", 360)])
def test_the_day_of_the_year_turns_once_a_year_of_the_calendar(tmp_path, calendar, days):
    time = xr.date_range("2000-01-01", periods=400, freq="D", calendar=calendar, use_cftime=calendar != "standard")
    values = travelling_wave(400, HEIGHT, WIDTH)
    xr.Dataset({"u": (("time", "y", "x"), values)}, {"time": time}).to_netcdf(tmp_path / "days.nc")
    inputs = open_inputs(DataConfig(calendar_features=("dayofyear",)), open_fields([str(tmp_path / "days.nc")]))
    sine, cosine = inputs.forcing_frames(0, 0, days + 1)[:, :, 0, 0].T
    np.testing.assert_allclose(np.arctan2(sine, cosine)[:3], 2 * np.pi * np.arange(3) / days, atol=1e-6)
    assert (sine[days], cosine[days]) == (sine[0], cosine[0])


@pytest.mark.parametrize("start", ["2000-12-25", "2001-12-25", "2100-12-25"])
@pytest.mark.parametrize("calendar", ["standard", "julian", "noleap", "all_leap", "360_day"])
def test_the_last_day_of_a_year_is_as_far_from_the_first_as_any_other(tmp_path, calendar, start):
    time = xr.date_range(start, periods=14, freq="D", calendar=calendar, use_cftime=True)
    dataset = xr.Dataset({"u": (("time", "y", "x"), travelling_wave(14, HEIGHT, WIDTH))}, {"time": time})
    dataset.to_netcdf(tmp_path / "days.nc")
    inputs = open_inputs(DataConfig(calendar_features=("dayofyear",)), open_fields([str(tmp_path / "days.nc")]))
    sine, cosine = inputs.forcing_frames(0, 0, 14)[:, :, 0, 0].T.astype(float)
    steps = np.diff(np.unwrap(np.arctan2(sine, cosine)))
    days = {"noleap": 365, "all_leap": 366, "360_day": 360}.get(calendar, 365.5)
    np.testing.assert_allclose(steps, 2 * np.pi / days, rtol=3e-3)  # years of 365 and 366 days differ by as much


@pytest.mark.parametrize(
    ("cycles", "names"),
    [
        ((), []),
        (
            ("hour",),
            ["sine of the hour of the day", "cosine of the hour of the day", "t2m by hour", "change of t2m by hour"],
        ),
        (
            ("month",),
            ["sine of the day of the year", "cosine of the day of the year", "t2m by month", "change of t2m by month"],
        ),
    ],
)
def test_auto_takes_the_features_that_the_training_part_has(fields, cycles, names):
    config = DataConfig(calendar_features=("auto",), climatology_features=("auto",))
    found = {kind: np.zeros((24, 1, HEIGHT, WIDTH)) for kind in cycles}
    assert list(open_inputs(config, fields, found).forcing) == names


def test_a_clock_needs_dates(tmp_path):
    xr.Dataset({"u": (("time", "y", "x"), travelling_wave(20, 4, 4))}).to_netcdf(tmp_path / "u.nc")
    with pytest.raises(ConfigError, match=r"calendar_features = hour: the times of the data are plain numbers"):
        open_inputs(DataConfig(calendar_features=("hour",)), open_fields([str(tmp_path / "u.nc")]))


def test_places_on_the_globe_meet_at_the_date_line(fields):
    inputs = open_inputs(DataConfig(coordinates=("y", "x")), fields)
    latitude, longitude = (np.deg2rad(fields.dataset[name].values) for name in ("lat", "lon"))
    assert list(inputs.static) == ["sine of the latitude", "sine of the longitude", "cosine of the longitude"]
    found = inputs.static_fields(0)
    np.testing.assert_allclose(found[0], np.broadcast_to(np.sin(latitude)[:, None], (HEIGHT, WIDTH)), atol=1e-6)
    np.testing.assert_allclose(found[2], np.broadcast_to(np.cos(longitude), (HEIGHT, WIDTH)), atol=1e-6)


def test_a_static_field_is_laid_on_the_cells_by_their_coordinates(fields, tmp_path):
    orography = np.arange(HEIGHT * WIDTH, dtype=float).reshape(HEIGHT, WIDTH)
    reference = beside(fields, tmp_path, "orography", orography, "y", "x")
    np.testing.assert_array_equal(open_inputs(DataConfig(static=reference), fields).static_fields(0)[0], orography)

    turned = xr.open_dataset(tmp_path / "orography.nc").isel(lat=slice(None, None, -1)).transpose("lon", "lat")
    turned.to_netcdf(tmp_path / "turned.nc")
    config = DataConfig(static=f"{tmp_path}/turned.nc:orography")
    np.testing.assert_array_equal(open_inputs(config, fields).static_fields(0)[0], orography)


def test_forcing_is_taken_at_the_times_of_the_fields(fields, tmp_path):
    time = pd.date_range("1999-12-25", periods=1000, freq="3h")
    xr.Dataset({"wind": ("time", np.arange(1000.0))}, {"time": time}).to_netcdf(tmp_path / "wind.nc")
    inputs = open_inputs(DataConfig(forcing=f"{tmp_path}/wind.nc:wind"), fields)
    np.testing.assert_array_equal(inputs.forcing_frames(0, 0, 3)[:, 0, 0, 0], [56, 58, 60])
    np.testing.assert_array_equal(inputs.forcing_frames(0, 61, 63)[:, 0, 0, 0], [178, 180])
    with pytest.raises(DataError, match=r"wind\.nc: 'wind' has no value at .*Forcing must be known"):
        inputs.forcing_frames(0, 0, 2000)


def test_inputs_are_normalised_over_the_training_part_and_clocks_left_alone(fields, tmp_path):
    values = np.arange(FRAMES, dtype=float) + 1e5
    reference = beside(fields, tmp_path, "wind", values, "time")
    flat = beside(fields, tmp_path, "flat", np.full((HEIGHT, WIDTH), 7.0), "y", "x")
    config = DataConfig(forcing=reference, static=flat, calendar_features=("hour",))
    found = input_statistics(open_inputs(config, fields), Part(range(1), range(10, 30)))
    np.testing.assert_allclose(found["forcing_mean"].flatten(), [0, 0, values[10:30].mean()])
    np.testing.assert_allclose(found["forcing_scale"].flatten(), [1, 1, values[10:30].std()], rtol=1e-6)
    assert (found["static_mean"].item(), found["static_scale"].item()) == (7, 1)


@pytest.mark.parametrize(
    ("option", "dims", "said"),
    [
        ("static", ("time", "y", "x"), "changes in time. Give it as --forcing"),
        ("forcing", ("y", "x"), "does not change in time. Give it as --static"),
    ],
)
def test_what_is_no_such_input_says_what_it_is(fields, tmp_path, option, dims, said):
    sizes = {"time": FRAMES, "y": HEIGHT, "x": WIDTH}
    reference = beside(fields, tmp_path, "z", np.ones([sizes[role] for role in dims]), *dims)
    with pytest.raises(DataError, match=said):
        open_inputs(DataConfig(**{option: reference}), fields)


def test_an_input_elsewhere_or_with_gaps_or_without_name_is_refused(fields, tmp_path):
    reference = beside(fields, tmp_path, "z", np.where(np.eye(HEIGHT, WIDTH) > 0, np.nan, 1), "y", "x")
    with pytest.raises(DataError, match="'z' is missing or infinite somewhere"):
        open_inputs(DataConfig(static=reference), fields).static_fields(0)
    xr.open_dataset(tmp_path / "z.nc").assign_coords(lat=np.arange(HEIGHT) / 7.0).to_netcdf(tmp_path / "far.nc")
    with pytest.raises(DataError, match="does not cover the cells of the data along 'lat'"):
        open_inputs(DataConfig(static=f"{tmp_path}/far.nc:z"), fields)
    with pytest.raises(DataError, match=r"--static .*z\.nc:zz: no such variable \(did you mean z\?\)"):
        open_inputs(DataConfig(static=f"{tmp_path}/z.nc:zz"), fields)


def test_two_inputs_of_one_name_are_refused(fields, tmp_path):
    reference = beside(fields, tmp_path, "z", np.ones((HEIGHT, WIDTH)), "y", "x")
    with pytest.raises(ConfigError, match="--static: two inputs are called 'z'"):
        open_inputs(DataConfig(static=(reference, reference)), fields)


@pytest.mark.parametrize(("choice", "used"), [("", [1, 2]), ("=2", [2]), ("=0", [0])])
def test_a_mask_keeps_what_is_not_zero_or_the_value_asked_for(fields, tmp_path, choice, used):
    kinds = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3
    reference = beside(fields, tmp_path, "kind", kinds, "y", "x")
    found = masked(fields, DataConfig(mask=reference + choice))
    assert found.masked
    np.testing.assert_array_equal(found.mask, np.isin(kinds, used))
    np.testing.assert_array_equal(np.isnan(found.read(0, 0, 2)[:, 0]), np.broadcast_to(~found.mask, (2, HEIGHT, WIDTH)))


def test_a_mask_that_leaves_nothing_or_is_no_map_is_refused(fields, tmp_path):
    nothing = beside(fields, tmp_path, "nothing", np.zeros((HEIGHT, WIDTH)), "y", "x")
    with pytest.raises(DataError, match="leaves no cell in use"):
        masked(fields, DataConfig(mask=nothing))
    moving = beside(fields, tmp_path, "moving", np.ones((FRAMES, HEIGHT, WIDTH)), "time", "y", "x")
    with pytest.raises(DataError, match="'moving' is no map"):
        masked(fields, DataConfig(mask=moving))
    with pytest.raises(ConfigError, match="expected FILE:variable"):
        masked(fields, DataConfig(mask=f"{nothing}=land"))


def test_fields_without_mask_stay_as_they_are(fields):
    found = masked(fields, DataConfig())
    assert (found.masked, found.mask, found.dataset is fields.dataset) == (False, None, True)


def curved_fields(tmp_path) -> Fields:
    """Fields on lat(y, x) and lon(y, x)."""
    with xr.open_dataset(write_series(tmp_path / "even.nc")) as dataset:
        curved(dataset).to_netcdf(tmp_path / "curved.nc")
    return open_fields([str(tmp_path / "curved.nc")])


def curved(dataset):
    lat, lon = np.meshgrid(dataset["lat"], dataset["lon"], indexing="ij")
    places = {"lat": (("y", "x"), lat, dataset["lat"].attrs), "lon": (("y", "x"), lon, dataset["lon"].attrs)}
    return dataset.drop_vars(["lat", "lon"]).rename(lat="y", lon="x").assign_coords(places)


@pytest.mark.parametrize("option", ["static", "mask"])
@pytest.mark.parametrize("as_variables", [False, True])
def test_a_map_turned_on_a_two_dimensional_grid_is_refused(tmp_path, option, as_variables):
    """lat(0, 0) is 50 in the data and 40 in the map, whether the file names it as a coordinate or not."""
    fields = curved_fields(tmp_path)
    whole = fields.dataset[["t2m"]].isel(time=0, drop=True).rename(t2m="z").load()
    for name, dataset in (("same", whole), ("turned", whole.isel(y=slice(None, None, -1)))):
        (dataset.reset_coords() if as_variables else dataset).to_netcdf(tmp_path / f"{name}.nc")

    def opened(name):
        config = DataConfig(**{option: f"{tmp_path}/{name}.nc:z"})
        return masked(fields, config) if option == "mask" else open_inputs(config, fields)

    opened("same")
    with pytest.raises(
        DataError, match=r"cells of 'z' are not those of the data: 'lat' is 40 at cell \(0, 0\), but 50"
    ):
        opened("turned")


def test_a_map_whose_latitudes_have_another_name_than_their_dimension_is_compared(fields, tmp_path):
    beside(fields, tmp_path, "z", np.ones((HEIGHT, WIDTH)), "y", "x")
    with xr.open_dataset(tmp_path / "z.nc") as dataset:
        renamed = dataset.isel(lat=slice(None, None, -1)).rename(lat="latitude").swap_dims(latitude="y")
        renamed.to_netcdf(tmp_path / "turned.nc")
    with pytest.raises(DataError, match="'latitude' is 40 on in steps of 2, but 50 on in steps of -2"):
        open_inputs(DataConfig(static=f"{tmp_path}/turned.nc:z"), fields)


def test_forcing_of_another_unit_of_time_is_refused(tmp_path):
    """Second 3 of the forcing is not minute 3 of the data."""
    for name, unit in (("u", "min"), ("wind", "s"), ("rain", "minutes")):
        time = xr.Variable("time", np.arange(10.0), {"units": unit})
        xr.Dataset({name: (("time", "y", "x"), np.ones((10, 4, 4)))}, {"time": time}).to_netcdf(tmp_path / f"{name}.nc")
    fields = open_fields([str(tmp_path / "u.nc")])
    open_inputs(DataConfig(forcing=f"{tmp_path}/rain.nc:rain"), fields)
    with pytest.raises(DataError, match=r"times of 'wind' are in 's', but 'min' in .*u\.nc"):
        open_inputs(DataConfig(forcing=f"{tmp_path}/wind.nc:wind"), fields)


def test_forcing_of_several_files_agrees(fields, tmp_path):
    time = fields.times.values
    for i, unit in enumerate(("m s-1", "km h-1")):
        own = {"time": time[30 * i : 30 * (i + 1)]}
        xr.Dataset({"wind": ("time", np.arange(30.0), {"units": unit})}, own).to_netcdf(tmp_path / f"wind{i}.nc")
    with pytest.raises(DataError, match=r"unit of 'wind' is 'km h-1' in .*wind1\.nc but 'm s-1' in .*wind0\.nc"):
        open_inputs(DataConfig(forcing=f"{tmp_path}/wind*.nc:wind"), fields)
