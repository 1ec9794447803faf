"""Every mistake of a user is one line on stderr and the documented exit code."""

import errno
import json
import os
import shutil

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from files import describe_weights, write_series, write_trajectories
from safetensors.torch import load_file, save_file

USAGE, DATA, RUN, DIVERGED, OUTPUT = 2, 3, 4, 5, 7
TINY = ("--hidden", 4, "--context", 4, "--horizon", 2, "--epochs", 1)


def refused(result, code, *parts):
    """One line, the code, and what the line says; no JSON on stdout."""
    assert (result.exit_code, result.stderr.count("\n"), result.stdout) == (code, 1, ""), result.output
    assert result.stderr.startswith("forecast: ")
    for part in parts:
        assert str(part) in result.stderr
    return result


@pytest.fixture
def predicted(forecast, series, series_run, tmp_path):
    assert forecast("rollout", series_run, "--data", series, "-o", tmp_path / "fc.nc").exit_code == 0
    return tmp_path / "fc.nc"


def test_a_run_is_not_overwritten(forecast, series, series_run):
    before = {file: file.read_bytes() for file in series_run.iterdir()}
    refused(forecast("train", series, "-o", series_run, *TINY), OUTPUT, series_run, "--overwrite")
    assert {file: file.read_bytes() for file in series_run.iterdir()} == before


@pytest.mark.parametrize("command", ["rollout", "evaluate", "plot", "simulate"])
def test_a_file_is_not_overwritten(command, forecast, series, series_run, predicted, tmp_path):
    (tmp_path / "kept.png").write_text("kept")
    arguments = {
        "rollout": ("rollout", series_run, "--data", series),
        "evaluate": ("evaluate", predicted, "--truth", series),
        "plot": ("plot", series),
        "simulate": ("simulate", "navier-stokes", "--grid", 16, "--frames", 1),
    }[command]
    refused(forecast(*arguments, "-o", tmp_path / "kept.png"), OUTPUT, "kept.png", "--overwrite")
    assert (tmp_path / "kept.png").read_text() == "kept"


def test_a_folder_that_is_not_there_is_named(forecast, series, series_run, tmp_path):
    refused(forecast("rollout", series_run, "--data", series, "-o", tmp_path / "none" / "fc.nc"), OUTPUT, "mkdir -p")


def damaged(kind, series, folder):
    path = folder / "bad.nc"
    if kind == "truncated":
        path.write_bytes(series.read_bytes()[:4000])
    elif kind == "truncated NetCDF-3":
        with xr.open_dataset(series) as dataset:
            dataset.to_netcdf(path, format="NETCDF3_CLASSIC", encoding={"time": {"dtype": "i4"}})
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind != "absent":
        path.write_text({"empty": "", "text": "time,lat,lon\n"}[kind])
    return path


@pytest.mark.parametrize("kind", ["truncated", "truncated NetCDF-3", "empty", "text", "absent"])
@pytest.mark.parametrize("command", ["train", "rollout", "evaluate", "truth", "plot", "info"])
def test_a_file_that_is_no_data_is_named(command, kind, forecast, series, series_run, predicted, tmp_path):
    bad = damaged(kind, series, tmp_path)
    arguments = {
        "train": ("train", bad, "-o", tmp_path / "run", *TINY),
        "rollout": ("rollout", series_run, "--data", bad, "-o", tmp_path / "new.nc"),
        "evaluate": ("evaluate", bad, "--truth", series),
        "truth": ("evaluate", predicted, "--truth", bad),
        "plot": ("plot", bad, "-o", tmp_path / "p.png"),
        "info": ("info", bad),
    }[command]
    refused(forecast(*arguments), DATA, bad)
    assert {file.name for file in tmp_path.iterdir()} <= {"bad.nc", "fc.nc"}


def corrupt(path, name):
    """Overwrite the compressed bytes of one variable."""
    with h5py.File(path) as file:
        chunk = file[name].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\0" * chunk.size)


@pytest.mark.parametrize("command", ["evaluate", "plot"])
def test_a_forecast_with_damaged_values_is_named(command, forecast, series, predicted, tmp_path):
    corrupt(predicted, "t2m")
    arguments = (
        ("evaluate", predicted, "--truth", series)
        if command == "evaluate"
        else ("plot", predicted, "-o", tmp_path / "p.png")
    )
    refused(forecast(*arguments), DATA, predicted, "damaged")


@pytest.mark.parametrize("command", ["train", "rollout", "evaluate", "plot"])
def test_a_variable_that_is_missing_is_named_with_those_there(
    command, forecast, series, trajectories, series_run, predicted, tmp_path
):
    arguments = {
        "train": ("train", series, "-o", tmp_path / "run", "--variable", "t2n"),
        "rollout": ("rollout", series_run, "--data", trajectories, "-o", tmp_path / "new.nc"),
        "evaluate": ("evaluate", predicted, "--truth", trajectories),
        "plot": ("plot", series, "-o", tmp_path / "p.png", "--variable", "t2n"),
    }[command]
    refused(forecast(*arguments), DATA, "variable", "t2m" if command in ("train", "plot") else "Variables: u")


def test_an_irregular_time_axis_is_placed(forecast, series, tmp_path):
    with xr.open_dataset(series) as dataset:
        dataset.drop_isel(time=20).to_netcdf(tmp_path / "gap.nc")
    refused(
        forecast("train", tmp_path / "gap.nc", "-o", tmp_path / "run", *TINY),
        DATA,
        "2000-01-05T18:00:00",
        "2000-01-06T06:00:00",
        "--select",
    )


def test_a_missing_value_is_placed(forecast, series, tmp_path):
    with xr.open_dataset(series) as dataset:
        dataset["t2m"][{"time": 7, "lat": 1, "lon": 2}] = np.nan
        dataset.to_netcdf(tmp_path / "hole.nc")
    refused(forecast("train", tmp_path / "hole.nc", "-o", tmp_path / "run", *TINY), DATA, "frame 7, row 1, column 2")


def test_too_few_frames_are_counted(forecast, tmp_path, series_run):
    short = write_series(tmp_path / "short.nc", frames=8)
    refused(forecast("train", short, "-o", tmp_path / "run", *TINY), DATA, "context=4 and horizon=2 need 6")
    shorter = write_series(tmp_path / "shorter.nc", frames=3)
    refused(
        forecast("rollout", series_run, "--data", shorter, "-o", tmp_path / "fc.nc"), DATA, "3 frames, but context=4"
    )


@pytest.mark.parametrize("steps", [("--steps", 10), ("--lead-time", "10d")])
def test_a_test_part_too_short_for_the_forecast_is_said(forecast, series, series_run, tmp_path, steps):
    refused(
        forecast("rollout", series_run, "--data", series, "-o", tmp_path / "fc.nc", *steps),
        DATA,
        "test part",
        "--init-time",
    )


def test_a_forecast_that_does_not_overlap_the_truth_is_refused(forecast, predicted, tmp_path):
    later = write_series(tmp_path / "later.nc", start="2005-01-01")
    refused(
        forecast("evaluate", predicted, "--truth", later, "-o", tmp_path / "s.nc"),
        DATA,
        later,
        "2000-01-13",
        "does not overlap",
    )
    assert not (tmp_path / "s.nc").exists()


def test_a_file_that_is_no_forecast_is_refused(forecast, series):
    refused(forecast("evaluate", series, "--truth", series), DATA, series, "not a forecast")


OTHER_DATA = {
    "grid": (lambda data: data.isel(lat=slice(4)), "the grid is 4 x 8, but the model was trained on 6 x 8"),
    "place": (lambda data: data.assign_coords(lon=data["lon"] + 90), "'lon'"),
    "direction": (lambda data: data.isel(lat=slice(None, None, -1)), "'lat'"),
    "time step": (
        lambda data: data.isel(time=slice(None, None, 2)),
        "the time step is 12 hours, but the model was trained on 6 hours",
    ),
    "units": (lambda data: data.assign(t2m=data["t2m"].assign_attrs(units="degC")), "the unit of 't2m' is 'degC'"),
}


@pytest.mark.parametrize("other", OTHER_DATA)
def test_data_unlike_those_of_the_training_are_refused(other, forecast, series, series_run, tmp_path):
    change, message = OTHER_DATA[other]
    with xr.open_dataset(series) as dataset:
        changed = change(dataset)
        for coordinate in ("lat", "lon"):
            changed[coordinate].attrs = dataset[coordinate].attrs
        changed.to_netcdf(tmp_path / "other.nc")
    refused(forecast("rollout", series_run, "--data", tmp_path / "other.nc", "-o", tmp_path / "fc.nc"), RUN, message)


def described_as(run, **changes):
    content = json.loads((run / "model.json").read_text())
    content["config"]["model"] |= changes
    describe_weights(run, json.dumps(content))


DAMAGES = {
    "no run": (shutil.rmtree, "no such run directory"),
    "broken description": (lambda run: describe_weights(run, '{"format": 3'), "damaged"),
    "another format": (lambda run: describe_weights(run, '{"format": 99}'), "another version"),
    "incomplete description": (lambda run: describe_weights(run, '{"format": 3}'), "another version"),
    "weights of somebody else": (
        lambda run: save_file({"w": torch.zeros(2)}, run / "model.safetensors"),
        "not written by",
    ),
    "no weights": (lambda run: (run / "model.safetensors").unlink(), "model.safetensors"),
    "truncated weights": (
        lambda run: (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:500]),
        "damaged",
    ),
    "no tensors": (lambda run: (run / "model.safetensors").write_text("weights"), "damaged"),
    "another model": (lambda run: described_as(run, name="convlstm"), "another model"),
    "another size": (lambda run: described_as(run, hidden=[5]), "another model"),
    "an unknown model": (lambda run: described_as(run, name="oracle"), "oracle"),
    "an unknown option": (lambda run: described_as(run, depth=3), "another version"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_that_is_damaged_or_of_another_model_is_refused(damage, forecast, series, series_run, tmp_path):
    run = shutil.copytree(series_run, tmp_path / "run")
    change, message = DAMAGES[damage]
    change(run)
    refused(forecast("rollout", run, "--data", series, "-o", tmp_path / "fc.nc"), RUN, run, message)
    assert not (tmp_path / "fc.nc").exists()


@pytest.mark.parametrize("resume", ["auto", "must"])
def test_a_run_of_other_settings_is_not_continued(forecast, series, series_run, resume):
    result = forecast("train", series, "-o", series_run, *TINY, "--hidden", 5, "--resume", resume)
    refused(result, RUN, "model.hidden: (4,) -> (5,)")


def test_weights_of_another_model_are_no_start(forecast, trajectories, series_run, tmp_path):
    refused(
        forecast("train", trajectories, "-o", tmp_path / "run", *TINY, "--model", "convgru", "--init-from", series_run),
        RUN,
        series_run,
    )


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--model", "minconvlst"), ("minconvlstm", "convgru")),
        (("--preset", "geopotentail"), ("did you mean geopotential?",)),
        (("--set", "training.epoch=3"), ("did you mean training.epochs?",)),
        (("--set", "model.boundary=round"), ("'circular'",)),
        (("--device", "tpu"), ("cpu", "cuda")),
        (("--device", "cuda:99"), ("not present",)),
        (("--resume", "maybe"), ("never, auto or must",)),
        (("--epochs", 0), ("training.epochs",)),
        (("--split", "0.9,0.9,0"), ("--split",)),
        (("--split-along", "sample"), ("sample",)),
        (("--select", "level"), ("NAME=VALUE",)),
        (("--config", "none.toml"), ("none.toml",)),
    ],
)
def test_train_names_what_it_does_not_know(options, parts, forecast, series, tmp_path):
    refused(forecast("train", series, "-o", tmp_path / "run", *TINY, *options), USAGE, *parts)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_scan_backend_is_named_with_those_known(forecast, series, tmp_path):
    result = forecast("train", series, "-o", tmp_path / "run", *TINY, "--set", "model.scan=warp")
    refused(result, USAGE, "model.scan", "sequential", "log_space", "fused")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--init-time", "2000-13-45"), "2000-13-45"),
        (("--init-time", "2000-01-05T01"), "every 6 hours"),
        (("--lead-time", "7h"), "whole number"),
        (("--lead-time", "soon"), "soon"),
        (("--steps", 2, "--lead-time", "1d"), "give one"),
        (("--steps", 0), "--steps 0"),
        (("--init-every", 0), "--init-every 0"),
        (("--batch-size", 0), "--batch-size 0"),
        (("--device", "tpu"), "--device tpu"),
    ],
)
def test_rollout_names_what_it_cannot_do(options, part, forecast, series, series_run, tmp_path):
    refused(forecast("rollout", series_run, "--data", series, "-o", tmp_path / "fc.nc", *options), USAGE, part)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--metric", "rsme"), "did you mean rmse?"),
        (("--baseline", "persistance"), "persistence:N"),
        (("--label", "a,b"), "2 names for 1 forecasts"),
        (("--label", "persistence", "--baseline", "persistence"), "--label"),
    ],
)
def test_evaluate_names_what_it_does_not_know(options, part, forecast, series, predicted):
    refused(forecast("evaluate", predicted, "--truth", series, *options), USAGE, part)


@pytest.mark.parametrize("options", [("--dtype", "float16"), ("--samples", 0), ("--coarsen", 3), ("--device", "tpu")])
def test_simulate_names_what_it_cannot_do(options, forecast, tmp_path):
    refused(
        forecast("simulate", "navier-stokes", "-o", tmp_path / "ns.nc", "--grid", 16, "--frames", 1, *options),
        USAGE,
        options[0],
    )
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_diverges_is_stopped(forecast, series, tmp_path):
    options = ("--learning-rate", 1e30, "--set", "training.clip=0")
    refused(forecast("train", series, "-o", tmp_path / "run", *TINY, *options), DIVERGED, "training.learning_rate")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_forecast_that_diverges_leaves_no_file(forecast, series, series_run, tmp_path, monkeypatch):
    from forecast_cli import rollout

    blocks = rollout.forecast_blocks
    monkeypatch.setattr(rollout, "BLOCK_BYTES", 1)
    monkeypatch.setattr(
        rollout,
        "forecast_blocks",
        lambda *given, **inputs: (
            block._replace(fields=block.fields * (1 if i < 3 else np.inf))
            for i, block in enumerate(blocks(*given, **inputs))
        ),
    )
    refused(
        forecast("rollout", series_run, "--data", series, "-o", tmp_path / "fc.nc", "--steps", 5),
        DIVERGED,
        "at step 4 of 5",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_running_out_of_memory_says_what_to_lower(forecast, series, tmp_path, monkeypatch, error):
    from forecast_cli import trainer

    def train(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(trainer, "train", train)
    refused(forecast("train", series, "-o", tmp_path / "run"), 8, "out of memory. Lower --batch-size")


def test_trajectories_take_one_start(forecast, tmp_path, trajectory_run):
    data = write_trajectories(tmp_path / "d.nc")
    result = forecast(
        "rollout", trajectory_run, "--data", data, "-o", tmp_path / "fc.nc", "--init-time", 2, "--init-time", 3
    )
    refused(result, USAGE, "one start")


def test_a_start_needs_its_context(forecast, series, series_run, tmp_path):
    result = forecast("rollout", series_run, "--data", series, "-o", tmp_path / "fc.nc", "--init-time", "2000-01-01T06")
    refused(result, DATA, "context=4")


def test_a_bug_is_not_hidden(forecast, series, monkeypatch):
    monkeypatch.setattr("forecast_cli.data.summaries.summarize", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        forecast("info", series)


def test_a_message_is_one_line_whatever_a_name_holds(forecast):
    refused(forecast("info", "no\nsuch\x1b[31m.nc"), DATA, r"no\nsuch\x1b[31m.nc")


@pytest.mark.parametrize("seed", [-1, 2**63])
@pytest.mark.parametrize("command", ["train", "evaluate", "invert-topography", "navier-stokes", "burgers"])
def test_a_seed_that_no_generator_takes_is_refused(command, seed, forecast, series, predicted, tmp_path):
    arguments = {
        "train": ("train", series),
        "evaluate": ("evaluate", predicted, "--truth", series),
        "invert-topography": ("invert-topography", series),
    }.get(command, ("simulate", command))
    refused(forecast(*arguments, "--seed", seed, "-o", tmp_path / "new"), USAGE, "--seed", seed, "0 to 2^63 - 1")


def test_weights_that_are_no_numbers_are_not_saved(forecast, trajectories, tmp_path):
    """Without validation no loss has seen the weights after the last step."""
    options = ("--split", "1,0,0", "--epochs", 1, "--hidden", 4, "--set", "training.learning_rate=1e300")
    result = forecast("train", trajectories, "-o", tmp_path / "run", *options)
    refused(result, DIVERGED, "training.learning_rate")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_what_is_asked_for_twice_is_given_once(forecast, series, predicted, tmp_path):
    result = forecast("train", series, "-o", tmp_path / "run", *TINY, "--variable", "t2m,t2m")
    assert result.exit_code == 0, result.output
    once, twice = (
        forecast("evaluate", predicted, "--truth", series, "--metric", m, "--json") for m in ("acc", "acc,acc")
    )
    assert (twice.exit_code, twice.stdout) == (0, once.stdout)


@pytest.mark.parametrize("command", ["info", "train"])
def test_a_file_that_is_given_twice_is_refused(command, forecast, series, tmp_path):
    """Two files with the same times would pass for two trajectories."""
    refused(
        forecast(command, series, series, *(("-o", tmp_path / "run") if command == "train" else ())),
        DATA,
        series,
        "given twice",
    )


def test_a_coordinate_may_be_a_mask(forecast, series, tmp_path):
    result = forecast("train", series, "-o", tmp_path / "run", *TINY, "--mask", "lat=48")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("command", ["plot", "info"])
def test_a_sea_bed_that_lacks_something_is_named(command, forecast, tmp_path):
    bed = tmp_path / "bed.nc"
    xr.Dataset({"depth": (("y", "x"), np.ones((3, 4)))}, attrs={"forecast_kind": "topography"}).to_netcdf(bed)
    refused(
        forecast(command, bed, *(("-o", tmp_path / "p.png") if command == "plot" else ())),
        DATA,
        bed,
        "damaged, or written by another",
    )


def test_a_training_state_that_would_execute_something_is_refused(forecast, series, series_run, tmp_path):
    class Malicious:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    run = shutil.copytree(series_run, tmp_path / "run")
    torch.save({"format": 1, "bad": Malicious()}, run / "last.ckpt")
    refused(forecast("train", series, "-o", run, *TINY, "--epochs", 3, "--resume", "must"), RUN, "last.ckpt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("command", ["rollout", "info"])
def test_weights_with_a_header_that_claims_to_be_huge_are_refused(command, forecast, series, series_run, tmp_path):
    run = shutil.copytree(series_run, tmp_path / "run")
    content = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + content[8:])
    arguments = ("rollout", run, "--data", series, "-o", tmp_path / "fc.nc") if command == "rollout" else ("info", run)
    refused(forecast(*arguments), RUN, "model.safetensors", "header")


def test_an_infinite_truth_is_refused(forecast, series, predicted, tmp_path):
    with xr.open_dataset(series) as dataset:
        dataset["t2m"][:, 1, 2] = np.inf
        dataset.to_netcdf(tmp_path / "truth.nc")
    refused(forecast("evaluate", predicted, "--truth", tmp_path / "truth.nc"), DATA, "truth.nc", "infinite")


def test_metrics_without_their_columns_are_refused(forecast, series_run, tmp_path):
    run = shutil.copytree(series_run, tmp_path / "run")
    (run / "metrics.csv").write_text((run / "metrics.csv").read_text().replace("epoch", "epo\x00h", 1))
    refused(forecast("plot", run, "-o", tmp_path / "p.png"), RUN, "metrics.csv", "no column epoch")


@pytest.mark.parametrize("change", ["lost", "beyond all calendars"])
@pytest.mark.parametrize("command", ["evaluate", "plot", "info"])
def test_a_forecast_whose_times_are_damaged_is_named(command, change, forecast, series, predicted, tmp_path):
    with h5py.File(predicted, "r+") as file:
        if change == "lost":
            del file["valid_time"]
        else:
            file["valid_time"][0, 0] = 1e300
    arguments = {"evaluate": ("--truth", series), "plot": ("-o", tmp_path / "p.png"), "info": ()}[command]
    refused(forecast(command, predicted, *arguments), DATA, predicted)


def files_below(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def place(series, series_run, predicted, tmp_path):
    """Copies of data, a run and a forecast, which a command could destroy, with links to the data."""
    assert predicted == tmp_path / "fc.nc"
    shutil.copy(series, tmp_path / "t.nc")
    shutil.copytree(series_run, tmp_path / "run")
    (tmp_path / "link.nc").symlink_to("t.nc")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "config.toml").write_text("")
    shutil.copy(series, tmp_path / "inside" / "t.nc")
    (tmp_path / "settings.toml").write_text("[training]\nepochs = 1\n")
    xr.Dataset({"mask": (("lat", "lon"), np.ones((6, 8)))}).to_netcdf(tmp_path / "m.nc")
    return tmp_path


DESTRUCTIVE = {
    "train over its data": ("train", "t.nc", "-o", "t.nc"),
    "train over its folder": ("train", "inside/t.nc", "-o", "inside", "--overwrite"),
    "train over its folder again": ("train", "inside/t.nc", "-o", "inside/../inside", "--resume", "auto"),
    "train over its first weights": ("train", "t.nc", "--init-from", "run", "-o", "run", "--overwrite"),
    "train over its mask": ("train", "t.nc", "--mask", "m.nc:mask=1", "-o", "m.nc", "--overwrite"),
    "train over its settings": ("train", "t.nc", "--config", "run/config.toml", "-o", "run", "--overwrite"),
    "train over its copies": ("train", "t.nc", "--stage-to", "run/copies", "-o", "run", "--overwrite"),
    "rollout over its data": ("rollout", "run", "--data", "t.nc", "-o", "t.nc"),
    "rollout over a link": ("rollout", "run", "--data", "t.nc", "-o", "link.nc"),
    "rollout through a link": ("rollout", "run", "--data", "link.nc", "-o", "inside/../t.nc", "--resume", "auto"),
    "rollout over weights": ("rollout", "run", "--data", "t.nc", "-o", "run/model.safetensors"),
    "rollout over a file to be read later": ("rollout", "run", "--data", "t.nc", "-o", "run/closures.nc"),
    "rollout over its mask": ("rollout", "run", "--data", "t.nc", "--mask", "m.nc:mask", "-o", "m.nc"),
    "evaluate over its forecast": ("evaluate", "fc.nc", "--truth", "t.nc", "-o", "fc.nc", "--json"),
    "evaluate over its truth": ("evaluate", "fc.nc", "--truth", "*.nc", "-o", "t.nc"),
    "evaluate over a region": ("evaluate", "fc.nc", "--truth", "t.nc", "--region", "a=m.nc:mask", "-o", "m.nc"),
    "plot over its file": ("plot", "fc.nc", "-o", "fc.nc"),
    "plot over its truth": ("plot", "fc.nc", "--truth", "t.nc", "-o", "t.nc"),
    "plot over metrics": ("plot", "run", "-o", "run/metrics.csv"),
    "simulate over its sea bed": ("simulate", "shallow-water", "--topography", "m.nc:mask", "-o", "m.nc"),
}


@pytest.mark.parametrize("command", DESTRUCTIVE.values(), ids=list(DESTRUCTIVE))
def test_no_command_writes_over_what_it_reads(command, forecast, place, monkeypatch):
    monkeypatch.chdir(place)
    before = files_below(place)
    overwrite = () if "--overwrite" in command else ("--overwrite",)
    refused(forecast(*command, *overwrite), OUTPUT)
    assert files_below(place) == before


def test_a_forecast_may_lie_in_its_run_and_be_replaced_there(forecast, place):
    command = ("rollout", place / "run", "--data", place / "t.nc", "-o", place / "run" / "fc.nc")
    assert forecast(*command).exit_code == 0
    assert forecast(*command, "--overwrite").exit_code == 0


def test_a_training_may_resume_with_the_configuration_of_its_run(forecast, series, place):
    run = place / "run"
    result = forecast("train", series, "--config", run / "config.toml", "-o", run, "--resume", "auto")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("options", [(), ("--overwrite",), ("--resume", "auto"), ("--dry-run",)])
@pytest.mark.parametrize("name", ["m.nc", "m.nc/run"])
def test_a_run_directory_does_not_take_the_place_of_a_file(name, options, forecast, place):
    before = files_below(place)
    refused(forecast("train", place / "t.nc", "-o", place / name, *TINY, *options), OUTPUT, "m.nc", "is a file")
    assert files_below(place) == before


@pytest.mark.parametrize("command", ["rollout", "evaluate", "plot", "simulate"])
@pytest.mark.parametrize(
    ("name", "part"),
    [("m.nc/out.png", "m.nc is a file, not a folder"), ("inside", "is a folder"), ("/dev/null", "is a device")],
)
def test_a_file_does_not_take_the_place_of_a_folder_or_device(command, name, part, forecast, place):
    arguments = {
        "rollout": ("rollout", place / "run", "--data", place / "t.nc"),
        "evaluate": ("evaluate", place / "fc.nc", "--truth", place / "t.nc"),
        "plot": ("plot", place / "fc.nc"),
        "simulate": ("simulate", "burgers", "--grid", 16, "--frames", 2),
    }[command]
    refused(forecast(*arguments, "-o", place / name, "--overwrite"), OUTPUT, part)


def test_a_zarr_store_does_not_take_the_place_of_a_file(forecast, place):
    (place / "f.zarr").write_text("kept")
    command = ("rollout", place / "run", "--data", place / "t.nc", "-o", place / "f.zarr", "--overwrite")
    refused(forecast(*command), OUTPUT, "f.zarr exists and is a file; expected a Zarr store")
    assert (place / "f.zarr").read_text() == "kept"


def test_a_run_directory_behind_a_link_is_replaced_there(forecast, place):
    (place / "linked").symlink_to("run")
    assert forecast("train", place / "t.nc", "-o", place / "linked", *TINY, "--overwrite").exit_code == 0
    assert (place / "linked").is_symlink()
    assert (place / "run" / "model.safetensors").exists()


def test_a_picture_that_cannot_be_written_is_not_blamed_on_the_scores(
    forecast, predicted, series, tmp_path, monkeypatch
):
    """A read-only disk refuses to remove a file that is not there, too."""
    assert forecast("evaluate", predicted, "--truth", series, "-o", tmp_path / "s.nc").exit_code == 0

    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), ".partial-a.png")

    monkeypatch.setattr("forecast_cli.plots.style.Figure.savefig", read_only)
    monkeypatch.setattr(type(tmp_path), "unlink", read_only)
    result = forecast("plot", tmp_path / "s.nc", "-o", tmp_path / "a.png")
    refused(result, OUTPUT, "a.png: cannot be written (Read-only file system)")


def test_scores_that_cannot_be_written_are_one_line(forecast, predicted, series, tmp_path, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("forecast_cli.data.output.NetCDFWriter._open", read_only)
    monkeypatch.setattr(type(tmp_path), "unlink", read_only)
    result = forecast("evaluate", predicted, "--truth", series, "-o", tmp_path / "s.nc", "-q")
    refused(result, OUTPUT, "s.nc: cannot be written (Read-only file system)")


def test_a_file_that_is_missing_is_named_before_its_kind_is_judged(forecast, series, tmp_path):
    result = forecast("plot", tmp_path / "none.nc", "--truth", series, "-o", tmp_path / "a.png")
    refused(result, DATA, "none.nc: cannot be read (No such file or directory)")


def test_a_record_within_the_training_part_says_so_and_how_to_forecast_there(forecast, series, series_run, tmp_path):
    """Training takes frames 0 to 41, six hours apart, validation 42 to 50."""
    command = ("rollout", series_run, "--data", series, "--steps", 3, "-o", tmp_path / "f.nc", "--select")
    inside = (*command, "time=2000-01-01:2000-01-05")
    refused(
        forecast(*inside), DATA, "all 20 frames (2000-01-01T00:00:00 to 2000-01-05T18:00:00) were used in training:"
    )
    both = (*command, "time=2000-01-10:2000-01-12")
    refused(forecast(*both), DATA, "were used in training and validation:", "--init-time")
    assert forecast(*inside, "--init-time", "2000-01-02").exit_code == 0


def test_a_mask_for_a_run_trained_without_one_is_refused(forecast, place):
    command = ("rollout", place / "run", "--data", place / "t.nc", "--mask", f"{place}/m.nc:mask", "-o", place / "f.nc")
    refused(forecast(*command), RUN, "trained without --mask")


def test_the_help_of_a_mask_names_only_options_that_the_command_has(forecast):
    for command in ("train", "rollout", "invert-topography"):
        text = forecast(command, "--help").stdout
        assert ("--nan mask" not in text) or "--nan " in text.replace("--nan mask", "")


@pytest.mark.parametrize("change", ["order", "unit", "name"])
def test_weights_for_other_variables_are_no_start(change, forecast, tmp_path):
    data = xr.open_dataset(write_series(tmp_path / "one.nc")).load()
    data["q"] = (data.t2m * 1e-3).assign_attrs(units="kg kg-1")
    data.to_netcdf(tmp_path / "two.nc")
    assert forecast("train", tmp_path / "two.nc", "--variable", "t2m,q", "-o", tmp_path / "a", *TINY).exit_code == 0
    options = ("--init-from", tmp_path / "a", "-o", tmp_path / "b", *TINY)
    if change == "order":
        refused(forecast("train", tmp_path / "two.nc", "--variable", "q,t2m", *options), RUN, "--variable t2m,q")
        return
    data["q"].attrs["units"] = "g kg-1"
    (data if change == "unit" else data.drop_vars("q")).to_netcdf(tmp_path / "other.nc")
    refused(forecast("train", tmp_path / "other.nc", *options), RUN, "q")


def test_variables_of_another_order_are_matched_by_name_and_the_statistics_are_named(forecast, tmp_path):
    data = xr.open_dataset(write_series(tmp_path / "one.nc")).load()
    data["q"] = (data.t2m * 1e-3).assign_attrs(units="kg kg-1")
    data.to_netcdf(tmp_path / "two.nc")
    assert forecast("train", tmp_path / "two.nc", "--variable", "q,t2m", "-o", tmp_path / "a", *TINY).exit_code == 0
    result = forecast("train", tmp_path / "two.nc", "--init-from", tmp_path / "a", "-o", tmp_path / "b", *TINY)
    assert result.exit_code == 0
    assert f"normalization statistics (mean, scale) of {tmp_path / 'a'}" in result.stderr
    first, second = (load_file(tmp_path / run / "model.safetensors") for run in "ab")
    assert torch.equal(first["mean"], second["mean"])
    assert 0.2 < first["mean"][0] < 0.4 < 200 < first["mean"][1]
