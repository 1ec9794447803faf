"""Waves as others keep them: what is understood, what is refused in one line, and what is never taken for something else."""

import netCDF4
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from forecast_cli.inversion.places import _refuse_readings

USAGE, DATA, UNTRUSTED = 2, 3, 6
SIZE = 12
QUICK = ("--uncertainty", "none", "--iterations", "3", "--noise", "1%")
FILL = netCDF4.default_fillvals["f8"]
WARNED = pytest.mark.filterwarnings("error::RuntimeWarning")
"""A user sees no warning of numpy."""


def refused(result, code, *parts):
    """One line on stderr that says so, with its exit code."""
    assert (result.exit_code, result.stderr.count("\n"), result.stdout) == (code, 1, ""), result.output
    for part in parts:
        assert part in result.stderr


def fitted(result):
    """Three iterations are no end: written, and not trusted for that."""
    assert result.exit_code == UNTRUSTED, result.output


def on_globe(dataset, *, middle=45.0, cell=0.5):
    found = dataset.copy(deep=True)
    for name in ("coriolis", "beta"):
        del found.attrs[name]
    lat = ("lat", middle + (np.arange(SIZE) - SIZE / 2 + 0.5) * cell, {"units": "degrees_north"})
    lon = ("lon", (np.arange(SIZE) + 0.5) * cell, {"units": "degrees_east"})
    return found.rename(y="lat", x="lon").assign_coords(lat=lat, lon=lon)


# --- variables ----------------------------------------------------------------------------------------------------------


def test_any_of_the_velocities_may_be_used_without_the_other(invert, small_waves):
    """`--variable eta,u` uses only these, as its help says; the waves start at rest."""
    result, bed = invert(small_waves, "--variable", "eta,u", *QUICK)
    fitted(result)
    assert bed.attrs["observed_variables"] == "eta,u"


def test_a_velocity_alone_in_the_file_may_be_used(invert, small_data):
    result, bed = invert(small_data.drop_vars("v"), *QUICK)
    fitted(result)
    assert bed.attrs["observed_variables"] == "eta,u"


@WARNED
def test_velocities_on_walls_need_not_be_there(invert, small_data):
    """They are 0, and count for nothing: models mark them as missing."""
    holed = small_data.copy(deep=True)
    holed["u"][..., -1] = np.nan
    holed["v"][..., -1, :] = np.nan
    # Shares are of what the file holds, the noise on walls included.
    noise = (*QUICK[:-1], "eta=6e-4,u=2e-4,v=2e-4")
    _, whole = invert(small_data, *noise, output="whole.nc")
    result, bed = invert(holed, *noise)
    fitted(result)
    assert_allclose(bed.depth, whole.depth, rtol=1e-12)


@WARNED
@pytest.mark.parametrize("noise", [(), ("--noise", "1%")], ids=["estimated", "given"])
def test_a_velocity_that_is_never_seen_is_named(noise, invert, small_data):
    """It can be left out, and is; or the line says which one it is."""
    never = small_data.copy(deep=True)
    never["u"][:, 1:] = np.nan
    result, bed = invert(never, *QUICK[:-2], *noise)
    if result.exit_code == UNTRUSTED:
        assert np.isfinite(bed.depth).all()
    else:
        refused(result, DATA, "'u'")


def test_two_candidates_for_the_surface_are_a_question(invert, small_data):
    result, _ = invert(small_data.assign(zeta=small_data.eta), *QUICK)
    refused(result, DATA, "eta or zeta", "--variable eta=")


def test_a_name_nearly_right_is_suggested(invert, small_waves):
    result, _ = invert(small_waves, "--variable", "eta=etta", *QUICK)
    refused(result, DATA, "did you mean eta?")


@pytest.mark.parametrize("value", [np.inf, -np.inf, FILL])
@pytest.mark.parametrize("name", ["eta", "v"])
def test_what_is_infinite_or_a_fill_value_is_refused(name, value, invert, small_data):
    broken = small_data.copy(deep=True)
    broken[name][1, 4, 3, 2] = value
    broken[name].encoding = {}  # which declared the fill value
    result, _ = invert(broken, *QUICK)
    refused(result, DATA, f"'{name}'")


# --- space and time -----------------------------------------------------------------------------------------------------


def test_the_order_and_the_names_of_dimensions_do_not_matter(invert, small_data):
    _, mine = invert(small_data.isel(sample=[0]), *QUICK, output="mine.nc")
    other = small_data.isel(sample=0, drop=True).rename(y="eta_rho", x="xi_rho").transpose("xi_rho", "time", "eta_rho")
    result, theirs = invert(other, *QUICK)
    fitted(result)
    assert theirs.depth.dims == ("eta_rho", "xi_rho")
    assert_allclose(theirs.depth, mine.depth, rtol=1e-12)


def test_sequences_in_several_files_are_those_in_one(forecast, invert, small_data, small_waves, tmp_path):
    _, mine = invert(small_waves, *QUICK, output="mine.nc")
    paths = [tmp_path / f"{number}.nc" for number in range(2)]
    for number, path in enumerate(paths):
        small_data.isel(sample=[number]).to_netcdf(path)
    fitted(forecast("invert-topography", *paths, "-o", tmp_path / "both.nc", *QUICK))
    with xr.open_dataset(tmp_path / "both.nc") as theirs:
        assert theirs.sizes["sample"] == 2
        assert_allclose(theirs.depth, mine.depth, rtol=1e-12)


@pytest.mark.parametrize(
    ("amount", "unit"), [(1 / 60, "minutes"), (1 / 3600, "hours"), (1 / 86400, "days since 2001-02-03")]
)
def test_every_unit_of_time_is_the_same_time(amount, unit, invert, small_data):
    """Dates to the nanosecond, of 2200 s."""
    _, mine = invert(small_data, *QUICK, output="mine.nc")
    result, theirs = invert(
        small_data.assign_coords(time=("time", small_data.time.values * amount, {"units": unit})), *QUICK
    )
    fitted(result)
    assert "2 steps of 1100 s" in result.stderr
    assert_allclose(theirs.depth, mine.depth, rtol=1e-9)


def test_a_calendar_of_models_is_understood(invert, small_data):
    times = xr.date_range("2001-01-01", periods=31, freq="2200s", calendar="noleap", use_cftime=True)
    result, _ = invert(small_data.assign_coords(time=times), *QUICK)
    fitted(result)
    assert "2 steps of 1100 s" in result.stderr


@pytest.mark.parametrize("units", [None, "1"])
def test_time_in_no_unit_is_refused(units, invert, small_data):
    attributes = {"units": units} if units else {}
    result, _ = invert(small_data.assign_coords(time=("time", np.arange(31.0), attributes)), *QUICK)
    refused(result, DATA, "time coordinate in seconds")


@pytest.mark.parametrize("missing", [["x", "y"], ["time"]])
def test_waves_without_coordinates_are_refused(missing, invert, small_data):
    refused(invert(small_data.drop_vars(missing), *QUICK)[0], DATA, "coordinate")


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_grid_in_no_unit_of_length_is_refused(axis, invert, small_data):
    other = small_data.assign_coords({axis: small_data[axis].assign_attrs(units="furlong", standard_name="")})
    refused(invert(other, *QUICK)[0], DATA, "furlong", "km or degrees")


def test_one_dimension_of_space_is_refused(invert, small_data):
    refused(invert(small_data.isel(y=0, drop=True), *QUICK)[0], DATA, "needs two")


@pytest.mark.parametrize("middle", [45.0, -30.0])
def test_a_plane_of_degrees_has_the_size_of_its_middle(middle, invert, small_data):
    result, bed = invert(on_globe(small_data, middle=middle), "--time-step", 200, *QUICK)
    fitted(result)
    degree = 6.371e3 * np.pi / 180
    assert f"{6 * degree * np.cos(np.deg2rad(middle)):.4g} km by {6 * degree:.4g} km" in result.stderr
    assert bed.attrs["coriolis"] == pytest.approx(2 * 7.2921e-5 * np.sin(np.deg2rad(middle)))
    assert bed.attrs["beta"] > 0


def test_what_is_said_comes_before_the_latitude_and_the_file(invert, small_data):
    options = ("--coriolis", "3e-5", "--beta", "0", "--gravity", "9.7", "--friction", "1e-6", "--time-step", "200")
    _, bed = invert(on_globe(small_data), *options, *QUICK)
    assert [bed.attrs[name] for name in ("coriolis", "beta", "gravity", "friction")] == [3e-5, 0, 9.7, 1e-6]
    _, bed = invert(small_data, "--coriolis", "3e-5", *QUICK, output="b.nc")
    assert (bed.attrs["coriolis"], bed.attrs["beta"]) == (3e-5, small_data.attrs["beta"])


# --- the first frame ----------------------------------------------------------------------------------------------------


def test_a_first_frame_with_holes_is_filled_from_another_file(invert, small_data, tmp_path):
    """The clouds of the first frame are no observation in any other case either."""
    _, mine = invert(small_data, *QUICK, output="mine.nc")
    small_data.isel(time=[0]).to_netcdf(tmp_path / "first.nc")
    holed = small_data.copy(deep=True)
    for name in ("eta", "u", "v"):
        holed[name][:, 0, 3, 3] = np.nan
    noise = (*QUICK[:-1], ",".join(f"{n}={mine.attrs[f'noise_{n}']:.17g}" for n in ("eta", "u", "v")))
    result, bed = invert(holed, "--initial-state", tmp_path / "first.nc", *noise)
    fitted(result)
    assert_allclose(bed.depth, mine.depth, rtol=1e-9)


@pytest.mark.parametrize("option", ["--initial-state", "--initial-velocity", "--soundings", "--initial", "--truth"])
def test_a_file_that_is_not_there_is_named(option, invert, small_waves):
    refused(invert(small_waves, option, "none.nc", *QUICK)[0], DATA, "none.nc")


@pytest.mark.parametrize("option", ["--initial-state", "--initial-velocity"])
def test_a_first_frame_of_another_grid_is_refused(option, invert, small_data, tmp_path):
    small_data.isel(time=[0], x=slice(0, 8)).to_netcdf(tmp_path / "first.nc")
    refused(invert(small_data, option, tmp_path / "first.nc", *QUICK)[0], DATA, "first.nc")


def test_a_first_velocity_without_velocities_is_refused(invert, small_data, tmp_path):
    small_data[["eta"]].isel(time=[0]).to_netcdf(tmp_path / "first.nc")
    refused(invert(small_data, "--initial-velocity", tmp_path / "first.nc", *QUICK)[0], DATA, "no u and v")


def test_rest_is_rest_whatever_the_waves_say(invert, small_data):
    later = small_data.isel(time=slice(5, None))
    later = later.assign_coords(time=("time", small_data.time.values[:-5], small_data.time.attrs))
    _, bed = invert(later, "--initial-velocity", "rest", *QUICK)
    assert not bed.u[:, 0].any()
    assert not bed.v[:, 0].any()
    _, bed = invert(later, *QUICK, output="moving.nc")
    assert bed.u[:, 0].any()


# --- gauges, stations, masks --------------------------------------------------------------------------------------------


def at_stations(dataset, names=("eta",)):
    places = [125000.0, 458333.0, 791666.0]
    cut = dataset.isel(sample=0).sel(x=places, y=places, method="nearest")
    return cut[list(names)].stack(station=("y", "x")).reset_index("station").transpose("time", "station")


@pytest.fixture
def first(small_data, tmp_path):
    small_data[["eta", "u", "v"]].isel(sample=0, time=[0]).to_netcdf(tmp_path / "first.nc")
    return tmp_path / "first.nc"


def test_stations_are_gauges_in_the_fields(invert, small_data, first, tmp_path):
    """The same bed to rounding, with the noise in its unit: its share is of other cells."""
    options = (*QUICK[:-1], "0.001")
    flat = at_stations(small_data)
    result, bed = invert(flat, "--initial-state", first, *options)
    fitted(result)
    rows = "".join(f"{x:.10g},{y:.10g}\n" for x, y in zip(flat.x.values, flat.y.values, strict=True))
    (tmp_path / "g.csv").write_text(f"x,y\n{rows}")
    gauges = ("--gauges", tmp_path / "g.csv", "--variable", "eta")
    _, same = invert(small_data.isel(sample=[0]), *gauges, *options, output="same.nc")
    assert_allclose(bed.depth, same.depth, rtol=1e-6)
    assert_allclose(bed.observed, same.observed)


def test_a_gap_in_a_series_is_not_observed(invert, small_data, first):
    holed = at_stations(small_data)
    holed["eta"][5:8, 2] = np.nan
    result, bed = invert(holed, "--initial-state", first, *QUICK)
    fitted(result)
    assert sorted(set(np.round(bed.observed.values[bed.observed > 0], 6))) == [0.9, 1.0]


def test_stations_in_another_unit_are_refused(invert, small_data, first):
    """As fields are: centimetres are no metres."""
    flat = at_stations(small_data)
    flat["eta"] = (flat.eta * 100).assign_attrs(units="cm")
    refused(invert(flat, "--initial-state", first, *QUICK)[0], DATA, "cm")


@WARNED
@pytest.mark.parametrize("value", [np.inf, FILL])
def test_an_infinite_or_fill_value_at_a_station_is_refused(value, invert, small_data, first):
    """As in fields."""
    flat = at_stations(small_data)
    flat["eta"][4] = value
    flat["eta"].encoding = {}  # which declared the fill value
    result, _ = invert(flat, "--initial-state", first, *QUICK)
    refused(result, DATA, "'eta'")
    assert "no signal" not in result.stderr


def test_velocities_at_other_stations_are_refused(invert, small_data, first):
    flat = at_stations(small_data, ("eta", "u", "v"))
    flat["u"] = flat.u.isel(station=slice(0, 3)).rename(station="mooring")
    result, _ = invert(flat, "--initial-state", first, *QUICK)
    refused(result, DATA, "'u'")


def test_two_stations_in_a_cell_lose_nothing(invert, small_data, first):
    """Where one saw and the other did not, the cell was seen."""
    flat = at_stations(small_data)
    blind = flat.isel(station=[0]).copy(deep=True)
    blind["eta"][:] = np.nan
    result, bed = invert(xr.concat([flat, blind], "station"), "--initial-state", first, *QUICK)
    fitted(result)
    assert "share a cell" in result.stderr
    assert int((bed.observed > 0).sum()) == 9


@pytest.mark.parametrize("option", ["--gauges", "--mask", "--select"])
def test_an_option_for_fields_is_not_passed_over_with_stations(option, invert, small_data, first, tmp_path):
    """It does what it says, or is refused; a typing error in it does not go unnoticed."""
    (tmp_path / "g.csv").write_text("x,y\n458333,458333\n")
    said = {"--gauges": tmp_path / "g.csv", "--mask": "none.nc:none", "--select": "time=0:10"}[option]
    result, bed = invert(at_stations(small_data), "--initial-state", first, option, said, *QUICK)
    if result.exit_code == UNTRUSTED:
        used = {"--gauges": int((bed.observed > 0).sum()) == 1, "--select": bed.sizes["time"] == 10}
        assert used.get(option, False)
    else:
        assert result.exit_code in (USAGE, DATA)
        assert option in result.stderr


def test_series_that_begin_after_the_first_frame_are_not_taken_for_earlier(invert, small_data, first):
    """Both files say when: 11000 s and 0 s."""
    result, _ = invert(at_stations(small_data).isel(time=slice(5, None)), "--initial-state", first, *QUICK)
    if result.exit_code == UNTRUSTED:
        assert any(line.startswith("warning: ") and "time" in line for line in result.stderr.splitlines())
    else:
        refused(result, DATA, "time")


def test_stations_all_outside_are_refused(invert, small_data, first):
    flat = at_stations(small_data)
    refused(
        invert(flat.assign_coords(x=flat.x + 5e6), "--initial-state", first, *QUICK)[0], DATA, "no gauge lies inside"
    )


def test_stations_of_uneven_times_are_refused(invert, small_data, first):
    flat = at_stations(small_data)
    times = flat.time.values.copy()
    times[1] += 200
    refused(invert(flat.assign_coords(time=times), "--initial-state", first, *QUICK)[0], DATA, "evenly")


def test_gauges_at_longitude_and_latitude_are_placed(invert, small_data, tmp_path):
    (tmp_path / "g.csv").write_text("\ufeffLon, Lat, name\n0.3,42.2,A\n\n5.9,47.8,B\n", encoding="utf-8")
    options = ("--time-step", 200, "--variable", "eta", "--gauges", tmp_path / "g.csv", *QUICK)
    result, bed = invert(on_globe(small_data), *options)
    fitted(result)
    assert np.argwhere(bed.observed.values > 0).tolist() == [[0, 0], [11, 11]]
    assert bed.gauge_x.values.tolist() == [0.25, 5.75]


def test_degrees_are_not_taken_for_metres(invert, small_waves, tmp_path):
    """A gauge at 1 E, 45 N is not 1 m east and 45 m north of a corner."""
    (tmp_path / "g.csv").write_text("lon,lat\n1,45\n")
    refused(invert(small_waves, "--gauges", tmp_path / "g.csv", *QUICK)[0], DATA, "--gauges")


@WARNED
def test_a_gauge_beyond_all_numbers_lies_outside(invert, small_waves, tmp_path):
    (tmp_path / "g.csv").write_text("x,y\n1e300,5\n5e5,5e5\n")
    result, _ = invert(small_waves, "--gauges", tmp_path / "g.csv", *QUICK)
    fitted(result)
    assert "1 of 2 gauges lie outside" in result.stderr


@pytest.mark.parametrize("content", ["", "x,y\n", "x,y\n1\n", "x,y\nnan,3\n", "x,y\n1,\n"])
def test_a_file_of_gauges_without_a_place_is_refused(content, invert, small_waves, tmp_path):
    (tmp_path / "g.csv").write_text(content)
    refused(invert(small_waves, "--gauges", tmp_path / "g.csv", *QUICK)[0], DATA, "g.csv")


def test_a_mask_chooses_cells(invert, small_data):
    there = np.zeros((SIZE, SIZE))
    there[2:9, 3:] = 1
    _, bed = invert(small_data.assign(wet=(("y", "x"), there)), "--mask", "wet", *QUICK)
    assert_allclose(bed.observed > 0, there > 0)


@pytest.mark.parametrize(("mask", "part"), [("wet", "no cell"), ("dry", "no such variable")])
def test_a_mask_without_a_cell_is_refused(mask, part, invert, small_data):
    result, _ = invert(small_data.assign(wet=(("y", "x"), np.zeros((SIZE, SIZE)))), "--mask", mask, *QUICK)
    refused(result, DATA, part)


# --- soundings ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sounded(small_data, tmp_path):
    """NetCDF with gaps: what was sounded in the west; by a name, a factor, attributes."""

    def write(name="depth", factor=1.0, **attributes):
        depth = factor * small_data[["depth"]].where(small_data.x < 2e5).rename(depth=name)
        depth[name].attrs = {"units": "m", **attributes}
        depth.to_netcdf(tmp_path / "soundings.nc")
        return tmp_path / "soundings.nc"

    return write


def test_soundings_may_be_a_field_with_gaps(invert, small_waves, sounded):
    result, bed = invert(small_waves, "--soundings", sounded(), *QUICK)
    fitted(result)
    assert bed.attrs["soundings"] == 24


@pytest.mark.parametrize("positive", ["down", "up"])
def test_soundings_of_the_wrong_sign_are_refused(positive, invert, small_waves, sounded):
    result, _ = invert(small_waves, "--soundings", sounded(factor=-1, positive=positive), *QUICK)
    refused(result, DATA, "positive down")


def test_soundings_on_another_grid_are_refused(invert, small_data, tmp_path):
    small_data[["depth"]].isel(x=slice(0, 8)).to_netcdf(tmp_path / "s.nc")
    refused(invert(small_data, "--soundings", tmp_path / "s.nc", *QUICK)[0], DATA, "grid of the waves")


def test_soundings_outside_are_warned_of(invert, small_waves, tmp_path):
    """As gauges are."""
    (tmp_path / "s.csv").write_text("x,y,depth\n5e5,5e5,60\n9e6,5e5,60\n")
    result, bed = invert(small_waves, "--soundings", tmp_path / "s.csv", *QUICK)
    fitted(result)
    assert "1 of 2" in result.stderr
    assert "outside" in bed.attrs.get("warnings", "")


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ("5e5,5e5,60,0\n", "std must be positive"),
        ("9e6,5e5,60,1\n", "none lies inside"),
        ("5e5,5e5,deep,1\n", "no number"),
        ("5e5,5e5,0,1\n", "positive down"),
    ],
)
def test_soundings_that_say_nothing_are_refused(rows, part, invert, small_waves, tmp_path):
    (tmp_path / "s.csv").write_text("x,y,depth,std\n" + rows)
    refused(invert(small_waves, "--soundings", tmp_path / "s.csv", *QUICK)[0], DATA, part)


def test_a_sounding_that_the_bounds_forbid_is_told(invert, small_waves, tmp_path):
    """600 m where 290 m is the deepest stable water: refused, or warned of; the depth cannot follow it."""
    (tmp_path / "s.csv").write_text("x,y,depth\n5e5,5e5,600\n")
    result, _ = invert(small_waves, "--soundings", tmp_path / "s.csv", *QUICK)
    assert "max-depth" in result.stderr.split("not to be trusted")[0]


# --- options ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--seed", "-1"), "--seed"),
        (("--noise", "eta"), "--noise"),
        (("--noise", "-1%"), "--noise"),
        (("--noise", "nan"), "--noise"),
        (("--noise", "eta=1%,u=0"), "more than 0"),
        (("--prior", "smooth:-1"), "--prior"),
        (("--prior", "smooth:9e9"), "--prior"),
        (("--prior", "white:3e5"), "--prior"),
        (("--time-limit", "0"), "--time-limit"),
        (("--time-limit", "1:2:3:4"), "--time-limit"),
        (("--gravity", "nan"), "gravity"),
        (("--friction", "-1"), "friction"),
        (("--coriolis", "inf"), "coriolis"),
        (("--time-step", "-5"), "--time-step"),
        (("--initial", "0"), "--initial"),
        (("--initial", "inf"), "--initial"),
        (("--min-depth", "-5"), "--min-depth"),
        (("--max-depth", "nan"), "--max-depth"),
        (("--max-depth", "1e9"), "unstable"),
        (("--refine", "0"), "--refine"),
        (("--dtype", "float16"), "--dtype"),
        (("--device", "tpu"), "--device"),
        (("--resume", "must"), "--resume"),
        (("--dims", "x"), "--dims"),
        (("--run", "none", "--gravity", "free"), "--gravity free"),
    ],
    ids=lambda each: each if isinstance(each, str) else " ".join(each),
)
def test_an_option_out_of_range_is_one_line(options, part, invert, small_waves, tmp_path):
    result, _ = invert(small_waves, "--uncertainty", "none", "--iterations", "3", *options)
    refused(result, USAGE, part)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--truth", "--initial"])
def test_a_sea_bed_is_found_among_waves_by_what_it_is(option, invert, small_waves):
    """The file of a simulation holds its depth, beside fields over time: it is that one, or the line names this option."""
    result, _ = invert(small_waves, option, small_waves, *QUICK)
    if result.exit_code != UNTRUSTED:
        refused(result, DATA, option, "depth")


@pytest.mark.parametrize("option", ["--truth", "--initial"])
def test_a_sea_bed_of_another_basin_is_refused(option, invert, small_data, tmp_path):
    small_data[["depth"]].isel(x=slice(0, 8)).to_netcdf(tmp_path / "bed.nc")
    refused(invert(small_data, option, tmp_path / "bed.nc", *QUICK, output="o.nc")[0], DATA, "basin")


def test_more_than_the_iterations_asked_for_are_not_made(invert, small_waves):
    for count in (1, 3, 8):
        _, bed = invert(small_waves, *QUICK, "--iterations", count, output=f"{count}.nc")
        assert bed.attrs["iterations"] <= count


def test_more_than_the_iterations_asked_for_are_not_made_for_gauges(invert, small_waves, tmp_path):
    (tmp_path / "g.csv").write_text("x,y\n3e5,3e5\n7e5,4e5\n5e5,8e5\n")
    _, bed = invert(small_waves, "--variable", "eta", "--gauges", tmp_path / "g.csv", *QUICK, "--iterations", 3)
    assert bed.attrs["iterations"] <= 3


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("time,x,y,eta\n0,0.5,0.5,0.1\n60,0.5,0.5,0.2\n", "time, eta"),
        ("x,y,ssh\n0.5,0.5,nan\n", "ssh"),
        ("date,x,y\n2019-01-01,0.5,0.5\n", "date"),
        ("x,y\n0.5,0.5,0.1\n", "(without a name)"),
    ],
)
def test_a_gauge_file_with_readings_is_refused(invert, small_waves, tmp_path, text, columns):
    (tmp_path / "g.csv").write_text(text)
    refused(invert(small_waves, "--gauges", tmp_path / "g.csv", *QUICK)[0], DATA, f"the columns {columns} hold values")


def test_names_beside_the_places_of_gauges_are_no_readings(tmp_path):
    (tmp_path / "g.csv").write_text("station,x,y,operator,note\n7,0.5,0.5,coast guard,\n")
    _refuse_readings(str(tmp_path / "g.csv"))
