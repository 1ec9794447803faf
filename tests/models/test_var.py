"""The linear model: exact EOFs, a known process recovered, the same contract as every model."""

from itertools import chain, repeat

import numpy as np
import pytest
import torch
import xarray as xr
from torch.testing import assert_close

from forecast_cli import checkpoint, trainer
from forecast_cli.config import load_config
from forecast_cli.data.fields import open_fields
from forecast_cli.errors import ConfigError, DataError, Stopped
from forecast_cli.models.var import _ridge


def process(steps: int) -> np.ndarray:
    """Amplitudes of two lags, (time, 3), driven by noise."""
    generator = np.random.default_rng(0)
    first = np.array([[0.9, 0.3, 0.0], [-0.3, 0.9, 0.0], [0.0, 0.0, 0.5]])
    second = np.diag([-0.2, -0.2, 0.3])
    series = np.zeros((steps, 3))
    for t in range(2, steps):
        series[t] = first @ series[t - 1] + second @ series[t - 2] + generator.normal(0, [1.0, 0.7, 0.4])
    return series


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """A field of three patterns whose amplitudes are a known process of two lags."""
    path = tmp_path_factory.mktemp("linear") / "linear.nc"
    patterns = np.linalg.qr(np.random.default_rng(1).normal(size=(6 * 8, 3)))[0].T
    fields = 280 + 5 * (process(3000) @ patterns).reshape(-1, 6, 8)
    time = ("time", np.arange(3000.0), {"units": "1"})
    xr.Dataset(
        {"t": (("time", "y", "x"), fields.astype("f4"), {"units": "K"})},
        coords={"time": time, "y": np.arange(6.0), "x": np.arange(8.0)},
    ).to_netcdf(path)
    return path


def config_of(path, **options):
    given = {"data.files": (str(path),), "model.name": "var", "data.context": 4, "data.horizon": 3, "model.eofs": "1,3"}
    return load_config(options=given | {key.replace("__", "."): value for key, value in options.items()})


class Silent:
    def __init__(self) -> None:
        self.rows = []

    def begin(self, _) -> None: ...
    def step(self, *_) -> None: ...
    def epoch(self, row) -> None:
        self.rows.append(row)


def trained(config, run, **options):
    watcher = Silent()
    fields = open_fields(list(config.data.files))
    trainer.train(config, fields, run, device=torch.device("cpu"), reporter=watcher, **options)
    return watcher.rows


def test_validation_finds_the_number_of_patterns_and_lags_of_a_known_process(linear, tmp_path):
    rows = trained(
        config_of(linear, training__patience=1), tmp_path / "run"
    )  # which is for epochs: every choice is tried
    model = checkpoint.load_model(tmp_path / "run").model
    assert len(rows) == model.fits == 2 * 3 * 4
    chosen = {name: value for name, (value, _) in model.learned_numbers().items()}
    assert (chosen["EOFs"], chosen["lags"]) == (3, 2)


def test_the_eofs_are_the_singular_vectors_of_the_training_part(linear):
    prepared = trainer.prepare(config_of(linear, model__eofs="3"), open_fields([str(linear)]))
    model = prepared.model
    model.fit(prepared.records, 0)
    frames = torch.cat([frames for _, frames in prepared.records()])
    anomalies = ((frames - model.climatology) / model.scale).flatten(1).double()
    exact = torch.linalg.svd(anomalies, full_matrices=False)[2][:3]
    assert_close((exact @ model.eofs.double().T).abs(), torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-5)


def test_a_fit_is_ridge_regression_of_the_leading_pattern_and_of_what_it_leaves_over(linear):
    """Against least squares over the whole record at once; a ridge of 1e-4 to persistence is added as further equations."""
    prepared = trainer.prepare(config_of(linear), open_fields([str(linear)]))
    model, ridge = prepared.model, 1e-4
    number = model.choices.index((1, 2, ridge))
    model.fit(prepared.records, number)
    frames = torch.cat([frames for _, frames in prepared.records()])
    anomalies = ((frames - model.climatology) / model.scale).flatten(1).double().numpy()
    pattern = np.linalg.svd(anomalies, full_matrices=False)[2][0]
    amplitudes = anomalies @ pattern
    rest = anomalies - np.outer(amplitudes, pattern)

    def ridge_regression(back: np.ndarray, ahead: np.ndarray) -> np.ndarray:
        """Of the next value on those at two lags (values, 2), drawn to the last one."""
        strength = np.sqrt(ridge * np.square(back).sum(axis=0).mean())
        equations = np.vstack([back, strength * np.eye(2)])
        return np.linalg.lstsq(equations, np.append(ahead - back[:, 0], [0, 0]), rcond=None)[0] + [1, 0]

    back, ahead = np.stack([amplitudes[1:-1], amplitudes[:-2]], axis=1), amplitudes[2:]
    of_pattern = ridge_regression(back - back.mean(axis=0), ahead - ahead.mean())
    constant = ahead.mean() - back.mean(axis=0) @ of_pattern
    # The rest is told from the times that all choices can use, three lags among them.
    of_rest = ridge_regression(np.stack([rest[2:-1].ravel(), rest[1:-2].ravel()], axis=1), rest[3:].ravel())

    found = model(frames[None, :40], 1).fitted[0, 1:].flatten(1).double()
    then = [part[1:39] for part in (amplitudes, rest)], [part[:38] for part in (amplitudes, rest)]
    next_amplitude = constant + of_pattern[0] * then[0][0] + of_pattern[1] * then[1][0]
    next_rest = of_rest[0] * then[0][1] + of_rest[1] * then[1][1]
    expected = np.outer(next_amplitude, pattern) + next_rest
    scale, climatology = float(model.scale), model.climatology.flatten().double()
    assert_close(found, climatology + scale * torch.from_numpy(expected), rtol=0, atol=1e-3)


def test_a_fit_does_not_depend_on_how_the_record_is_read(linear):
    whole = trainer.prepare(config_of(linear), open_fields([str(linear)]))
    whole.model.fit(whole.records, 14)
    pieces = trainer.prepare(config_of(linear), open_fields([str(linear)]))
    (_, frames), *_ = pieces.records()
    pieces.model.fit(lambda: ((0, part) for part in frames.split(700)), 14)
    for name, tensor in whole.model.state_dict().items():
        assert_close(pieces.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_resumed_choice_is_the_same(linear, tmp_path):
    config = config_of(linear, model__lags="2")
    trained(config, tmp_path / "whole")
    stops = chain([False] * 100, repeat(True))
    (tmp_path / "part").mkdir()
    checkpoint.save_config(tmp_path / "part", config)
    prepared = trainer.prepare(config, open_fields([str(linear)]))
    part = trainer.Trainer(prepared, tmp_path / "part", torch.device("cpu"))
    with pytest.raises(Stopped):
        part.run_to_end(Silent(), lambda: next(stops))
    trained(config, tmp_path / "part", resume="must")
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "part"))
    assert first == second


def test_records_that_are_too_short_and_inputs_that_are_not_for_it_are_refused(linear, tmp_path, tiny_model, context):
    with pytest.raises(DataError, match=r"Lower model\.lags"):
        trained(config_of(linear, data__split="20,30,0", model__seasonal_lag=40), tmp_path / "run")
    with pytest.raises(ConfigError, match="static"):
        tiny_model("var")(context, 1, static=torch.zeros(3, 1, 6, 8))


def test_fields_that_it_would_not_look_at_are_refused_by_the_command(linear, forecast, tmp_path):
    fields = ("--static", "constant", "--context", 4, "--horizon", 3)
    with_bed = xr.load_dataset(linear)
    with_bed["constant"] = with_bed["t"].isel(time=0, drop=True)
    with_bed.to_netcdf(tmp_path / "bed.nc")
    options = ("--variable", "t", "--model", "var")
    result = forecast("train", tmp_path / "bed.nc", *options, *fields, "-o", tmp_path / "run")
    assert (result.exit_code, "leave out constant (--static, --forcing)" in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "run").exists()


def test_the_command_counts_fits_as_epochs(linear, forecast, tmp_path):
    options = ("--context", 4, "--horizon", 3, "--set", "model.eofs=3", "--set", "model.lags=2")
    result = forecast("train", linear, "--model", "var", *options, "-o", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "epoch 4/4" in result.stderr


@pytest.mark.parametrize(
    ("square", "product", "strength", "expected"),
    [
        # A penalty of 0.25 * 4 on one predictor: 2 / (4 + 1).
        ([[4.0]], [2.0], 0.25, [0.4]),
        # Two of mean square 4, and a penalty of 0.5 * 4 on each: 4 / (2 + 2) and 16 / (6 + 2).
        ([[2.0, 0.0], [0.0, 6.0]], [4.0, 16.0], 0.5, [1.0, 2.0]),
        ([[2.0, 0.0], [0.0, 6.0]], [4.0, 18.0], 0.0, [2.0, 3.0]),
    ],
)
def test_the_ridge_is_in_units_of_the_mean_square_of_a_predictor(square, product, strength, expected):
    square, product = torch.tensor(square), torch.tensor(product)
    assert_close(_ridge(square, product, strength), torch.tensor(expected))
    # Predictors in another unit: a hundredth of the coefficient for values that are a hundred times larger.
    assert_close(_ridge(1e4 * square, 1e2 * product, strength), torch.tensor(expected) / 100)
