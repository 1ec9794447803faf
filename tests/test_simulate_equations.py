"""forecast simulate of the finite-volume problems: what is in the files, and what is refused."""

import numpy as np
import pytest
import xarray as xr

from forecast_cli.data.fields import open_fields
from forecast_cli.data.noise import parse_noise, with_noise
from forecast_cli.equations import PROBLEMS
from forecast_cli.errors import ConfigError

SMALL = {
    "burgers": ("--grid", "12"),
    "burgers-2d": ("--grid", "8x10"),
    "allen-cahn": ("--grid", "12"),
    "diffusion-sorption": ("--grid", "10", "--duration", "50"),
    "diffusion-reaction": ("--grid", "8", "--duration", "1"),
    "shallow-water": ("--grid", "10x12", "--duration", "8000"),
}


@pytest.fixture
def made(forecast, tmp_path):
    """Run a simulation of 9 frames and open its file, with plain numbers as times."""

    def run(problem: str, *arguments: object, name: str = "data.nc", code: int = 0) -> xr.Dataset | str:
        options = (*SMALL[problem], "--frames", 9)
        result = forecast("simulate", problem, "-o", tmp_path / name, *options, *arguments)
        assert result.exit_code == code, result.output
        if code:
            assert not (tmp_path / name).exists()
            assert len(result.stderr.strip().splitlines()) == 1
            return result.stderr
        with xr.open_dataset(tmp_path / name, decode_timedelta=False) as dataset:
            return dataset.load()

    return run


@pytest.mark.parametrize("problem", PROBLEMS)
def test_files_hold_trajectories_with_coordinates_units_and_all_that_made_them(made, problem, tmp_path):
    dataset, equation = made(problem, "--samples", 2), PROBLEMS[problem].equation
    space = ("y", "x")[-len(PROBLEMS[problem].cells) :]
    for variable in equation.VARIABLES:
        assert dataset[variable.name].dims == ("sample", "time", *space)
        assert dataset[variable.name].attrs["units"] == variable.units
        assert np.isfinite(dataset[variable.name]).all()
    assert dataset["time"].attrs["units"] == PROBLEMS[problem].time_units
    for name in space:
        np.testing.assert_allclose(np.diff(dataset[name]), np.diff(dataset[name])[0])
    for name, parameter in equation.PARAMETERS.items():
        assert dataset.attrs[name] == parameter.default
    assert {"equation", "solver", "seed", "boundary_left", "Conventions"} <= dataset.attrs.keys()
    assert "time_step" in dataset.attrs or "tolerance" in dataset.attrs
    fields = open_fields([str(tmp_path / "data.nc")])
    assert fields.names == tuple(variable.name for variable in equation.VARIABLES)
    assert (fields.samples, fields.frames) == (2, 9)


def test_a_trajectory_does_not_depend_on_how_many_there_are(made):
    many = made("burgers", "--samples", 4, "--solver", "rk4", "--time-step", 0.01, name="many.nc")
    few = made("burgers", "--samples", 3, "--solver", "rk4", "--time-step", 0.01, name="few.nc")
    np.testing.assert_array_equal(many["u"][:3], few["u"])
    other = made("burgers", "--samples", 3, "--seed", 1, "--solver", "rk4", "--time-step", 0.01, name="other.nc")
    np.testing.assert_array_equal(other["u"][:2], few["u"][:2])  # the published states
    assert (other["u"][2] != few["u"][2]).any()


def test_every_leaves_frames_out_and_changes_none(made):
    whole = made("shallow-water", name="whole.nc")
    some = made("shallow-water", "--every", 4, name="some.nc")
    assert some.sizes["time"] == 3
    np.testing.assert_array_equal(some["eta"], whole["eta"][:, ::4])
    np.testing.assert_array_equal(some["time"], whole["time"][::4])
    assert some.attrs["time_step"] == pytest.approx(whole.attrs["time_step"])


def test_noise_is_a_share_of_the_spread_or_an_amount_and_is_drawn_by_sample(made):
    clean = made("allen-cahn", "--samples", 3, "--grid", 200, name="clean.nc")["u"]
    noisy = made("allen-cahn", "--samples", 3, "--grid", 200, "--noise", "10%", name="noisy.nc")
    added = noisy["u"] - clean
    for sample in range(3):
        assert float(added[sample].std()) == pytest.approx(0.1 * float(clean[sample].std()), rel=0.05)
    assert abs(float((added[0] * added[1]).mean())) < 1e-3
    assert noisy.attrs["noise"] == "u=10%"
    absolute = made("allen-cahn", "--samples", 3, "--grid", 200, "--noise", "0.02", name="absolute.nc")["u"] - clean
    assert float(absolute.std()) == pytest.approx(0.02, rel=0.05)


def test_noise_is_drawn_from_another_stream_than_the_initial_state(made):
    """The initial state of a sample is drawn from the stream of (seed, sample), which the noise does not repeat."""
    options = ("--samples", 2, "--grid", 200, "--seed", 3)
    clean = made("allen-cahn", *options, name="clean.nc")["u"].values.astype(float)
    noisy = made("allen-cahn", *options, "--noise", "0.5", name="noisy.nc")["u"].values.astype(float)
    for sample in range(2):
        noise = (noisy[sample] - clean[sample]).ravel() / 0.5
        same = np.random.default_rng([3, sample]).standard_normal(noise.size)
        # Of 1,800 independent pairs the correlation has a standard deviation of 0.024.
        assert abs(np.corrcoef(noise, same)[0, 1]) < 0.12


def test_noise_leaves_the_start_of_waves_and_variables_not_named_alone(made):
    clean = made("shallow-water", name="clean.nc")
    noisy = made("shallow-water", "--noise", "eta=5%", name="noisy.nc")
    np.testing.assert_array_equal(noisy["eta"][:, 0], clean["eta"][:, 0])
    assert (noisy["eta"][:, 1:] != clean["eta"][:, 1:]).any()
    np.testing.assert_array_equal(noisy["u"], clean["u"])


@pytest.mark.parametrize("text", ["-1%", "much", "eta=", "inf", "nan", "1%%"])
def test_noise_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="--noise"):
        parse_noise(text, ["eta"])


def test_topographies_by_name_have_the_flat_bottom_where_they_are_flat(made):
    for name in ("flat", "seamount", "ridge", "shelf"):
        depth = made("shallow-water", "--topography", name, "--depth", 80, name=f"{name}.nc")["depth"]
        assert float(depth.max()) == pytest.approx(80, rel=0.02)
        assert float(depth.min()) > 0
        assert (name == "flat") == (float(depth.max() - depth.min()) < 1e-6)


def test_a_sea_bed_out_of_a_file_gives_depth_and_size_of_the_basin(made, tmp_path):
    topo = -50.0 - 10 * np.sin(np.linspace(0, 3, 40))[:, None] * np.ones(60)
    coordinates = {"y": 1000.0 * np.arange(40), "x": 1000.0 * np.arange(60)}
    attributes = {"units": "m", "long_name": "elevation"}
    source = xr.Dataset({"topo": (("y", "x"), topo, attributes)}, coordinates)
    for name in coordinates:
        source[name].attrs["units"] = "m"
    source.to_netcdf(tmp_path / "bed.nc")
    dataset = made("shallow-water", "--topography", f"{tmp_path}/bed.nc")
    assert float(dataset["x"][-1] - dataset["x"][0]) == pytest.approx(60e3 * 11 / 12)
    assert dataset["depth"].attrs["positive"] == "down"
    assert float(dataset["depth"].mean()) == pytest.approx(-topo.mean(), rel=1e-3)
    assert "elevation, positive up" in dataset.attrs["comment"]


REFUSED = {
    "time step": ("burgers", ("--solver", "euler", "--time-step", "0.25"), 2, "the limit of euler is"),
    "wave step": (
        "shallow-water",
        ("--duration", "80000", "--time-step", "10000"),
        2,
        "the limit of forward-backward is",
    ),
    "negative diffusion": ("burgers", ("--param", "D=-0.1"), 2, "the diffusivity D must be a number of at least 0"),
    "unknown parameter": ("burgers", ("--param", "nu=1"), 2, "burgers has no such name. Known are D"),
    "no number": ("burgers", ("--param", "D=much"), 2, "expected a number"),
    "unknown condition": ("burgers", ("--boundary", "left=open:1"), 2, "no boundary condition 'open'"),
    "unknown side": ("burgers", ("--boundary", "top=wall"), 2, "no such side. Sides here: left, right"),
    "half periodic": ("burgers", ("--boundary", "left=periodic"), 2, "both are periodic, or neither"),
    "unknown closure": ("diffusion-sorption", ("--closure", "retardation=magic"), 2, "freundlich, langmuir, linear"),
    "unknown solver": ("burgers", ("--solver", "leapfrog"), 2, "burgers takes dopri5, rk4"),
    "adaptive step": ("burgers", ("--solver", "dopri5", "--time-step", "0.1"), 2, "chooses its own steps"),
    "grid": ("burgers", ("--grid", "8x8"), 2, "takes a number of cells"),
    "grid text": ("burgers", ("--grid", "many"), 2, "expected a number of cells"),
    "samples": ("burgers", ("--samples", "0"), 2, "--samples 0: expected at least 1"),
    "every": ("burgers", ("--every", "9"), 2, "only the first frame"),
    "duration": ("burgers", ("--duration", "-1"), 2, "expected a positive number"),
    "dtype": ("burgers", ("--dtype", "int"), 2, "expected float32 or float64"),
    "topography": ("shallow-water", ("--topography", "nowhere.nc"), 2, "neither a file nor one of flat, seamount"),
    "depth": ("shallow-water", ("--depth", "-5"), 2, "--depth -5"),
    "shallow": ("shallow-water", ("--min-depth", "0"), 2, "--min-depth 0: expected a positive number"),
    "scheme": ("allen-cahn", ("--scheme", "limited"), 2, "allen-cahn has the schemes (none)"),
    "too fast": (
        "diffusion-sorption",
        ("--solver", "heun", "--boundary", "left=flux:0.001", "--duration", "400"),
        2,
        "too long for what the solution becomes; the limit of heun is then",
    ),
    "explodes": (
        "diffusion-reaction",
        ("--solver", "euler", "--param", "k=1e30", "--time-step", "0.01"),
        5,
        "finite numbers",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_simulated_is_refused_in_one_line_and_leaves_no_file(made, case):
    problem, arguments, code, message = REFUSED[case]
    assert message in made(problem, *arguments, code=code)


def test_a_simulated_sea_bed_reads_back_as_it_was(made, tmp_path):
    first = made("shallow-water", "--topography", "seamount", "--dtype", "float64", name="first.nc")
    again = made("shallow-water", "--topography", f"{tmp_path}/first.nc:depth", "--dtype", "float64", name="again.nc")
    np.testing.assert_allclose(again["depth"], first["depth"], rtol=1e-6)  # files are read as float32
    np.testing.assert_allclose(again["x"], first["x"])


def test_a_scheme_is_kept_in_the_file(made):
    upwind = made("shallow-water", "--topography", "ridge", name="upwind.nc")
    centred = made("shallow-water", "--topography", "ridge", "--scheme", "centred", name="centred.nc")
    assert (upwind.attrs["scheme"], centred.attrs["scheme"]) == ("upwind", "centred")
    assert (upwind["eta"] != centred["eta"]).any()


def test_nothing_is_overwritten_unasked(forecast, made, tmp_path):
    made("burgers")
    before = (tmp_path / "data.nc").read_bytes()
    again = forecast("simulate", "burgers", "-o", tmp_path / "data.nc")
    assert (again.exit_code, (tmp_path / "data.nc").read_bytes()) == (7, before)


def test_json_says_what_was_made(forecast, tmp_path):
    import json

    result = forecast("simulate", "burgers", "-o", tmp_path / "b.nc", "--grid", 12, "--frames", 5, "--json")
    told = json.loads(result.stdout)
    assert (told["samples"], told["frames"], told["cells"]) == (1, 5, [12])
    assert told["solver"].startswith("dopri5")


def test_a_full_period_of_a_periodic_file_is_known_to_convolutions(made, tmp_path):
    made("allen-cahn")
    assert open_fields([str(tmp_path / "data.nc")]).domain.boundary == "circular"


def test_relative_noise_is_a_share_of_the_spread_of_its_own_variable():
    """Variables that alternate between -1 and 1, and between -10 and 10; the first frame stays exact."""
    frames = np.array([-1.0, 1.0] * 4)[:, None, None, None] * np.array([1.0, 10.0])[:, None, None] * np.ones((2, 3, 4))
    noise = parse_noise("a=10%,b=20%", ["a", "b"])
    noisy = with_noise(frames, noise, ["a", "b"], np.random.default_rng(5), exact=1)
    draws = np.random.default_rng(5).standard_normal((2, 7, 3, 4))
    np.testing.assert_array_equal(noisy[0], frames[0])
    np.testing.assert_allclose(noisy[1:, 0] - frames[1:, 0], 0.1 * draws[0], atol=1e-12)
    np.testing.assert_allclose(noisy[1:, 1] - frames[1:, 1], 2.0 * draws[1], atol=1e-12)
