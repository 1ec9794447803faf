"""What an inversion leaves behind: files that say all, that are gone on with, and that come out the same again."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from typer.testing import CliRunner

from forecast_cli import native
from forecast_cli.checkpoint import load_model, save_model

TRUSTED, DATA, UNTRUSTED, OUTPUT, STOPPED = 0, 3, 6, 7, 75
QUICK = ("--uncertainty", "none", "--iterations", "8", "--noise", "1%")
FULL = ("--noise", "1%")


def fitted(result):
    assert result.exit_code in (TRUSTED, UNTRUSTED), result.output


# --- the file -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(small_waves, tmp_path_factory):
    """A whole inversion: its result, its file."""
    from forecast_cli.cli import app

    path = tmp_path_factory.mktemp("whole") / "bed.nc"
    line = ["invert-topography", small_waves, "-o", path, *FULL, "--truth", f"{small_waves}:depth", "--json"]
    return CliRunner().invoke(app, [str(part) for part in line]), xr.load_dataset(path)


def test_the_answer_is_told_by_these_names(whole):
    result, bed = whole
    assert result.exit_code == TRUSTED, result.output
    told = json.loads(result.stdout)
    scores = {"relative_l2", "relative_l2_inner", "coverage_95"}
    known = {"output", "converged", "trustworthy", "reasons", "warnings", "chi2", "iterations", "seconds"}
    assert told.keys() == known | scores
    for name in scores:
        assert bed.attrs[name] == told[name]
    error = (bed.depth - bed.depth_true).values
    assert told["relative_l2"] == pytest.approx(np.linalg.norm(error) / np.linalg.norm(bed.depth_true))
    assert told["coverage_95"] == pytest.approx((np.abs(error) <= 1.96 * bed.depth_std.values).mean())


def test_every_variable_says_what_it_is(whole):
    _, bed = whole
    assert bed.attrs["Conventions"].startswith("CF-1.")
    for name in bed.variables:
        assert bed[name].attrs.get("long_name") or bed[name].attrs.get("standard_name"), name
        assert bed[name].attrs.get("units") or bed[name].dtype.kind == "M" or "units" in bed[name].encoding, name
    assert bed.depth.attrs["ancillary_variables"] == "depth_std"
    assert bed.depth.dtype == bed.depth_std.dtype == np.float64


def test_every_choice_is_told(whole):
    _, bed = whole
    physics = {"gravity", "coriolis", "beta", "friction", "time_step", "steps_per_frame", "scheme", "refine", "model"}
    numerics = {"min_depth", "max_depth", "prior", "start", "soundings", "seed", "dtype", "uncertainty", "iterations"}
    data = {"waves", "observed_variables", "noise_eta", "noise_u", "noise_v", "noise_estimated", "observations"}
    found = {"taylor_order", "reduced_chi2", "converged", "trustworthy", "reasons"}
    assert physics | numerics | data | found <= bed.attrs.keys()
    assert bed.attrs["observations"] == 2 * 30 * (144 + 2 * 132)


def test_the_descent_goes_down_to_the_noise(whole):
    _, bed = whole
    assert bed.chi2.dims == bed.misfit.dims == ("iteration",)
    assert bed.chi2[-1] < 1.05
    assert bed.chi2[0] > 100
    assert bed.attrs["min_depth"] < bed.depth.min()
    assert bed.depth.max() < bed.attrs["max_depth"]


def test_what_is_left_is_what_the_noise_is(whole, small_data):
    """The map of residuals, recomputed from the waves that the file holds; on 60 values a cell 1 +- 0.1, four times that allowed."""
    _, bed = whole
    squares = 0
    for name in ("eta", "u", "v"):
        squares = squares + ((bed[name] - small_data[name])[:, 1:] / bed.attrs[f"noise_{name}"]).values ** 2
    inside = np.sqrt(squares.mean(axis=(0, 1)) / 3)[:-1, :-1]
    assert_allclose(bed.residual[:-1, :-1], inside, rtol=2e-3)  # single precision, of waves a hundred times their noise
    assert_allclose(bed.residual, 1, atol=0.4)
    assert (bed.observed[:-1, :-1] == 1).all()
    assert_allclose(bed.observed[-1, -1], 1 / 3)


def test_the_same_seed_is_the_same_bed(invert, small_waves):
    first, second = (invert(small_waves, *QUICK, output=f"{name}.nc")[1] for name in "ab")
    for name in ("depth", "eta", "chi2", "residual"):
        assert np.array_equal(first[name], second[name], equal_nan=True), name


def test_torch_finds_the_same_bed_as_c(invert, small_waves, monkeypatch):
    """Eight steps of a descent spread rounding to 1e-9."""
    _, compiled = invert(small_waves, *QUICK, output="c.nc")
    monkeypatch.setattr(native, "load", lambda _: None)
    _, found = invert(small_waves, *QUICK, output="torch.nc")
    assert_allclose(found.depth, compiled.depth, rtol=1e-7)


def test_single_precision_is_enough(invert, whole, small_waves):
    """It converges, is trusted, and lies within half of a standard deviation."""
    result, bed = invert(small_waves, *FULL, "--dtype", "float32")
    assert bed.attrs["dtype"] == "float32"
    assert float((np.abs(bed.depth - whole[1].depth) / whole[1].depth_std).max()) < 0.5
    assert_allclose(bed.depth_std, whole[1].depth_std, rtol=0.1)
    assert result.exit_code == TRUSTED, result.output


# --- going on -----------------------------------------------------------------------------------------------------------


def test_with_nothing_to_go_on_from_it_starts(invert, small_waves):
    _, mine = invert(small_waves, *QUICK, output="mine.nc")
    result, bed = invert(small_waves, *QUICK, "--resume", "auto")
    fitted(result)
    assert np.array_equal(bed.depth, mine.depth)


@pytest.mark.parametrize("free", [(), ("--gravity", "free")], ids=["depth", "depth and gravity"])
def test_an_inversion_goes_on_from_where_it_was(free, invert, small_data):
    """No step back: also of a gravity that is inferred beside the depth, from 9.7 on."""
    heavier = small_data.assign_attrs(small_data.attrs, gravity=9.7)
    options = (*QUICK, "--iterations", "14", *free)
    result, before = invert(heavier, *options)
    fitted(result)
    assert before.attrs["converged"] == 0
    result, after = invert(heavier, *options, "--resume", "auto")
    fitted(result)
    assert after.chi2[0] <= before.attrs["reduced_chi2"] * 1.01
    assert "earlier run" in after.attrs["start"]


@pytest.mark.parametrize("gap", ["cells", "samples"])
def test_a_bed_of_another_grid_is_not_gone_on_with(gap, invert, small_data, small_waves, tmp_path):
    """One line, and the file stays; other sequences over the same sea are welcome."""
    invert(small_waves, *QUICK)
    kept = (tmp_path / "bed.nc").read_bytes()
    other = small_data.isel(x=slice(0, 10)) if gap == "cells" else small_data.isel(sample=[1])
    result, _ = invert(other, *QUICK, "--resume", "auto")
    if gap == "samples":
        fitted(result)
        return
    assert (result.exit_code, result.stdout) == (DATA, "")
    assert result.stderr.count("\n") == 1
    assert "10" in result.stderr
    assert (tmp_path / "bed.nc").read_bytes() == kept


@pytest.mark.parametrize("kind", ["waves", "text"])
def test_a_file_that_is_no_bed_is_not_gone_on_with(kind, invert, small_waves, tmp_path):
    content = small_waves.read_bytes() if kind == "waves" else b"kept"
    (tmp_path / "bed.nc").write_bytes(content)
    result, _ = invert(small_waves, *QUICK, "--resume", "auto")
    assert result.exit_code == DATA
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "bed.nc").read_bytes() == content


def test_a_converged_bed_is_replaced_when_asked_for(invert, small_waves):
    _, first = invert(small_waves, *QUICK)
    result, second = invert(small_waves, *QUICK, "--overwrite", "--seed", "4")
    fitted(result)
    assert (first.attrs["seed"], second.attrs["seed"]) == (0, 4)


def test_an_uncertainty_that_is_stopped_is_no_end(invert, small_waves, monkeypatch):
    """The depth is there and converged; its uncertainty is not: the file says so, and going on adds it."""
    with monkeypatch.context() as patch:
        patch.setattr("forecast_cli.inversion.fit.curvature_of", lambda *_: None)
        result, bed = invert(small_waves, *FULL)
    assert result.exit_code == STOPPED, result.output
    assert bed.attrs["converged"] == 0
    assert bed.attrs["uncertainty"] == "none"
    assert "depth_std" not in bed
    result, bed = invert(small_waves, *FULL, "--resume", "auto")
    assert result.exit_code == TRUSTED, result.output
    assert "depth_std" in bed


def test_a_bed_of_no_iterations_is_drawn_and_described(forecast, invert, small_waves, tmp_path):
    result, bed = invert(small_waves, *FULL, "--time-limit", "0.001")
    assert result.exit_code == STOPPED
    assert (bed.depth == bed.depth_initial).all()
    assert forecast("plot", tmp_path / "bed.nc", "-o", tmp_path / "bed.png").exit_code == 0
    assert (tmp_path / "bed.png").stat().st_size > 20_000
    assert "--resume auto" in forecast("info", tmp_path / "bed.nc").stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "terminated"])
def test_a_signal_before_the_first_step_leaves_a_bed(number, small_waves, tmp_path):
    """A real process, interrupted while it still looks for a place to start from."""
    line = [sys.executable, "-m", "forecast_cli", "invert-topography", small_waves, "-o", tmp_path / "bed.nc", *FULL]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([str(part) for part in line], stderr=subprocess.PIPE, text=True, env=environment)
    said = next(process.stderr)
    assert said.startswith("observed")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == STOPPED, errors
    assert xr.load_dataset(tmp_path / "bed.nc").attrs["converged"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["bed.nc"]


# --- what the world has more of than the model --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finer_world(tmp_path_factory):
    """Waves of 24 x 24 cells, seen in means over 12 x 12: eta over cells, velocities over faces."""
    from forecast_cli.cli import app

    folder = tmp_path_factory.mktemp("finer")
    line = ["simulate", "shallow-water", "--grid", "24", "--dtype", "float64", "--topography", "seamount"]
    made = CliRunner().invoke(app, [*line, "--frames", "121", "--every", "4", "-o", str(folder / "fine.nc")])
    assert made.exit_code == 0, made.output
    fine = xr.load_dataset(folder / "fine.nc")
    coarse = fine[["eta", "depth"]].coarsen(x=2, y=2).mean(keep_attrs=True)
    places = {name: (name, coarse[name].values, fine[name].attrs) for name in ("y", "x")}
    coarse = coarse.assign_coords(places)
    for name, along, across in (("u", "x", "y"), ("v", "y", "x")):
        faces = fine[name].isel({along: slice(1, None, 2)}).coarsen({across: 2}).mean(keep_attrs=True)
        coarse[name] = faces.assign_coords(places)
    generator = np.random.default_rng(0)
    for name in ("eta", "u", "v"):
        noise = 0.01 * float(coarse[name].std()) * generator.standard_normal(coarse[name].shape)
        noise[:, 0] = 0
        coarse[name] = (coarse[name] + noise).assign_attrs(fine[name].attrs)
    return coarse.assign_attrs(fine.attrs)


def test_a_finer_world_is_told_by_chi2_and_met_by_a_finer_model(invert, finer_world):
    options = (*FULL, "--time-step", 1100, "--iterations", 150, "--uncertainty", "none")
    result, coarse = invert(finer_world, *options)
    assert result.exit_code == UNTRUSTED, result.output
    assert "chi2" in coarse.attrs["reasons"]
    _, refined = invert(finer_world, *options, "--refine", 2, output="refined.nc")
    assert refined.attrs["refine"] == 2
    assert refined.attrs["reduced_chi2"] < 0.5 * coarse.attrs["reduced_chi2"]


def test_a_wrong_time_step_is_told_by_chi2(invert, small_waves):
    """Steps are part of the physics of the waves."""
    result, bed = invert(small_waves, *FULL, "--time-step", 550, "--uncertainty", "none", "--iterations", 150)
    assert result.exit_code == UNTRUSTED
    assert "chi2" in bed.attrs["reasons"]


def test_uncertainty_grows_with_what_the_model_cannot_explain(invert, small_waves):
    """By the root of chi2: half of the noise said is chi2 of 4, and the same standard deviation as with all of it."""
    _, right = invert(small_waves, *FULL)
    result, sure = invert(small_waves, "--noise", "0.5%", output="sure.nc")
    assert result.exit_code == UNTRUSTED
    assert sure.attrs["reduced_chi2"] == pytest.approx(4, rel=0.1)
    assert_allclose(sure.depth_std, right.depth_std, rtol=0.1)


def test_no_bed_beyond_the_largest_depth_is_trusted(invert, small_waves):
    """80 m where it is 100."""
    result, bed = invert(small_waves, *FULL, "--max-depth", 80, "--iterations", 60)
    assert result.exit_code == UNTRUSTED
    assert "--max-depth" in bed.attrs["reasons"]


# --- trained models -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned_gravity(small_waves, tmp_path_factory):
    """A run that began with 9.5 m s-2 and has learned the 9.81 of the waves."""
    from forecast_cli.cli import app

    run = tmp_path_factory.mktemp("runs") / "gravity"
    finn = ["--model", "finn", "--set", "model.equation=shallow-water", "--set", 'model.learn=["gravity"]']
    finn += ["--set", "model.parameters.gravity=9.5", "--static", "depth", "--split", "2,0,0"]
    made = CliRunner().invoke(
        app, ["train", str(small_waves), *finn, "--epochs", "1", "--horizon", "3", "-o", str(run)]
    )
    assert made.exit_code == 0, made.output
    return run


def test_a_run_tells_the_numbers_it_has_learned(learned_gravity, invert, small_waves):
    """And its bound is where these are stable: dx^2 / (2 g dt^2), of which 0.98."""
    result, bed = invert(small_waves, "--run", learned_gravity, *QUICK)
    fitted(result)
    assert bed.attrs["model"] == "finn"
    assert bed.attrs["gravity"] == pytest.approx(9.81, abs=0.02)
    assert bed.attrs["max_depth"] <= (1e6 / 12) ** 2 / (2 * 9.80 * 1100**2)


def test_a_run_is_not_taken_beyond_its_stable_depth(learned_gravity, invert, small_waves):
    """As without a run."""
    result, _ = invert(small_waves, "--run", learned_gravity, "--max-depth", 5000, *QUICK)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert "--max-depth" in result.stderr


def test_a_run_that_learned_by_a_surrogate_is_inverted_by_the_true_gradient(forecast, invert, small_waves, tmp_path):
    """The same weights with ReLU lead to the same bed."""
    learned, beds = tmp_path / "learned", {}
    options = ("--model", "minconvgru", "--hidden", "6", "--set", "model.mlp=2", "--set", "model.activation=relu")
    data = ("--static", "depth", "--split", "2,0,0", "--context", 2, "--horizon", 4, "--epochs", 1)
    made = forecast("train", small_waves, *options, *data, "-o", learned)
    assert made.exit_code == 0, made.output
    saved = load_model(learned)
    for name in ("relu", "sugar-bsilu"):
        config = saved.config.model_copy(update={"model": saved.config.model.model_copy(update={"activation": name})})
        save_model(learned, saved.model, config, parts=saved.parts, epoch=saved.epoch)
        result, beds[name] = invert(small_waves, "--run", learned, *QUICK, output=f"{name}.nc")
        assert beds[name] is not None, result.output
    assert np.array_equal(beds["relu"]["depth"], beds["sugar-bsilu"]["depth"])


def test_what_a_network_cannot_explain_is_not_put_down_to_the_physics(forecast, invert, small_waves, tmp_path):
    """It is its own error, far above 20 % after an epoch."""
    learned = tmp_path / "learned"
    data = ("--static", "depth", "--split", "2,0,0", "--context", 1, "--horizon", 4, "--epochs", 1)
    made = forecast(
        "train", small_waves, "--model", "cnn", "--hidden", "2", "--set", "model.window=1", *data, "-o", learned
    )
    assert made.exit_code == 0, made.output
    options = ("--noise", "20%", "--dtype", "float32", "--uncertainty", "none", "--select", "time=0:15400")
    result, bed = invert(small_waves, "--run", learned, *options)
    assert result.exit_code == UNTRUSTED
    assert "the error of the network itself" in bed.attrs["reasons"]
    assert "rotation" not in bed.attrs["reasons"]


# --- pictures -----------------------------------------------------------------------------------------------------------


def test_a_bed_on_the_globe_without_truth_is_drawn(forecast, invert, small_data, tmp_path):
    lat = ("lat", 42.0 + 0.5 * np.arange(12), {"units": "degrees_north"})
    lon = ("lon", 0.5 * np.arange(12), {"units": "degrees_east"})
    globe = small_data.rename(y="lat", x="lon").assign_coords(lat=lat, lon=lon)
    fitted(invert(globe, *QUICK, "--time-step", 200)[0])
    assert forecast("plot", tmp_path / "bed.nc", "-o", tmp_path / "bed.png").exit_code == 0
    assert (tmp_path / "bed.png").stat().st_size > 20_000


def test_a_picture_is_not_overwritten(forecast, invert, small_waves, tmp_path):
    invert(small_waves, *QUICK)
    (tmp_path / "bed.png").write_text("kept")
    assert forecast("plot", tmp_path / "bed.nc", "-o", tmp_path / "bed.png").exit_code == OUTPUT
    assert (tmp_path / "bed.png").read_text() == "kept"
