"""Files of one data set agree in units, grid, level and times, or an error names both files and both values."""

import numpy as np
import pytest
import xarray as xr

from forecast_cli.data.fields import open_fields
from forecast_cli.errors import DataError

LATITUDES, LONGITUDES = np.array([61.0, 40.0, 11.0]), np.array([0.0, 5.0, 10.0, 15.0])
VALUES = np.random.default_rng(0).normal(size=(6, 3, 4))


def part(first=0, *, name="u", units="K", latitudes=LATITUDES, dates=True, freq="D", calendar="standard", **coords):
    """Six frames from frame `first` on."""
    if dates:
        start = xr.date_range("2001-01-01", periods=first + 6, freq=freq, calendar=calendar, use_cftime=True)[first:]
        times = xr.Variable("time", np.array(start))
    else:
        times = xr.Variable("time", 1.0 * np.arange(first, first + 6), {"units": "s"})
    own = {
        "time": times,
        "lat": ("lat", latitudes, {"units": "degrees_north"}),
        "lon": ("lon", LONGITUDES, {"units": "degrees_east"}),
    }
    return xr.Dataset({name: (("time", "lat", "lon"), VALUES, {"units": units})}, own | coords)


def curved(dataset):
    """The same fields with latitudes and longitudes in two dimensions."""
    lat, lon = np.meshgrid(dataset["lat"], dataset["lon"], indexing="ij")
    places = {
        "lat": (("y", "x"), lat, {"standard_name": "latitude"}),
        "lon": (("y", "x"), lon, {"standard_name": "longitude"}),
    }
    return dataset.drop_vars(["lat", "lon"]).rename(lat="y", lon="x").assign_coords(places)


def plain(dataset, units):
    return dataset.assign_coords(time=dataset["time"].assign_attrs(units=units))


def opened(folder, *datasets, form="nc", **options):
    for i, dataset in enumerate(datasets):
        if form == "zarr":
            dataset.to_zarr(folder / f"{i}.zarr")
        else:
            dataset.to_netcdf(folder / f"{i}.nc")
    return open_fields([str(folder / f"*.{form}")], **options)


def turned(dataset, dimension="lat"):
    return dataset.isel({dimension: slice(None, None, -1)})


DIFFERENT = {
    "units": ((part(), part(6, units="degC")), "unit of 'u' is 'degC' in {1} but 'K' in {0}"),
    "units of samples": ((part(), part(units="degC")), "unit of 'u' is 'degC' in {1} but 'K' in {0}"),
    "the third file": ((part(), part(6), part(12, units="F")), "unit of 'u' is 'F' in {2} but 'K' in {0}"),
    "an uneven axis": ((part(), turned(part(6))), "'lat' is 11 at cell 0 in {1} but 61 at cell 0 in {0}"),
    "lat(y, x)": (
        (curved(part()), turned(curved(part(6)), "y")),
        "'lat' is 11 at cell (0, 0) in {1} but 61 at cell (0, 0) in {0}",
    ),
    "lat(y, x) of samples": ((curved(part()), turned(curved(part()), "y")), "'lat' is 11 at cell (0, 0) in {1}"),
    "a smaller grid": ((part(), part(6).isel(lat=[0, 1])), "the grid is 2 lat x 4 lon in {1} but 3 lat x 4 lon in {0}"),
    "a level": ((part(level=500), part(6, level=850)), "'level' is 850 in {1} but 500 in {0}"),
    "a level of samples": ((part(level=500), part(level=850)), "'level' is 850 in {1} but 500 in {0}"),
    "a level as a dimension": (
        (part(level=500).expand_dims("level"), part(6, level=850).expand_dims("level")),
        "'level' is 850 in {1} but 500 in {0}",
    ),
    "a member along time": ((part(member=1), part(6, member=2)), "'member' is 2 in {1} but 1 in {0}"),
    "a calendar": ((part(), part(6, calendar="360_day")), "calendar of 'time' is '360_day' in {1} but 'standard' in {0}"),
    "dates and numbers": ((part(), part(6, dates=False)), "calendar of 'time' is 'none' in {1} but 'standard' in {0}"),
    "units of times": (
        (part(dates=False), plain(part(6, dates=False), "min")),
        "unit of 'time' is 'min' in {1} but 's' in {0}",
    ),
    "units of times of samples": (
        (part(dates=False), plain(part(dates=False), "min")),
        "unit of 'time' is 'min' in {1} but 's' in {0}",
    ),
    "units of times of two variables": (
        (part(dates=False), plain(part(name="v", dates=False), "min")),
        "unit of 'time' is 'min' in {1} but 's' in {0}",
    ),
    "the grid of two variables": ((part(), turned(part(name="v"))), "'lat' is 11 at cell 0 in {1} but 61 at cell 0"),
    "lat(y, x) of two variables": ((curved(part()), turned(curved(part(name="v")), "y")), "'lat' is 11 at cell (0, 0)"),
    "times beside the dimension": (
        (part(dates=False).rename(time="t").swap_dims(t="n"), part(6, name="v", dates=False).rename(time="t").swap_dims(t="n")),
        "'t' at frame 0 is 6 in {1} but 0 in {0}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", ["nc", "zarr"])
@pytest.mark.parametrize("case", DIFFERENT)
def test_files_that_differ_are_refused_with_both_values(tmp_path, case, form):
    if form == "zarr":
        pytest.importorskip("zarr")
    datasets, text = DIFFERENT[case]
    options = {"dims": {"time": "n", "y": "lat", "x": "lon"}} if "beside" in case else {}
    with pytest.raises(DataError) as error:
        opened(tmp_path, *datasets, form=form, **options)
    assert text.format(*(tmp_path / f"{i}.{form}" for i in range(3))) in str(error.value)
    assert "\n" not in str(error.value)


def test_trajectories_of_other_times_are_refused(tmp_path):
    """Both have a dimension of samples, and times beside the dimension of time."""
    steps = [
        xr.Dataset({"u": (("sample", "n", "y", "x"), VALUES[None])}).assign_coords(t=("n", s * np.arange(6.0)))
        for s in (1, 2)
    ]
    with pytest.raises(DataError, match=r"'t' at frame 1 is 2 in .*1\.nc but 1 in .*0\.nc"):
        opened(tmp_path, *steps, dims={"time": "n"})


ALIKE = {
    "spelling of a unit": (part(units="m/s"), part(6, units="m s-1")),
    "rounding of an axis": (part(), part(6, latitudes=LATITUDES.astype(np.float32) + np.float32(1e-4))),
    "names of one calendar": (part(), part(6, calendar="proleptic_gregorian")),
    "spelling of the unit of times": (part(dates=False), plain(part(6, dates=False), "seconds")),
    "a level in one file": (part(level=500), part(6)),
    "a grid without places in one file": (part(), part(6).drop_vars("lat")),
    "a projection": (part(crs=0), part(6, crs=1)),
    "a scalar of time": (part(year=2001), part(6, year=2002)),
}


@pytest.mark.parametrize("case", ALIKE)
def test_files_that_agree_are_one_series(tmp_path, case):
    fields = opened(tmp_path, *ALIKE[case])
    assert (fields.samples, fields.frames) == (1, 12)
    np.testing.assert_array_equal(fields.read(0, 0, 12)[:, 0], np.concatenate([VALUES, VALUES]).astype(np.float32))


def test_members_of_the_same_times_are_samples_with_a_note(tmp_path):
    fields = opened(tmp_path, part(member=1), part(member=2))
    assert (fields.samples, fields.frames) == (2, 6)
    assert "member" not in fields.dataset.coords  # neither of the two is that of all
    assert any("2 files of the same times: joined along 'sample'" in note for note in fields.notes)


def test_variables_on_levels_of_their_own_stand_beside_each_other(tmp_path):
    fields = opened(tmp_path, part(level=500), part(name="v", units="m s-1", level=850))
    assert fields.names == ("u", "v")
    assert "level" not in fields.dataset.coords


def test_frames_that_are_numbered_may_have_times_of_any_kind(tmp_path):
    fields = opened(tmp_path, part(dates=False), plain(part(6, dates=False), "min"), time_as_steps=True)
    assert fields.frames == 12


def test_dates_on_both_sides_of_what_datetime64_holds_are_one_series(tmp_path):
    """Nanoseconds since 1970 end on 2262-04-11: the first file is read as datetime64, the second as cftime."""
    dates = xr.date_range("2262-04-05", periods=12, freq="D", use_cftime=True)
    parts = [part().assign_coords(time=dates[:6]), part().assign_coords(time=dates[6:])]
    fields = opened(tmp_path, *parts)
    assert fields.frames == 12
    assert [date.isoformat()[:10] for date in fields.times.values[[0, 6, 11]]] == [
        "2262-04-05",
        "2262-04-11",
        "2262-04-16",
    ]
    assert str(fields.domain.time_step) == "1 day"
