"""Where an answer looks right and is not: a noisy first frame, gauges whose noise nobody says, an early stop, physics that is not known."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from seas import objective

from forecast_cli.inversion import uncertainty
from forecast_cli.inversion.noise import of_first_frame
from forecast_cli.inversion.observed import Observed

SIZE, SIDE = 12, 1e6
TRUSTED, USAGE, DATA, UNTRUSTED = 0, 2, 3, 6
QUICK = ("--uncertainty", "none", "--iterations", "3", "--noise", "1%")


@pytest.fixture
def gauges(tmp_path):
    path = tmp_path / "gauges.csv"
    places = (np.arange(4) + 0.5) / 4 * SIDE
    path.write_text("x,y\n" + "".join(f"{x:g},{y:g}\n" for y in places for x in places))
    return path


@pytest.fixture
def late(small_data):
    """The small waves from a noisy frame on, and their noise as an option."""
    noise = ",".join(f"{name}={0.01 * float(small_data[name].std()):.6g}" for name in ("eta", "u", "v"))
    return small_data.isel(time=slice(4, None)), ("--noise", noise)


# --- the first frame ----------------------------------------------------------------------------------------------------


def test_a_noisy_first_frame_is_inferred_with_the_depth(late, invert, tmp_path, monkeypatch):
    """Taken as exact it leaves three times the error."""
    waves, noise = late
    waves.to_netcdf(tmp_path / "late.nc")
    result, bed = invert(tmp_path / "late.nc", *noise, "--truth", tmp_path / "late.nc")
    assert result.exit_code == TRUSTED, result.output
    assert "first frame is noisy too" in result.stderr
    assert bed.attrs["coverage_95"] >= 0.85
    module = sys.modules["forecast_cli.inversion.prepare"]
    monkeypatch.setattr(module, "of_first_frame", lambda *_: (0.0, 0.0, 0.0))
    _, exact = invert(tmp_path / "late.nc", *noise, "--truth", tmp_path / "late.nc", output="exact.nc")
    assert bed.attrs["relative_l2"] < 0.5 * exact.attrs["relative_l2"]
    assert bed.attrs["coverage_95"] > exact.attrs["coverage_95"] + 0.2


def test_a_noisy_first_frame_is_a_doubt_where_it_cannot_be_inferred(late, invert, gauges):
    waves, noise = late
    result, bed = invert(waves, *noise, "--variable", "eta", "--gauges", gauges, "--iterations", "3")
    assert result.exit_code == UNTRUSTED
    assert "warning: the first frame is noisy" in result.stderr
    assert "the first frame is noisy" in bed.attrs["reasons"]


def test_an_exact_first_frame_is_left_alone(invert, small_waves):
    result, _ = invert(small_waves, *QUICK)
    assert "first frame is noisy" not in result.stderr


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_noise_of_the_first_frame_is_told(share):
    """To a quarter of itself from 32 x 32 cells; the water is at rest along y, and exact."""
    y, x = np.meshgrid(np.linspace(0, 1, 32), np.linspace(0, 1, 32), indexing="ij")
    wave = np.exp(-((y - 0.4) ** 2 + (x - 0.6) ** 2) / 0.02)
    start = np.stack([wave, 0.5 * wave, 0 * wave])[None]
    start[:, :2] += share * 0.01 * np.random.default_rng(0).standard_normal(start[:, :2].shape)
    observed = object.__new__(Observed)
    for name, value in {"channels": ("eta", "u"), "start": start}.items():
        object.__setattr__(observed, name, value)
    found = of_first_frame(observed, np.array([0.01, 0.01]))
    assert found == pytest.approx((share * 0.01, share * 0.01, 0.0), rel=0.25)


# --- what cannot be known -----------------------------------------------------------------------------------------------


def test_gauges_are_not_trusted_without_their_noise(invert, small_waves, gauges):
    """With it they are, and a time step that is not that of the waves is not."""
    seen = ("--variable", "eta", "--gauges", gauges)
    result, bed = invert(small_waves, *seen)
    assert result.exit_code == UNTRUSTED
    assert "--noise is not given" in bed.attrs["reasons"]
    result, _ = invert(small_waves, *seen, "--noise", "1%", output="said.nc")
    assert result.exit_code == TRUSTED, result.output
    result, _ = invert(small_waves, *seen, "--noise", "1%", "--time-step", "550", output="wrong.nc")
    assert result.exit_code == UNTRUSTED


def test_gravity_from_the_surface_alone_is_not_trusted(invert, small_waves):
    result, bed = invert(small_waves, *QUICK, "--variable", "eta", "--gravity", "free")
    assert "gravity times depth" in bed.attrs["reasons"]
    assert "warning: gravity is free" in result.stderr


def test_soundings_tell_gravity_from_depth(invert, small_waves, tmp_path):
    (tmp_path / "known.csv").write_text("column,row,depth,std\n2,2,100,0.5\n")
    options = ("--variable", "eta", "--gravity", "free", "--soundings", tmp_path / "known.csv")
    _, bed = invert(small_waves, *QUICK, *options)
    assert "gravity times depth" not in bed.attrs["reasons"]


def test_velocities_from_elsewhere_may_be_noisy_too(late, invert, tmp_path):
    """The first frame of the file itself, named as --initial-velocity."""
    waves, noise = late
    waves.to_netcdf(tmp_path / "late.nc")
    eta = noise[1].split(",")[0]
    options = ("--variable", "eta", "--initial-velocity", tmp_path / "late.nc", "--truth", tmp_path / "late.nc")
    _, bed = invert(tmp_path / "late.nc", "--noise", eta, *options)
    assert bed.attrs["coverage_95"] >= 0.85


def test_soundings_that_are_off_together_show_in_gravity(invert, small_data, small_waves, tmp_path):
    """Gravity is then inferred that no place on Earth has."""
    cells = [(2, 2), (5, 4), (8, 3), (9, 9), (3, 8)]
    depth = small_data["depth"].values
    rows = "".join(f"{x},{y},{1.05 * depth[y, x]:.4f}\n" for x, y in cells)
    (tmp_path / "deep.csv").write_text("column,row,depth\n" + rows)
    options = ("--variable", "eta", "--gravity", "free", "--noise", "1%", "--soundings", tmp_path / "deep.csv")
    result, bed = invert(small_waves, *options)
    assert result.exit_code == UNTRUSTED
    assert "not that of the Earth" in bed.attrs["reasons"]


def test_a_number_that_is_not_the_files_is_warned_of(invert, small_waves):
    result, _ = invert(small_waves, *QUICK, "--gravity", "9.7")
    assert "warning: gravity 9.7 (--gravity), but the file says 9.81" in result.stderr


def test_soundings_that_contradict_the_waves_are_a_reason(invert, small_waves, tmp_path):
    (tmp_path / "wrong.csv").write_text("column,row,depth\n2,2,150\n8,3,150\n9,9,150\n")
    result, bed = invert(small_waves, "--noise", "1%", "--soundings", tmp_path / "wrong.csv")
    assert result.exit_code == UNTRUSTED
    assert "soundings contradict" in bed.attrs["reasons"]


def test_noise_that_is_said_too_large_is_told(invert, small_waves):
    result, bed = invert(small_waves, "--noise", "3%")
    assert result.exit_code == TRUSTED, result.output
    assert "the noise is less than --noise says" in bed.attrs["warnings"]


def test_a_rotation_that_turns_round_in_the_basin_is_asked_about(invert, small_data):
    """Northings count from the equator."""
    result, _ = invert(small_data.assign_coords(y=small_data.y + 5e6), *QUICK)
    assert "warning: f = coriolis + beta y" in result.stderr


def test_frames_that_are_no_whole_number_of_steps_apart_are_warned_of(invert, small_waves):
    result, _ = invert(small_waves, *QUICK, "--time-step", "700")
    assert "no whole number of steps of 700 s" in result.stderr


# --- what is no input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "part"),
    [
        (("--prior", "white:1e5"), USAGE, "smooth:1e5"),
        (("--initial", "1e4"), USAGE, "--max-depth"),
    ],
    ids=["white with a length", "a guess beyond the bounds"],
)
def test_options_that_mean_nothing_are_refused(options, code, part, invert, small_waves):
    result, bed = invert(small_waves, *QUICK, *options)
    assert (result.exit_code, result.stderr.count("\n"), bed) == (code, 1, None)
    assert part in result.stderr


def test_a_file_given_twice_is_refused(forecast, small_waves, tmp_path):
    result = forecast("invert-topography", small_waves, small_waves, "-o", tmp_path / "bed.nc")
    assert (result.exit_code, result.stderr.count("\n")) == (DATA, 1)
    assert "given twice" in result.stderr


def test_an_inverted_bed_is_no_observation(forecast, invert, small_waves, tmp_path):
    invert(small_waves, *QUICK)
    result = forecast("invert-topography", tmp_path / "bed.nc", "-o", tmp_path / "again.nc")
    assert (result.exit_code, result.stderr.count("\n")) == (DATA, 1)
    assert "not observed" in result.stderr


def test_waves_higher_than_the_sea_are_asked_about_not_options(invert, small_data):
    """Fill values or another unit: the bounds were not given, so they are not blamed."""
    result, bed = invert(small_data.assign(eta=(small_data.eta * 1e3).assign_attrs(small_data.eta.attrs)), *QUICK)
    assert (result.exit_code, result.stderr.count("\n"), bed) == (DATA, 1, None)
    assert "eta in metres" in result.stderr
    assert "--min-depth" not in result.stderr


# --- going on -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rough(tmp_path_factory):
    """Waves over a bed of 100 to 2000 m: fitted all at once they come a period too late and end in a wrong valley."""
    from typer.testing import CliRunner

    from forecast_cli.cli import app

    path = tmp_path_factory.mktemp("rough")
    generator = np.random.default_rng(3)
    places = (np.arange(SIZE) + 0.5) * SIDE / SIZE
    depth = np.exp(np.log(450) + 0.9 * generator.standard_normal((SIZE, SIZE))).clip(100, 2000)
    axes = {name: (name, places, {"units": "m"}) for name in ("y", "x")}
    bed = xr.Dataset({"depth": (("y", "x"), depth, {"units": "m", "positive": "down"})}, coords=axes)
    bed.to_netcdf(path / "depth.nc")
    line = ["simulate", "shallow-water", "--grid", "12", "--dtype", "float64", "--topography", str(path / "depth.nc")]
    made = CliRunner().invoke(
        app, [*line, "--frames", "121", "--every", "3", "--noise", "1%", "-o", str(path / "w.nc")]
    )
    assert made.exit_code == 0, made.output
    return path / "w.nc"


@pytest.mark.parametrize("iterations", [8, 40])
def test_a_bed_goes_on_to_where_it_would_have_come_at_once(iterations, invert, rough):
    """Within what the noise leaves open."""
    _, at_once = invert(rough, "--noise", "1%", output="once.nc")
    assert at_once.attrs["trustworthy"]
    _, begun = invert(rough, "--noise", "1%", "--iterations", iterations)
    assert not begun.attrs["converged"]
    result, bed = invert(rough, "--noise", "1%", "--resume", "auto")
    assert result.exit_code == TRUSTED, result.output
    assert float(abs(bed.depth - at_once.depth).max() / at_once.depth_std.max()) < 0.5


def test_gravity_goes_on_too(invert, small_data):
    """From 9.5, of waves that obey 9.81."""
    waves = small_data.assign_attrs(gravity=9.5)
    options = ("--gravity", "free", "--noise", "1%", "--uncertainty", "none")
    _, begun = invert(waves, *options, "--iterations", "8")
    _, bed = invert(waves, *options, "--iterations", "1", "--resume", "auto")
    assert begun.attrs["gravity"] != pytest.approx(9.5, abs=0.01)
    assert bed.attrs["gravity"] == pytest.approx(begun.attrs["gravity"], abs=0.02)


def test_what_is_missing_after_a_stop_is_named(invert, small_waves, monkeypatch):
    monkeypatch.setattr("forecast_cli.inversion.fit.curvature_of", lambda *_: None)
    _, bed = invert(small_waves, "--noise", "1%")
    assert "on the way to the uncertainty of the depth" in bed.attrs["reasons"]


# --- uncertainty --------------------------------------------------------------------------------------------------------


def test_the_ensemble_and_the_curvature_agree_on_gravity(invert, small_data):
    """16 members know a standard deviation to a fifth."""
    waves = small_data.isel(sample=[0])
    options = ("--gravity", "free", "--noise", "1%")
    _, gauss = invert(waves, *options)
    _, ensemble = invert(waves, *options, "--uncertainty", "ensemble", output="ensemble.nc")
    assert ensemble.attrs["gravity_std"] == pytest.approx(gauss.attrs["gravity_std"], rel=0.5)
    assert float(ensemble.depth_std.median()) == pytest.approx(float(gauss.depth_std.median()), rel=0.3)
    assert ensemble.attrs["reduced_chi2"] == pytest.approx(gauss.attrs["reduced_chi2"], abs=0.01)


def test_scales_are_those_of_the_curvature(monkeypatch):
    """A thousand draws know the diagonal to a twentieth."""
    monkeypatch.setattr(uncertainty, "PROBES", 1000)
    monkeypatch.setattr(uncertainty, "POOLED", 1)
    found, x = objective(), 0.3 * np.random.default_rng(1).standard_normal(30)
    curvature = uncertainty.curvature_of(found, x, lambda: False)
    expected = 1 / np.sqrt(1 + found.depths.amplitudes**2 * np.diag(curvature))
    assert uncertainty.scales_of(found, x, seed=0) == pytest.approx(expected, rel=0.1)
    alike = uncertainty.scales_of(found, x, seed=0, apart=False)
    assert np.ptp(alike) == 0


def test_the_gradient_with_a_noisy_first_frame_is_that_of_differences():
    found = replace(objective(), loose=(1e-3, 0.0, 2e-3))
    x = 0.3 * np.random.default_rng(1).standard_normal(len(found.start()))
    assert len(x) == 3 * 30
    _, gradient = found(x)
    differences = [(found(x + unit)[0] - found(x - unit)[0]) / 2e-5 for unit in 1e-5 * np.eye(len(x))]
    assert gradient == pytest.approx(np.array(differences), abs=1e-6 * np.abs(gradient).max())
