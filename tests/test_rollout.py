import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from faults.harness import in_child
from files import describe_weights, write_series, write_trajectories
from torch.testing import assert_close

from forecast_cli.checkpoint import SavedModel, load_model, save_model
from forecast_cli.config import DataConfig, load_config
from forecast_cli.data.fields import open_fields
from forecast_cli.data.resumable import Commit
from forecast_cli.errors import CheckpointError, ConfigError, DataError, DivergedError, Stopped
from forecast_cli.models import MODELS, Forecast, ForecastModel, build_model
from forecast_cli.rollout import Start, choose_starts, first_unseen, forecast_blocks, require_fit, roll_out
from forecast_cli.rollout.reached import Reached
from forecast_cli.rollout.standing import Standing


@pytest.fixture
def saved(series_run):
    return load_model(series_run)


@pytest.fixture
def fields(series):
    return open_fields([str(series)])


@pytest.mark.parametrize("block", [1, 4, 11, 50])
@pytest.mark.parametrize("name", MODELS)
def test_blocks_joined_are_the_whole_forecast(name, block, tiny_model, context):
    model = tiny_model(name)
    blocks = list(forecast_blocks(model, context, 11, block))
    assert all(part.fields.shape[1] <= block for part in blocks)
    with torch.inference_mode():
        assert_close(
            torch.cat([part.fields for part in blocks], dim=1), model(context, 11).fields, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("normalize", ["global", "pointwise"])
def test_a_forecast_that_grows_without_bound_is_noted(normalize, tiny_model):
    """The spread is 2, the mean 1.5; values that are missing count for nothing."""
    reached = Reached(tiny_model("minconvlstm", data__normalize=normalize))
    fields = torch.full((1, 3, 2, 6, 8), 1.5)
    fields[..., 0, 0] = torch.nan
    fields[0, 1, 1, 2, 2] = 150.0
    reached.look(fields)
    assert reached.notes() == []
    fields[0, 2, 1, 2, 2] = -250.0
    reached.look(fields)
    (note,) = reached.notes()
    assert "'v' reaches -250 to 150, 126 standard deviations" in note


@pytest.mark.parametrize("name", MODELS)
def test_a_forecast_that_is_gone_on_with_is_the_same_to_the_bit(name, tiny_model, context):
    """Its last frame and its state went through a file, and lie in memory in another way."""
    model = tiny_model(name)
    whole = list(forecast_blocks(model, context, 11, 3))
    for at in range(3):
        reached = Reached(model)
        commit = Standing(0, 3 * (at + 1), whole[at].last, whole[at].state).commit(reached)
        arrays = {
            key: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)
            for key, array in commit.arrays.items()
        }
        found = Standing.found(Commit(commit.position, arrays), reached, torch.device("cpu"))
        rest = list(forecast_blocks(model, found.last, 11 - found.lead, 3, state=found.state))
        for before, after in zip(whole[at + 1 :], rest, strict=True):
            assert torch.equal(before.fields, after.fields)


def test_forcing_is_found_again_where_a_forecast_goes_on(tiny_model, context):
    model, asked = tiny_model("minconvgru"), []

    def forcing(first, stop):
        asked.append((first, stop))

    blocks = list(forecast_blocks(model, context, 9, 4, forcing=forcing))
    whole = asked[1:]
    asked.clear()
    list(
        forecast_blocks(model, blocks[0].last, 5, 4, forcing=forcing, state=blocks[0].state, first=context.shape[1] + 3)
    )
    assert asked == whole


class Persistence(ForecastModel):
    """The last frame, for ever: what a rollout costs beside the model."""

    def forward(self, context, steps, **_):
        return Forecast(context[:, 1:], context[:, -1:].expand(-1, steps, -1, -1, -1), ())


def test_the_memory_of_a_rollout_does_not_grow_with_its_steps(tmp_path):
    """Four times the steps, which are 96 MiB of frames more, in the same memory."""
    data, kept = write_trajectories(tmp_path / "d.nc", samples=2, frames=4, height=64, width=64), tmp_path / "peak"
    fields = open_fields([str(data)])
    config = load_config(options={"data.context": 4})
    model = Persistence(fields.domain)
    saved = SavedModel(model, config, fields.domain, {}, 1, "0" * 64)

    def peak(steps):
        def run():
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            roll_out(saved, fields, [Start(0, 3), Start(1, 3)], tmp_path / f"{steps}.nc", context=4, steps=steps)
            kept.write_text(Path("/proc/self/status").read_text())

        assert in_child(run, tmp_path / "said").code == 0, (tmp_path / "said").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", kept.read_text())[1]) / 1024

    assert peak(4000) - peak(1000) < 10


def test_the_next_block_is_not_computed_before_it_is_asked_for(tiny_model, context):
    """A million steps cost nothing until they are taken."""
    first = next(forecast_blocks(tiny_model("minconvgru"), context, 10**6, 2))
    assert first.fields.shape[1] == 2


def test_default_starts_verify_only_frames_that_the_training_never_saw(saved, fields):
    starts = choose_starts(saved, fields, context=4, steps=3)
    unseen = first_unseen(saved, fields)
    assert unseen == 51  # 42 frames trained and 9 validated the model, out of 60
    assert [start.init for start in starts] == list(range(50, 57))


def test_starts_are_as_far_apart_as_asked(saved, fields):
    assert [start.init for start in choose_starts(saved, fields, context=4, steps=3, every=3)] == [50, 53, 56]
    assert [start.init for start in choose_starts(saved, fields, context=4, steps=8)] == [50]


@pytest.mark.parametrize(
    ("steps", "inits"),
    [
        (1, [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]),
        (7, [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        (8, [3, 5, 7, 9, 11]),
        (11, [3, 5, 7]),
        (12, [3, 6]),
        (16, [3]),
    ],
)
def test_default_starts_are_a_quarter_of_the_forecast_apart(saved, tmp_path, steps, inits):
    """Of 20 frames from the fourth on, context=4: every max(1, steps // 4) frames while all `steps` are in the file."""
    later = open_fields([str(write_series(tmp_path / "later.nc", start="2010-01-01", frames=20))])
    assert [start.init for start in choose_starts(saved, later, context=4, steps=steps)] == inits


def test_a_file_of_another_period_is_forecast_throughout(saved, tmp_path):
    later = open_fields([str(write_series(tmp_path / "later.nc", start="2010-01-01", frames=12))])
    assert [start.init for start in choose_starts(saved, later, context=4, steps=4, every=1)] == list(range(3, 8))


def test_every_trajectory_starts_after_its_context(trajectory_run, trajectories):
    starts = choose_starts(load_model(trajectory_run), open_fields([str(trajectories)]), context=5, steps=3)
    assert starts == [Start(sample, 4) for sample in range(6)]


def test_a_start_may_be_any_time_with_enough_frames_before_it(saved, fields):
    assert choose_starts(saved, fields, context=4, steps=3, init_times=["last", "2000-01-02T06"]) == [
        Start(0, 5),
        Start(0, 59),
    ]
    with pytest.raises(DataError, match="only 3 frames"):
        choose_starts(saved, fields, context=4, steps=3, init_times=["2000-01-01T12"])
    with pytest.raises(ConfigError, match="no frame at time 1999"):
        choose_starts(saved, fields, context=4, steps=3, init_times=["1999"])


def test_a_forecast_longer_than_the_test_part_is_refused(saved, fields):
    with pytest.raises(DataError, match="--init-time"):
        choose_starts(saved, fields, context=4, steps=10)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"frames": 60, "freq": "3h"}, "time step is 3 hours, but the model was trained on 6 hours"),
        ({"height": 7}, "grid is 7 x 8, but the model was trained on 6 x 8"),
    ],
)
def test_fields_that_the_model_does_not_know_are_refused(change, named, saved, tmp_path):
    with pytest.raises(CheckpointError, match=named):
        require_fit(saved, open_fields([str(write_series(tmp_path / "other.nc", **change))]))


def test_fields_on_other_cells_or_in_other_units_are_refused(saved, series, tmp_path):
    with xr.open_dataset(series) as dataset:
        dataset.assign_coords(lat=dataset["lat"] + 1).to_netcdf(tmp_path / "moved.nc")
        dataset["t2m"].attrs["units"] = "degC"
        dataset.to_netcdf(tmp_path / "celsius.nc")
    with pytest.raises(CheckpointError, match="'lat' is 51 on in steps of -2, but the model was trained on 50"):
        require_fit(saved, open_fields([str(tmp_path / "moved.nc")]))
    with pytest.raises(CheckpointError, match="'degC', but the model was trained on 'K'"):
        require_fit(saved, open_fields([str(tmp_path / "celsius.nc")]))


def test_a_forecast_that_diverges_is_an_error_and_leaves_no_file(saved, fields, tmp_path):
    saved.model.decoder.convolution.weight.data.fill_(1e30)
    with pytest.raises(DivergedError, match="at step"):
        roll_out(saved, fields, [Start(0, 10)], tmp_path / "fc.nc", context=4, steps=20)
    assert list(tmp_path.iterdir()) == []


def test_the_written_forecast_is_the_computed_one(saved, fields, tmp_path, monkeypatch):
    """Whatever the batches and blocks that it was computed in."""
    starts = [Start(0, init) for init in (50, 52, 55)]
    monkeypatch.setattr("forecast_cli.rollout.BLOCK_BYTES", 2 * 2 * fields.frame_bytes)
    roll_out(saved, fields, starts, tmp_path / "fc.nc", context=4, steps=7, batch_size=2)
    frames = torch.from_numpy(np.stack([fields.read(0, start.init - 3, start.init + 1) for start in starts]))
    with torch.inference_mode():
        expected = saved.model(frames, 7).fields[:, :, 0].numpy()
    with xr.open_dataset(tmp_path / "fc.nc") as dataset:
        np.testing.assert_allclose(dataset["t2m"].values, expected, rtol=0, atol=1e-3)
        np.testing.assert_array_equal(dataset["t2m_climatology"].values, saved.model.climatology[0].numpy())
        assert dataset.attrs["forecast_weights_sha256"] == saved.sha256


def test_a_model_of_other_variables_is_refused(saved, fields):
    renamed = dataclasses.replace(
        saved.domain, variables=(dataclasses.replace(saved.domain.variables[0], units="degC"),)
    )
    with pytest.raises(CheckpointError, match="unit"):
        require_fit(dataclasses.replace(saved, domain=renamed), fields)


def curved(dataset):
    """The same fields with latitudes and longitudes in two dimensions."""
    lat, lon = np.meshgrid(dataset["lat"], dataset["lon"], indexing="ij")
    places = {"lat": (("y", "x"), lat, dataset["lat"].attrs), "lon": (("y", "x"), lon, dataset["lon"].attrs)}
    return dataset.drop_vars(["lat", "lon"]).rename(lat="y", lon="x").assign_coords(places)


GAUSSIAN = np.array([69.0, 50.0, 30.0, 10.0, -10.0, -29.0])


@pytest.fixture
def trained_on(series, tiny_config, tmp_path):
    """The run of a model of changed fields, saved and loaded again; untrained, as weights are not compared."""

    def make(change):
        with xr.open_dataset(series) as dataset:
            change(dataset).to_netcdf(tmp_path / "trained.nc")
        fields, config, run = open_fields([str(tmp_path / "trained.nc")]), tiny_config("minconvgru"), tmp_path / "run"
        run.mkdir()
        save_model(run, build_model(config, fields.domain), config, parts={}, epoch=1, coordinates=fields.coordinates)
        return load_model(run)

    return make


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        (
            lambda data: data.assign_coords(lat=GAUSSIAN),
            lambda data: data.assign_coords(lat=GAUSSIAN).isel(lat=slice(None, None, -1)),
            "'lat' is -29 at cell 0, but the model was trained on 69 at cell 0",
        ),
        (
            curved,
            lambda data: curved(data).isel(y=slice(None, None, -1)),
            r"'lat' is 40 at cell \(0, 0\), but the model was trained on 50 at cell \(0, 0\)",
        ),
        (
            curved,
            lambda data: data.isel(lon=slice(None, None, -1)),
            "'lon' is 24 .*, but the model was trained on 10",
        ),
        (
            lambda data: data.assign_coords(level=500),
            lambda data: data.assign_coords(level=850),
            "'level' is 850, but the model was trained on 500",
        ),
        (
            lambda data: data.assign_coords(lon=data["lon"].assign_attrs(units="m", standard_name="x")),
            lambda data: data,
            "'lon' is in 'degrees_east', but the model was trained on in 'm'",
        ),
        (
            lambda data: data.assign_coords(time=("time", np.arange(60.0), {"units": "s"})),
            lambda data: data.assign_coords(time=("time", np.arange(60.0), {"units": "min"})),
            "time step is 1 min, but the model was trained on 1 s",
        ),
        (
            lambda data: data.assign_coords(time=("time", 60 * np.arange(60.0), {"units": "s"})),
            lambda data: data.assign_coords(time=("time", np.arange(60.0), {"units": "min"})),
            "time step is 1 min, but the model was trained on 60 s",
        ),
        (
            lambda data: data,
            lambda data: data.assign_coords(time=("time", 6 * np.arange(60.0), {"units": "h"})),
            "time step is 6 h, but the model was trained on 6 hours",
        ),
    ],
)
def test_fields_on_other_cells_levels_or_times_are_refused(trained_on, series, tmp_path, before, now, text):
    saved = trained_on(before)
    with xr.open_dataset(series) as dataset:
        before(dataset).to_netcdf(tmp_path / "same.nc")
        now(dataset).to_netcdf(tmp_path / "other.nc")
    require_fit(saved, open_fields([str(tmp_path / "same.nc")]))
    with pytest.raises(CheckpointError, match=text):
        require_fit(saved, open_fields([str(tmp_path / "other.nc")]))


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (lambda data: data.assign_coords(level=500), lambda data: data),
        (lambda data: data, lambda data: data.assign_coords(lon=data["lon"] - 360)),
        (lambda data: data, lambda data: data.assign_coords(lat=data["lat"].astype("float32"))),
        (lambda data: data, curved),
        (
            lambda data: data.assign_coords(time=("time", np.arange(60.0), {"units": "s"})),
            lambda data: data.assign_coords(time=("time", np.arange(60.0), {"units": "seconds"})),
        ),
    ],
)
def test_fields_on_the_same_cells_fit_however_they_are_written(trained_on, series, tmp_path, before, now):
    saved = trained_on(before)
    with xr.open_dataset(series) as dataset:
        now(dataset.load()).to_netcdf(tmp_path / "now.nc")
    require_fit(saved, open_fields([str(tmp_path / "now.nc")]))


def test_training_saves_the_coordinates_of_its_fields(saved, fields):
    assert [(one.name, one.dims) for one in saved.coordinates] == [("lat", "y"), ("lon", "x")]
    for kept, here in zip(saved.coordinates, fields.coordinates, strict=True):
        np.testing.assert_array_equal(kept.values, here.values)


def test_a_run_without_coordinates_compares_its_even_axes(series_run, series, tmp_path):
    """As runs that were saved before coordinates were."""
    run = tmp_path / "old"
    shutil.copytree(series_run, run)
    description = json.loads((run / "model.json").read_text())
    del description["coordinates"]
    describe_weights(run, json.dumps(description))
    old = load_model(run)
    assert old.coordinates == ()
    require_fit(old, open_fields([str(series)]))
    with xr.open_dataset(series) as dataset:
        dataset.isel(lat=slice(None, None, -1)).to_netcdf(tmp_path / "turned.nc")
    with pytest.raises(CheckpointError, match="'lat' is 40 on in steps of 2, but the model was trained on 50"):
        require_fit(old, open_fields([str(tmp_path / "turned.nc")]))


class Echo(ForecastModel):
    """Forecasts the forcing of the frame that it predicts."""

    def forward(self, context, steps, *, forcing, **_):
        known, like = context.shape[1], context[:, :1]
        fields = forcing[:, known : known + steps] + torch.zeros_like(like)
        return Forecast(forcing[:, 1:known] + torch.zeros_like(like), fields, ())


@pytest.mark.parametrize("stop_after", [None, 1, 3])
def test_forcing_is_that_of_the_forecast_frame_in_every_block_and_after_a_stop(
    stop_after, saved, fields, series, tmp_path, monkeypatch
):
    """The forcing is the number of its frame: from frame 10 on, lead time k is frame 10 + k."""
    with xr.open_dataset(series) as dataset:
        dataset.assign(count=("time", np.arange(60.0)))[["count"]].to_netcdf(tmp_path / "count.nc")
    domain = dataclasses.replace(saved.domain, forcing=("count",))
    echo = dataclasses.replace(saved, model=Echo(domain), domain=domain)
    monkeypatch.setattr("forecast_cli.rollout.BLOCK_BYTES", 2 * 2 * fields.frame_bytes)
    blocks = iter(range(100))
    options = {"context": 4, "steps": 7, "batch_size": 2, "told": DataConfig(forcing=(f"{tmp_path}/count.nc:count",))}
    starts = [Start(0, 10), Start(0, 20), Start(0, 33)]
    if stop_after:
        with pytest.raises(Stopped):
            roll_out(echo, fields, starts, tmp_path / "fc.nc", stop=lambda: next(blocks) + 1 == stop_after, **options)
    roll_out(echo, fields, starts, tmp_path / "fc.nc", resume="must" if stop_after else "never", **options)
    expected = np.array([10, 20, 33])[:, None] + np.arange(1, 8)
    with xr.open_dataset(tmp_path / "fc.nc") as dataset:
        np.testing.assert_array_equal(dataset["t2m"], np.broadcast_to(expected[..., None, None], (3, 7, 6, 8)))


def test_valid_time_is_the_time_of_the_verifying_frame(saved, fields, trajectory_run, trajectories, tmp_path):
    """Six-hourly from 2000-01-01: frame 50 is 2000-01-13T12, frame 53 2000-01-14T06. Trajectories: every 0.5 from 0."""
    roll_out(saved, fields, [Start(0, 50), Start(0, 53)], tmp_path / "series.nc", context=4, steps=2)
    with xr.open_dataset(tmp_path / "series.nc") as dataset:
        assert dataset["init_time"].values.tolist() == np.array(["2000-01-13T12", "2000-01-14T06"], "M8[ns]").tolist()
        assert (dataset["lead_time"].values / np.timedelta64(1, "h")).tolist() == [6, 12]
        expected = [["2000-01-13T18", "2000-01-14T00"], ["2000-01-14T12", "2000-01-14T18"]]
        np.testing.assert_array_equal(dataset["valid_time"].values, np.array(expected, "M8[ns]"))
    started = [Start(sample, 5) for sample in range(6)]
    several = open_fields([str(trajectories)])
    roll_out(load_model(trajectory_run), several, started, tmp_path / "trajectories.nc", context=4, steps=3)
    with xr.open_dataset(tmp_path / "trajectories.nc") as dataset:
        assert float(dataset["init_time"]) == 2.5
        np.testing.assert_allclose(dataset["lead_time"], [0.5, 1.0, 1.5])
        np.testing.assert_allclose(dataset["valid_time"], [3.0, 3.5, 4.0])


def test_cycles_are_written_under_the_hours_days_and_months_of_a_calendar(saved, fields, tmp_path):
    """Hours count from 0, days of the year and months from 1; each cycle holds the numbers of its positions from 0."""
    sizes = {"hour": 24, "dayofyear": 366, "month": 12}
    cycles = {
        kind: np.broadcast_to(np.arange(size, dtype=np.float32)[:, None, None, None], (size, 1, 6, 8))
        for kind, size in sizes.items()
    }
    roll_out(dataclasses.replace(saved, cycles=cycles), fields, [Start(0, 50)], tmp_path / "fc.nc", context=4, steps=1)
    with xr.open_dataset(tmp_path / "fc.nc") as dataset:
        for kind, label, position in (("hour", 23, 23), ("dayofyear", 366, 365), ("month", 2, 1)):
            assert (dataset[f"t2m_climatology_{kind}"].sel({kind: label}) == position).all()


@pytest.mark.parametrize(("steps", "inits"), [(3, [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]), (8, [3, 5, 7]), (11, [3])])
def test_default_starts_of_short_forecasts_are_a_frame_apart(steps, inits, saved, tmp_path):
    """In 16 frames after a context of 4; a quarter of 3 steps is one, of 8 two, rounded down."""
    later = open_fields([str(write_series(tmp_path / "later.nc", start="2010-01-01", frames=16))])
    assert [start.init for start in choose_starts(saved, later, context=4, steps=steps)] == inits
