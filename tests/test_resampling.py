"""Intervals of scores: values computed by hand, and how often an interval holds the true score."""

import math

import numpy as np
import pytest
import xarray as xr

from forecast_cli import evaluation
from forecast_cli.data.forecasts import open_forecast
from forecast_cli.evaluation import resampling
from forecast_cli.metrics import METRICS

BIAS, RMSE = METRICS["bias"], METRICS["rmse"]


def autoregressive(shape, phi, seed=0):
    """Series of variance 1 and autocorrelation phi along the last axis."""
    rng = np.random.default_rng(seed)
    series = rng.normal(size=shape)
    for step in range(1, shape[-1]):
        series[..., step] = phi * series[..., step - 1] + math.sqrt(1 - phi**2) * series[..., step]
    return series


def terms_of(*models):
    """Terms (2, model, metric, variable, lead, region, start) of the biases of some models, (start,)."""
    sums = np.stack(models)[:, None, None, None, None, :]
    return np.stack([sums, np.ones_like(sums)])


def intervals(*models, overlap=1, count=400, **options):
    return resampling.intervals(["bias"], terms_of(*models), overlaps=np.array([overlap]), count=count, **options)


@pytest.mark.parametrize(
    ("starts", "options", "block"),
    [
        (1, {}, 1),
        (3, {}, 1),
        (6, {}, 3),
        (36, {}, 6),
        (37, {}, 7),
        (100, {}, 10),
        (100, {"overlap": 24}, 24),
        (100, {"overlap": 80}, 50),
        # a = 1/2: a / (1 - a^2) is 2/3, 6 * 4/9 * 3000 is 8000, of which the cube root is 20; the root of 3000 is 54.8.
        (3000, {"autocorrelation": 0.5}, 55),
        # a = 3/4: 12/7 squared is 144/49, times 6 * 1225/3 is 7200, cube root 19.3; the root of 408 is 20.2.
        (408, {"autocorrelation": 0.75}, 21),
        # a = 9/10: 90/19 squared is 22.44, times 6 * 60 is 8077, cube root 20.06.
        (60, {"autocorrelation": 0.9}, 21),
    ],
)
def test_a_block_is_the_longest_of_root_overlap_and_what_autocorrelation_demands(starts, options, block):
    assert resampling.default_block(starts, **options) == block


def test_overlap_counts_the_starts_before_a_forecast_ends():
    """Starts at 0, 6, 12 and 30: up to lead 6 none share valid times, up to 7 two, up to 18 three, and no more up to 24."""
    inits = np.array([0.0, 6, 12, 30])
    found = resampling.overlaps(inits, inits[:, None] + np.array([6.0, 7, 12, 18, 24, 31]))
    assert found.tolist() == [1, 2, 2, 3, 3, 4]
    dates = np.datetime64("2001-01-01") + inits.astype("timedelta64[h]")
    valid = dates[:, None] + np.array([6, 7, 18]).astype("timedelta64[h]")
    assert resampling.overlaps(dates, valid).tolist() == [1, 2, 3]
    calendar = xr.date_range("2001-01-01", periods=3, freq="MS", calendar="noleap", use_cftime=True).values
    assert resampling.overlaps(calendar[:2], np.stack([calendar[[1, 2]], calendar[[2, 2]]])).tolist() == [1, 2]


@pytest.mark.parametrize(("starts", "block"), [(10, 4), (12, 4), (7, 3)])
def test_draws_fill_a_record_with_runs_of_a_block_on_a_circle(starts, block):
    """Each draw has as many starts as the record; the last block is cut where the record is full."""
    drawn = resampling.draws(starts, count=300, block=block, seed=0)
    assert drawn.shape == (300, starts)
    assert (drawn.sum(axis=1) == starts).all()
    one = resampling.draws(starts, count=300, block=starts - 1, seed=0)
    # A run of all but one start, and the first of another: one start is out, or none.
    assert ((one == 0).sum(axis=1) <= 1).all()
    assert one.max() <= 2
    assert (one.sum(axis=0) > 0).all()


def test_bounds_leave_out_one_in_forty_on_either_side():
    """Of 0 to 80 the quantiles 0.025 and 0.975 are 2 and 78."""
    np.testing.assert_allclose(resampling.bounds(np.arange(81.0)[None]), [[2, 78]])


def test_bounds_exist_where_most_draws_have_a_score():
    gaps = np.array([[np.nan, np.nan, 1, 3, 3], [np.nan, np.nan, np.nan, 1, 1]])
    low, high = resampling.bounds(gaps)[0]
    assert (low, high) == (pytest.approx(1.1), 3)
    assert np.isnan(resampling.bounds(gaps)[1]).all()
    assert np.isnan(resampling.bounds(np.array([[np.nan, np.nan, 1, 1]]))).all()


def test_the_change_by_a_start_is_the_score_without_it_left_out():
    """Squared errors 0, 0 and 9 of weight 1: RMSE root 3; without a 0, root 4.5; without the 9, 0."""
    record = resampling.record(RMSE, np.array([[0.0, 0.0, 9.0]]), np.ones((1, 3)))
    root = math.sqrt(3) - math.sqrt(4.5)
    np.testing.assert_allclose(record.changes, [[root, root, math.sqrt(3)]])
    absent = resampling.record(BIAS, np.array([[2.0, 0.0, 4.0]]), np.array([[1.0, 0.0, 1.0]]))
    np.testing.assert_allclose(absent.changes, [[-1, np.nan, 1]])
    assert absent.starts.tolist() == [2]


def test_autocorrelation_is_corrected_for_its_bias():
    """Of 1 to 5 about their mean: squares 4 1 0 1 4, products 2 0 0 2: r = 0.4, and (5 * 0.4 + 1) / 2 = 1.5, of which 3/7 is left."""
    rising = resampling.Record(np.arange(1.0, 6)[None])
    np.testing.assert_allclose(rising.autocorrelation, (5 - 2) / (5 + 2))
    np.testing.assert_allclose(rising.independent, 2)
    # 8 values + + + + - - - -: products 3 - 1 + 3 = 5 of 8, and (8 * 5/8 + 1) / 5 = 6/5, limited to 6/10.
    np.testing.assert_allclose(resampling.Record(np.repeat([1.0, -1], 4)).autocorrelation, 0.6)
    # 12 values + + - - + + - - + + - -: six products of +1, five of -1: 1/12, and (1 + 1) / 9.
    pairs = resampling.Record(np.tile([1.0, 1, -1, -1], 3))
    np.testing.assert_allclose(pairs.autocorrelation, 2 / 9)
    np.testing.assert_allclose(pairs.independent, 12 * 7 / 11)
    # Alternating values are taken as independent, constant ones as well, and trajectories whatever they are.
    for values, ordered in (([1.0, -1] * 6, True), ([3.0] * 12, True), (np.arange(12.0), False)):
        record = resampling.Record(np.array(values), ordered)
        assert (record.autocorrelation, record.independent) == (0, 12)


def test_the_standard_error_of_independent_starts_is_that_of_a_mean():
    """Of n numbers: their standard deviation, of n - 1 degrees of freedom, over the root of n."""
    values = np.array([3.0, -1, 4, -1, 5, -9, 2, -6])
    record = resampling.record(BIAS, values, np.ones(8))
    assert record.autocorrelation == 0
    np.testing.assert_allclose(record.standard_error, values.std(ddof=1) / math.sqrt(8))


def test_the_standard_error_of_dependent_starts_is_that_of_fewer():
    """12 values of square 1 and autocorrelation 2/9: factor 11/7, and root of (11/7 / (12 - 11/7))."""
    values = np.tile([1.0, 1, -1, -1], 3)
    record = resampling.record(BIAS, values, np.ones(12))
    np.testing.assert_allclose(record.standard_error, math.sqrt((11 / 7) / (12 - 11 / 7)))


def test_an_interval_is_as_wide_as_students_t_and_the_standard_error_say():
    """Draws of alternating values in blocks of two are all alike but for the cut; the interval has the width of independent ones."""
    values = np.array([3.0, -1, 4, -1, 5, -9, 2, -6])
    found = intervals(values, block=1, count=4000)
    low, high = found.score_bounds.ravel()
    # t of 7 degrees of freedom is 2.3646. The percentiles of 4000 draws are sure to some percent.
    assert high - low == pytest.approx(2 * 2.3646 * values.std(ddof=1) / math.sqrt(8), rel=0.05)
    assert low < values.mean() < high


def test_draws_that_are_all_alike_give_no_interval():
    """A single draw has no spread, though the starts differ; without differences of starts the interval is the score."""
    assert np.isnan(intervals(np.arange(12.0), count=1, block=1).score_bounds).all()
    np.testing.assert_array_equal(intervals(np.full(12, 2.0)).score_bounds.ravel(), [2, 2])


def test_starts_that_differ_by_rounding_are_alike():
    """Two models whose errors differ by a third at every start: rounding leaves two values, one in either half."""
    step = np.repeat([0.1, 0.7], 30)
    found = intervals(step, step + 1 / 3)
    assert found.difference_independent.ravel()[1] == 60
    np.testing.assert_allclose(found.difference_bounds[1].ravel(), 1 / 3, rtol=1e-12)


def test_without_its_only_value_a_score_has_no_change_and_no_interval():
    record = resampling.record(BIAS, np.array([[0.0, 0.3, 0.0]]), np.array([[0.0, 1.0, 0.0]]))
    assert record.independent.tolist() == [1]
    assert np.isnan(record.student).all()


def test_the_block_of_intervals_is_what_the_most_autocorrelated_score_demands():
    """Of n = 60 and r as computed: (60 r + 1) / 57."""
    calm, slow = autoregressive((60,), 0), autoregressive((60,), 0.9, seed=2)
    z = slow - slow.mean()
    a = (60 * (z[1:] * z[:-1]).sum() / (z**2).sum() + 1) / 57
    expected = math.ceil((6 * (a / (1 - a**2)) ** 2 * 60) ** (1 / 3))
    assert 8 < expected < 30
    assert intervals(calm).block == 8
    assert intervals(calm, slow).block == expected
    assert intervals(calm, slow, block=9).default == expected


def test_the_interval_of_an_error_ends_at_zero():
    """Eleven perfect starts and one that is wrong: the widened draws fall below 0, which no RMSE does."""
    squares = np.zeros((2, 1, 1, 1, 1, 1, 12))
    squares[0, ..., 3], squares[1] = 100, 1
    found = resampling.intervals(["rmse"], squares, overlaps=np.array([1]), count=400)
    assert found.score_bounds.ravel()[0] == 0


def test_errors_are_never_below_zero_and_correlations_within_one():
    squares = np.array([0.0] * 10 + [100.0] * 2)[None]
    drawn = resampling.draws(12, count=400, block=2, seed=0)
    assert resampling.resampled(RMSE, squares, np.ones((1, 12)), drawn).min() == 0
    high = resampling.resampled(METRICS["acc"], np.array([[0.99] * 10 + [0.2] * 2]), np.ones((1, 12)), drawn)
    assert high.max() == 1
    assert resampling.resampled(BIAS, -squares, np.ones((1, 12)), drawn).min() < 0


@pytest.mark.parametrize(
    ("starts", "phi", "least"), [(20, 0, 0.92), (60, 0, 0.92), (60, 0.5, 0.92), (60, 0.8, 0.9), (200, 0.8, 0.9)]
)
def test_intervals_of_autocorrelated_starts_hold_the_true_score(starts, phi, least):
    """Nominally 95 of 100; `intervals` is what `forecast evaluate` calls. Of 1000 series the share is sure to 0.01.

    Without the corrections 90, 82 and 67 of 100 for 60 starts of autocorrelation 0, 0.5 and 0.8.
    """
    series = autoregressive((1000, starts), phi)
    # As many variables as series would share one block: each series is a record of its own.
    found = np.array([intervals(one, count=200, seed=i).score_bounds.ravel() for i, one in enumerate(series)])
    assert ((found[:, 0] <= 0) & (found[:, 1] >= 0)).mean() >= least


@pytest.mark.parametrize(("starts", "phi", "share"), [(20, 0.95, 0.8), (20, 0.8, 0.6), (60, 0.95, 0.8)])
def test_a_record_too_short_for_its_autocorrelation_has_too_few_independent_starts(starts, phi, share):
    series = autoregressive((500, starts), phi)
    assert (resampling.Record(series).independent < resampling.FEWEST).mean() > share


def test_a_long_record_has_enough_independent_starts():
    assert (resampling.Record(autoregressive((500, 60), 0.3)).independent >= resampling.FEWEST).mean() > 0.99
    assert (resampling.Record(autoregressive((500, 20), 0)).independent >= resampling.FEWEST).mean() > 0.97


def test_a_difference_has_its_own_autocorrelation():
    """Two models share a slow error; their difference is independent from start to start."""
    slow, fast = autoregressive((60,), 0.97), autoregressive((60,), 0.0, seed=1) / 10
    found = intervals(slow, slow + fast + 2)
    assert (found.independent < resampling.FEWEST).all()
    assert found.difference_independent.ravel()[1] > 40
    low, high = found.difference_bounds[1].ravel()
    assert 0 < low < 2 < high
    assert len(found.notes) == 1
    assert "the intervals of 2 of 2 scores" in found.notes[0]


def test_a_record_shorter_than_two_runs_of_overlapping_starts_is_too_short():
    values = autoregressive((60,), 0)
    assert intervals(values, overlap=30).independent.item() > 30
    assert intervals(values, overlap=31).independent.item() == pytest.approx(60 / 31)


def test_a_block_of_the_user_is_drawn_and_judged():
    values = autoregressive((100,), 0)
    short = intervals(values, block=3, overlap=24)
    assert (short.block, short.default) == (3, 24)
    assert any("Blocks of 3 are shorter" in note and "24" in note for note in short.notes)
    assert not intervals(values, block=24, overlap=24).notes
    alone = intervals(values, ordered=False)
    assert (alone.block, alone.default) == (1, 1)


def written(folder, errors, order=None):
    """A forecast of one cell and one step from consecutive hours, wrong by `errors`, and its truth."""
    order = np.arange(len(errors)) if order is None else order
    dates = xr.date_range("2001-01-01", periods=len(errors) + 1, freq="h", use_cftime=False).values
    truth = np.cos(np.pi * np.arange(len(errors) + 1))
    xr.Dataset({"u": (("time", "x"), truth[:, None])}, {"time": dates, "x": [0.0]}).to_netcdf(folder / "truth.nc")
    values = (truth[1:] + errors)[order, None, None]
    forecast = xr.Dataset({"u": (("init_time", "lead_time", "x"), values)})
    forecast = forecast.assign_coords(
        init_time=dates[:-1][order],
        lead_time=np.array([3600], "timedelta64[s]").astype("timedelta64[ns]"),
        valid_time=(("init_time", "lead_time"), dates[1:][order, None]),
        x=[0.0],
    )
    forecast.attrs = {"forecast_kind": "forecast", "forecast_variables": "u", "forecast_model": "ours"}
    forecast.to_netcdf(folder / "forecast.nc")
    return folder / "forecast.nc", folder / "truth.nc"


def evaluated(folder, errors, order=None, **options):
    forecast, truth = written(folder, errors, order)
    bootstrap = evaluation.Bootstrap(200, **options)
    return evaluation.evaluate([open_forecast(forecast)], [str(truth)], metrics=["bias"], bootstrap=bootstrap)


def test_starts_are_resampled_in_order_of_time(tmp_path):
    """A file whose starts are shuffled has the same intervals, and the same number of independent starts."""
    errors = autoregressive((60,), 0.8)
    sorted_, shuffled = (
        evaluated(tmp_path, errors, order) for order in (None, np.random.default_rng(0).permutation(60))
    )
    np.testing.assert_allclose(shuffled["score_bounds"], sorted_["score_bounds"], rtol=1e-6)
    np.testing.assert_allclose(shuffled["independent_starts"], sorted_["independent_starts"], rtol=1e-6)
    assert shuffled.attrs["bootstrap_block"] == sorted_.attrs["bootstrap_block"]


def test_evaluate_gives_the_intervals_that_the_coverage_is_measured_of(tmp_path):
    errors = autoregressive((60,), 0.8)
    scores, found = evaluated(tmp_path, errors), intervals(errors, count=200)
    np.testing.assert_allclose(scores["score_bounds"].values.ravel(), found.score_bounds.ravel(), rtol=1e-6)
    np.testing.assert_allclose(scores["independent_starts"].values.ravel(), found.independent.ravel(), rtol=1e-6)
    assert scores.attrs["bootstrap_block"] == scores.attrs["bootstrap_default_block"] == found.block


def test_a_record_too_short_has_no_star_and_says_why(tmp_path, forecast):
    """Errors that rise through the record: 20 starts of which two are independent, far from persistence."""
    path, truth = written(tmp_path, 500 + np.arange(20.0))
    options = ("--baseline", "persistence", "--metric", "bias", "--bootstrap", 200, "--json")
    result = forecast("evaluate", path, "--truth", truth, "-o", tmp_path / "s.nc", *options)
    assert result.exit_code == 0
    told = " ".join(result.stderr.split())
    assert "The record is too short for the intervals of 1 of 2 scores (marked ?) and 1 of 1 differences (no *)" in told
    assert "]?" in told
    assert "* [" not in told
    assert "too short for the intervals of 1 of 2" in result.stdout
    shown = forecast("info", tmp_path / "s.nc")
    assert "too short for the intervals of 1 of 2" in " ".join(shown.stderr.split())
    with xr.open_dataset(tmp_path / "s.nc") as scores:
        assert scores["independent_starts"].sel(model="ours").item() == pytest.approx(2)
        assert "too short" in scores.attrs["bootstrap_notes"]


def test_a_record_long_enough_has_its_star_and_no_note(tmp_path, forecast):
    path, truth = written(tmp_path, 5 + autoregressive((60,), 0))
    options = ("--baseline", "persistence", "--metric", "bias", "--bootstrap", 200)
    result = forecast("evaluate", path, "--truth", truth, *options)
    told = " ".join(result.stderr.split())
    assert "* [" in told
    assert "too short" not in told
    assert "]?" not in told
    shorter = forecast("evaluate", path, "--truth", truth, *options, "--block", 2)
    assert "Blocks of 2 are shorter than overlap and autocorrelation" in " ".join(shorter.stderr.split())


def test_trajectories_are_drawn_one_by_one_whatever_their_order(tmp_path):
    """Errors that rise from sample to sample: with times they would be dependent."""
    samples, truth = np.arange(12), np.random.default_rng(0).normal(size=(12, 4, 1))
    times = xr.Variable("time", np.arange(4.0), {"units": "s"})
    xr.Dataset({"u": (("sample", "time", "x"), truth)}, {"time": times, "x": [0.0]}).to_netcdf(tmp_path / "t.nc")
    values = truth[:, 1:] + samples[:, None, None]
    forecast = xr.Dataset({"u": (("sample", "lead_time", "x"), values)}).assign_coords(
        sample=samples,
        lead_time=("lead_time", [1.0, 2.0, 3.0], {"units": "s"}),
        init_time=((), 0.0, {"units": "s"}),
        valid_time=("lead_time", [1.0, 2.0, 3.0], {"units": "s"}),
        x=[0.0],
    )
    forecast.attrs = {"forecast_kind": "forecast", "forecast_variables": "u", "forecast_model": "ours"}
    forecast.to_netcdf(tmp_path / "f.nc")
    scores = evaluation.evaluate(
        [open_forecast(tmp_path / "f.nc")],
        [str(tmp_path / "t.nc")],
        metrics=["bias"],
        bootstrap=evaluation.Bootstrap(2000),
    )
    assert scores.attrs["bootstrap_block"] == 1
    assert scores.attrs["bootstrap_notes"] == ""
    assert (scores["independent_starts"] == 12).all()
    # Student's t of 11 degrees of freedom is 2.201; the variance of 0 to 11 is 13.
    width = scores["score_bounds"].diff("bound").values
    np.testing.assert_allclose(width, 2 * 2.201 * math.sqrt(13 / 12), rtol=0.06)
