import numpy as np
import pytest
import xarray as xr

from forecast_cli.metrics import METRICS


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("rmse", np.sqrt((1 + 0 + 4 + 9) / 4)),
        ("mae", (1 + 0 + 2 + 3) / 4),
        ("bias", (1 + 0 - 2 + 3) / 4),
        ("acc", (2 * 1 + 1 * 1 + 0 * 2 + 5 * 2) / np.sqrt((4 + 1 + 0 + 25) * (1 + 1 + 4 + 4))),
    ],
)
def test_a_score_computed_by_hand(metric, expected):
    dims = ("start", "y", "x")
    forecast, truth = (
        xr.DataArray([[[2.0, 1.0], [0.0, 5.0]]], dims=dims),
        xr.DataArray([[[1.0, 1.0], [2.0, 2.0]]], dims=dims),
    )
    ones, zeros = xr.ones_like(truth[0]), xr.zeros_like(truth[0])
    assert METRICS[metric](forecast, truth, ones, zeros) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("metric", METRICS)
def test_a_missing_value_on_either_side_leaves_the_pair_out(metric):
    rng, dims = np.random.default_rng(0), ("start", "y", "x")
    forecast, truth = (xr.DataArray(rng.normal(size=(1, 3, 1)), dims=dims) for _ in range(2))
    weights, climatology = (
        xr.DataArray([[1.0], [2.0], [4.0]], dims=("y", "x")),
        xr.DataArray([[0.1], [0.2], [0.3]], dims=("y", "x")),
    )
    gappy = forecast.copy(), truth.copy()
    gappy[0][0, 1], gappy[1][0, 2] = np.nan, np.nan
    kept = (array.isel(y=[0]) for array in (forecast, truth, weights, climatology))
    assert METRICS[metric](*gappy, weights, climatology) == pytest.approx(METRICS[metric](*kept), rel=1e-14)
