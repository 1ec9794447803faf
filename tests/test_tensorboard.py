"""Curves for TensorBoard are those of metrics.csv, through stops and kills."""

import csv

import pytest
from test_trainer import CPU, Silent, config_for, trained

from forecast_cli import checkpoint, trainer
from forecast_cli.data.fields import open_fields
from forecast_cli.trainer import tensorboard

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def curves(run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}


def go_on(path, run, epochs):
    config = config_for(path, training__epochs=epochs)
    options = {"device": CPU, "reporter": Silent(), "resume": "auto", "tensorboard": True}
    trainer.train(config, open_fields([str(path)]), run, **options)


def test_a_resumed_run_has_every_epoch_once(series, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    go_on(series, run, 2)
    with monkeypatch.context() as killed:  # after the state of epoch 3 was written, before its events
        killed.setattr(tensorboard.TensorBoard, "epoch", lambda *_: None)
        go_on(series, run, 3)
    go_on(series, run, 4)
    assert checkpoint.is_run(run)
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    found = curves(run)
    assert set(found) == set(rows[0]) - {"epoch"}
    for name, curve in found.items():
        assert curve == [(epoch, pytest.approx(float(row[name]))) for epoch, row in enumerate(rows, start=1)]


def test_without_the_package_nothing_is_begun(forecast, series, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    result = forecast("train", series, "-o", tmp_path / "run", "--tensorboard")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "pip install 'forecast_cli[tensorboard]'" in result.stderr
    assert not (tmp_path / "run").exists()


def test_nothing_is_written_for_tensorboard_unasked(series, tmp_path):
    assert not (trained(series, tmp_path / "run", training__epochs=1) / "tensorboard").exists()
