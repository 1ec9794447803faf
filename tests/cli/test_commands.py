import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from files import write_series, write_trajectories

from forecast_cli import __version__, checkpoint
from forecast_cli.config import load_config
from forecast_cli.data.fields import open_fields

TINY = ("--hidden", 4, "--context", 4, "--horizon", 2, "--epochs", 1)


def done(result):
    assert result.exit_code == 0, result.output
    return result


def rolled_out(forecast, run, data, path, *options):
    """The forecast as anybody opens it."""
    done(forecast("rollout", run, "--data", data, "-o", path, *options))
    with xr.open_dataset(path) as dataset:
        return dataset.load()


def python(*arguments, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment, check=False, **options
    )


@pytest.mark.parametrize(
    ("write", "variable", "outer", "weights"),
    [(write_series, "t2m", "init_time", "cell area"), (write_trajectories, "u", "sample", "equal")],
    ids=["series", "trajectories"],
)
def test_from_data_to_picture_through_files_alone(write, variable, outer, weights, forecast, tmp_path):
    data, run, predicted, scored, image = (
        write(tmp_path / "d.nc"),
        *(tmp_path / name for name in ("run", "fc.nc", "scores.nc", "p.png")),
    )
    done(forecast("train", data, "-o", run, *TINY))
    done(forecast("rollout", run, "--data", data, "-o", predicted))
    options = (
        "--metric",
        "rmse,acc",
        "--metric",
        "bias",
        "--baseline",
        "persistence,climatology",
        "--label",
        "tiny",
        "--json",
    )
    told = json.loads(done(forecast("evaluate", predicted, "--truth", data, "-o", scored, *options)).stdout)
    done(forecast("plot", scored, "-o", image))
    assert image.stat().st_size > 5000
    with xr.open_dataset(scored) as scores, xr.open_dataset(predicted) as fields:
        assert scores["score"].dims == ("model", "metric", "variable", "lead_time")
        assert (scores.attrs["weights"], scores.attrs["starts"]) == (weights, fields.sizes[outer])
        assert list(told["scores"]) == scores["model"].values.tolist() == ["tiny", "persistence", "climatology"]
        assert (
            told["scores"]["tiny"]["bias"][variable]
            == scores["score"].sel(model="tiny", metric="bias", variable=variable).values.tolist()
        )
        assert told["scores"]["climatology"]["acc"][variable] == [None] * fields.sizes["lead_time"]
        np.testing.assert_array_equal(scores["lead_time"], fields["lead_time"])


def test_scores_of_a_written_forecast_are_those_of_its_values(forecast, series, series_run, tmp_path):
    fields = rolled_out(forecast, series_run, series, tmp_path / "fc.nc")
    told = json.loads(
        done(forecast("evaluate", tmp_path / "fc.nc", "--truth", series, "--metric", "mae,bias", "--json")).stdout
    )
    with xr.open_dataset(series) as data:
        error = fields["t2m"] - data["t2m"].sel(time=fields["valid_time"])
    area = np.sin(np.deg2rad(error["lat"] + 1)) - np.sin(np.deg2rad(error["lat"] - 1))
    for metric, values in (("mae", abs(error)), ("bias", error)):
        expected = values.astype(float).weighted(area).mean(["init_time", "lat", "lon"])
        np.testing.assert_allclose(told["scores"]["minconvlstm"][metric]["t2m"], expected, rtol=1e-5, atol=1e-5)
    assert (told["lead_time"], told["lead_time_units"]) == ([6.0, 12.0], "hours")


def test_the_table_for_people_keeps_units_and_whole_numbers(forecast, trajectories, trajectory_run, tmp_path):
    done(forecast("rollout", trajectory_run, "--data", trajectories, "-o", tmp_path / "fc.nc"))
    result = done(forecast("evaluate", tmp_path / "fc.nc", "--truth", trajectories, "--metric", "bias"))
    assert "bias of u [m s-1]" in result.stderr
    assert "…" not in result.stderr
    assert result.stdout == ""


def directly(run, data, inits, steps, samples=(0,)):
    """The model called in torch, without files between: (start, lead, y, x)."""
    saved, fields = checkpoint.load_model(run), open_fields([str(data)])
    frames = np.stack([fields.read(sample, init - 3, init + 1) for sample in samples for init in inits])
    with torch.inference_mode():
        return saved.model(torch.from_numpy(frames), steps).fields[:, :, 0].numpy()


def test_a_written_forecast_of_a_series_holds_what_the_model_said(forecast, series, series_run, tmp_path):
    fields = rolled_out(forecast, series_run, series, tmp_path / "fc.nc", "--init-every", 2, "--steps", 3)
    inits = np.arange(50, 57, 2)
    assert fields["t2m"].dims == ("init_time", "lead_time", "lat", "lon")
    # Batches of another size may sum in another order.
    np.testing.assert_allclose(fields["t2m"], directly(series_run, series, inits, 3), rtol=1e-6)
    with xr.open_dataset(series) as data:
        for name in ("lat", "lon"):
            xr.testing.assert_identical(fields[name].variable, data[name].variable)
        np.testing.assert_array_equal(fields["init_time"], data["time"][inits])
        np.testing.assert_allclose(fields["t2m_climatology"], data["t2m"][:42].mean("time"), rtol=1e-6)
    assert {"units": "K", "long_name": "temperature"}.items() <= fields["t2m"].attrs.items()
    assert fields["lead_time"].values.tolist() == (np.arange(1, 4) * np.timedelta64(6 * 3600 * 10**9, "ns")).tolist()
    np.testing.assert_array_equal(fields["valid_time"], fields["init_time"] + fields["lead_time"])
    assert (fields["init_time"].attrs["standard_name"], fields["lead_time"].attrs["standard_name"]) == (
        "forecast_reference_time",
        "forecast_period",
    )


def test_a_written_forecast_of_trajectories_holds_what_the_model_said(forecast, trajectories, trajectory_run, tmp_path):
    fields = rolled_out(forecast, trajectory_run, trajectories, tmp_path / "fc.nc")
    assert fields["u"].dims == ("sample", "lead_time", "y", "x")
    np.testing.assert_allclose(
        fields["u"], directly(trajectory_run, trajectories, [3], 16, range(6)), rtol=0, atol=1e-5
    )
    np.testing.assert_array_equal(fields["lead_time"], 0.5 * np.arange(1, 17))
    np.testing.assert_array_equal(fields["valid_time"], fields["init_time"] + fields["lead_time"])
    assert (fields["u"].attrs["units"], float(fields["init_time"]), fields["sample"].values.tolist()) == (
        "m s-1",
        1.5,
        [0, 1, 2, 3, 4, 5],
    )


def test_a_forecast_keeps_the_calendar_of_its_data(forecast, series_run, tmp_path):
    data = write_series(tmp_path / "d.nc", calendar="360_day", start="2000-02-28", frames=12)
    fields = rolled_out(forecast, series_run, data, tmp_path / "fc.nc", "--init-time", "2000-02-29T18")
    assert fields["init_time"].dt.calendar == fields["valid_time"].dt.calendar == "360_day"
    assert [str(time) for time in fields["valid_time"].values[0]] == ["2000-02-30 00:00:00", "2000-02-30 06:00:00"]
    leads = fields["lead_time"].values.astype("timedelta64[us]").astype(object)
    np.testing.assert_array_equal(fields["valid_time"], fields["init_time"].values[:, None] + leads)
    told = json.loads(done(forecast("evaluate", tmp_path / "fc.nc", "--truth", data, "--json")).stdout)
    assert None not in told["scores"]["minconvlstm"]["rmse"]["t2m"]


def test_a_forecast_says_what_made_it(forecast, series, series_run, tmp_path):
    told = rolled_out(forecast, series_run, series, tmp_path / "fc.nc").attrs
    saved = checkpoint.load_model(series_run)
    assert (told["Conventions"], told["forecast_weights_sha256"], told["forecast_model"]) == (
        "CF-1.11",
        saved.sha256,
        "minconvlstm",
    )
    (tmp_path / "told.toml").write_text(told["forecast_configuration"])
    assert load_config(file=tmp_path / "told.toml") == saved.config
    assert (told["source"], told["forecast_data"]) == (f"forecast_cli {__version__}", str(series))


def test_default_starts_of_a_series_verify_in_the_test_part_alone(forecast, series, series_run, tmp_path):
    fields = rolled_out(forecast, series_run, series, tmp_path / "fc.nc")
    test = checkpoint.load_model(series_run).parts["test"]["times"]
    assert fields["valid_time"].min() == np.datetime64(test[0])
    assert fields["valid_time"].max() == np.datetime64(test[1])


def test_another_record_is_forecast_from_its_first_possible_start(forecast, series_run, tmp_path):
    data = write_series(tmp_path / "d.nc", start="2010-01-01", frames=20, seed=3)
    fields = rolled_out(forecast, series_run, data, tmp_path / "fc.nc")
    assert fields["init_time"].values[[0, -1]].astype("datetime64[h]").astype(str).tolist() == [
        "2010-01-01T18",
        "2010-01-05T06",
    ]


def test_last_forecasts_beyond_the_file(forecast, series, series_run, tmp_path):
    fields = rolled_out(forecast, series_run, series, tmp_path / "fc.nc", "--init-time", "last", "--lead-time", "1d")
    with xr.open_dataset(series) as data:
        end = data["time"].values[-1]
    assert fields["init_time"].values.tolist() == [end.astype(int)]
    np.testing.assert_array_equal(fields["valid_time"][0], end + np.arange(1, 5) * np.timedelta64(6, "h"))
    np.testing.assert_allclose(fields["t2m"], directly(series_run, series, [59], 4), rtol=1e-6)


def test_a_start_may_be_chosen_for_trajectories(forecast, trajectories, trajectory_run, tmp_path):
    fields = rolled_out(
        forecast, trajectory_run, trajectories, tmp_path / "fc.nc", "--init-time", "5.0", "--lead-time", "1.5"
    )
    np.testing.assert_allclose(
        fields["u"], directly(trajectory_run, trajectories, [10], 3, range(6)), rtol=0, atol=1e-5
    )
    np.testing.assert_array_equal(fields["valid_time"], [5.5, 6.0, 6.5])


@pytest.mark.parametrize(("every", "inits"), [(None, [50, 51, 52, 53, 54, 55]), (2, [50, 52, 54]), (100, [50])])
def test_starts_follow_each_other_at_the_distance_asked_for(forecast, series, series_run, tmp_path, every, inits):
    options = ("--steps", 4, *(("--init-every", every) if every else ()))
    fields = rolled_out(forecast, series_run, series, tmp_path / "fc.nc", *options)
    with xr.open_dataset(series) as data:
        np.testing.assert_array_equal(fields["init_time"], data["time"][inits])


def test_a_forecast_written_block_by_block_equals_one_written_at_once(
    forecast, trajectories, trajectory_run, tmp_path, monkeypatch
):
    whole = rolled_out(forecast, trajectory_run, trajectories, tmp_path / "whole.nc", "--steps", 7)
    monkeypatch.setattr("forecast_cli.rollout.BLOCK_BYTES", 2 * 6 * 6 * 8 * 4)
    monkeypatch.setattr("forecast_cli.rollout.COMMIT_SECONDS", 0)
    commits = []
    monkeypatch.setattr("forecast_cli.data.resumable.Growing.commit", lambda _, commit: commits.append(commit))
    blocks = rolled_out(forecast, trajectory_run, trajectories, tmp_path / "blocks.nc", "--steps", 7)
    singly = rolled_out(forecast, trajectory_run, trajectories, tmp_path / "singly.nc", "--steps", 7, "--batch-size", 4)
    np.testing.assert_allclose(blocks["u"], whole["u"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(singly["u"], whole["u"], rtol=0, atol=1e-5)
    assert len(commits) == 3 + (2 * 3 - 1), (
        "two frames of six samples at a time, then three frames of four; then it is whole"
    )


def test_a_rollout_that_was_stopped_is_gone_on_with(forecast, trajectories, trajectory_run, tmp_path, monkeypatch):
    from forecast_cli import rollout

    monkeypatch.setattr(rollout, "BLOCK_STEPS", 4)
    path, options = tmp_path / "fc.nc", ("--data", trajectories, "--steps", 10)
    whole = rolled_out(forecast, trajectory_run, trajectories, tmp_path / "whole.nc", "--steps", 10)
    stopped = forecast("rollout", trajectory_run, *options, "-o", path, "--time-limit", "0.000001")
    assert (stopped.exit_code, path.exists()) == (75, False)
    assert "stopped after 24 of 60 frames, before" in stopped.stderr
    other = forecast("rollout", trajectory_run, *options, "-o", path, "--context", 5, "--resume", "auto")
    assert (other.exit_code, path.exists()) == (4, False)
    assert "context (was 4, is 5)" in other.stderr
    for resume in ("must", "auto"):
        result = done(forecast("rollout", trajectory_run, *options, "-o", path, "--resume", resume))
        assert ("is complete already" in result.stderr) == (resume == "auto")
        with xr.open_dataset(path) as dataset:
            xr.testing.assert_equal(dataset.load(), whole)
    again = forecast("rollout", trajectory_run, *options, "-o", path, "--context", 5, "--resume", "auto")
    assert again.exit_code == 7, "a complete forecast of something else is not replaced"
    assert "--overwrite" in again.stderr


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--resume", "maybe"), 2, "never, auto or must"),
        (("--resume", "must"), 4, "no fc.nc.partial to go on with"),
        (("--time-limit", "soon"), 2, "HH:MM:SS"),
    ],
)
def test_what_cannot_be_gone_on_with_is_told(forecast, trajectories, trajectory_run, tmp_path, options, code, said):
    result = forecast("rollout", trajectory_run, "--data", trajectories, "-o", tmp_path / "fc.nc", *options)
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1)
    assert said in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_chosen_samples_keep_their_numbers_and_meet_their_truth(forecast, trajectories, trajectory_run, tmp_path):
    fields = rolled_out(
        forecast, trajectory_run, trajectories, tmp_path / "fc.nc", "--select", "sample=3:6", "--steps", 2
    )
    assert fields["sample"].values.tolist() == [3, 4, 5]
    told = json.loads(done(forecast("evaluate", tmp_path / "fc.nc", "--truth", trajectories, "--json")).stdout)
    with xr.open_dataset(trajectories) as data:
        error = fields["u"].values - data["u"].values[3:6, 4:6]
    np.testing.assert_allclose(
        told["scores"]["minconvlstm"]["rmse"]["u"], np.sqrt((error.astype(float) ** 2).mean((0, 2, 3))), rtol=1e-6
    )


def test_several_forecasts_are_scored_side_by_side_under_their_labels(forecast, series, series_run, tmp_path):
    for name, every in (("a.nc", 2), ("b.nc", 3)):
        rolled_out(forecast, series_run, series, tmp_path / name, "--init-every", every)
    told = json.loads(
        done(
            forecast("evaluate", tmp_path / "a.nc", tmp_path / "b.nc", "--truth", series, "--label", "a,b", "--json")
        ).stdout
    )
    assert told["scores"]["a"] == told["scores"]["b"]


def test_rollout_reports_itself_as_one_json_object(forecast, series, series_run, tmp_path):
    result = done(forecast("rollout", series_run, "--data", series, "-o", tmp_path / "fc.nc", "--json"))
    expected = {"output": str(tmp_path / "fc.nc"), "model": "minconvlstm", "starts": 8, "steps": 2, "context": 4}
    assert json.loads(result.stdout) == expected | {"notes": []}


def test_train_reports_itself_as_one_json_object(forecast, series, tmp_path):
    result = done(forecast("train", series, "-o", tmp_path / "run", *TINY, "--json"))
    told = json.loads(result.stdout)
    assert (told["run"], told["epochs"], told["best_epoch"]) == (str(tmp_path / "run"), 1, 1)
    assert told["best"] == told["last"]["validation_loss"] > 0
    assert "epoch 1/1" in result.stderr


def test_a_run_is_made_from_file_and_options_and_remembers_both(forecast, series, tmp_path):
    (tmp_path / "c.toml").write_text(
        "[model]\nname = 'convgru'\nhidden = [3]\n[training]\nepochs = 9\nbatch_size = 7\n"
    )
    options = (
        "--config",
        tmp_path / "c.toml",
        "--epochs",
        1,
        "--set",
        "training.batch_size=8",
        "--context",
        3,
        "--horizon",
        1,
    )
    done(forecast("train", series, "-o", tmp_path / "run", *options))
    config = load_config(file=tmp_path / "run" / "config.toml")
    assert (config.model.name, config.model.hidden, config.training.epochs, config.training.batch_size) == (
        "convgru",
        (3,),
        1,
        8,
    )
    assert (config.data.context, config.data.files) == (3, (str(series),))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--split", "0.8,0,0.2"), "there is no validation part"),
        (("--split", "0.8,0.1,0.1"), "the validation part has 6 frames and a window 6"),
        (("--hidden", "2x50000", "--batch-size", "30"), "GiB are free. Lower --batch-size"),
    ],
)
def test_a_dry_run_warns_of_what_will_go_wrong(forecast, series, tmp_path, arguments, said):
    command = ("train", series, "-o", tmp_path / "run", *TINY, *arguments, "--dry-run")
    assert re.search(f"warning: .*{re.escape(said)}", done(forecast(*command)).stderr)
    assert any(said in warning for warning in json.loads(done(forecast(*command, "--json")).stdout)["warnings"])


def test_a_dry_run_prints_the_plan_and_writes_nothing(forecast, series, tmp_path):
    result = done(forecast("train", series, "-o", tmp_path / "run", *TINY, "--dry-run"))
    for line in ("37 to train on, 4 to validate", "4 x 6 x 1 x 6 x 8", "held in memory", 'name = "minconvlstm"'):
        assert line in result.stderr
    assert (result.stdout, list(tmp_path.iterdir())) == ("", [])


def test_the_plan_is_told_as_json_too(forecast, series, tmp_path):
    told = json.loads(done(forecast("train", series, "-o", tmp_path / "run", *TINY, "--dry-run", "--json")).stdout)
    assert (told["training_windows"], told["window_shape"], told["config"]["data"]["context"]) == (
        37,
        [4, 6, 1, 6, 8],
        4,
    )
    assert list(tmp_path.iterdir()) == []


def test_info_tells_what_was_understood(forecast, series):
    told = json.loads(done(forecast("info", series, "--json")).stdout)
    assert set(told) == {
        "source",
        "variables",
        "dimensions",
        "squeezed",
        "time_step",
        "calendar",
        "grid",
        "boundary",
        "bytes",
        "share_read",
    }
    values = xr.open_dataset(series)["t2m"].values.astype(float)
    (variable,) = told["variables"]
    numbers = [variable.pop(key) for key in ("minimum", "mean", "maximum")]
    np.testing.assert_allclose(numbers, [values.min(), values.mean(), values.max()], rtol=1e-12)
    assert variable == {"name": "t2m", "units": "K", "long_name": "temperature", "standard_name": "", "missing": 0.0}
    assert told["dimensions"]["time"] == {
        "name": "time",
        "size": 60,
        "first": "2000-01-01T00:00:00",
        "last": "2000-01-15T18:00:00",
    }
    assert told["dimensions"]["y"] == {
        "name": "lat",
        "size": 6,
        "first": 50.0,
        "last": 40.0,
        "spacing": -2.0,
        "units": "degrees_north",
    }
    assert (told["time_step"], told["grid"], told["boundary"]) == ("6 hours", "latitude-longitude", "zeros")


def test_info_for_people_says_the_same(forecast, trajectories):
    text = done(forecast("info", trajectories)).stderr
    for part in (
        "u [m s-1], 0.00% missing",
        "6 along 'sample'",
        "20 along 'time', 0 to 9.5",
        "8 along 'x'",
        "circular",
        "plain numbers",
    ):
        assert part in text


def test_simulated_flow_can_be_read_back(forecast, tmp_path):
    options = ("--samples", 2, "--grid", 16, "--coarsen", 2, "--frames", 3, "--seed", 7, "--json")
    result = done(forecast("simulate", "navier-stokes", "-o", tmp_path / "ns.nc", *options))
    assert json.loads(result.stdout) == {
        "output": str(tmp_path / "ns.nc"),
        "samples": 2,
        "frames": 3,
        "height": 8,
        "width": 8,
    }
    fields = open_fields([str(tmp_path / "ns.nc")])
    assert (fields.samples, fields.frames, fields.domain.shape, fields.domain.boundary) == (2, 3, (1, 8, 8), "circular")


def test_a_run_can_be_continued_from_the_command_line(forecast, series, tmp_path):
    done(forecast("train", series, "-o", tmp_path / "run", *TINY))
    told = json.loads(
        done(
            forecast("train", series, "-o", tmp_path / "run", *TINY, "--epochs", 2, "--resume", "must", "--json")
        ).stdout
    )
    assert (told["epochs"], told["last"]["epoch"]) == (2, 2)


def test_python_m_forecast_cli_trains_as_a_process_of_its_own(series, tmp_path):
    result = python("-m", "forecast_cli", "train", series, "-o", "run", *TINY, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["run"] == "run"
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_python_m_forecast_cli_leaves_with_the_documented_code(series, tmp_path):
    result = python("-m", "forecast_cli", "rollout", "none", "--data", series, "-o", "fc.nc", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (4, "", "forecast: none: no such run directory.\n")


def test_the_truth_is_read_as_the_data_that_were_forecast(forecast, series, tmp_path):
    """A choice along a further dimension and the names of dimensions travel with the run and the forecast."""
    with xr.open_dataset(series) as dataset:
        levels = dataset.expand_dims(level=[500, 850]).rename(time="zeit").assign_coords(level=[500, 850])
        levels = levels * xr.DataArray([1.0, 2.0], dims="level")
        levels.drop_vars("zeit").to_netcdf(tmp_path / "levels.nc")
    run, fc = tmp_path / "run", tmp_path / "fc.nc"
    options = ("--hidden", "4", "--context", "4", "--horizon", "2", "--epochs", "1")
    read = ("--select", "level=850", "--dims", "time=zeit")
    assert forecast("train", tmp_path / "levels.nc", "-o", run, *read, *options).exit_code == 0
    assert forecast("rollout", run, "--data", tmp_path / "levels.nc", "-o", fc).exit_code == 0
    result = forecast("evaluate", fc, "--truth", tmp_path / "levels.nc", "--json")
    assert result.exit_code == 0, result.output
    assert forecast("plot", fc, "--truth", tmp_path / "levels.nc", "-o", tmp_path / "fc.png").exit_code == 0
    with xr.open_dataset(fc) as dataset:
        assert dataset["t2m"].mean() > 500  # twice 280: the level that was chosen


def test_training_in_bfloat16_comes_to_the_same_place(forecast, tmp_path):
    """Within a tenth of the validation error, after the same two epochs; equations are refused."""
    series = write_series(tmp_path / "series.nc")
    line = ("--context", "4", "--horizon", "2", "--epochs", "2", "--hidden", "8", "--json")
    found = {}
    for precision in ("32", "bf16"):
        result = forecast("train", series, *line, "--precision", precision, "-o", tmp_path / precision)
        assert result.exit_code == 0, result.output
        found[precision] = json.loads(result.stdout)["best"]
    assert found["bf16"] != found["32"]
    assert found["bf16"] == pytest.approx(found["32"], rel=0.1)
    finn = ("--model", "finn", "--set", "model.equation=burgers")
    refused = forecast("train", series, *finn, "--precision", "bf16", "-o", tmp_path / "no")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "not for finn" in refused.stderr


@pytest.mark.parametrize(
    ("model", "said", "unseen"),
    [
        ("swin", ("model.kernel_size=5", "model.window=3"), "model.kernel_size"),
        ("cnn", ("model.mlp=2", "model.attention_window=4", "model.patch=2"), "model.mlp, model.attention_window"),
        ("var", ("model.patch=2", "model.lags=2"), "model.patch, model.hidden"),
        ("minconvlstm", ("model.scan=fused", "training.clip=1"), ""),
    ],
)
def test_options_that_the_model_does_not_look_at_are_told(model, said, unseen, series, forecast, tmp_path):
    options = [word for text in said for word in ("--set", text)]
    windows = ("--context", 4, "--horizon", 2, "--hidden", "16,16")
    result = forecast("train", series, "--model", model, *windows, *options, "--dry-run", "-o", tmp_path / "run")
    assert result.exit_code == 0, result.output
    expected = [f"note: {model} does not look at {unseen}."] if unseen else []
    assert [line for line in result.stderr.splitlines() if "does not look at" in line] == expected


def _spoilt(series, path, place, value):
    with xr.open_dataset(series) as dataset:
        spoilt = dataset.load()
    spoilt["t2m"][place] = value
    spoilt["map"] = spoilt["t2m"][0] * 0
    spoilt.to_netcdf(path)
    return path


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ((0, 0, 0), np.nan, "'t2m' is missing or infinite at frame 0"),  # training: 42 of 60 frames
        ((41, 5, 7), np.inf, "'t2m' is missing or infinite at frame 41"),
        ((50, 1, 2), np.nan, "'t2m' is missing or infinite at frame 50"),  # validation: 9 frames
        (slice(0, 42), 281.0, "'t2m' is constant (281) over the training part"),
    ],
)
def test_a_dry_run_refuses_data_as_training_does(forecast, series, tmp_path, place, value, said):
    spoilt = _spoilt(series, tmp_path / "spoilt.nc", place, value)
    command = ("train", spoilt, "-o", tmp_path / "run", *TINY, "--variable", "t2m")
    for result in (forecast(*command), forecast(*command, "--dry-run"), forecast(*command, "--dry-run", "--json")):
        assert (result.exit_code, result.stdout) == (3, "")
        assert said in result.stderr


def test_a_dry_run_accepts_what_training_accepts(forecast, series, tmp_path):
    spoilt = _spoilt(series, tmp_path / "spoilt.nc", 55, np.nan)  # the test part is not read
    command = ("train", spoilt, "-o", tmp_path / "run", *TINY, "--variable", "t2m")
    assert "examined    all frames of the training and validation parts" in done(forecast(*command, "--dry-run")).stderr
    done(forecast(*command))


@pytest.mark.parametrize("kind", ["--static", "--forcing"])
def test_a_dry_run_refuses_inputs_as_training_does(forecast, series, tmp_path, kind):
    spoilt = _spoilt(series, tmp_path / "spoilt.nc", (50 if kind == "--forcing" else 0, 0, 0), np.nan)
    name = "t2m" if kind == "--forcing" else "map"
    command = ("train", series, "-o", tmp_path / "run", *TINY, kind, f"{spoilt}:{name}")
    for result in (forecast(*command), forecast(*command, "--dry-run")):
        assert result.exit_code == 3
        assert f"'{name}' is missing or infinite somewhere" in result.stderr


def test_a_dry_run_reads_a_share_of_a_large_record_and_says_so(forecast, series, tmp_path, monkeypatch):
    frame = open_fields([str(series)]).frame_bytes
    monkeypatch.setattr("forecast_cli.data.windows.BLOCK_BYTES", 3 * frame)
    monkeypatch.setattr("forecast_cli.planning.EXAMINED_BYTES", 9 * frame)
    command = ("train", series, "-o", tmp_path / "run", *TINY, "--dry-run")
    # 17 blocks of 3 frames, of which 3 are read.
    assert "examined    0.18 of the frames, evenly spaced," in done(forecast(*command)).stderr
    assert json.loads(done(forecast(*command, "--json")).stdout)["share_examined"] == pytest.approx(3 / 17)
