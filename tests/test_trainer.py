import csv
import math

import numpy as np
import pytest
import torch
import xarray as xr
from every_model import smallest

from forecast_cli import checkpoint, trainer
from forecast_cli.config import load_config
from forecast_cli.data.atomic import claimed
from forecast_cli.data.fields import open_fields
from forecast_cli.errors import CheckpointError, DataError, DivergedError, OutputError, Stopped
from forecast_cli.models import MODELS

CPU = torch.device("cpu")


class Silent:
    """Watches the training; stops it after so many steps if asked to."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.steps, self.rows, self.stop_after = 0, [], stop_after

    def begin(self, _) -> None: ...
    def step(self, *_) -> None:
        self.steps += 1

    def epoch(self, row) -> None:
        self.rows.append(row)

    def stop(self) -> bool:
        return self.stop_after is not None and self.steps + 1 >= self.stop_after


def config_for(path, **options):
    given = {"model.hidden": "4", "data.context": 4, "data.horizon": 2, "training.epochs": 3, "training.batch_size": 3}
    return load_config(
        options=given | {key.replace("__", "."): value for key, value in options.items()} | {"data.files": (str(path),)}
    )


def trained(path, run, reporter=None, *, resume="never", **options):
    config = config_for(path, **options)
    trainer.train(config, open_fields([str(path)]), run, device=CPU, reporter=reporter or Silent(), resume=resume)
    return run


def stopped_and_resumed(path, run, stop_after, **options):
    """Train, stop cleanly after some steps, go on in a new trainer as a new process would."""
    config, fields = config_for(path, **options), open_fields([str(path)])
    watcher = Silent(stop_after)
    run.mkdir()
    checkpoint.save_config(run, config)
    with pytest.raises(Stopped, match="--resume auto"):
        trainer.Trainer(trainer.prepare(config, fields), run, CPU).run_to_end(watcher, watcher.stop)
    trainer.train(config, fields, run, device=CPU, reporter=Silent(), resume="must")
    return run


def metrics(run):
    return [
        {key: value for key, value in row.items() if key != "seconds"}
        for row in csv.DictReader((run / "metrics.csv").open())
    ]


def assert_same_state(first, second):
    one, other = (checkpoint.load_state(run, CPU) for run in (first, second))
    for state in (one, other):
        for row in state["progress"]["rows"]:
            row.pop("seconds")
    assert one["progress"] == other["progress"]
    for key in ("model", "averaged"):
        if one[key] is not None:
            assert one[key].keys() == other[key].keys()
            assert all(torch.equal(one[key][name], other[key][name]) for name in one[key])
    for slot, tensors in one["optimizer"]["state"].items():
        assert all(torch.equal(tensors[name], other["optimizer"]["state"][slot][name]) for name in tensors)
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


VARIANTS = {
    "plain": {},
    "ema, noise and warm-up": {"training__ema": 0.9, "training__input_noise": 0.1, "training__warmup": 5},
    "plateau": {"training__schedule": "plateau", "training__patience": 2, "training__learning_rate": 0.05},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stop_after", [1, 5, 12])
def test_a_resumed_run_equals_one_that_was_never_stopped(variant, stop_after, series, tmp_path):
    options = VARIANTS[variant]
    whole = trained(series, tmp_path / "whole", **options)
    resumed = stopped_and_resumed(series, tmp_path / "resumed", stop_after, **options)
    assert_same_state(whole, resumed)
    assert metrics(whole) == metrics(resumed)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_goes_on_where_it_stopped(name, trajectories, tmp_path):
    options = smallest(name)
    whole = trained(trajectories, tmp_path / "whole", **options)
    resumed = stopped_and_resumed(trajectories, tmp_path / "resumed", 7, **options)
    assert_same_state(whole, resumed)
    assert metrics(whole) == metrics(resumed)


def test_a_resumed_run_of_trajectories_draws_the_same_windows(trajectories, tmp_path):
    options = {"training__batch_size": 2}
    assert_same_state(
        trained(trajectories, tmp_path / "whole", **options),
        stopped_and_resumed(trajectories, tmp_path / "resumed", 4, **options),
    )


def test_the_same_seed_gives_the_same_run_and_another_seed_another(series, tmp_path):
    first, second, other = (trained(series, tmp_path / str(i), training__seed=seed) for i, seed in enumerate((1, 1, 2)))
    assert_same_state(first, second)
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_training_lowers_the_loss_below_persistence(series, tmp_path):
    """The wave moves on: a model that learnt nothing is persistence, which the untrained one is exactly."""
    watcher = Silent()
    trained(series, tmp_path / "run", watcher, training__epochs=12, model__hidden="8")
    config = config_for(series, model__hidden="8")
    untrained = trainer.Trainer(trainer.prepare(config, open_fields([str(series)])), tmp_path, CPU).validate()[
        "validation_loss"
    ]
    assert watcher.rows[-1]["validation_loss"] < 0.25 * untrained


def test_the_run_directory_holds_what_the_documentation_says(series_run):
    assert {file.name for file in series_run.iterdir()} == {
        "config.toml",
        "model.safetensors",
        "model.json",
        "climatology.nc",
        "last.ckpt",
        "metrics.csv",
        "train.log",
        "environment.json",
    }


def test_a_run_may_be_replaced_by_another(series, tmp_path):
    run = trained(series, tmp_path / "run", training__epochs=1)
    options = {"device": CPU, "reporter": Silent(), "overwrite": True}
    trainer.train(config_for(series, training__epochs=2), open_fields([str(series)]), run, **options)
    assert len(metrics(run)) == 2


def test_a_stored_configuration_can_be_trained_again(series_run):
    assert load_config(file=series_run / "config.toml").data.context == 4


def scripted(monkeypatch, losses):
    """Let the validation return these losses, one an epoch."""
    remaining = iter(losses)
    monkeypatch.setattr(trainer.Trainer, "validate", lambda _: {"validation_loss": next(remaining)})


def test_the_saved_model_is_that_of_the_best_epoch(series, tmp_path, monkeypatch):
    scripted(monkeypatch, [3.0, 1.0, 2.0])
    run = trained(series, tmp_path / "run")
    assert checkpoint.load_model(run).epoch == 2
    assert (run / "model.safetensors").read_bytes() == (
        trained_two_epochs(series, tmp_path, monkeypatch) / "model.safetensors"
    ).read_bytes()


def trained_two_epochs(path, tmp_path, monkeypatch):
    """The same run, stopped for good after its second epoch."""
    scripted(monkeypatch, [3.0, 1.0, 2.0])
    config, watcher = config_for(path), Silent(stop_after=2 * 13 + 1)
    (tmp_path / "two").mkdir()
    with pytest.raises(Stopped):
        trainer.Trainer(trainer.prepare(config, open_fields([str(path)])), tmp_path / "two", CPU).run_to_end(
            watcher, watcher.stop
        )
    return tmp_path / "two"


def test_without_validation_the_best_epoch_is_that_of_the_training_loss(series, tmp_path):
    watcher = Silent()
    run = trained(series, tmp_path / "run", watcher, data__split="0.8,0,0.2")
    assert "validation_loss" not in watcher.rows[0]
    assert checkpoint.load_model(run).epoch == 1 + int(np.argmin([row["training_loss"] for row in watcher.rows]))


def test_early_stopping_ends_after_so_many_epochs_without_a_better_one(series, tmp_path, monkeypatch):
    watcher = Silent()
    scripted(monkeypatch, [3.0, 1.0, 2.0, 1.0, 0.5])
    trained(series, tmp_path / "run", watcher, training__epochs=5, training__patience=2)
    assert [row["validation_loss"] for row in watcher.rows] == [3.0, 1.0, 2.0, 1.0]


def test_a_plateau_halves_the_learning_rate(series, tmp_path, monkeypatch):
    watcher = Silent()
    scripted(monkeypatch, [1.0] * 12)
    trained(
        series,
        tmp_path / "run",
        watcher,
        training__epochs=12,
        training__schedule="plateau",
        training__learning_rate=0.01,
    )
    assert [row["learning_rate"] for row in watcher.rows] == pytest.approx([0.01] * 6 + [0.005] * 5 + [0.0025])


def test_a_loss_that_leaves_the_finite_numbers_keeps_the_last_good_state(series, tmp_path, monkeypatch):
    run = trained(series, tmp_path / "run", training__epochs=1)
    before = (run / "last.ckpt").read_bytes()
    monkeypatch.setattr(trainer.loop, "weighted_loss", lambda forecast, *_: forecast.fields.sum() * math.nan)
    with pytest.raises(DivergedError, match="last good state"):
        trained(series, run, resume="auto", training__epochs=2)
    assert (run / "last.ckpt").read_bytes() == before


def test_resume_auto_starts_where_there_is_nothing_and_must_insists(series, tmp_path):
    fields, config = open_fields([str(series)]), config_for(series, training__epochs=1)
    with pytest.raises(CheckpointError, match=r"no last\.ckpt"):
        trainer.train(config, fields, tmp_path / "run", device=CPU, reporter=Silent(), resume="must")
    trainer.train(config, fields, tmp_path / "run", device=CPU, reporter=Silent(), resume="auto")
    assert checkpoint.has_state(tmp_path / "run")


def test_a_changed_configuration_is_named_key_by_key(series, tmp_path):
    run = trained(series, tmp_path / "run", training__epochs=1)
    changed = config_for(series, training__epochs=2, training__learning_rate=0.1, data__stride=2)
    with pytest.raises(CheckpointError, match=r"data.stride: 1 -> 2.*training.learning_rate: 0.002 -> 0.1"):
        trainer.train(changed, open_fields([str(series)]), run, device=CPU, reporter=Silent(), resume="auto")


def test_a_run_is_overwritten_only_when_asked_and_other_folders_never(series, tmp_path):
    run = trained(series, tmp_path / "run", training__epochs=1)
    fields, config = open_fields([str(series)]), config_for(series, training__epochs=1, training__seed=5)
    with pytest.raises(OutputError, match="--overwrite"):
        trainer.train(config, fields, run, device=CPU, reporter=Silent())
    trainer.train(config, fields, run, device=CPU, reporter=Silent(), overwrite=True)
    assert checkpoint.load_model(run).config.training.seed == 5

    letters = tmp_path / "letters"
    letters.mkdir()
    (letters / "mother.txt").write_text("dear")
    with pytest.raises(OutputError, match="exists"):
        trainer.train(config, fields, letters, device=CPU, reporter=Silent(), overwrite=True)
    assert (letters / "mother.txt").read_text() == "dear"


def test_init_from_takes_weights_and_normalisation_of_another_run(series, tmp_path):
    source = trained(series, tmp_path / "source", training__epochs=1)
    prepared = trainer.prepare(config_for(series, training__seed=9), open_fields([str(series)]), init_from=source)
    theirs = checkpoint.load_model(source).model.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in prepared.model.state_dict().items())


def test_too_few_frames_is_said_with_the_numbers(series):
    with pytest.raises(DataError, match=r"42 frames, but context=40 and horizon=9 need 49"):
        trainer.prepare(config_for(series, data__context=40, data__horizon=9), open_fields([str(series)]))


def test_a_run_that_another_process_trains_is_left_alone(series, tmp_path):
    run = trained(series, tmp_path / "run", training__epochs=1)
    with claimed(run / "train.log"), pytest.raises(OutputError, match="another process"):
        trained(series, run, resume="auto", training__epochs=2)
    assert len(metrics(run)) == 1


def test_damaged_weights_are_told_before_a_resumed_training_begins(series, tmp_path):
    run = trained(series, tmp_path / "run", training__epochs=1)
    (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:-10])
    watcher, config = Silent(), config_for(series, training__epochs=2)
    with pytest.raises(CheckpointError, match="damaged"):
        trainer.train(config, open_fields([str(series)]), run, device=CPU, reporter=watcher, resume="auto")
    assert watcher.steps == 0


def test_averaged_weights_follow_those_of_every_step(series, tmp_path):
    """After the first step the weights w; after each further one 0.75 of the average and 0.25 of the weights."""
    config = config_for(series, training__ema=0.75, training__epochs=1, training__learning_rate=0.05)
    learner = trainer.Trainer(trainer.prepare(config, open_fields([str(series)])), tmp_path / "run", CPU)
    steps = []

    class Recorder(Silent):
        def step(self, *_) -> None:
            steps.append({name: value.detach().clone() for name, value in learner.model.named_parameters()})

    (tmp_path / "run").mkdir()
    learner.run_to_end(Recorder(), lambda: None)
    expected = steps[0]
    for weights in steps[1:]:
        expected = {name: 0.75 * average + 0.25 * weights[name] for name, average in expected.items()}
    saved = dict(checkpoint.load_model(tmp_path / "run").model.named_parameters())
    assert len(steps) > 5
    assert any(not torch.allclose(expected[name], steps[-1][name], atol=1e-3) for name in expected)
    for name, average in expected.items():
        # A rounding of float32 a step.
        torch.testing.assert_close(saved[name].detach(), average, rtol=1e-5, atol=1e-6)


def write_ramps(path, frames=60):
    """Two variables that rise by 1 and by 3 a frame, the same in every cell."""
    ramp = np.arange(frames, dtype=np.float32)[:, None, None] * np.ones((6, 8), np.float32)
    fields = {"u": (("time", "y", "x"), ramp), "v": (("time", "y", "x"), 3 * ramp)}
    xr.Dataset(fields, {"time": ("time", np.arange(float(frames)), {"units": "1"})}).to_netcdf(path)
    return path


def test_validation_of_a_ramp_by_persistence_is_computed_by_hand(tmp_path):
    """An untrained network is persistence: off by 1 and by 2 steps of the ramp in a forecast of two frames.

    The variance of 42 training frames is (42^2 - 1) / 12 steps^2. Three frames of a context of four are predicted, each off by
    a step; closed-loop frames count twice: (3 * 1 + 2 * 1 + 2 * 4) / (3 + 2 * 2).
    """
    path = write_ramps(tmp_path / "ramps.nc")
    config = config_for(path, training__closed_loop_weight=2.0, training__epochs=1, training__learning_rate=1e-12)
    fields = open_fields([str(path)])
    found = trainer.Trainer(trainer.prepare(config, fields), tmp_path, CPU).validate()
    loss = 13 / 7 / ((42**2 - 1) / 12)
    assert found == {
        "validation_loss": pytest.approx(loss, rel=1e-5),
        "validation_rmse_u": pytest.approx(math.sqrt((1 + 4) / 2), rel=1e-5),
        "validation_rmse_v": pytest.approx(3 * math.sqrt((1 + 4) / 2), rel=1e-5),
    }
    watcher = Silent()
    trainer.train(config, fields, tmp_path / "run", device=CPU, reporter=watcher)
    assert watcher.rows[0]["training_loss"] == pytest.approx(loss, rel=1e-4)


def test_input_noise_is_on_the_context_in_training_alone(tmp_path):
    """Persistence of a ramp whose context has noise of variance d^2, independent from frame to frame.

    Each frame is predicted by one noisy frame: the mean of 3 + 2 errors, (3 * 1 + 1 + 4) / 5 squared steps, grows by d^2.
    """
    path = write_ramps(tmp_path / "ramps.nc")
    config = config_for(path, training__input_noise=0.5, training__epochs=1, training__learning_rate=1e-12)
    watcher = Silent()
    trainer.train(config, open_fields([str(path)]), tmp_path / "run", device=CPU, reporter=watcher)
    exact = 8 / 5 / ((42**2 - 1) / 12)
    assert watcher.rows[0]["validation_loss"] == pytest.approx(exact, rel=1e-4)
    # 14,208 draws: the variance of the noise is sure to about 1 %.
    assert watcher.rows[0]["training_loss"] == pytest.approx(exact + 0.5**2, rel=0.05)


def gradient_norms(path, run, **options):
    """The norm of the gradient of each step of an epoch."""
    config = config_for(path, training__epochs=1, **options)
    learner = trainer.Trainer(trainer.prepare(config, open_fields([str(path)])), run, CPU)
    norms = []

    class Recorder(Silent):
        def step(self, *_) -> None:
            gradients = [parameter.grad for parameter in learner.model.parameters() if parameter.grad is not None]
            norms.append(math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients)))

    run.mkdir()
    learner.run_to_end(Recorder(), lambda: None)
    return norms


def test_gradients_are_clipped_to_the_largest_norm(series, tmp_path):
    free = gradient_norms(series, tmp_path / "free", training__clip=0)
    clip = min(free) / 2
    clipped = gradient_norms(series, tmp_path / "clipped", training__clip=clip, training__learning_rate=1e-12)
    assert clipped == pytest.approx([clip] * len(free), rel=1e-3)


def test_the_cosine_spans_all_steps_of_all_epochs(series, tmp_path):
    """37 windows of 6 frames in 42 are 13 steps of 3: the last steps of three epochs are number 12, 25 and 38 of 39."""
    watcher = Silent()
    trained(series, tmp_path / "run", watcher, training__learning_rate=0.01)
    expected = [0.005 * (1 + math.cos(math.pi * step / 39)) for step in (12, 25, 38)]
    assert [row["learning_rate"] for row in watcher.rows] == pytest.approx(expected, rel=1e-9)


def test_of_equally_good_epochs_the_first_is_the_best(series, tmp_path, monkeypatch):
    scripted(monkeypatch, [2.0, 1.0, 1.0])
    assert checkpoint.load_model(trained(series, tmp_path / "run")).epoch == 2


@pytest.mark.parametrize("name", ["minconvlstm", "var"])
def test_every_session_of_a_training_advances_however_soon_it_is_stopped(name, trajectories, tmp_path):
    """One step, one validation of several batches, or one fit at a time."""
    options = smallest(name) | {"data__split": "0.2,0.7,0.1", "training__epochs": 2}
    whole = trained(trajectories, tmp_path / "whole", **options)
    config, fields, run = config_for(trajectories, **options), open_fields([str(trajectories)]), tmp_path / "run"
    sessions = 0
    while True:
        sessions += 1
        session = trainer.Trainer(trainer.prepare(config, fields), run, CPU)
        if sessions == 1:
            run.mkdir()
            checkpoint.save_config(run, config)
        else:
            session.restore()
        try:
            session.run_to_end(Silent(), lambda: "time limit")
            break
        except Stopped:
            assert sessions < 100
    assert_same_state(whole, run)
    assert metrics(whole) == metrics(run)
