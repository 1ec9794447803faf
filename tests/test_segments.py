"""Rollouts cut into segments, and lbfgs, which takes all of them at once."""

import contextlib

import numpy as np
import pytest
import torch
from test_trainer import Silent, metrics

from forecast_cli import checkpoint, trainer
from forecast_cli.config import load_config
from forecast_cli.data.fields import open_fields
from forecast_cli.data.windows import Batch
from forecast_cli.errors import ConfigError, DivergedError, Stopped
from forecast_cli.objective import cut, next_segment, segment_of
from forecast_cli.simulate.finite_volumes import Plan, simulate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def burgers(tmp_path_factory):
    path = tmp_path_factory.mktemp("burgers") / "burgers.nc"
    simulate(Plan("burgers", grid=(16,), frames=13, duration=0.3), path)
    return path


def config_for(path, **options):
    given = {
        "model.name": "finn",
        "model.equation": "burgers",
        "model.learn": "advection,D",
        "model.solver": "heun",
        "data.split": "9,0,4",
        "data.split_along": "time",
        "training.epochs": 4,
        "training.iterations": 3,
        "training.segments": "2,0",
        "data.files": (str(path),),
    }
    return load_config(options=given | {key.replace("__", "."): value for key, value in options.items()})


def trained(path, run, watcher=None, **options):
    trainer.train(config_for(path, **options), open_fields([str(path)]), run, device=CPU, reporter=watcher or Silent())
    return run


def test_segments_start_at_true_frames_and_cover_the_window():
    frames = torch.arange(2 * 11.0).view(2, 11, 1, 1, 1)
    forcing, static = frames.clone(), torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    pieces = cut(Batch(frames, static, forcing), 4)
    assert pieces.frames[:, 0].flatten().tolist() == [0, 11, 4, 15, 6, 17]
    assert pieces.frames[:, -1].flatten().tolist() == [4, 15, 8, 19, 10, 21]
    assert pieces.static.flatten().tolist() == [1, 2, 1, 2, 1, 2]
    assert torch.equal(pieces.frames, pieces.forcing)
    for whole in (0, 10, 99):
        assert cut(Batch(frames, static, forcing), whole).frames is frames


def test_segments_take_equal_turns():
    training = load_config(assignments=["training.segments=5,20,0", "training.epochs=9"]).training
    assert [segment_of(training, epoch) for epoch in range(10)] == [5] * 3 + [20] * 3 + [0] * 4
    assert [next_segment(training, epoch) for epoch in (0, 2, 4, 6, 8)] == [3, 3, 6, 9, 9]
    assert segment_of(load_config().training, 3) == 0


def test_segments_need_a_context_of_one(burgers):
    with pytest.raises(ConfigError, match=r"need data.context = 1, not 3"):
        trained(burgers, burgers.parent / "never", data__context=3)


def test_a_horizon_of_zero_is_all_that_there_is(burgers, tmp_path):
    run = trained(burgers, tmp_path / "run", training__epochs=1)
    assert checkpoint.load_model(run).config.data.horizon == 8
    prepared = trainer.prepare(config_for(burgers, data__split="7,3,3"), open_fields([str(burgers)]))
    assert (prepared.training.length, prepared.validation.length) == (7, 3)


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_lbfgs_resumed_takes_the_steps_of_an_uninterrupted_run(burgers, tmp_path, stop_after):
    """Its memory of past gradients is part of the state, also across the change of segments."""
    straight = trained(burgers, tmp_path / "straight")
    config, fields = config_for(burgers), open_fields([str(burgers)])
    run, watcher = tmp_path / "resumed", Silent(stop_after)
    run.mkdir()
    started = trainer.Trainer(trainer.prepare(config, fields), run, CPU)
    checkpoint.save_config(run, started.config)
    with pytest.raises(Stopped):
        started.run_to_end(watcher, watcher.stop)
    trainer.train(config, fields, run, device=CPU, reporter=Silent(), resume="must")
    assert metrics(straight) == metrics(run)
    assert (straight / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_lbfgs_lowers_the_loss_and_tells_that_of_whole_windows(burgers, tmp_path):
    watcher = Silent()
    run = trained(burgers, tmp_path / "run", watcher, training__epochs=6, training__iterations=10)
    losses = [row["training_loss"] for row in watcher.rows]
    assert losses[-1] < 0.05 * losses[0]
    saved, fields = checkpoint.load_model(run), open_fields([str(burgers)])
    frames = torch.from_numpy(fields.read(0, 0, 9))[None]
    errors = (saved.model(frames[:, :1], 8).fields - frames[:, 1:]) / saved.model.scale
    assert errors.square().mean().item() == pytest.approx(min(losses), rel=1e-4)


def test_lbfgs_that_has_come_to_rest_goes_on_to_the_next_segments_and_then_ends(burgers, tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, 2.0, 1.0, 0.5, 0.5])
    monkeypatch.setattr(trainer.Trainer, "_loss_after", lambda _: next(losses))
    watcher = Silent()
    trained(burgers, tmp_path / "run", watcher, training__epochs=20)
    assert [row["epoch"] for row in watcher.rows] == [1, 2, 3, 11, 12, 13]


@pytest.mark.parametrize(("every", "last"), [(3, 2), (3, 1), (2, 1), (4, 3), (5, 4)])
def test_a_trial_beyond_the_finite_numbers_is_a_wall_for_the_line_search(burgers, tmp_path, monkeypatch, every, last):
    """One rollout of `every` fails, be it that of a trial or the first of an epoch; training stays finite."""
    real, count = trainer.Trainer._gradient, iter(range(10**6))

    def sometimes(self, pieces):
        if next(count) % every == last:
            raise DivergedError("too steep")
        return real(self, pieces)

    monkeypatch.setattr(trainer.Trainer, "_gradient", sometimes)
    watcher = Silent()
    trained(burgers, tmp_path / "run", watcher)
    assert np.isfinite([row["training_loss"] for row in watcher.rows]).all()


def test_a_start_beyond_the_finite_numbers_is_an_error(burgers, tmp_path, monkeypatch):
    def never(*_):
        raise DivergedError("too steep")

    monkeypatch.setattr(trainer.Trainer, "_gradient", never)
    with pytest.raises(DivergedError, match="the loss became nan"):
        trained(burgers, tmp_path / "run")


def test_adamw_trains_a_finn_too(burgers, tmp_path):
    watcher = Silent()
    options = {"training__optimizer": "adamw", "training__epochs": 40, "training__learning_rate": 0.02}
    run = trained(burgers, tmp_path / "run", watcher, **options)
    losses = [row["training_loss"] for row in watcher.rows]
    assert min(losses) < 0.1 * losses[0]
    # Losses of segments and of whole windows are not alike: what is told, and chosen by, is always that of whole ones.
    assert checkpoint.load_model(run).epoch == 1 + int(np.argmin(losses)) > 20


def test_an_equation_with_nothing_to_learn_is_kept_as_it_is(burgers, tmp_path):
    watcher = Silent()
    run = trained(burgers, tmp_path / "run", watcher, model__learn=(), training__epochs=5)
    assert len(watcher.rows) == 1  # there is nothing to wait for
    assert sum(parameter.numel() for parameter in checkpoint.load_model(run).model.parameters()) == 0
    assert watcher.rows[-1]["training_loss"] < 1e-6
    assert not (run / "closures.nc").exists()


def test_what_fails_on_the_whole_may_go_on_with_segments(burgers, tmp_path, monkeypatch):
    losses = iter([np.inf, np.inf, 0.5, 0.4])
    monkeypatch.setattr(trainer.Trainer, "_loss_after", lambda _: next(losses))
    watcher = Silent()
    run = trained(burgers, tmp_path / "run", watcher)
    assert checkpoint.load_model(run).epoch == 4
    monkeypatch.setattr(trainer.Trainer, "_loss_after", lambda _: np.inf)
    with pytest.raises(DivergedError, match="nothing was saved"):
        trained(burgers, tmp_path / "other")
    assert not (tmp_path / "other" / "model.safetensors").exists()


@pytest.mark.parametrize("solver", ["dopri5", "heun"])
def test_a_steep_trial_costs_no_more_than_some_times_the_steps_of_the_known_equation(burgers, solver, monkeypatch):
    """Its memory and time would else have no bound: such trials are common in a line search."""
    options = {"model__solver": solver, "model__learn": "advection", "training__segments": ()}
    model = trainer.prepare(config_for(burgers, **options), open_fields([str(burgers)])).model.train()
    with torch.no_grad():
        model.closures["advection"].network.layers[-1].weight.mul_(1e6)
    kind, calls = type(model.equation), []
    tendency = kind.tendency
    monkeypatch.setattr(kind, "tendency", lambda self, state: calls.append(1) or tendency(self, state))
    start = torch.from_numpy(open_fields([str(burgers)]).read(0, 0, 1))[None]
    with contextlib.suppress(DivergedError):
        model(start, 8)
    assert len(calls) <= 6 * (50 + 10)  # 50 to find a first step, and 1.05 a frame


def test_what_nothing_depends_on_cannot_be_learned(tmp_path):
    path = tmp_path / "sorption.nc"
    simulate(Plan("diffusion-sorption", frames=6, duration=30.0), path)
    options = {"model__equation": "diffusion-sorption", "model__learn": "s_max", "data__split": "6,0,0"}
    with pytest.raises(ConfigError, match="nothing here depends on s_max"):
        trained(path, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_step_that_is_too_long_is_refused_before_anything_is_written(burgers, tmp_path):
    options = {"model__learn": (), "model__solver": "euler", "model__time_step": 0.025, "model__parameters": {"D": 1.0}}
    with pytest.raises(ConfigError, match="the limit of euler is"):
        trained(burgers, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_run_stopped_at_the_end_of_an_epoch_goes_on_under_the_command_line(burgers, tmp_path):
    """Its first word to the reporter is then that the epoch is closed."""
    from forecast_cli.cli.train import _Reporter

    config, fields = config_for(burgers), open_fields([str(burgers)])
    run, watcher = tmp_path / "run", Silent(1)
    run.mkdir()
    started = trainer.Trainer(trainer.prepare(config, fields), run, CPU)
    checkpoint.save_config(run, started.config)
    with pytest.raises(Stopped):
        started.run_to_end(watcher, watcher.stop)
    with _Reporter() as reporter:
        progress = trainer.train(config, fields, run, device=CPU, reporter=reporter, resume="must")
    assert progress.epoch == config.training.epochs
