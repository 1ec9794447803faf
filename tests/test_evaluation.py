import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from forecast_cli import evaluation
from forecast_cli.data.fields import open_fields
from forecast_cli.data.forecasts import open_forecast
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.metrics import cell_weights

FRAMES, STEPS, STARTS, SAMPLES, FIRST = 12, 3, (4, 5, 7), (2, 5), 3
"""A record of so many frames; forecasts of so many steps from these frames, or of these trajectories from one frame."""
LATITUDES, LONGITUDES = np.array([60.0, 20.0, -20.0]), np.array([0.0, 10.0])
NOISE = np.random.default_rng(3).normal(size=(8, FRAMES, 3, 2))
CLIMATOLOGY = np.arange(6.0).reshape(3, 2) / 10


def on_grid(dataset, geographical=True):
    if not geographical:
        return dataset.rename(lat="y", lon="x").assign_coords(y=[0.0, 1.0, 2.0], x=[0.0, 1.0])
    names = {"lat": (LATITUDES, "degrees_north"), "lon": (LONGITUDES, "degrees_east")}
    return dataset.assign_coords({name: (name, values, {"units": units}) for name, (values, units) in names.items()})


def dates(**options):
    return xr.date_range("2001-01-01", periods=FRAMES, freq="h", **({"use_cftime": False} | options)).values


def write_truth(path, values=NOISE[0], times=None, geographical=True):
    fields = xr.Dataset(
        {"u": (("time", "lat", "lon"), values, {"units": "m"})}, {"time": dates() if times is None else times}
    )
    on_grid(fields, geographical).to_netcdf(path)
    return path


def write_forecast(
    path, values, *, starts=STARTS, steps=None, times=None, geographical=True, name="ours", climatology=True
):
    """What `forecast rollout` would leave; values (start, lead, y, x), steps of one hour unless said."""
    steps = np.arange(1, values.shape[1] + 1) if steps is None else np.array(steps)
    times = dates() if times is None else times
    fields = xr.Dataset({"u": (("init_time", "lead_time", "lat", "lon"), values, {"units": "m"})})
    if climatology:
        fields["u_climatology"] = (("lat", "lon"), CLIMATOLOGY)
    fields = fields.assign_coords(
        init_time=times[list(starts)],
        lead_time=steps * np.timedelta64(3600, "s").astype("timedelta64[ns]"),
        valid_time=(("init_time", "lead_time"), times[np.array(starts)[:, None] + steps]),
    )
    fields.attrs = {"forecast_kind": "forecast", "forecast_variables": "u", "forecast_model": name}
    on_grid(fields, geographical).to_netcdf(path)
    return open_forecast(path)


def truth_at(starts=STARTS, steps=(1, 2, 3), values=NOISE[0]):
    return np.stack([values[[start + step for step in steps]] for start in starts])


def write_trajectory_files(folder, values, samples=SAMPLES, units="s"):
    """The truth of eight trajectories, and a forecast of some of them from frame FIRST on."""
    time = xr.Variable("time", 0.5 * np.arange(FRAMES), {"units": units})
    truth = xr.Dataset({"u": (("sample", "time", "lat", "lon"), NOISE, {"units": "m"})}, {"time": time})
    on_grid(truth, geographical=False).to_netcdf(folder / "truth.nc")
    fields = xr.Dataset(
        {
            "u": (("sample", "lead_time", "lat", "lon"), values, {"units": "m"}),
            "u_climatology": (("lat", "lon"), CLIMATOLOGY),
        }
    )
    fields = fields.assign_coords(
        sample=list(samples),
        lead_time=("lead_time", [0.5, 1.0, 1.5], {"units": units}),
        init_time=((), 0.5 * FIRST, {"units": units}),
        valid_time=("lead_time", 0.5 * (FIRST + np.array([1, 2, 3])), {"units": units}),
    )
    fields.attrs = {"forecast_kind": "forecast", "forecast_variables": "u", "forecast_model": "ours"}
    on_grid(fields, geographical=False).to_netcdf(folder / "forecast.nc")
    return open_forecast(folder / "forecast.nc"), [str(folder / "truth.nc")]


def score(dataset, metric="rmse", model="ours"):
    return dataset["score"].sel(metric=metric, model=model, variable="u").values


def sines(latitudes):
    """Weights of bands 40 degrees wide by the areas between their bounding circles."""
    bounds = np.deg2rad([latitudes + 20, latitudes - 20])
    return (np.sin(bounds[0]) - np.sin(bounds[1]))[:, None] * np.ones(2)


def weighted_rmse(error, weights=None):
    """(start, lead, y, x) -> (lead,)"""
    weights = np.broadcast_to(sines(LATITUDES) if weights is None else weights, error.shape[-2:])
    return np.sqrt((weights * error**2).sum((0, 2, 3)) / (len(error) * weights.sum()))


ALL = ("rmse", "mae", "bias", "acc")


def test_a_forecast_equal_to_the_truth_has_no_error_and_correlates_perfectly(tmp_path):
    forecast = write_forecast(tmp_path / "f.nc", truth_at())
    scores = evaluation.evaluate([forecast], [str(write_truth(tmp_path / "t.nc"))], metrics=ALL)
    for metric in ("rmse", "mae", "bias"):
        assert (score(scores, metric) == 0).all()
    np.testing.assert_allclose(score(scores, "acc"), 1, rtol=0, atol=1e-14)


def test_pairs_counts_what_was_compared(tmp_path):
    predicted, truth = truth_at() + 1, NOISE[0].copy()
    predicted[0, 1, 2, 0], truth[STARTS[1] + 2, 0, 0] = np.nan, np.nan
    scores = evaluation.evaluate(
        [write_forecast(tmp_path / "f.nc", predicted)], [str(write_truth(tmp_path / "t.nc", truth))]
    )
    # Frame 7 verifies the second start's second step and the first start's third.
    assert scores["pairs"].sel(model="ours", variable="u").values.tolist() == [18, 16, 17]
    np.testing.assert_allclose(score(scores), 1)


def test_the_weight_of_a_cell_is_its_area_on_the_sphere(tmp_path):
    weights = cell_weights(open_fields([str(write_truth(tmp_path / "t.nc"))]))
    np.testing.assert_allclose(weights, sines(LATITUDES) / sines(LATITUDES).mean(), rtol=1e-14)


def test_no_cell_reaches_beyond_the_pole(tmp_path):
    with xr.open_dataset(write_truth(tmp_path / "t.nc")) as truth:
        truth.assign_coords(lat=("lat", [90.0, 0.0, -90.0], {"units": "degrees_north"})).to_netcdf(
            tmp_path / "poles.nc"
        )
    weights = cell_weights(open_fields([str(tmp_path / "poles.nc")]))
    cap, belt = 1 - np.sin(np.pi / 4), 2 * np.sin(np.pi / 4)
    np.testing.assert_allclose(weights[:, 0] / weights[1, 0], [cap / belt, 1, cap / belt], rtol=1e-14)


@pytest.mark.parametrize(("geographical", "weights"), [(True, sines(LATITUDES)), (False, np.ones((3, 2)))])
def test_scores_are_weighted_by_area_on_the_globe_and_equally_elsewhere(tmp_path, geographical, weights):
    predicted = truth_at(values=NOISE[1])
    forecast = write_forecast(tmp_path / "f.nc", predicted, geographical=geographical)
    scores = evaluation.evaluate(
        [forecast], [str(write_truth(tmp_path / "t.nc", geographical=geographical))], metrics=("rmse", "bias")
    )
    error = predicted - truth_at()
    np.testing.assert_allclose(score(scores), weighted_rmse(error, weights), rtol=1e-12)
    np.testing.assert_allclose(
        score(scores, "bias"), (error * weights).sum((0, 2, 3)) / (len(error) * weights.sum()), rtol=1e-12
    )


def test_rmse_over_starts_is_the_root_of_the_mean_square(tmp_path):
    error = np.array([3.0, 4.0, 0.0])[:, None, None, None]
    scores = evaluation.evaluate(
        [write_forecast(tmp_path / "f.nc", truth_at() + error)], [str(write_truth(tmp_path / "t.nc"))]
    )
    np.testing.assert_allclose(score(scores), np.sqrt(25 / 3))


BASELINES = {
    "persistence": lambda record, start: [record[start]] * STEPS,
    "persistence:2": lambda record, start: [record[start - 1], record[start], record[start - 1]],
    "persistence:3": lambda record, start: [record[start - 2], record[start - 1], record[start]],
    "climatology": lambda *_: [CLIMATOLOGY] * STEPS,
}


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_baseline_forecasts_a_series_from_the_same_starts(tmp_path, baseline):
    expected = np.array([BASELINES[baseline](NOISE[0], start) for start in STARTS])
    forecast = write_forecast(tmp_path / "f.nc", truth_at() + 1)
    scores = evaluation.evaluate([forecast], [str(write_truth(tmp_path / "t.nc"))], baselines=[baseline])
    np.testing.assert_allclose(score(scores, model=baseline), weighted_rmse(expected - truth_at()), rtol=1e-12)


@pytest.mark.parametrize("units", ["1", "s", "days"])
@pytest.mark.parametrize("baseline", BASELINES)
def test_a_baseline_forecasts_the_same_trajectories(tmp_path, baseline, units):
    truth = NOISE[list(SAMPLES), FIRST + 1 : FIRST + 4]
    expected = np.array([BASELINES[baseline](NOISE[sample], FIRST) for sample in SAMPLES])
    forecast, files = write_trajectory_files(tmp_path, truth + 2, units=units)
    scores = evaluation.evaluate([forecast], files, baselines=[baseline])
    np.testing.assert_allclose(
        score(scores, model=baseline), weighted_rmse(expected - truth, np.ones((3, 2))), rtol=1e-12
    )
    np.testing.assert_allclose(score(scores), 2)
    assert evaluation.lead_times(scores) == ([0.5, 1.0, 1.5], units)


def test_a_baseline_without_the_frames_it_repeats_is_not_scored_there(tmp_path):
    forecast = write_forecast(tmp_path / "f.nc", truth_at(starts=(1,)), starts=(1,))
    scores = evaluation.evaluate([forecast], [str(write_truth(tmp_path / "t.nc"))], baselines=["persistence:3"])
    assert np.isnan(score(scores, model="persistence:3")).tolist() == [True, False, False]
    assert scores["pairs"].sel(model="persistence:3", variable="u").values.tolist() == [0, 6, 6]


def test_the_starts_told_are_those_that_the_truth_verifies(tmp_path):
    forecast = write_forecast(tmp_path / "f.nc", truth_at(starts=(1, 2, 6)), starts=(1, 2, 6))
    with xr.open_dataset(write_truth(tmp_path / "whole.nc")) as whole:
        whole.isel(time=slice(5)).to_netcdf(tmp_path / "short.nc")
    assert evaluation.evaluate([forecast], [str(tmp_path / "short.nc")]).attrs["starts"] == 2


def test_the_anomaly_correlation_of_the_climatology_does_not_exist(tmp_path):
    forecast = write_forecast(tmp_path / "f.nc", truth_at())
    scores = evaluation.evaluate(
        [forecast], [str(write_truth(tmp_path / "t.nc"))], metrics=["acc"], baselines=["climatology"]
    )
    assert evaluation.as_json(scores)["scores"]["climatology"] == {"acc": {"u": [None, None, None]}}


def test_forecasts_of_different_starts_are_compared_at_those_they_share(tmp_path):
    first = write_forecast(
        tmp_path / "a.nc",
        truth_at((4, 5, 7)) + np.array([1, 2, 3])[:, None, None, None],
        starts=(4, 5, 7),
        name="first",
    )
    second = write_forecast(
        tmp_path / "b.nc",
        truth_at((7, 2, 5)) + np.array([3, 9, 2])[:, None, None, None],
        starts=(7, 2, 5),
        name="second",
    )
    scores = evaluation.evaluate([first, second], [str(write_truth(tmp_path / "t.nc"))], baselines=["persistence"])
    assert scores.attrs["starts"] == 2
    for name in ("first", "second"):
        np.testing.assert_allclose(score(scores, model=name), np.sqrt((4 + 9) / 2))
    expected = np.array([BASELINES["persistence"](NOISE[0], start) for start in (5, 7)])
    np.testing.assert_allclose(
        score(scores, model="persistence"), weighted_rmse(expected - truth_at((5, 7))), rtol=1e-12
    )


def test_forecasts_of_different_steps_are_compared_at_the_lead_times_they_share(tmp_path):
    hourly = write_forecast(tmp_path / "a.nc", truth_at() + np.array([1, 2, 3])[:, None, None], name="hourly")
    coarse = write_forecast(tmp_path / "b.nc", truth_at(steps=(2, 4)) + 5, steps=(2, 4), name="coarse")
    scores = evaluation.evaluate([hourly, coarse], [str(write_truth(tmp_path / "t.nc"))], baselines=["persistence:2"])
    assert evaluation.lead_times(scores) == ([2.0], "hours")
    np.testing.assert_allclose([score(scores, model="hourly"), score(scores, model="coarse")], [[2], [5]])
    expected = np.array([BASELINES["persistence:2"](NOISE[0], start)[1:2] for start in STARTS])
    np.testing.assert_allclose(
        score(scores, model="persistence:2"), weighted_rmse(expected - truth_at(steps=[2])), rtol=1e-12
    )


@pytest.mark.parametrize("options", [{"starts": (1, 2)}, {"steps": (4, 5)}])
def test_forecasts_that_share_nothing_are_refused(tmp_path, options):
    first = write_forecast(tmp_path / "a.nc", truth_at((4, 5)), starts=(4, 5), name="first")
    given = {"starts": (4, 5), "steps": (1, 2, 3)} | options
    second = write_forecast(tmp_path / "b.nc", truth_at(**given), **given, name="second")
    with pytest.raises(DataError, match="share no"):
        evaluation.evaluate([first, second], [str(write_truth(tmp_path / "t.nc"))])


@pytest.mark.parametrize("times", ["proleptic_gregorian", "360_day", "noleap"])
def test_times_of_every_calendar_meet_even_where_rounding_moved_them(tmp_path, times):
    exact = dates() if times == "proleptic_gregorian" else dates(calendar=times, use_cftime=True)
    moved = exact - (np.timedelta64(1, "s") if exact.dtype.kind == "M" else np.timedelta64(1, "s").item())
    forecast = write_forecast(tmp_path / "f.nc", truth_at() + 2, times=moved)
    scores = evaluation.evaluate(
        [forecast], [str(write_truth(tmp_path / "t.nc", times=exact))], baselines=["persistence"]
    )
    np.testing.assert_allclose(score(scores), 2)


def test_a_forecast_beyond_the_record_is_scored_where_there_is_truth(tmp_path):
    forecast = write_forecast(tmp_path / "f.nc", truth_at(starts=(8,)) + 1, starts=(8,))
    scores = evaluation.evaluate([forecast], [str(write_truth(tmp_path / "t.nc", NOISE[0, :11], dates()[:11]))])
    np.testing.assert_allclose(score(scores), [1, 1, np.nan])


OTHER_TRUTHS = {
    "another year": (
        lambda truth: truth.assign_coords(time=truth["time"] + np.timedelta64(365, "D")),
        "does not overlap",
    ),
    "other minutes": (
        lambda truth: truth.assign_coords(time=truth["time"] + np.timedelta64(10, "s")),
        "does not overlap",
    ),
    "another calendar": (
        lambda truth: truth.assign_coords(time=dates(calendar="360_day", use_cftime=True)),
        "does not overlap",
    ),
    "no dates": (lambda truth: truth.assign_coords(time=np.arange(float(FRAMES))), "does not overlap"),
    "no values": (lambda truth: truth.where(False), "missing everywhere"),
    "a smaller grid": (lambda truth: truth.isel(lat=[0, 1]), "grid"),
    "a turned grid": (lambda truth: truth.isel(lat=slice(None, None, -1)), "cells along 'lat'"),
    "other units": (lambda truth: truth.assign(u=truth["u"].assign_attrs(units="km")), "unit of 'u' is 'km'"),
    "trajectories": (lambda truth: truth.expand_dims(sample=2), "trajectories"),
    "another variable": (lambda truth: truth.rename(u="v"), "no variable 'u'"),
}


@pytest.mark.parametrize("other", OTHER_TRUTHS)
def test_a_truth_that_does_not_belong_to_the_forecast_is_refused(tmp_path, other):
    change, message = OTHER_TRUTHS[other]
    forecast = write_forecast(tmp_path / "f.nc", truth_at())
    with xr.open_dataset(write_truth(tmp_path / "t.nc")) as truth:
        change(truth).to_netcdf(tmp_path / "other.nc")
    with pytest.raises(DataError, match=message):
        evaluation.evaluate([forecast], [str(tmp_path / "other.nc")])


def test_a_truth_without_the_forecast_samples_is_refused(tmp_path):
    forecast, files = write_trajectory_files(tmp_path, NOISE[list(SAMPLES), 4:7])
    with pytest.raises(DataError, match="does not overlap"):
        evaluation.evaluate([forecast], files, select={"sample": "0:2"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["rsme"]}, "did you mean rmse"),
        ({"metrics": ["zzz"]}, "known are rmse, relative_l2, mae, bias, acc"),
        ({"baselines": ["persistance"]}, "known are persistence"),
        ({"baselines": ["persistence:0"]}, "known are persistence"),
        ({"baselines": ["climatology"]}, "needs the climatology"),
        ({"metrics": ["acc"]}, "needs the climatology"),
        ({"baselines": ["persistence", "persistence"]}, "--label"),
    ],
)
def test_what_cannot_be_scored_is_refused(tmp_path, options, message):
    forecast = write_forecast(tmp_path / "f.nc", truth_at(), climatology=False)
    with pytest.raises(ConfigError, match=message):
        evaluation.evaluate([forecast], [str(write_truth(tmp_path / "t.nc"))], **options)


def test_two_forecasts_of_one_name_are_refused(tmp_path):
    forecasts = [write_forecast(tmp_path / name, truth_at()) for name in ("a.nc", "b.nc")]
    with pytest.raises(ConfigError, match="--label"):
        evaluation.evaluate(forecasts, [str(write_truth(tmp_path / "t.nc"))])


def test_json_holds_one_number_a_lead_time_and_null_where_there_is_none(tmp_path):
    forecast = write_forecast(tmp_path / "f.nc", truth_at(starts=(8,)) + 1, starts=(8,))
    truth = str(write_truth(tmp_path / "t.nc", NOISE[0, :11], dates()[:11]))
    content = evaluation.as_json(evaluation.evaluate([forecast], [truth], metrics=["mae", "bias"]))
    expected = [pytest.approx(1), pytest.approx(1), None]
    assert json.loads(json.dumps(content, allow_nan=False)) == {
        "lead_time": [1.0, 2.0, 3.0],
        "lead_time_units": "hours",
        "scores": {"ours": {"mae": {"u": expected}, "bias": {"u": expected}}},
    }


def test_the_score_file_says_how_each_number_came_about(tmp_path):
    scores = evaluation.evaluate(
        [write_forecast(tmp_path / "f.nc", truth_at())], [str(write_truth(tmp_path / "t.nc"))], metrics=ALL
    )
    assert all(f"{metric}: " in scores.attrs["averaging"] for metric in ALL)
    assert (scores.attrs["weights"], scores.attrs["starts"]) == ("cell area", 3)
    assert scores["units"].sel(variable="u") == "m"


def test_the_truth_of_one_forecast_is_its_verifying_frames(tmp_path):
    truth = open_fields([str(write_truth(tmp_path / "t.nc", NOISE[0, :9], dates()[:9]))])
    frames = evaluation.truth_of(write_forecast(tmp_path / "f.nc", truth_at()), truth, "u", 2, [0, 2])
    np.testing.assert_array_equal(frames, np.stack([NOISE[0, 8], np.full((3, 2), np.nan)]))


def labelled(tmp_path, values, **options):
    """A forecast of six starts, for what needs a few more."""
    return write_forecast(tmp_path / "many.nc", values, starts=(2, 3, 4, 5, 6, 7), **options)


MANY = (2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize(
    ("region", "rows", "columns"),
    [
        ("north=0:90,:", [0, 1], [0, 1]),
        ("spot=15:25,5:15", [1], [1]),
        ("around=-90:90,-5:5", [0, 1, 2], [0]),
        ("seam=-90:90,355:365", [0, 1, 2], [0]),
        ("globe=-90:90,0:360", [0, 1, 2], [0, 1]),
    ],
)
def test_a_region_scores_its_own_cells(tmp_path, region, rows, columns):
    predicted = truth_at(values=NOISE[1])
    forecast = write_forecast(tmp_path / "f.nc", predicted)
    scores = evaluation.evaluate([forecast], [str(write_truth(tmp_path / "t.nc"))], regions=[region])
    name = region.split("=")[0]
    assert scores["region"].values.tolist() == ["all", name]
    cut = np.ix_(range(3), range(3), rows, columns)
    expected = weighted_rmse((predicted - truth_at())[cut], sines(LATITUDES)[np.ix_(rows, columns)])
    np.testing.assert_allclose(scores["score"].sel(region=name, metric="rmse", model="ours", variable="u"), expected)
    np.testing.assert_allclose(
        scores["score"].sel(region="all", model="ours", metric="rmse", variable="u"),
        weighted_rmse(predicted - truth_at()),
    )
    told = evaluation.as_json(scores)
    assert told["regions"][name]["scores"]["ours"]["rmse"]["u"] == pytest.approx(expected)


def test_a_region_may_be_a_mask(tmp_path):
    forecast = write_forecast(tmp_path / "f.nc", truth_at(values=NOISE[1]))
    with xr.open_dataset(write_truth(tmp_path / "t.nc")) as truth:
        (truth["u"].isel(time=0, drop=True) * 0 + [[1, 0], [0, 0], [0, 1]]).rename("sea").to_netcdf(tmp_path / "m.nc")
    scores = evaluation.evaluate(
        [forecast], [str(tmp_path / "t.nc")], regions=[f"sea={tmp_path}/m.nc:sea"], metrics=["bias"]
    )
    error = (truth_at(values=NOISE[1]) - truth_at())[:, :, [0, 2], [0, 1]]
    expected = (error @ sines(LATITUDES)[[0, 2], 0]).mean(0) / sines(LATITUDES)[[0, 2], 0].sum()
    np.testing.assert_allclose(scores["score"].sel(region="sea").values.squeeze(), expected)


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (["-20:20,0:360"], "expected NAME="),
        (["a=0:1"], "expected 2 ranges, one along each of lat, lon"),
        (["a=0:1,0:1"], "there is no cell in it"),
        (["a=0:90,:", "a=-90:0,:"], "a name of its own"),
        (["all=0:90,:"], "a name of its own"),
        (["a=0.0.1:90,:"], "expected numbers"),
    ],
)
def test_what_is_no_region_is_refused(tmp_path, regions, message):
    forecast = write_forecast(tmp_path / "f.nc", truth_at())
    with pytest.raises(ConfigError, match=message):
        evaluation.evaluate([forecast], [str(write_truth(tmp_path / "t.nc"))], regions=regions)


def with_cycle(forecast, path):
    """The forecast with a cycle by hour, which is 10 * hour + cell."""
    dataset = forecast.dataset.load()
    values = 10.0 * np.arange(24)[:, None, None] + CLIMATOLOGY
    dataset.assign(u_climatology_hour=(("hour", "lat", "lon"), values)).assign_coords(hour=np.arange(24)).to_netcdf(
        path
    )
    return open_forecast(path)


def test_the_cycle_by_hour_is_taken_at_the_time_that_the_forecast_is_for(tmp_path):
    forecast = with_cycle(write_forecast(tmp_path / "f.nc", truth_at()), tmp_path / "g.nc")
    truth = str(write_truth(tmp_path / "t.nc"))
    scores = evaluation.evaluate([forecast], [truth], baselines=["climatology:hour", "climatology"])
    hours = np.array(STARTS)[:, None] + [1, 2, 3]
    expected = 10.0 * hours[..., None, None] + CLIMATOLOGY
    np.testing.assert_allclose(score(scores, model="climatology:hour"), weighted_rmse(expected - truth_at()))
    np.testing.assert_allclose(score(scores, model="climatology"), weighted_rmse(CLIMATOLOGY - truth_at()))


def test_the_cycle_by_hour_is_taken_at_the_hour_that_float_days_mean(tmp_path):
    """Stored in days since year 1, a third of the hours fall a few microseconds into the hour before."""
    forecast = with_cycle(write_forecast(tmp_path / "f.nc", truth_at()), tmp_path / "g.nc")
    encoding = {name: {"units": "days since 0001-01-01", "dtype": "f8"} for name in ("init_time", "valid_time")}
    forecast.dataset.load().to_netcdf(tmp_path / "h.nc", encoding=encoding)
    stored = open_forecast(tmp_path / "h.nc")
    assert (stored.dataset["valid_time"].values < forecast.dataset["valid_time"].values).any()
    assert (stored.valid_times == forecast.valid_times).all()
    assert stored.starts == forecast.starts
    truth = str(write_truth(tmp_path / "t.nc"))
    for files in ([stored], [forecast, stored]):
        scores = evaluation.evaluate(
            [replace(file, label=f"{i}") for i, file in enumerate(files)], [truth], baselines=["climatology:hour"]
        )
        hours = np.array(STARTS)[:, None] + [1, 2, 3]
        expected = 10.0 * hours[..., None, None] + CLIMATOLOGY
        np.testing.assert_allclose(score(scores, model="climatology:hour"), weighted_rmse(expected - truth_at()))


def test_anomalies_may_depart_from_a_cycle(tmp_path):
    predicted = truth_at() + 1
    forecast = with_cycle(write_forecast(tmp_path / "f.nc", predicted), tmp_path / "g.nc")
    truth = str(write_truth(tmp_path / "t.nc"))
    scores = evaluation.evaluate([forecast], [truth], metrics=["acc"], climatology="hour")
    usual = 10.0 * (np.array(STARTS)[:, None] + [1, 2, 3])[..., None, None] + CLIMATOLOGY
    a, b, w = predicted - usual, truth_at() - usual, sines(LATITUDES)
    expected = ((w * a * b).sum((2, 3)) / np.sqrt((w * a**2).sum((2, 3)) * (w * b**2).sum((2, 3)))).mean(0)
    np.testing.assert_allclose(score(scores, "acc"), expected)
    with pytest.raises(ConfigError, match=r"--metric acc needs .* has the mean and the cycle by hour"):
        evaluation.evaluate([forecast], [truth], metrics=["acc"], climatology="month")


def test_intervals_enclose_the_score_and_differences_are_paired(tmp_path):
    truth = str(write_truth(tmp_path / "t.nc"))
    rng = np.random.default_rng(1)
    good = truth_at(MANY) + rng.normal(size=(6, 3, 3, 2))
    first = labelled(tmp_path, good, name="good")
    worse = write_forecast(tmp_path / "w.nc", good + 0.01 * np.sign(good - truth_at(MANY)), starts=MANY, name="worse")
    options = {"metrics": ["mae", "acc"], "baselines": ["persistence"], "bootstrap": evaluation.Bootstrap(500, 2, 3)}
    scores = evaluation.evaluate([first, worse], [truth], **options)
    low, high = (scores["score_bounds"].sel(bound=bound) for bound in ("lower", "upper"))
    assert (low < scores["score"]).all()
    assert (scores["score"] < high).all()
    # The intervals overlap widely, yet each resample of the second is worse by exactly 0.01.
    difference = scores.sel(model="worse", metric="mae", variable="u")
    np.testing.assert_allclose(difference["difference"], 0.01, rtol=1e-6)
    np.testing.assert_allclose(difference["difference_bounds"], 0.01, rtol=1e-6)
    assert scores["difference"].attrs["relative_to"] == "good"
    assert (scores["difference_bounds"].sel(model="good") == 0).all()
    xr.testing.assert_equal(scores, evaluation.evaluate([first, worse], [truth], **options))


def test_a_block_without_draws_is_refused(forecast, tmp_path):
    write_forecast(tmp_path / "f.nc", truth_at())
    result = forecast("evaluate", tmp_path / "f.nc", "--truth", write_truth(tmp_path / "t.nc"), "--block", 2)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "--bootstrap" in result.stderr


@pytest.mark.parametrize(("starts", "block"), [((4,), None), ((4, 5, 7), 3)])
def test_starts_too_few_to_resample_are_refused(tmp_path, starts, block):
    """Every draw would be the same, and the interval have no width."""
    forecast = write_forecast(tmp_path / "f.nc", truth_at(starts), starts=starts)
    with pytest.raises(ConfigError, match="Forecast from more starts"):
        evaluation.evaluate(
            [forecast], [str(write_truth(tmp_path / "t.nc"))], bootstrap=evaluation.Bootstrap(10, block)
        )


def test_draws_are_blocks_of_consecutive_starts():
    from forecast_cli.evaluation.resampling import draws

    drawn = draws(12, count=200, block=4, seed=0)
    assert (drawn.sum(axis=1) == 12).all()
    alone = draws(12, count=200, block=12, seed=0)
    assert (alone == 1).all()
    # Three blocks of four: a start is left out with probability (8/12)^3.
    assert (drawn == 0).mean() == pytest.approx((8 / 12) ** 3, abs=0.03)


def test_intervals_cover_the_true_mean_as_often_as_they_say():
    """Of independent starts with known spread: 95 of 100 intervals hold the mean, within what 300 trials can tell."""
    from forecast_cli.evaluation.resampling import bounds, draws, resampled
    from forecast_cli.metrics import METRICS

    errors = np.random.default_rng(0).normal(size=(300, 60))
    found = bounds(resampled(METRICS["bias"], errors, np.ones_like(errors), draws(60, count=400, block=1, seed=1)))
    share = ((found[:, 0] < 0) & (found[:, 1] > 0)).mean()
    assert 0.90 < share < 0.98


def test_a_spectrum_holds_the_variance_and_finds_the_wave(tmp_path):
    """On a periodic square: a wave of 5 cycles, and noise of which no mode is lost."""
    size = 32
    x = np.arange(size) / size
    wave = 3 * np.sin(2 * np.pi * 5 * x) + np.zeros((FRAMES, size, 1))
    noise = np.random.default_rng(0).normal(size=(FRAMES, size, size))
    dataset = xr.Dataset(
        {"u": (("time", "y", "x"), wave), "v": (("time", "y", "x"), noise)},
        {"time": dates(), "y": x, "x": x},
        {"boundary_conditions": "periodic"},
    )
    dataset.to_netcdf(tmp_path / "t.nc")
    grid = evaluation.rings(open_fields([str(tmp_path / "t.nc")]))
    power = grid.power(wave)
    assert grid.wavenumbers[power[0].argmax()] == pytest.approx(5)
    assert power[0].sum() * grid.step == pytest.approx(4.5)
    np.testing.assert_allclose(grid.power(noise).sum(-1) * grid.step, noise.var(axis=(1, 2)), rtol=1e-10)


def test_on_a_globe_the_spectrum_is_zonal(tmp_path):
    longitudes, latitudes = np.arange(0, 360, 10.0), np.array([60.0, 0.0, -60.0])
    wave = np.sin(np.deg2rad(4 * longitudes)) * np.array([0.0, 2.0, 0.0])[:, None] + np.zeros((FRAMES, 1, 1)) + 7
    coords = {"time": dates(), "lat": latitudes, "lon": longitudes}
    xr.Dataset({"u": (("time", "lat", "lon"), wave)}, coords).to_netcdf(tmp_path / "t.nc")
    fields = open_fields([str(tmp_path / "t.nc")])
    grid = evaluation.rings(fields)
    assert (grid.zonal, grid.units, grid.count) == (True, "1", 18)
    share = (cell_weights(fields).values[1, 0] / cell_weights(fields).values[:, 0].sum()).item()
    np.testing.assert_allclose(grid.power(wave)[0], [2 * share if k == 4 else 0 for k in range(1, 19)], atol=1e-12)


def test_spectra_of_truth_and_forecasts_stand_in_the_score_file(tmp_path):
    forecast = write_forecast(tmp_path / "f.nc", 2 * truth_at())
    scores = evaluation.evaluate([forecast], [str(write_truth(tmp_path / "t.nc"))], spectra=True)
    found = scores["spectrum"].sel(variable="u")
    assert found["field"].values.tolist() == ["truth", "ours"]
    np.testing.assert_allclose(found.sel(field="ours"), 4 * found.sel(field="truth"))
    assert scores["wavenumber"].attrs["units"] == "1/km"


def curved(dataset):
    """The same fields with latitudes and longitudes in two dimensions."""
    lat, lon = np.meshgrid(dataset["lat"], dataset["lon"], indexing="ij")
    places = {
        "lat": (("y", "x"), lat, {"units": "degrees_north"}),
        "lon": (("y", "x"), lon, {"units": "degrees_east"}),
    }
    return dataset.drop_vars(["lat", "lon"]).rename(lat="y", lon="x").assign_coords(places)


def changed(path, change):
    """The dataset of a file under its change, in the place of the file."""
    with xr.open_dataset(path, decode_timedelta=False) as dataset:
        whole = change(dataset.load())
    whole.to_netcdf(path)
    return path


def turned(dataset):
    return dataset.isel(lat=slice(None, None, -1))


OTHER_FORECASTS = {
    "turned": (turned, "cells along 'lat' are not where those of .*other"),
    "east of itself": (lambda f: f.assign_coords(lon=f["lon"] + 180), "cells along 'lon'"),
    "lat(y, x), turned": (lambda f: curved(turned(f)), "cells along 'lat'"),
    "other units": (lambda f: f.assign(u=f["u"].assign_attrs(units="km")), "unit of 'u' is 'm', but 'km' in .*other"),
    "a smaller grid": (lambda f: f.isel(lat=[0, 1]), "grid is"),
    "another level": (lambda f: f.assign_coords(level=850), "'level' is 500, but 850 in .*other"),
    "another member": (lambda f: f.assign_coords(member=2), "'member' is 1, but 2 in .*other"),
    "another variable": (lambda f: f.rename(u="v").assign_attrs(forecast_variables="v"), "forecasts v, but"),
}


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("other", OTHER_FORECASTS)
def test_every_forecast_of_a_table_is_compared_with_the_truth(tmp_path, other, position):
    change, message = OTHER_FORECASTS[other]
    if other == "another variable" and position == 0:
        message = "no variable 'v'"
    truth = changed(write_truth(tmp_path / "t.nc"), lambda data: data.assign_coords(level=500, member=1))
    forecasts = [write_forecast(tmp_path / f"{name}.nc", truth_at(), name=name) for name in "ab"]
    write_forecast(tmp_path / "other.nc", truth_at(), name="other")
    wrong = open_forecast(changed(tmp_path / "other.nc", change))
    with pytest.raises(DataError, match=message):
        evaluation.evaluate([*forecasts[:position], wrong, *forecasts[position:]], [str(truth)])


def test_a_truth_on_another_grid_in_two_dimensions_is_refused(tmp_path):
    write_forecast(tmp_path / "f.nc", truth_at())
    forecast = open_forecast(changed(tmp_path / "f.nc", curved))
    same = changed(write_truth(tmp_path / "same.nc"), curved)
    np.testing.assert_allclose(score(evaluation.evaluate([forecast], [str(same)])), 0)
    other = changed(write_truth(tmp_path / "other.nc"), lambda data: curved(turned(data)))
    with pytest.raises(DataError, match=r"cells along 'lat' .* -20 at cell \(0, 0\), but 60 at cell \(0, 0\) there"):
        evaluation.evaluate([forecast], [str(other)])


def test_a_level_on_one_side_alone_is_no_difference(tmp_path):
    forecast = write_forecast(tmp_path / "f.nc", truth_at())
    truth = changed(write_truth(tmp_path / "t.nc"), lambda data: data.assign_coords(level=500))
    np.testing.assert_allclose(score(evaluation.evaluate([forecast], [str(truth)])), 0)


def test_times_in_another_unit_are_refused(tmp_path):
    """The forecast is for 2 s, and 2 min of the truth is another time."""
    forecast, (truth,) = write_trajectory_files(tmp_path, NOISE[list(SAMPLES), 4:7])

    def minutes(unit):
        return lambda data: data.assign_coords(time=data["time"].assign_attrs(units=unit))

    np.testing.assert_allclose(score(evaluation.evaluate([forecast], [changed(truth, minutes("seconds"))])), 0)
    with pytest.raises(DataError, match=r"times 'time' are in 'min', but 's' in .*forecast\.nc"):
        evaluation.evaluate([forecast], [changed(truth, minutes("min"))])


def test_a_forecast_without_half_of_its_cells_has_the_score_of_the_whole_one(tmp_path):
    """Errors of 1 in the first row and 3 below: over the first row alone, every score is 1."""
    error = np.array([1.0, 3.0, 3.0])[:, None]
    part = np.where(np.arange(3)[:, None] == 0, truth_at() + error, np.nan)
    forecasts = [
        write_forecast(tmp_path / "whole.nc", truth_at() + error, name="whole"),
        write_forecast(tmp_path / "part.nc", part, name="part"),
    ]
    for ordered in (forecasts, forecasts[::-1]):
        scores = evaluation.evaluate(
            ordered,
            [str(write_truth(tmp_path / "t.nc"))],
            metrics=("rmse", "mae", "bias"),
            bootstrap=evaluation.Bootstrap(50, 1),
        )
        np.testing.assert_allclose(scores["score"], 1)
        np.testing.assert_allclose(scores["difference_bounds"], 0, atol=1e-12)
        assert (scores["pairs"] == 6).all()
        assert scores["pairs_available"].sel(model="whole", variable="u").values.tolist() == [18, 18, 18]
        assert scores["pairs_available"].sel(model="part", variable="u").values.tolist() == [6, 6, 6]
    note = evaluation.note_on_pairs(scores)
    assert "over the 18 pairs of values that all models share; each alone has: part 18, whole 54" in note
    assert evaluation.as_json(scores)["notes"] == [note]


def test_a_note_reports_values_of_the_truth_that_no_model_is_compared_with(tmp_path):
    """A row of 2 cells of 3 rows, 3 starts and 3 lead times: 18 of 54."""
    part = np.where(np.arange(3)[:, None] == 0, truth_at(), np.nan)
    truth = [str(write_truth(tmp_path / "t.nc"))]
    scores = evaluation.evaluate([write_forecast(tmp_path / f"{name}.nc", part, name=name) for name in "ab"], truth)
    assert evaluation.note_on_pairs(scores).endswith(
        "the 18 pairs of values that all models share; each alone has: a 18, b 18; the truth 54"
    )
    whole = evaluation.evaluate([write_forecast(tmp_path / "w.nc", truth_at())], truth)
    assert evaluation.note_on_pairs(whole) is None


def test_a_fill_value_in_any_forecast_is_refused(tmp_path):
    wrong = truth_at()
    wrong[0, 0, 0, 0] = -9999
    truth = [str(write_truth(tmp_path / "t.nc"))]
    good, bad = (
        write_forecast(tmp_path / "a.nc", truth_at(), name="a"),
        write_forecast(tmp_path / "b.nc", wrong, name="b"),
    )
    for forecasts in ([bad], [good, bad]):
        with pytest.raises(DataError, match=r"b\.nc: 'u' holds -9999"):
            evaluation.evaluate(forecasts, truth)


def test_the_table_reports_how_many_starts_of_the_forecast_are_verified(tmp_path, forecast):
    """The truth ends before the last of three starts."""
    write_forecast(tmp_path / "f.nc", truth_at())
    truth = changed(write_truth(tmp_path / "t.nc"), lambda data: data.isel(time=slice(0, STARTS[-1])))
    result = forecast("evaluate", tmp_path / "f.nc", "--truth", truth)
    assert result.exit_code == 0
    assert "2 of 3 starts" in result.stderr


def test_starts_without_their_frame_in_the_truth_count_for_no_model(tmp_path):
    """Persistence cannot start from frame 5; frames 6 to 8, which verify that start, are there. The error of start k is k."""
    error = np.array(STARTS, float)[:, None, None, None]
    forecast = write_forecast(tmp_path / "f.nc", truth_at() + error)
    truth = changed(write_truth(tmp_path / "t.nc"), lambda data: data.where(data["time"] != data["time"][5]))
    scores = evaluation.evaluate([forecast], [str(truth)], metrics=("mae",), baselines=["persistence"])
    # Frame 5 also verifies the first step of start 4.
    np.testing.assert_allclose(score(scores, "mae"), [7, (4 + 7) / 2, (4 + 7) / 2])
    assert scores["pairs"].sel(variable="u", model="ours").values.tolist() == [6, 12, 12]
    expected = [
        np.mean([np.average(np.abs(NOISE[0, k] - NOISE[0, k + lead]), weights=sines(LATITUDES)) for k in starts])
        for lead, starts in ((1, [7]), (2, [4, 7]), (3, [4, 7]))
    ]
    np.testing.assert_allclose(score(scores, "mae", "persistence"), expected)
    assert scores.attrs["starts"] == 2


def test_a_truth_that_lacks_the_frames_of_the_starts_leaves_persistence_out(tmp_path):
    """Every third frame: starts 4 and 5 are not among them, 0 and 6 are, each with its third step."""
    starts = (0, 4, 5, 6)
    forecast = write_forecast(tmp_path / "f.nc", truth_at(starts) + 2, starts=starts)
    truth = changed(write_truth(tmp_path / "t.nc"), lambda data: data.isel(time=slice(0, None, 3)))
    scores = evaluation.evaluate([forecast], [str(truth)], metrics=("mae",), baselines=["persistence"])
    assert scores["pairs"].sel(model="persistence", variable="u").values.tolist() == [0, 0, 12]
    assert scores["pairs_available"].sel(model="ours", variable="u").values.tolist() == [6, 6, 12]
    assert np.isnan(score(scores, "mae")).tolist() == [True, True, False]
    expected = [np.abs(NOISE[0, k] - NOISE[0, k + 3]) for k in (0, 6)]
    np.testing.assert_allclose(
        score(scores, "mae", "persistence")[2],
        np.mean([np.average(part, weights=np.broadcast_to(sines(LATITUDES), (3, 2))) for part in expected]),
    )


def test_models_that_share_no_pair_are_refused_by_name(tmp_path):
    upper = np.where(np.arange(3)[:, None] == 0, truth_at(), np.nan)
    lower = np.where(np.arange(3)[:, None] == 2, truth_at(), np.nan)
    truth = [str(write_truth(tmp_path / "t.nc"))]
    forecasts = [write_forecast(tmp_path / f"{n}.nc", v, name=n) for n, v in (("upper", upper), ("lower", lower))]
    with pytest.raises(
        DataError, match=r"share no pair .* each alone has: upper 18, lower 18. Evaluate them one by one"
    ):
        evaluation.evaluate(forecasts, truth)
    empty = write_forecast(tmp_path / "empty.nc", truth_at() * np.nan, name="empty")
    with pytest.raises(DataError, match=r"upper 18, empty 0. Leave out empty"):
        evaluation.evaluate([forecasts[0], empty], truth)


@pytest.mark.parametrize(("seconds", "verified"), [(3.5, True), (3.7, False), (36, False), (-3.5, True), (-3.7, False)])
def test_a_frame_verifies_a_forecast_within_a_thousandth_of_a_step(tmp_path, seconds, verified):
    """A thousandth of an hour is 3.6 s."""
    forecast = write_forecast(tmp_path / "f.nc", truth_at() + 2)
    moved = dates() + np.timedelta64(round(1e9 * seconds), "ns")
    truth = [str(write_truth(tmp_path / "t.nc", times=moved))]
    if not verified:
        with pytest.raises(DataError, match="does not overlap"):
            evaluation.evaluate([forecast], truth)
        return
    np.testing.assert_allclose(score(evaluation.evaluate([forecast], truth)), 2)


def test_mean_spectra_are_over_the_starts_at_which_truth_and_every_model_are_whole(tmp_path, monkeypatch):
    """Frame 7 of the truth has a gap: the second start's second step, the first start's third. Worse misses start 7, step 2."""
    values, worse = NOISE[0].copy(), truth_at() + NOISE[1][:3, None]
    values[7, 1, 1] = np.nan
    worse[2, 1, 0, 0] = np.nan
    truth = [str(write_truth(tmp_path / "t.nc", values))]
    ours = truth_at(values=NOISE[0]) * 2
    files = [
        write_forecast(tmp_path / "f.nc", ours),
        write_forecast(tmp_path / "w.nc", worse, name="worse"),
    ]
    scores = evaluation.evaluate(files, truth, spectra=True)
    grid = evaluation.rings(open_fields(truth))
    assert scores["spectrum_starts"].sel(variable="u").values.tolist() == [3, 1, 2]
    for lead, rows in enumerate([[0, 1, 2], [0], [1, 2]]):
        here = scores["spectrum"].sel(variable="u").isel(lead_time=lead)
        expected = {"truth": truth_at(values=values), "ours": ours, "worse": worse}
        for name, fields in expected.items():
            np.testing.assert_allclose(here.sel(field=name), grid.power(fields[rows, lead]).mean(0), rtol=1e-10)
    # Two processes that share the blocks sum spectra and counts: the mean is the same.
    monkeypatch.setattr(evaluation, "BLOCK_BYTES", 3 * 8 * 6)
    parts = []
    for first in (0, 1):
        summed = []
        options = {"share": slice(first, None, 2), "total": lambda part, summed=summed: summed.append(part) or part}
        evaluation.evaluate(files, truth, spectra=True, **options)
        parts.append(summed)
    both = iter([sum(arrays) for arrays in zip(*parts, strict=True)])
    together = evaluation.evaluate(files, truth, spectra=True, total=lambda _: next(both))
    np.testing.assert_allclose(together["spectrum"], scores["spectrum"], rtol=1e-12)
    assert (together["spectrum_starts"] == scores["spectrum_starts"]).all()


def test_a_lead_time_without_a_whole_start_has_no_spectrum(tmp_path, forecast):
    values = NOISE[0].copy()
    values[[start + 1 for start in STARTS], 0, 0] = np.nan
    write_forecast(tmp_path / "f.nc", truth_at())
    truth = write_truth(tmp_path / "t.nc", values)
    result = forecast("evaluate", tmp_path / "f.nc", "--truth", truth, "--spectra", "-o", tmp_path / "s.nc")
    assert result.exit_code == 0
    assert "means over the 0 to 2 of 3 starts" in " ".join(result.stderr.split())
    with xr.open_dataset(tmp_path / "s.nc") as scores:
        assert scores["spectrum_starts"].values.tolist() == [[0, 2, 2]]
        assert scores["spectrum"].isel(lead_time=0).isnull().all()
        assert scores["spectrum"].isel(lead_time=[1, 2]).notnull().all()
