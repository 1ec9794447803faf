"""`forecast train --report-activations` tells what the saved model does on the windows that it was validated on."""

import json
from dataclasses import asdict

import pytest
import torch

from forecast_cli.activity import activity
from forecast_cli.checkpoint import load_model, save_model
from forecast_cli.data.fields import open_fields
from forecast_cli.models.activations import activation_report
from forecast_cli.planning import prepare

TINY = ("--hidden", "4,4", "--context", 4, "--horizon", 2, "--epochs", 1, "--set", "model.mlp=2")


@pytest.mark.parametrize("split", ["0.7,0.3,0", "0.9,0,0.1"])
def test_the_report_is_of_the_best_model_on_all_windows_at_once(split, forecast, series, tmp_path):
    """On the training part where there is nothing to validate."""
    options = (*TINY, "--set", "model.activation=relu", "--split", split, "--report-activations")
    result = forecast("train", series, "-o", tmp_path / "run", *options, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["activations"]
    assert [row["name"] for row in told] == ["blocks.0.mlp.1", "blocks.1.mlp.1"]
    assert result.stderr.count("of 8 channels dead") == 2

    saved = load_model(tmp_path / "run")
    prepared = prepare(saved.config, open_fields([str(series)]))
    windows = prepared.validation if len(prepared.validation) else prepared.training
    frames = windows.batch(range(len(windows))).frames
    assert told == [asdict(row) for row in activation_report(saved.model, (frames[:, :4], 2))]


def test_dead_units_of_a_trained_model_are_seen(forecast, series, tmp_path):
    run = tmp_path / "run"
    assert forecast("train", series, "-o", run, *TINY, "--set", "model.activation=sugar-nelu").exit_code == 0
    saved = load_model(run)
    with torch.no_grad():
        saved.model.blocks[1].mlp[0].weight[:3] = 0
        saved.model.blocks[1].mlp[0].bias[:3] = -1
    save_model(run, saved.model, saved.config, parts=saved.parts, epoch=1)
    rows = activity(run, saved.config, open_fields([str(series)]), torch.device("cpu"))
    assert rows[1].dead_channels >= 3
    assert rows[1].dead_units >= 3 * rows[1].units // 8


def test_a_model_without_activations_says_so(forecast, series, tmp_path):
    result = forecast("train", series, "-o", tmp_path / "run", *TINY[:-2], "--report-activations")
    assert result.exit_code == 0, result.output
    assert "minconvlstm has none to report of" in result.stderr


@pytest.mark.parametrize(("name", "named"), [("rleu", "expected auto, relu"), ("sugar-nelu:x", "number")])
def test_an_unknown_activation_is_one_line(name, named, forecast, series, tmp_path):
    result = forecast("train", series, "-o", tmp_path / "run", *TINY, "--set", f"model.activation={name}")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert named in result.stderr
    assert not (tmp_path / "run").exists()
