"""Small waves for the command line of an inversion."""

import pytest
import xarray as xr
from typer.testing import CliRunner


@pytest.fixture(scope="session")
def small_waves(tmp_path_factory):
    """Two sequences over a seamount, 12 x 12 cells, 1 % noise, 31 frames of two steps of 1100 s."""
    from forecast_cli.cli import app

    path = tmp_path_factory.mktemp("waves") / "small.nc"
    line = ["simulate", "shallow-water", "--grid", "12", "--dtype", "float64", "--topography", "seamount"]
    line += ["--samples", "2", "--frames", "61", "--every", "2", "--noise", "1%", "-o", str(path)]
    made = CliRunner().invoke(app, line)
    assert made.exit_code == 0, made.output
    return path


@pytest.fixture(scope="session")
def small_data(small_waves):
    """The same, in memory; to be copied before it is changed."""
    return xr.load_dataset(small_waves)


@pytest.fixture
def invert(forecast, tmp_path):
    """Run on a path or a dataset; gives the result, and what was written if anything was."""

    def run(waves, *options, output="bed.nc"):
        path = waves
        if isinstance(waves, xr.Dataset):
            path = tmp_path / "given.nc"
            waves.to_netcdf(path)
        result = forecast("invert-topography", path, "-o", tmp_path / output, *options)
        return result, (xr.load_dataset(tmp_path / output) if result.exit_code in (0, 6, 75) else None)

    return run
