"""Each score, by hand and against the package `scores`."""

import numpy as np
import pytest
import scores.continuous
import xarray as xr

from forecast_cli.metrics import METRICS

RNG = np.random.default_rng(0)
FORECAST, TRUTH = (RNG.normal(size=(3, 2, 4)) for _ in range(2))
"""(start, lead, cell)"""
WEIGHTS, USUAL = np.array([1.0, 2.0, 4.0, 0.5]), np.array([0.1, 0.2, 0.3, 0.0])


def score(metric: str, forecast: np.ndarray, truth: np.ndarray, weights: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Over all starts, one a lead time."""
    terms = METRICS[metric].terms(forecast, truth, weights[None], np.broadcast_to(usual, forecast.shape))
    return METRICS[metric].score(*(term.sum(axis=0) for term in terms))[:, 0]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("rmse", np.sqrt((1 + 0 + 4 + 9) / 4)),
        ("relative_l2", np.sqrt((1 + 0 + 4 + 9) / (1 + 1 + 4 + 4))),
        ("mae", (1 + 0 + 2 + 3) / 4),
        ("bias", (1 + 0 - 2 + 3) / 4),
        ("acc", (2 * 1 + 1 * 1 + 0 * 2 + 5 * 2) / np.sqrt((4 + 1 + 0 + 25) * (1 + 1 + 4 + 4))),
    ],
)
def test_a_score_computed_by_hand(metric, expected):
    forecast, truth = np.array([[[2.0, 1.0, 0.0, 5.0]]]), np.array([[[1.0, 1.0, 2.0, 2.0]]])
    assert score(metric, forecast, truth, np.ones(4), np.zeros(4)) == pytest.approx([expected], rel=1e-14)


@pytest.mark.parametrize(
    ("metric", "theirs"),
    [("rmse", scores.continuous.rmse), ("mae", scores.continuous.mae), ("bias", scores.continuous.additive_bias)],
)
def test_a_score_is_that_of_the_package_scores_also_with_gaps(metric, theirs):
    forecast, truth = FORECAST.copy(), TRUTH.copy()
    forecast[0, 0, 1], truth[2, 1, 3] = np.nan, np.nan
    given = (xr.DataArray(values, dims=("start", "lead", "cell")) for values in (forecast, truth))
    expected = theirs(*given, preserve_dims="lead", weights=xr.DataArray(WEIGHTS, dims="cell"))
    np.testing.assert_allclose(score(metric, forecast, truth, WEIGHTS, USUAL), expected, rtol=1e-13)


@pytest.mark.parametrize("metric", METRICS)
def test_a_missing_value_on_either_side_leaves_the_pair_out(metric):
    forecast, truth = FORECAST.copy(), TRUTH.copy()
    forecast[..., 1], truth[..., 2] = np.nan, np.nan
    kept = (values[..., [0, 3]] for values in (FORECAST, TRUTH, WEIGHTS, USUAL))
    np.testing.assert_allclose(score(metric, forecast, truth, WEIGHTS, USUAL), score(metric, *kept), rtol=1e-14)


def test_a_start_without_anomalies_does_not_count_in_the_mean_correlation():
    forecast = FORECAST.copy()
    forecast[1] = USUAL
    kept = [0, 2]
    expected = score("acc", FORECAST[kept], TRUTH[kept], WEIGHTS, USUAL)
    np.testing.assert_allclose(score("acc", forecast, TRUTH, WEIGHTS, USUAL), expected, rtol=1e-14)


@pytest.mark.parametrize("metric", METRICS)
def test_what_was_never_compared_has_no_score(metric):
    assert np.isnan(score(metric, np.full((3, 2, 4), np.nan), TRUTH, WEIGHTS, USUAL)).all()
