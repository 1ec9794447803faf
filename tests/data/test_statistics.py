"""Laws of the statistics that normalise: those of the training part alone, whatever the block size, gaps left out."""

import numpy as np
import pytest
import xarray as xr
from files import travelling_wave

from forecast_cli.data.fields import Fields, open_fields
from forecast_cli.data.inputs import Inputs
from forecast_cli.data.statistics import input_statistics, statistics
from forecast_cli.data.windows import Part, ReadFrames
from forecast_cli.errors import DataError


def fields_of(tmp_path, values: np.ndarray, *names: str) -> Fields:
    """Fields whose variables are the last axis of `values`."""
    dataset = xr.Dataset({name: (("sample", "time", "y", "x"), values[..., i]) for i, name in enumerate(names)})
    dataset.to_netcdf(tmp_path / "values.nc")
    return open_fields([str(tmp_path / "values.nc")])


def expected_statistics(values: np.ndarray) -> dict[str, np.ndarray]:
    """Over (sample, time, y, x, channel), with numpy."""
    values = values.astype(np.float64)
    channel_first = np.moveaxis(values, -1, 0)
    by_cell = {"mean": channel_first.mean((1, 2)), "scale": channel_first.std((1, 2))}
    overall = {"mean": channel_first.mean((1, 2, 3, 4)), "scale": channel_first.std((1, 2, 3, 4))}
    change = np.sqrt((np.diff(channel_first, axis=2) ** 2).mean((1, 2, 3, 4)))
    return {"by_cell": by_cell, "overall": overall, "change": change}


@pytest.mark.parametrize("block_frames", [1, 2, 5, 7, 1000])
def test_statistics_are_those_of_the_training_part_alone(tmp_path, monkeypatch, block_frames):
    """Blocks shorter than the record: the frames claim to be so large that `block_frames` of them fill a block."""
    values = np.stack([travelling_wave(20, 3, 4, seed=i) for i in range(4)])[..., None] * np.array(
        [1.0, -3.0]
    ) + np.array([0, 5e3])
    values[3], values[:, 15:] = 1e6, -1e6  # outside the training part
    fields = fields_of(tmp_path, values.astype(np.float32), "u", "v")
    part = Part(range(3), range(2, 15))
    monkeypatch.setitem(vars(fields), "frame_bytes", 2**26 // block_frames)
    expected = expected_statistics(values[:3, 2:15].astype(np.float32))

    found = statistics(fields, part, ReadFrames(fields.read))
    # float64 sums stored as float32
    np.testing.assert_allclose(found.mean[:, 0, 0], expected["overall"]["mean"], rtol=1e-6)
    np.testing.assert_allclose(found.scale[:, 0, 0], expected["overall"]["scale"], rtol=1e-6)
    np.testing.assert_allclose(found.change[:, 0, 0], expected["change"], rtol=1e-6)
    np.testing.assert_allclose(found.climatology, expected["by_cell"]["mean"], rtol=1e-6)

    pointwise = statistics(fields, part, ReadFrames(fields.read), pointwise=True)
    np.testing.assert_allclose(pointwise.mean, expected["by_cell"]["mean"], rtol=1e-6)
    np.testing.assert_allclose(pointwise.scale, expected["by_cell"]["scale"], rtol=1e-6)
    assert pointwise.change.shape == (2, 1, 1)


def test_a_small_spread_about_a_large_mean_is_not_lost(tmp_path):
    values = (1e6 + travelling_wave(30, 3, 4) - 280)[None, ..., None].astype(np.float32)
    fields = fields_of(tmp_path, values, "pressure")
    found = statistics(fields, Part(range(1), range(30)), ReadFrames(fields.read))
    np.testing.assert_allclose(found.scale.item(), values.astype(np.float64).std(), rtol=1e-6)


def test_a_cell_that_never_changes_is_scaled_by_the_spread_of_the_variable(tmp_path):
    values = travelling_wave(20, 3, 4)[None, ..., None].copy()
    values[:, :, 1, 2] = 273
    fields = fields_of(tmp_path, values, "u")
    found = statistics(fields, Part(range(1), range(20)), ReadFrames(fields.read), pointwise=True)
    np.testing.assert_allclose(found.scale[0, 1, 2], values.std(), rtol=1e-5)
    assert found.mean[0, 1, 2] == 273


@pytest.mark.parametrize("constant", [0.0, 273.15, -1e6])
def test_a_constant_variable_is_refused(tmp_path, constant):
    values = np.stack([travelling_wave(20, 3, 4), np.full((20, 3, 4), constant, np.float32)], axis=-1)[None]
    values[:, 15:, ..., 1] += 1  # after the training part
    fields = fields_of(tmp_path, values, "u", "v")
    with pytest.raises(DataError, match="'v' is constant"):
        statistics(fields, Part(range(1), range(15)), ReadFrames(fields.read))


def test_a_variable_that_never_changes_in_time_is_refused(tmp_path):
    values = np.broadcast_to(travelling_wave(1, 3, 4), (20, 3, 4))[None, ..., None]
    fields = fields_of(tmp_path, values, "u")
    with pytest.raises(DataError, match="'u' does not change in time"):
        statistics(fields, Part(range(1), range(20)), ReadFrames(fields.read))


def test_a_cell_below_a_millionth_of_the_spread_takes_the_spread(tmp_path):
    """Cells that alternate between -a and a: 48 of 50 with a = 1, one with 1e-5, one with 1e-8; the spread is sqrt(0.96)."""
    sizes = np.ones((5, 10), np.float32)
    sizes[1, 2], sizes[3, 4] = 1e-5, 1e-8
    values = sizes * np.array([-1, 1] * 10, np.float32)[:, None, None]
    fields = fields_of(tmp_path, values[None, ..., None], "u")
    found = statistics(fields, Part(range(1), range(20)), ReadFrames(fields.read), pointwise=True)
    expected = sizes.copy()
    expected[3, 4] = np.sqrt(48 / 50)
    np.testing.assert_allclose(found.scale[0], expected, rtol=1e-6)


def test_the_range_is_that_of_all_frames_of_the_training_part(tmp_path, monkeypatch):
    """Values rise from -7 to -2 and fall to -4, and the other variable has the opposite sign; a frame a block."""
    frames = np.array([-7, -5, -3, -2, -3, -4, -90, 90], np.float32)[:, None, None] * np.ones((3, 4), np.float32)
    fields = fields_of(tmp_path, np.stack([frames, -frames], axis=-1)[None], "u", "v")
    monkeypatch.setitem(vars(fields), "frame_bytes", 2**26)
    found = statistics(fields, Part(range(1), range(6)), ReadFrames(fields.read))
    assert (found.lower.flatten().tolist(), found.upper.flatten().tolist()) == ([-7, 2], [-2, 7])


@pytest.mark.parametrize("frame_bytes", [1, 2**26])
def test_inputs_have_mean_and_spread_of_all_blocks_of_the_training_part(frame_bytes):
    """Forcing that rises by 1 a frame over ten frames of two samples, from 1000 and from 1010 on; a frame a block, or all in one."""
    inputs = Inputs(
        {}, {"rise": lambda sample, frames: 1000.0 + 10 * sample + np.array(frames)[:, None, None]}, frozenset()
    )
    vars(inputs)["forcing_bytes"] = frame_bytes
    found = input_statistics(inputs, Part(range(2), range(10)))
    assert found["forcing_mean"].item() == pytest.approx(1009.5)
    assert found["forcing_scale"].item() == pytest.approx(np.sqrt((20**2 - 1) / 12))
