"""A plan is questioned where its sizes are likely slips, and not where they are ordinary."""

import pytest

from forecast_cli.config import load_config
from forecast_cli.data.fields import open_fields
from forecast_cli.plan_warnings import size_warnings

TINY = {"model.hidden": "2x16", "data.context": 4, "data.horizon": 2}


def warnings_of(path, **options):
    """The warnings of a small plan; `series` has 42 training frames, 37 windows of 6."""
    given = TINY | {key.replace("__", "."): value for key, value in options.items()}
    return size_warnings(load_config(options=given), open_fields([str(path)]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model__hidden": "4x40"},
        {"model__hidden": "16x16"},
        {"model__hidden": "7x3"},
        {"model__hidden": "5,4"},
        {"model__hidden": "8,8,8,4096"},
        {"training__batch_size": 37},
        {"training__optimizer": "lbfgs", "training__batch_size": 999},
        {"data__context": 1, "data__horizon": 0},
        {"data__context": 19, "data__horizon": 2, "data__split": "42,0,18"},
        {"model__name": "var", "model__hidden": "32x3"},
    ],
)
def test_ordinary_sizes_are_not_questioned(options, series):
    assert warnings_of(series, **options) == []


@pytest.mark.parametrize(("hidden", "meant"), [("32x3", "3x32"), ("8x4", "4x8"), ("64x2", "2x64")])
def test_more_layers_than_channels_are_taken_for_swapped_numbers(hidden, meant, series):
    (text,) = warnings_of(series, model__hidden=hidden)
    assert text.startswith(f"--hidden {hidden} is ")
    assert text.endswith(f"are --hidden {meant}. Is that intended?")


@pytest.mark.parametrize(
    ("hidden", "text"),
    [
        ("100000", "--hidden 100000 is a layer of 100,000 channels"),
        ("65x65", "65 layers of 65"),
        ("32,4097", "2 layers of up to 4,097"),
    ],
)
def test_layers_beyond_all_published_ones_are_questioned(hidden, text, series):
    assert text in warnings_of(series, model__hidden=hidden)[0]


@pytest.mark.parametrize(
    "options", [{"training__batch_size": 38}, {"training__batch_size": 19, "training__accumulate": 2}]
)
def test_a_step_of_more_windows_than_there_are_is_questioned(options, series):
    assert "a step takes 38 windows, but there are 37" in warnings_of(series, **options)[0]


def test_the_default_batch_of_few_trajectories_is_not_questioned(trajectories):
    assert warnings_of(trajectories, data__split="2,1,3") == []


def test_windows_longer_than_half_the_training_part_are_questioned(series):
    (text,) = warnings_of(series, data__context=20, data__horizon=2, data__split="42,0,18")
    assert "42 frames and a window 22" in text


def test_a_patch_larger_than_the_grid_is_questioned(series):
    assert "model.patch = 9 is larger than the grid of 6 x 8" in warnings_of(series, model__patch=9)[0]
    assert warnings_of(series, model__patch=8) == []


def test_a_range_that_leaves_the_record_is_questioned(series):
    (text,) = warnings_of(series, data__split="2000-01-01:2000-01-10,2000-01-11:2003")
    assert text.startswith("--split 2000-01-11:2003: the record ends earlier, at 2000-01-15T18:00:00")


def test_a_training_prints_and_logs_what_is_questioned_as_a_dry_run_does(forecast, series, tmp_path):
    command = (
        "train",
        series,
        "-o",
        tmp_path / "run",
        "--hidden",
        "9x2",
        "--context",
        4,
        "--horizon",
        2,
        "--epochs",
        1,
    )
    assert "warning: --hidden 9x2 is 9 layers of 2 channels" in forecast(*command, "--dry-run").stderr
    assert "warning: --hidden 9x2 is 9 layers of 2 channels" in forecast(*command).stderr
    assert 'WARNING sizes text="--hidden 9x2' in (tmp_path / "run" / "train.log").read_text()
