"""Steppers and adaptive solvers: their orders, where they become unstable, and steps that are refused."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from forecast_cli.equations.allen_cahn import AllenCahn
from forecast_cli.equations.diffusion_reaction import DiffusionReaction
from forecast_cli.errors import ConfigError, DivergedError
from forecast_cli.physics.grid import Grid
from forecast_cli.physics.integrate import ADAPTIVE, MARGIN, REACH, STEPPERS, Solver, frames, stable_steps, steps_of
from forecast_cli.physics.terms import Closure

ORDERS = {"euler": 1, "heun": 2, "rk4": 4}


@dataclass(frozen=True)
class Rate:
    """du/dt = f(u)"""

    tendency: Closure


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def fitted_order(steps: tuple[int, ...], errors: list[float]) -> float:
    """The order at which the error falls with the number of steps: the slope in a log-log plot."""
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def reaction_alone() -> AllenCahn:
    """du/dt = 5 (u - u^3) in every cell."""
    grid = Grid.uniform((5,), ((-1.0, 1.0),))
    return AllenCahn.build(grid, parameters={"D": 0.0}, boundaries={}, closures={})


def reacted(start: Tensor, time: float) -> Tensor:
    """u / sqrt(u^2 + (1 - u^2) exp(-2 k t)), the exact solution."""
    return start / torch.sqrt(start**2 + (1 - start**2) * math.exp(-10 * time))


START = numbers(-0.6, -0.1, 0.05, 0.3, 0.8)


@pytest.mark.parametrize("name", ORDERS)
def test_the_error_of_a_known_solution_falls_at_the_order_of_the_stepper(name):
    steps = (8, 16, 32, 64)
    errors = [
        (frames(reaction_alone(), START, 0.3, 1, Solver(name, n))[:, 0] - reacted(START, 0.3)).abs().max().item()
        for n in steps
    ]
    assert fitted_order(steps, errors) == pytest.approx(ORDERS[name], abs=0.2)


@pytest.mark.parametrize("name", ORDERS)
def test_the_error_of_diffusion_and_reaction_falls_at_the_order_of_the_stepper(name):
    """Against 640 steps of rk4 with the same cells."""
    grid = Grid.uniform((5, 6), ((-1.0, 1.0), (-1.0, 1.0)))
    equation = DiffusionReaction.build(grid, parameters={"D_u": 0.05}, boundaries={}, closures={})
    start = 0.3 * torch.randn(1, 2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact = frames(equation, start, 1.0, 1, Solver("rk4", 640))
    steps = (40, 80, 160)
    errors = [(frames(equation, start, 1.0, 1, Solver(name, n)) - exact).abs().max().item() for n in steps]
    assert fitted_order(steps, errors) == pytest.approx(ORDERS[name], abs=0.2)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_an_adaptive_solver_keeps_its_tolerance(name):
    """Within ten tolerances after three frames; a looser one is worse, so that the tolerance has an effect.

    Frames that are interpolated between steps miss 1e-8 by some 5e-6 with bosh3 and dopri8.
    """
    exact = torch.stack([reacted(START, 0.1 * n) for n in (1, 2, 3)], dim=1)
    loose, tight = (
        (frames(reaction_alone(), START, 0.1, 3, Solver(name, tolerance=t)) - exact).abs().max() for t in (1e-3, 1e-8)
    )
    assert tight < 1e-7
    assert tight < loose < 1e-2


@pytest.mark.parametrize("name", ADAPTIVE)
def test_adaptive_frames_continue_where_they_stopped(name):
    """To ten tolerances, for the steps are chosen anew."""
    solver = Solver(name, tolerance=1e-8)
    whole = frames(reaction_alone(), START, 0.1, 4, solver)
    first = frames(reaction_alone(), START, 0.1, 2, solver)
    second = frames(reaction_alone(), first[:, -1], 0.1, 2, solver)
    assert_close(torch.cat([first, second], dim=1), whole, rtol=0, atol=1e-7)


def test_the_tolerance_of_a_small_variable_is_a_small_one():
    """`scale` is the size of each variable: a variable of 1e-6 keeps as many digits as one of 1."""
    decay = Rate(lambda u: -3 * u)
    start = torch.tensor([1.0, 1e-6], dtype=torch.float64).view(1, 2, 1, 1)
    scale = start[0]
    end = frames(decay, start[:, 1:], 1.0, 1, Solver("dopri5", tolerance=1e-6, scale=scale[1:]))[:, 0]
    assert_close(end, start[:, 1:] * math.exp(-3), rtol=1e-5, atol=0)
    careless = frames(decay, start[:, 1:], 1.0, 1, Solver("dopri5", tolerance=1e-6))[:, 0]
    assert (careless / start[:, 1:] - math.exp(-3)).abs() > 1e-5


def test_an_adaptive_solver_says_that_the_state_leaves_the_finite_numbers():
    """du/dt = u^2 from 1 is infinite at t = 1."""
    with pytest.raises(DivergedError, match="dopri5 found no step small enough"):
        frames(Rate(lambda u: u**2), numbers(1.0), 2.0, 1, Solver("dopri5"))


@pytest.mark.parametrize("name", REACH)
def test_decay_faster_than_the_reach_of_a_stepper_blows_up_and_slower_does_not(name):
    for share, grows in ((0.999, False), (1.001, True)):
        rate = share * REACH[name]
        decay = Rate(lambda u, rate=rate: -rate * u)
        end = frames(decay, numbers(1.0), 10000.0, 1, Solver(name, steps=10000))
        assert (end.abs().item() > 1) == grows


@pytest.mark.parametrize("name", ORDERS)
def test_frames_are_the_states_after_each_interval(name):
    whole = frames(reaction_alone(), START, 0.1, 4, Solver(name, steps=3))
    assert whole.shape == (1, 4, 1, 1, 5)
    state = START
    for frame in whole.unbind(1):
        for _ in range(3):
            state = STEPPERS[name](reaction_alone(), state, 0.1 / 3)
        assert torch.equal(frame, state)


@pytest.mark.parametrize("interval", [0.01, 0.3, 1.0, 7.7])
@pytest.mark.parametrize("limit", [0.02, 0.3, 1.0])
def test_the_steps_that_are_chosen_are_the_fewest_that_keep_the_margin(interval, limit):
    steps = stable_steps(interval, limit)
    assert interval / steps <= MARGIN * limit * (1 + 1e-6)
    assert steps == 1 or interval / (steps - 1) > MARGIN * limit


def test_what_is_always_stable_takes_one_step():
    assert stable_steps(5.0, math.inf) == 1


@pytest.mark.parametrize(
    ("interval", "time_step", "steps"), [(1.0, 0.25, 4), (1.0, 0.3, 4), (1.0, 5.0, 1), (0.3, 0.1, 3)]
)
def test_steps_fill_the_interval_and_are_no_longer_than_asked_for(interval, time_step, steps):
    assert steps_of(interval, time_step, 2.0, name="heun", where="--time-step") == steps


def test_a_step_at_the_limit_is_taken():
    assert steps_of(1.0, 0.1, 0.1, name="heun", where="--time-step") == 10


@pytest.mark.parametrize("time_step", [0.2, 0.1001])
def test_a_step_beyond_the_limit_is_refused_with_the_limit(time_step):
    with pytest.raises(ConfigError, match=r"model.time_step .* are unstable; the limit of rk4 is 0\.099 here"):
        steps_of(1.0, time_step, 0.099, name="rk4", where="model.time_step")


def test_steps_that_would_never_end_are_refused():
    with pytest.raises(ConfigError, match=r"--time-step 1e-30: 1e\+30 steps to a frame"):
        steps_of(1.0, 1e-30, math.inf, name="heun", where="--time-step")


@pytest.mark.parametrize("time_step", [0.0, -1.0, math.nan, math.inf])
def test_a_step_that_is_no_positive_number_is_refused(time_step):
    with pytest.raises(ConfigError, match=f"--time-step {time_step:g}: expected a positive number"):
        steps_of(1.0, time_step, 0.1, name="heun", where="--time-step")
