"""An ocean with land: what lies under the mask has no influence, and the forecast is missing exactly there."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from files import travelling_wave, write_series
from safetensors.torch import load_file, save
from weights import randomize

from forecast_cli.models import DIRECT, RECURRENT, build_model
from forecast_cli.models.base import ForecastModel, last_known
from forecast_cli.objective import weighted_loss

LAND = np.zeros((6, 8), bool)
LAND[2:4, 1:5] = LAND[0, 7] = True
TINY = ("--hidden", "4", "--context", "4", "--horizon", "2", "--epochs", "2")


def ocean(path: Path, under_land: float) -> Path:
    """The series of the other tests with one value on land, and the map of the sea beside it."""
    with xr.open_dataset(write_series(path)) as series:
        dataset = series.load()
    name = next(iter(dataset.data_vars))
    sea = xr.DataArray(~LAND, dims=dataset[name].dims[1:])
    dataset[name] = dataset[name].where(sea, under_land)
    dataset["sea"] = sea.astype("int8")
    path.unlink()
    dataset.to_netcdf(path)
    return path


def weights(run: Path) -> bytes:
    return save(load_file(run / "model.safetensors"))


def test_values_under_the_mask_change_neither_weights_nor_forecast(forecast, tmp_path):
    runs = []
    for name, value in (("low", -1e3), ("high", 7e8), ("gap", np.nan)):
        data, run = ocean(tmp_path / f"{name}.nc", value), tmp_path / name
        how = ("--nan", "mask") if name == "gap" else ("--mask", "sea")
        assert forecast("train", data, "-o", run, *TINY, *how).exit_code == 0
        assert forecast("rollout", run, "--data", data, "-o", tmp_path / f"{name}-fc.nc", "--steps", 3).exit_code == 0
        runs.append(run)
    assert weights(runs[0]) == weights(runs[1]) == weights(runs[2])
    forecasts = [xr.load_dataset(f"{run}-fc.nc")["t2m"].values for run in runs]
    np.testing.assert_array_equal(forecasts[0], forecasts[1])
    np.testing.assert_array_equal(np.isnan(forecasts[0]), np.broadcast_to(LAND, forecasts[0].shape))


def test_land_may_lie_under_another_mask_at_rollout(forecast, tmp_path):
    data, run = ocean(tmp_path / "d.nc", 0.0), tmp_path / "run"
    assert forecast("train", data, "-o", run, *TINY, "--mask", "sea").exit_code == 0
    with xr.open_dataset(data) as dataset:
        dataset[["sea"]].to_netcdf(tmp_path / "sea.nc")
        dataset.drop_vars("sea").to_netcdf(tmp_path / "bare.nc")
    bare = ("rollout", run, "--data", tmp_path / "bare.nc", "-o", tmp_path / "fc.nc", "--steps", 3)
    refused = forecast(*bare)
    assert refused.exit_code == 3
    assert "--mask sea: no such variable" in refused.output
    assert forecast(*bare, "--mask", f"{tmp_path}/sea.nc:sea").exit_code == 0


def test_scores_count_the_sea_alone(forecast, tmp_path):
    data, run = ocean(tmp_path / "d.nc", np.nan), tmp_path / "run"
    assert forecast("train", data, "-o", run, *TINY, "--nan", "mask").exit_code == 0
    assert forecast("rollout", run, "--data", data, "-o", tmp_path / "fc.nc", "--steps", 3).exit_code == 0
    result = forecast("evaluate", tmp_path / "fc.nc", "--truth", data, "-o", tmp_path / "scores.nc", "--metric", "mae")
    assert result.exit_code == 0, result.output
    assert np.isfinite(xr.load_dataset(tmp_path / "scores.nc")["score"]).all()


def test_gaps_are_refused_unless_asked_for(forecast, tmp_path):
    result = forecast("train", ocean(tmp_path / "d.nc", np.nan), "-o", tmp_path / "run", *TINY)
    assert result.exit_code == 3
    assert "--nan mask" in result.output
    assert not (tmp_path / "run").exists()


def test_gaps_that_move_are_forecast_wherever_there_ever_was_a_value(forecast, tmp_path):
    data, run = write_series(tmp_path / "d.nc"), tmp_path / "run"
    with xr.open_dataset(data) as series:
        dataset = series.load()
    clouds = np.random.default_rng(0).random(dataset["t2m"].shape) < 0.2
    clouds[:, 1, 1] = True
    data.unlink()
    dataset.assign(t2m=dataset["t2m"].where(~clouds)).to_netcdf(data)
    assert forecast("train", data, "-o", run, *TINY, "--nan", "mask").exit_code == 0
    assert forecast("rollout", run, "--data", data, "-o", tmp_path / "fc.nc", "--steps", 3).exit_code == 0
    gaps = np.isnan(xr.load_dataset(tmp_path / "fc.nc")["t2m"].values)
    assert gaps[:, :, 1, 1].all()
    assert gaps.sum() == gaps[:, :, 1, 1].size


@pytest.fixture(params=[*RECURRENT, *DIRECT])
def masked_model(request, tiny_config, domain) -> ForecastModel:
    torch.manual_seed(0)
    model = build_model(tiny_config(request.param, data__nan="mask"), domain)
    model.set_statistics(present=torch.from_numpy(~LAND).expand(domain.shape))
    randomize(model)
    return model


def test_gradients_are_finite_and_do_not_see_the_land(masked_model):
    truth = torch.from_numpy(np.stack([travelling_wave(8, 6, 8)] * 2, axis=1))[None].float()

    def gradients(under_land: float) -> list[torch.Tensor]:
        masked_model.zero_grad()
        land = torch.from_numpy(LAND)
        frames = torch.where(land, under_land, truth)
        forecast = masked_model(torch.where(land, torch.nan, frames[:, :5]), 3)
        loss = weighted_loss(
            forecast, masked_model.blank(frames)[:, 1:], masked_model.scale, torch.full((7, 1, 1, 1), 1 / 7)
        )
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in masked_model.parameters() if p.grad is not None)]

    first, second = gradients(0.0), gradients(1e30)
    assert all(torch.isfinite(gradient).all() for gradient in first)
    assert any(gradient.abs().sum() > 0 for gradient in first[1:])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_tendency_is_added_to_the_last_value_that_is_known():
    nan = torch.nan
    frames = torch.tensor([[1.0, nan, 3.0, nan, nan], [nan, nan, 5.0, 6.0, nan]])[..., None]
    known = last_known(frames, torch.tensor([[9.0], [8.0]]))
    assert known[..., 0].tolist() == [[1, 1, 3, 3, 3], [8, 8, 5, 6, 6]]


@pytest.mark.parametrize("name", [*RECURRENT, *DIRECT])
def test_a_gap_in_the_last_frame_starts_from_the_value_before_it(name, tiny_config, domain, context):
    """An untrained model is persistence, of what is known."""
    model = build_model(tiny_config(name, data__nan="mask"), domain)
    gappy = context.clone()
    gappy[:, -2:, :, 2, 3] = torch.nan
    expected = context[:, -1:].clone()
    expected[..., 2, 3] = context[:, -3:-2, :, 2, 3]
    torch.testing.assert_close(model(gappy, 3).fields, expected.expand(-1, 3, -1, -1, -1), rtol=0, atol=0)


def test_gaps_do_not_mind_where_the_context_is_cut(masked_model, context):
    gappy = masked_model.blank(context)
    gappy[:, ::3, 0, 0, 0] = torch.nan
    whole = masked_model(gappy, 4)
    first = masked_model(gappy[:, :4], 1)
    second = masked_model(gappy[:, 4:], 4, state=first.state)
    torch.testing.assert_close(second.fields, whole.fields, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_a_forecast_is_missing_exactly_on_land_and_continues_where_it_stopped(masked_model, context):
    sea_only = masked_model.blank(context)
    whole = masked_model(sea_only, 5).fields
    assert torch.equal(whole.isnan(), torch.from_numpy(LAND).expand(whole.shape))
    first = masked_model(sea_only, 2)
    second = masked_model(first.fields[:, -1:], 3, state=first.state).fields
    torch.testing.assert_close(torch.cat([first.fields, second], dim=1), whole, rtol=1e-4, atol=1e-4, equal_nan=True)
