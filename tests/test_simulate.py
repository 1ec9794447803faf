import numpy as np
import pytest
import torch
import xarray as xr

from forecast_cli.equations.navier_stokes import NavierStokes, coarsened, random_vorticity
from forecast_cli.errors import ConfigError, DivergedError
from forecast_cli.simulate.navier_stokes import NavierStokesPlan, simulate_navier_stokes

SMALL = {"samples": 3, "grid": 16, "coarsen": 2, "frames": 4, "seed": 9, "dtype": torch.float64}


def simulated(path, **options) -> xr.Dataset:
    simulate_navier_stokes(NavierStokesPlan(**(SMALL | options)), path)
    return xr.open_dataset(path)


def test_the_file_holds_what_the_solver_computed_with_y_before_x(tmp_path):
    dataset = simulated(tmp_path / "flow.nc")
    frames = NavierStokes(16).frames(random_vorticity(1, seed=9, grid=16), interval=1.0, count=4)
    expected = np.stack([coarsened(frame, 2).mT.numpy() for frame in frames])
    assert dataset["vorticity"].dims == ("sample", "time", "y", "x")
    np.testing.assert_allclose(dataset["vorticity"].values[1], expected, rtol=0, atol=1e-12)


def test_samples_do_not_depend_on_how_many_are_drawn(tmp_path, monkeypatch):
    whole = simulated(tmp_path / "whole.nc")["vorticity"].values
    monkeypatch.setattr("forecast_cli.simulate.navier_stokes.BATCH", 2)
    np.testing.assert_allclose(simulated(tmp_path / "parts.nc")["vorticity"].values, whole, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        simulated(tmp_path / "one.nc", samples=1)["vorticity"].values[0], whole[0], rtol=0, atol=1e-12
    )


def test_the_file_says_what_made_it(tmp_path):
    dataset = simulated(tmp_path / "flow.nc", duration=2.0)
    np.testing.assert_allclose(dataset["time"], [0.5, 1.0, 1.5, 2.0])
    np.testing.assert_allclose(dataset["x"], (np.arange(8) * 2 + 0.5) / 16)
    for name, value in {
        "viscosity": 1e-3,
        "grid": 16,
        "coarsen": 2,
        "seed": 9,
        "boundary_conditions": "periodic",
        "Conventions": "CF-1.11",
    }.items():
        assert dataset.attrs[name] == value


@pytest.mark.parametrize(
    "options",
    [{"samples": 0}, {"grid": 15}, {"coarsen": 3}, {"frames": 0}, {"viscosity": -1.0}, {"time_step": float("nan")}],
)
def test_impossible_plans_are_refused(options):
    with pytest.raises(ConfigError, match=f"--{next(iter(options)).replace('_', '-')}"):
        NavierStokesPlan(**(SMALL | options))


def test_a_step_too_long_for_the_flow_is_an_error_and_leaves_no_file(tmp_path):
    with pytest.raises(DivergedError, match="--time-step"):
        simulated(tmp_path / "flow.nc", grid=64, frames=40, duration=80.0, time_step=2.0)
    assert list(tmp_path.iterdir()) == []
