"""`forecast info` on what `forecast` made."""

import json

import pytest


@pytest.fixture
def made(forecast, series, series_run, tmp_path):
    """A run, a forecast of it, and scores of that."""
    fc, scores = tmp_path / "fc.nc", tmp_path / "scores.nc"
    assert forecast("rollout", series_run, "--data", series, "-o", fc, "--steps", 3).exit_code == 0
    options = ("--baseline", "persistence", "--bootstrap", 20, "--block", 2)
    assert forecast("evaluate", fc, "--truth", series, "-o", scores, *options).exit_code == 0
    return {"run": series_run, "forecast": fc, "scores": scores}


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (
            "run",
            {
                "model": "minconvlstm, ",
                "training": "2000-01-01T00:00:00 to ",
                "epochs": "2 of 2, best ",
                "best": "training_loss ",
            },
        ),
        (
            "forecast",
            {
                "model": "minconvlstm, epoch ",
                "made by": "forecast_cli ",
                "lead times": "3, 6 to 18 hours",
                "context": "4 true",
            },
        ),
        (
            "scores",
            {"models": "minconvlstm, persistence", "metrics": "rmse", "intervals": "95 %, 20 draws of blocks of 2"},
        ),
    ],
)
def test_what_made_a_file_is_told(kind, told, made, forecast):
    result = forecast("info", made[kind], "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["kind"] == kind
    assert {key: found[key][: len(words)] for key, words in told.items()} == told
    plain = forecast("info", made[kind])
    assert all(words in plain.stderr for words in told.values())


def test_weights_of_run_and_forecast_are_the_same(made, forecast):
    weights = [json.loads(forecast("info", made[kind], "--json").stdout)["weights"] for kind in ("run", "forecast")]
    assert weights[0] == weights[1]
    assert len(weights[0]) == 64


def test_a_run_that_has_not_finished_an_epoch_is_one_line(forecast, tmp_path):
    (tmp_path / "config.toml").write_text("")
    result = forecast("info", tmp_path)
    assert (result.exit_code, result.stderr.count("\n")) == (4, 1)
    assert "has an epoch finished?" in result.stderr


@pytest.mark.parametrize("kind", ["forecast", "scores"])
def test_half_a_file_is_one_line(kind, made, forecast):
    made[kind].write_bytes(made[kind].read_bytes()[:3000])
    result = forecast("info", made[kind])
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
