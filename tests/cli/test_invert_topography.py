"""forecast invert-topography: waves of every kind in, a sea bed with its uncertainty and a verdict out, and one line for what cannot be."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from forecast_cli.cli import app

SIZE, SIDE = 16, 1e6
TRUSTED, USAGE, DATA, UNTRUSTED, OUTPUT, STOPPED = 0, 2, 3, 6, 7, 75
SIMULATE = ("simulate", "shallow-water", "--grid", SIZE, "--dtype", "float64", "--topography")
QUICK = ("--uncertainty", "none", "--iterations", "12", "--noise", "1%")


def command(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def waves(tmp_path_factory):
    """Two sequences over a seamount, 1 % noise, 41 frames of two steps."""
    path = tmp_path_factory.mktemp("waves") / "waves.nc"
    made = command(*SIMULATE, "seamount", "--samples", 2, "--frames", 81, "--every", 2, "--noise", "1%", "-o", path)
    assert made.exit_code == 0, made.output
    return path


@pytest.fixture
def invert(forecast, tmp_path):
    """Run on some waves; gives the result, and the dataset if there is one."""

    def run(path, *options, output=tmp_path / "bed.nc"):
        result = forecast("invert-topography", path, "-o", output, *options)
        return result, (xr.load_dataset(output) if output.exists() and result.exit_code in (0, 6, 75) else None)

    return run


def changed(waves, path, change, **encoding):
    """A copy of the waves, changed."""
    with xr.open_dataset(waves) as dataset:
        change(dataset.load()).to_netcdf(path, **encoding)
    return path


def gauges(path, count=5, header="x,y", scale=SIDE):
    places = (np.arange(count) + 0.5) / count * scale
    path.write_text(header + "\n" + "".join(f"{x:.6g},{y:.6g}\n" for y in places for x in places))
    return path


# --- what comes out -----------------------------------------------------------------------------------------------------


def test_a_bed_is_found_with_honest_intervals(invert, waves):
    result, bed = invert(waves, "--noise", "1%", "--truth", waves, "--json")
    assert result.exit_code == TRUSTED, result.output
    told = json.loads(result.stdout)
    assert told["converged"] is told["trustworthy"] is True
    assert told["reasons"] == []
    assert told["chi2"] == pytest.approx(1, abs=0.05)
    assert told["relative_l2"] < 0.002
    assert 0.9 <= told["coverage_95"] <= 0.99
    assert told["iterations"] == bed.sizes["iteration"] - 1
    assert bed.attrs["taylor_order"] == pytest.approx(2, abs=0.1)
    assert bed.depth.attrs["positive"] == "down"
    assert bed.depth.attrs["standard_name"] == "sea_floor_depth_below_mean_sea_level"
    assert bed.depth.attrs["units"] == bed.depth_std.attrs["units"] == "m"
    assert bed.depth_std.attrs["standard_name"] == "sea_floor_depth_below_mean_sea_level standard_error"
    assert bed.u.attrs["standard_name"] == "sea_water_x_velocity"
    assert (bed.depth_std > 0).all()
    np.testing.assert_allclose(bed.depth_error, bed.depth - bed.depth_true, atol=1e-12)
    assert bed.eta.dims == ("sample", "time", "y", "x")
    with xr.open_dataset(waves) as observed:
        np.testing.assert_allclose(bed.eta[:, 0], observed.eta[:, 0], atol=1e-6)
        np.testing.assert_array_equal(bed.x, observed.x)
        np.testing.assert_allclose(bed.depth_true, observed.depth, rtol=1e-6)
        # What the file says of the physics is what was used.
        for name in ("gravity", "coriolis", "beta", "friction", "time_step", "scheme"):
            assert bed.attrs[name] == pytest.approx(observed.attrs[name])


def test_without_noise_the_bed_is_exact(invert, tmp_path):
    """The bound of single precision, in which the file holds the truth."""
    clean = tmp_path / "clean.nc"
    assert command(*SIMULATE, "seamount", "--frames", 81, "--every", 2, "-o", clean).exit_code == 0
    result, _ = invert(clean, "--noise", "0.001%", "--truth", f"{clean}:depth", "--uncertainty", "none", "--json")
    assert json.loads(result.stdout)["relative_l2"] < 1e-5


def test_everything_seen_at_every_step_starts_from_continuity(invert, tmp_path):
    every = tmp_path / "every.nc"
    assert command(*SIMULATE, "ridge", "--frames", 61, "-o", every).exit_code == 0
    result, bed = invert(every, *QUICK, "--truth", f"{every}:depth")
    assert "start: least squares of continuity" in result.stderr
    assert float(abs(bed.depth_initial - bed.depth_true).max()) < 1e-3


def test_wrong_physics_is_not_trusted(invert, waves):
    result, bed = invert(waves, "--noise", "1%", "--coriolis", 0, "--beta", 0)
    assert result.exit_code == UNTRUSTED
    assert "chi2" in bed.attrs["reasons"]
    assert bed.attrs["trustworthy"] == 0
    assert "not to be trusted" in result.stderr.splitlines()[-1]


def test_noise_that_is_not_said_is_found(invert, waves):
    """To a tenth of itself."""
    result, bed = invert(waves, "--uncertainty", "none")
    assert result.exit_code == TRUSTED, result.output
    with xr.open_dataset(waves) as observed:
        assert bed.attrs["noise_eta"] == pytest.approx(0.01 * float(observed.eta.std()), rel=0.1)


def test_gauges_need_no_more_than_a_file_of_places(invert, waves, tmp_path):
    few = ("--variable", "eta", "--gauges", gauges(tmp_path / "g.csv"))
    result, bed = invert(waves, *few, "--noise", "1%", "--truth", f"{waves}:depth", "--json")
    assert result.exit_code == TRUSTED, result.output
    assert json.loads(result.stdout)["relative_l2"] < 0.02
    assert bed.sizes["gauge"] == 25
    assert bed.attrs["prior"] == "smooth"
    assert int((bed.observed > 0).sum()) == 25
    row, column = int(bed.gauge_y[7] / SIDE * SIZE), int(bed.gauge_x[7] / SIDE * SIZE)
    with xr.open_dataset(waves) as observed:
        np.testing.assert_allclose(bed.eta_observed[:, :, 7], observed.eta[:, :, row, column], atol=1e-6)


@pytest.mark.parametrize(("header", "scale"), [("column,row", SIZE - 1), ("x,y", SIDE)])
def test_gauges_are_told_by_place_or_by_number(header, scale, invert, waves, tmp_path):
    _, bed = invert(waves, "--variable", "eta", "--gauges", gauges(tmp_path / "g.csv", 2, header, scale), *QUICK)
    rows, columns = np.nonzero(bed.observed.values)
    assert set(rows) == set(columns) == {4, 12} if header == "x,y" else len(rows) == 4


def test_stations_are_put_on_the_grid_of_the_first_frame(invert, waves, tmp_path):
    """As good as the same gauges cut out of the fields."""

    def at_stations(dataset):
        cut = dataset.isel(sample=0).sel(
            x=[93750.0, 468750.0, 843750.0], y=[93750.0, 468750.0, 843750.0], method="nearest"
        )
        flat = cut[["eta"]].stack(station=("y", "x")).reset_index("station")
        return flat.transpose("time", "station")

    stations = changed(waves, tmp_path / "stations.nc", at_stations)
    first = changed(waves, tmp_path / "first.nc", lambda d: d[["eta", "u", "v"]].isel(sample=0, time=[0]))
    result, bed = invert(stations, "--initial-state", first, *QUICK)
    assert result.exit_code == UNTRUSTED, result.output  # few iterations
    assert int((bed.observed > 0).sum()) == 9
    refused = invert(stations, output=tmp_path / "no.nc")[0]
    assert refused.exit_code == DATA
    assert "--initial-state" in refused.stderr


def test_what_is_missing_is_not_observed(invert, waves, tmp_path):
    def holed(dataset):
        there = (dataset.x > 3e5) | (dataset.time == 0)
        return dataset.assign({name: dataset[name].where(there) for name in ("eta", "u", "v")})

    _, bed = invert(changed(waves, tmp_path / "holed.nc", holed), *QUICK)
    assert not bed.observed.sel(x=slice(0, 2.9e5)).any()
    assert (bed.observed.sel(x=slice(3.1e5, 9e5)) > 0.6).all()


def test_names_units_and_dates_of_others_are_understood(invert, waves, tmp_path):
    """zeta, ubar, vbar without standard names on a grid in km, dated: the same bed to the last bit but one."""

    def others(dataset):
        found = dataset.isel(sample=0).rename(eta="zeta", u="ubar", v="vbar")
        for name in ("zeta", "ubar", "vbar"):
            found[name].attrs.pop("standard_name")
        for name in ("x", "y"):
            found[name] = found[name] / 1000
            found[name].attrs["units"] = "km"
        seconds = found.time.values
        return found.assign_coords(time=np.datetime64("2001-02-03", "ns") + (seconds * 1e9).astype("timedelta64[ns]"))

    _, mine = invert(waves, "--select", "sample=0:1", *QUICK, output=tmp_path / "a.nc")
    result, theirs = invert(changed(waves, tmp_path / "others.nc", others), *QUICK, output=tmp_path / "b.nc")
    assert "eta ('zeta')" in result.stderr
    np.testing.assert_allclose(theirs.depth, mine.depth, rtol=1e-6)
    assert theirs.x.attrs["units"] == "km"
    named = invert(tmp_path / "others.nc", "--variable", "eta=zeta", *QUICK, output=tmp_path / "c.nc")[1]
    assert named.attrs["observed_variables"] == "eta"


@pytest.mark.parametrize("faces", ["inner", "all"])
def test_every_staggering_gives_the_same_bed(faces, invert, waves, tmp_path):
    def staggered(dataset):
        found = dataset.drop_vars(["u", "v"])
        for name, dim in (("u", "x"), ("v", "y")):
            values = dataset[name].drop_vars(["x", "y"]).rename({dim: f"{dim}_face"})
            inner = values.isel({f"{dim}_face": slice(0, -1)})
            found[name] = inner if faces == "inner" else values.pad({f"{dim}_face": (1, 0)}, constant_values=0)
            found[name].attrs = dataset[name].attrs
        return found

    # The noise in units: shares are of what the file holds, noisy walls included.
    options = (*QUICK[:-1], "eta=6e-4,u=2e-4,v=2e-4")
    _, mine = invert(waves, *options, output=tmp_path / "a.nc")
    result, theirs = invert(changed(waves, tmp_path / "s.nc", staggered), *options, output=tmp_path / "b.nc")
    assert result.exit_code == UNTRUSTED, result.output
    np.testing.assert_allclose(theirs.depth, mine.depth, rtol=1e-9)


def test_degrees_bring_their_rotation(invert, waves, tmp_path):
    """f0 = 2 Omega sin(45 degrees), on a plane of the same size."""

    def on_globe(dataset):
        del dataset.attrs["coriolis"], dataset.attrs["beta"]
        lat = ("lat", 45 + (np.arange(SIZE) - SIZE / 2 + 0.5) * 0.25, {"units": "degrees_north"})
        lon = ("lon", (np.arange(SIZE) + 0.5) * 0.25, {"units": "degrees_east"})
        return dataset.rename(y="lat", x="lon").assign_coords(lat=lat, lon=lon)

    result, bed = invert(changed(waves, tmp_path / "globe.nc", on_globe), *QUICK, "--time-step", 300)
    assert "degrees taken as a plane" in result.stderr
    assert bed.attrs["coriolis"] == pytest.approx(2 * 7.2921e-5 * np.sin(np.pi / 4), rel=1e-6)
    assert bed.attrs["beta"] == pytest.approx(2 * 7.2921e-5 * np.cos(np.pi / 4) / 6.371e6, rel=1e-6)
    assert bed.depth.dims == ("lat", "lon")


def test_soundings_pull_the_depth(invert, waves, tmp_path):
    (tmp_path / "s.csv").write_text("x,y,depth,std\n93750,93750,60,0.01\n")
    _, bed = invert(
        waves, "--variable", "eta", "--noise", "100%", "--soundings", tmp_path / "s.csv", "--uncertainty", "none"
    )
    assert float(bed.depth.sel(x=93750, y=93750)) == pytest.approx(60, abs=0.1)
    assert bed.attrs["soundings"] == 1


def test_gravity_can_be_found_with_velocities_and_hardly_without(invert, waves, tmp_path):
    _, bed = invert(waves, "--gravity", "free", "--noise", "1%", output=tmp_path / "a.nc")
    assert bed.attrs["gravity"] == pytest.approx(9.81, abs=4 * bed.attrs["gravity_std"])
    result, alone = invert(waves, "--gravity", "free", "--noise", "1%", "--variable", "eta", output=tmp_path / "b.nc")
    assert "gravity times depth" in result.stderr
    assert alone.attrs["gravity_std"] > 5 * bed.attrs["gravity_std"]


@pytest.mark.parametrize("kind", ["ensemble", "none"])
def test_uncertainty_is_a_choice(kind, invert, waves):
    result, bed = invert(waves, "--uncertainty", kind, "--noise", "1%", "--truth", f"{waves}:depth")
    assert result.exit_code == TRUSTED, result.output
    assert bed.attrs["uncertainty"] == kind
    if kind == "ensemble":
        assert 0.8 < bed.attrs["coverage_95"] <= 1  # sixteen members
    else:
        assert "depth_std" not in bed


def test_a_trained_model_takes_the_place_of_the_equation(forecast, invert, waves, tmp_path):
    run = tmp_path / "run"
    finn = ("--model", "finn", "--set", "model.equation=shallow-water", "--set", 'model.learn=["transport"]')
    parts = ("--static", "depth", "--split", "2,0,0", "--epochs", 1, "--horizon", 3)
    trained = forecast("train", waves, *finn, *parts, "-o", run)
    assert trained.exit_code == 0, trained.output
    result, bed = invert(waves, "--run", run, *QUICK)
    assert result.exit_code == UNTRUSTED, result.output  # few iterations
    assert bed.attrs["model"] == "finn"
    assert float(abs(bed.depth - bed.depth_initial).max()) > 1
    refused = invert(waves, "--run", run, "--gravity", 9.8, output=tmp_path / "no.nc")[0]
    assert refused.exit_code == USAGE
    assert "--gravity" in refused.stderr


@pytest.mark.parametrize("name", ["minconvgru", "distana", "phydnet"])
def test_a_model_of_another_kind_sees_its_context_first(name, forecast, invert, waves, tmp_path):
    """Three true frames, walls and all; it knows no physics, and is not trusted."""
    small = ("--hidden", 4, "--context", 3, "--horizon", 2, "--epochs", 1, "--split", "2,0,0", "--static", "depth")
    assert forecast("train", waves, "--model", name, *small, "-o", tmp_path / "run").exit_code == 0
    result, bed = invert(waves, "--run", tmp_path / "run", *QUICK)
    assert result.exit_code == UNTRUSTED, result.output
    assert bed.attrs["model"] == name
    with xr.open_dataset(waves) as observed:
        np.testing.assert_allclose(bed.eta[:, :3], observed.eta[:, :3], atol=1e-6)
    alone = invert(waves, "--run", tmp_path / "run", "--variable", "eta", *QUICK, output=tmp_path / "no.nc")[0]
    assert alone.exit_code == DATA
    assert "3 whole frames" in alone.stderr


@pytest.mark.parametrize("with_truth", [True, False])
def test_a_bed_is_drawn_and_described(with_truth, forecast, invert, waves, tmp_path):
    truth = ("--truth", f"{waves}:depth") if with_truth else ()
    invert(waves, "--variable", "eta", "--gauges", gauges(tmp_path / "g.csv"), *QUICK, *truth)
    assert forecast("plot", tmp_path / "bed.nc", "-o", tmp_path / "bed.png").exit_code == 0
    assert (tmp_path / "bed.png").stat().st_size > 20_000
    told = forecast("info", tmp_path / "bed.nc").stderr
    assert "inferred sea bed" in told
    assert "not converged" in told


# --- stopping, going on -------------------------------------------------------------------------------------------------


def test_a_time_limit_writes_what_is_there_and_resume_goes_on(invert, waves):
    result, bed = invert(waves, "--noise", "1%", "--time-limit", "0.01")
    assert result.exit_code == STOPPED
    assert "--resume auto" in result.stderr.splitlines()[-1]
    assert bed.attrs["converged"] == 0
    result, bed = invert(waves, "--noise", "1%", "--resume", "auto")
    assert result.exit_code == TRUSTED, result.output
    assert bed.attrs["converged"] == 1
    result, _ = invert(waves, "--noise", "1%", "--resume", "auto")
    assert result.exit_code == DATA
    assert "nothing to go on with" in result.stderr


def test_ctrl_c_writes_what_is_there(waves, tmp_path):
    """A real process, interrupted on its way."""
    options = ("-o", tmp_path / "bed.nc", "--noise", "0.0001%", "--iterations", 100000)
    line = [sys.executable, "-m", "forecast_cli", "invert-topography", waves, *options]
    process = subprocess.Popen([str(part) for part in line], stderr=subprocess.PIPE, text=True, env=os.environ)
    for text in process.stderr:
        if text.startswith("gradient checked"):
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == STOPPED, errors
    assert xr.load_dataset(tmp_path / "bed.nc").attrs["converged"] == 0
    assert not list(tmp_path.glob("*.partial"))


def test_a_bed_is_not_overwritten(invert, waves, tmp_path):
    (tmp_path / "bed.nc").write_text("kept")
    result = invert(waves, *QUICK)[0]
    assert result.exit_code == OUTPUT
    assert (tmp_path / "bed.nc").read_text() == "kept"


def test_what_is_read_is_never_replaced(forecast, waves):
    before = waves.read_bytes()
    for options in ((), ("--truth", waves)):
        result = forecast("invert-topography", waves, *options, "-o", waves, "--overwrite", *QUICK)
        assert result.exit_code == OUTPUT
        assert "would be replaced" in result.stderr
    assert waves.read_bytes() == before


def test_a_bed_of_another_grid_is_not_gone_on_with(invert, waves, tmp_path):
    smaller = changed(waves, tmp_path / "smaller.nc", lambda d: d.isel(x=slice(0, 12)))
    assert invert(smaller, "--noise", "1%", "--time-limit", "0.01")[0].exit_code == STOPPED
    result, _ = invert(waves, "--noise", "1%", "--resume", "auto")
    assert result.exit_code == DATA
    assert "16 x 12 cells" in result.stderr


def test_one_velocity_may_be_used_without_the_other(invert, waves):
    _, bed = invert(waves, "--variable", "eta,u", *QUICK)
    assert bed.attrs["observed_variables"] == "eta,u"


def test_iterations_are_the_most_that_are_made(invert, waves):
    _, bed = invert(waves, *QUICK)
    assert bed.attrs["iterations"] == 12
    assert not bed.attrs["converged"]


def test_single_precision_is_enough(invert, waves):
    result, _ = invert(waves, "--noise", "1%", "--dtype", "float32", "--uncertainty", "none")
    assert result.exit_code == TRUSTED, result.output


# --- what cannot be -----------------------------------------------------------------------------------------------------


def nan_at_first(dataset):
    dataset["eta"][0, 0, 3, 3] = np.nan
    return dataset


def uneven(name):
    def change(dataset):
        places = dataset[name].values.copy()
        places[1] += 0.3 * (places[2] - places[1])
        return dataset.assign_coords({name: (name, places, dataset[name].attrs)})

    return change


def still(dataset):
    return 0 * dataset[["eta"]].assign_attrs(dataset.attrs)


def text(name, content):
    def write(folder):
        (folder / name).write_text(content)
        return folder / name

    return write


REFUSED = {
    "the first frame has a hole": (nan_at_first, (), DATA, "--initial-state"),
    "the grid is uneven": (uneven("x"), (), DATA, "even"),
    "time is uneven": (uneven("time"), (), DATA, "time"),
    "u fits no staggering": (lambda d: d.assign(u=d.u.isel(x=slice(0, 5)).drop_vars("x").rename(x="xu")), (), DATA, "staggering"),
    "nothing moves": (still, (), DATA, "no signal"),
    "two frames": (lambda d: d.isel(time=slice(0, 2)), (), DATA, "at least 3"),
    "no elevation": (lambda d: d.drop_vars("eta"), (), DATA, "--variable eta=NAME"),
    "eta in feet": (lambda d: d.assign(eta=d.eta.assign_attrs(units="feet")), (), DATA, "feet"),
    "a time step in words": (lambda d: d.assign_attrs(time_step="short"), (), DATA, "is no number. Give --time-step"),
    "a gravity in words": (lambda d: d.assign_attrs(gravity="heavy"), (), DATA, "is no number. Give --gravity"),
    "an unknown variable": (None, ("--variable", "eta=zeta"), DATA, "zeta"),
    "an unknown role": (None, ("--variable", "w"), USAGE, "eta, u or v"),
    "a step too long for the depth": (None, ("--max-depth", "5000"), USAGE, "unstable"),
    "water that falls dry": (None, ("--min-depth", "0.5"), USAGE, "dry"),
    "bounds the wrong way round": (None, ("--min-depth", "90", "--max-depth", "80"), USAGE, "smallest"),
    "no gauge inside": (None, ("--gauges", text("g.csv", "x,y\n-5e6,3\n")), DATA, "no gauge lies inside"),
    "gauges without places": (None, ("--gauges", text("g.csv", "a,b\n1,2\n")), DATA, "header"),
    "gauges that are not there": (None, ("--gauges", "none.csv"), DATA, "cannot be read"),
    "a bad number among gauges": (None, ("--gauges", text("g.csv", "x,y\n1,two\n")), DATA, "no number"),
    "elevations as soundings": (None, ("--soundings", text("s.csv", "x,y,depth\n5e5,5e5,-60\n")), DATA, "positive down"),
    "no noise at all": (None, ("--noise", "0"), USAGE, "more than 0"),
    "noise of another variable": (None, ("--noise", "w=1%"), USAGE, "no variable 'w'"),
    "a prior without length": (None, ("--prior", "smooth:long"), USAGE, "length in metres"),
    "a first guess beyond the bounds": (None, ("--initial", "5000"), USAGE, "beyond the bounds"),
    "a negative seed": (None, ("--seed", "-1"), USAGE, "--seed -1"),
    "an unknown prior": (None, ("--prior", "rough"), USAGE, "white, smooth"),
    "an unknown uncertainty": (None, ("--uncertainty", "much"), USAGE, "gauss-newton"),
    "no iterations": (None, ("--iterations", "0"), USAGE, "at least 1"),
    "a bad time limit": (None, ("--time-limit", "soon"), USAGE, "HH:MM:SS"),
    "a negative first guess": (None, ("--initial", "-60"), USAGE, "positive down"),
    "a first guess that is not there": (None, ("--initial", "none.nc"), DATA, "no such file"),
    "a run that is not there": (None, ("--run", "none"), 4, "no such run"),
    "a gravity that is none": (None, ("--gravity", "heavy"), USAGE, "number, or free"),
    "gravity of nothing": (None, ("--gravity", "0"), USAGE, "positive"),
    "a time step of nothing": (None, ("--time-step", "0"), USAGE, "--time-step"),
    "an unknown scheme": (None, ("--scheme", "sideways"), USAGE, "upwind"),
    "a model too fine": (None, ("--refine", "99"), USAGE, "1 to 8"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_line_and_nothing_is_written(case, invert, waves, tmp_path):
    change, options, code, part = REFUSED[case]
    path = changed(waves, tmp_path / "changed.nc", change) if change else waves
    result, _ = invert(path, *(option(tmp_path) if callable(option) else option for option in options))
    assert (result.exit_code, result.stderr.count("\n"), result.stdout) == (code, 1, ""), result.output
    assert part in result.stderr
    assert not list(tmp_path.glob("bed.nc*"))


@pytest.mark.parametrize("option", ["--initial", "--truth"])
def test_an_elevation_that_says_it_is_a_depth_is_refused(option, invert, waves, tmp_path):
    wrong = changed(waves, tmp_path / "wrong.nc", lambda d: d[["depth"]].map(lambda v: -v, keep_attrs=True))
    result, _ = invert(waves, option, wrong)
    assert result.exit_code == DATA
    assert result.stderr.count("\n") == 1
    assert "negative" in result.stderr


@pytest.mark.parametrize(
    ("change", "options", "part"),
    [
        (lambda d: d.isel(time=slice(0, 8)), (), "8 frames only"),
        (lambda d: d.isel(time=slice(0, 8)), (), "of the time in which waves cross the basin"),
        (None, ("--variable", "eta", "--gravity", "free"), "gravity times depth"),
        (lambda d: _without(d, "time_step"), ("--max-depth", "120"), "time step is guessed"),
    ],
)  # fmt: skip
def test_what_is_doubtful_is_warned_of(change, options, part, invert, waves, tmp_path):
    path = changed(waves, tmp_path / "changed.nc", change) if change else waves
    result, bed = invert(path, *options, *QUICK)
    assert any(line.startswith("warning: ") and part in line for line in result.stderr.splitlines()), result.stderr
    assert part in bed.attrs["warnings"]


def _without(dataset, name):
    del dataset.attrs[name]
    return dataset


def test_gauges_outside_are_warned_of(invert, waves, tmp_path):
    (tmp_path / "g.csv").write_text("x,y\n5e5,5e5\n5.01e5,5e5\n9e6,1e5\n")
    result, _ = invert(waves, "--gauges", tmp_path / "g.csv", *QUICK)
    assert "1 of 3 gauges lie outside" in result.stderr
    assert "share a cell" in result.stderr


def test_without_time_step_and_largest_depth_there_is_nothing_to_guess(invert, waves, tmp_path):
    result, _ = invert(changed(waves, tmp_path / "c.nc", lambda d: _without(d, "time_step")), *QUICK)
    assert result.exit_code == USAGE
    assert "--max-depth" in result.stderr


def test_the_first_velocity_is_rest_where_nothing_else_is_said(invert, waves, tmp_path):

    def later(dataset):
        cut = dataset.isel(time=slice(10, None))
        return cut.assign_coords(time=cut.time.copy(data=dataset.time.values[:-10]))

    moving = changed(waves, tmp_path / "m.nc", later)
    told = invert(moving, "--variable", "eta", *QUICK, output=tmp_path / "a.nc")[0].stderr
    assert "first frame of the file's u and v" in told
    alone = changed(moving, tmp_path / "e.nc", lambda d: d.drop_vars(["u", "v"]))
    result, rest = invert(alone, *QUICK, output=tmp_path / "b.nc")
    assert "at rest at the first frame" in result.stderr
    assert not rest.u[:, 0].any()
    _, given = invert(alone, "--initial-velocity", moving, *QUICK, output=tmp_path / "c.nc")
    assert given.u[:, 0].any()


def test_the_output_is_a_path_that_can_be_written(forecast, waves):
    result = forecast("invert-topography", waves, "-o", Path("/no/such/folder/bed.nc"), *QUICK)
    assert result.exit_code == OUTPUT
