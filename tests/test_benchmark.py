"""What is measured is the same work: equal weights, outputs and gradients; and what is told of it is what was measured."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from forecast_cli import native
from forecast_cli.benchmark import BENCHMARKS, Settings
from forecast_cli.benchmark.first_order import first_order_frames
from forecast_cli.benchmark.steps import SIZES, model_of, optimisation
from forecast_cli.benchmark.timing import in_turns, peak_mib, threads
from forecast_cli.config import TrainingConfig
from forecast_cli.equations.navier_stokes import NavierStokes, random_vorticity
from forecast_cli.errors import ConfigError
from forecast_cli.models.activations import ACTIVATIONS
from forecast_cli.scan.native import is_available
from forecast_cli.trainer import make_optimizer

SMALL = {"grid": 8, "hidden": (6, 6), "lengths": ((4, 2),), "repetitions": 2}
MINIMAL = [name for name in SIZES if name.startswith("min")]


def gradients(model, frames):
    optimizer = make_optimizer(list(model.parameters()), TrainingConfig(), torch.device("cpu"))
    loss = optimisation(model, optimizer, frames, 4)
    return loss, [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("name", MINIMAL)
def test_the_published_arrangement_is_the_same_function(name):
    """Three gates, cells of a channel together, log space: loss and every gradient to the rounding of log space in float32."""
    settings, frames = Settings(**SMALL), torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    loss, mine = gradients(model_of(name, "auto", settings), frames)
    other, published = gradients(model_of(name, "log_space", settings), frames)
    assert_close(loss, other, rtol=1e-5, atol=0)
    for a, b in zip(mine, published, strict=True):
        assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", SIZES)
def test_models_to_compare_have_equal_budgets(name):
    assert sum(p.numel() for p in model_of(name, "auto", Settings()).parameters()) == pytest.approx(177_000, rel=0.04)


@pytest.mark.parametrize("what", ["train-step", "rollout", "scan"])
def test_a_row_for_every_case(what):
    rows = BENCHMARKS[what](Settings(models=("minconvgru",), scans=("auto", "fused"), threads=(1, 2), **SMALL))
    assert {(row.scan, row.threads) for row in rows} == {(s, t) for s in ("auto", "fused") for t in (1, 2)}
    for row in rows:
        assert row.benchmark == what
        assert 0 < row.low_ms <= row.median_ms <= row.high_ms
        assert what == "scan" or row.floor_ms > 0.01  # all convolutions are seen, also without gradients
        assert what != "scan" or row.error < 1e-5


def test_activations_stand_beside_relu_and_keep_one_tensor():
    """Each of 2 x 4 frames of 6 channels of 8 x 8 cells, in float32: 12 KiB."""
    names = ("gelu", "sugar-bsilu", "sugar-nelu:0.1", "sugar-mish")
    rows = BENCHMARKS["activations"](Settings(models=names, batch=2, **SMALL))
    assert [row.model for row in rows] == list(names)
    for row in rows:
        assert 0 < row.low_ms <= row.median_ms <= row.high_ms
        assert row.kept_mib == 2 * 4 * 6 * 8 * 8 * 4 / 2**20
    assert len({row.floor_ms for row in rows}) == 1
    assert [row.model for row in BENCHMARKS["activations"](Settings(**SMALL))] == list(ACTIVATIONS)


def test_epochs_are_told_beside_their_steps_however_windows_come():
    rows = BENCHMARKS["epoch"](Settings(models=("minconvgru",), **SMALL))
    assert [row.model for row in rows] == ["minconvgru held", "minconvgru read", "minconvgru read by a process"]
    for row in rows:
        assert 0.2 < row.median_ms / row.floor_ms < 50  # the same steps, on a machine that others use too


def test_a_model_without_a_scan_is_one_case():
    rows = BENCHMARKS["train-step"](
        Settings(models=("convgru",), scans=("auto", "fused"), precisions=("32", "bf16"), **SMALL)
    )
    assert [(row.scan, row.precision) for row in rows] == [("-", "32"), ("-", "bf16")]


def test_every_round_runs_every_case():
    seen = []
    times = in_turns({name: lambda name=name: seen.append(name) for name in "ab"}, repetitions=3)
    assert seen == ["a", "b"] * 5
    assert {name: len(found) for name, found in times.items()} == {"a": 3, "b": 3}


def test_memory_is_what_a_case_takes():
    """64 MiB, and little else."""
    found = peak_mib(lambda: np.ones(2**23).sum())
    assert found is None or 60 < found < 80


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before


def test_the_published_flow_is_the_same_flow():
    """To its own error, first order in steps of 0.01."""
    start = random_vorticity(0, seed=0, grid=32).unsqueeze(0)
    *_, mine = NavierStokes(32).frames(start, interval=1.0, count=2, time_step=0.02)
    *_, published = first_order_frames(start, interval=1.0, count=2)
    assert float((mine - published).norm() / mine.norm()) < 5e-3


@pytest.mark.parametrize(
    "options",
    [{"models": ("finn",)}, {"precisions": ("16",)}, {"batch": 0}, {"lengths": ((0, 1),)}, {"scans": ("fast",)}],
)
def test_what_cannot_be_measured_is_refused(options):
    with pytest.raises(ConfigError):
        BENCHMARKS["train-step"](Settings(**(SMALL | options)))


def test_the_command_prints_rows_a_table_and_a_picture(forecast, tmp_path):
    small = ("--model", "minconvlstm", "--hidden", "2x4", "--grid", "8", "--length", "3", "--repetitions", "1")
    result = forecast(
        "benchmark", "train-step", *small, "--scan", "auto,log_space", "--json", "--plot", tmp_path / "b.png"
    )
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    wanted = {
        "model",
        "scan",
        "context",
        "horizon",
        "batch",
        "threads",
        "precision",
        "median_ms",
        "low_ms",
        "high_ms",
        "peak_mib",
    }
    assert wanted | {"floor_ms"} <= rows[0].keys()
    assert [row["scan"] for row in rows] == ["auto", "log_space"]
    assert (tmp_path / "b.png").stat().st_size > 5000
    table = forecast("benchmark", "scan", *small)
    assert table.exit_code == 0, table.output
    assert "minconvlstm" in table.stderr
    beside = forecast("benchmark", "activations", *small[2:], "--model", "sugar-nelu", "--plot", tmp_path / "a.png")
    assert beside.exit_code == 0, beside.output
    assert "over floor" in beside.stderr
    assert "kept MiB" in beside.stderr


@pytest.mark.parametrize(
    "line",
    [
        ("nothing",),
        ("train-step", "--length", "a"),
        ("train-step", "--model", "finn"),
        ("activations", "--model", "relu,unet"),
    ],
)
def test_one_line_for_what_cannot_be(line, forecast):
    result = forecast("benchmark", *line)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_a_picture_of_no_known_kind_is_refused_before_anything_is_measured(forecast, tmp_path, monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "train-step", lambda _: pytest.fail("measured"))
    result = forecast("benchmark", "train-step", "--plot", tmp_path / "b.docx")
    assert (result.exit_code, result.stderr.count("\n")) == (7, 1)


def test_that_nothing_was_compiled_ahead_is_an_error(forecast, monkeypatch):
    monkeypatch.setenv("FORECAST_NATIVE", "0")
    native._loaded.cache_clear()
    try:
        result = forecast("benchmark", "--build")
    finally:
        native._loaded.cache_clear()
    assert (result.exit_code, result.stderr.count("not compiled")) == (2, 4)


def test_without_a_compiler_none_is_compiled_ahead(forecast, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("FORECAST_CACHE", str(tmp_path))
    monkeypatch.delenv("FORECAST_NATIVE", raising=False)
    native._loaded.cache_clear()
    try:
        result = forecast("benchmark", "--build")
    finally:
        native._loaded.cache_clear()
    assert result.exit_code == 2
    assert "there is no C compiler (CC is 'no-such-compiler')" in " ".join(result.stderr.split())


@pytest.mark.skipif(not is_available(), reason="no C compiler")
def test_loops_are_compiled_ahead(forecast):
    result = forecast("benchmark", "--build")
    assert result.exit_code == 0
    assert result.stderr.count("compiled") == 4
