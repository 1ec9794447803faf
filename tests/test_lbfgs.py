"""L-BFGS on u**2 / 2 from u = 8, whose steps are exact in binary numbers: no processor rounds any of them.

The gradient is 8, so that the first trial, of length 1 / 8, is at 7; the strong Wolfe conditions accept it.
"""

from itertools import product

import pytest
import torch

from forecast_cli.errors import DivergedError
from forecast_cli.trainer.lbfgs import LBFGS, SHORTER


class Parabola:
    """Evaluates u**2 / 2 and records where; `refuse` says of (number of the evaluation, u) whether it fails."""

    def __init__(self, refuse, *, evaluations=5, iterations=1):
        self.u = torch.nn.Parameter(torch.tensor([8.0], dtype=torch.float64))
        self.refuse, self.places = refuse, []
        self.optimizer = LBFGS(
            [self.u],
            max_iter=iterations,
            max_eval=evaluations,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

    def step(self):
        return self.optimizer.step(self._closure).item()

    def _closure(self):
        place = self.u.item()
        self.places.append(place)
        if self.refuse(len(self.places) - 1, place):
            raise DivergedError("too steep")
        self.optimizer.zero_grad()
        loss = (self.u**2).sum() / 2
        loss.backward()
        return loss


def test_without_a_refusal_the_second_iteration_is_newtons():
    parabola = Parabola(lambda *_: False, iterations=2)
    assert parabola.step() == 32
    assert parabola.places == [8, 7, 0]


def test_after_a_refused_trial_comes_the_middle_of_the_bracket():
    """Between 8 and 7, then between the lowest finite place and the highest refused one."""
    parabola = Parabola(lambda _, u: u < 7.25)
    parabola.step()
    assert parabola.places == [8, 7, 7.5, 7.25, 7.125, 7.1875]
    assert parabola.u.item() == 7.25


@pytest.mark.parametrize("slope", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_is_refused(slope):
    parabola = Parabola(lambda *_: False, evaluations=3)
    parabola.u.register_hook(lambda gradient: gradient.clone().fill_(slope) if parabola.u.item() == 7 else gradient)
    parabola.step()
    assert parabola.places == [8, 7, 7.5, 7.25]


def test_where_the_first_evaluation_of_a_step_is_refused_it_goes_halfway_back_to_the_step_before():
    parabola = Parabola(lambda number, _: number in (2, 3))
    parabola.step()
    assert parabola.places == [8, 7]
    assert parabola.step() == 7.75**2 / 2
    assert parabola.places[2:5] == [7, 7.5, 7.75]
    assert parabola.places[5] == 6.75  # steepest descent by 1 again


def test_where_all_between_two_steps_is_refused_it_goes_back_to_the_step_before():
    parabola = Parabola(lambda _, u: 7 <= u < 8 and len(parabola.places) > 2)
    parabola.step()
    assert parabola.step() == 32
    assert parabola.places[2:9] == [7, 7.5, 7.75, 7.875, 7.9375, 7.96875, 8]


def test_the_step_before_is_part_of_the_state():
    first = Parabola(lambda *_: False)
    first.step()
    second = Parabola(lambda number, _: number == 0)
    with torch.no_grad():
        second.u.fill_(7)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert second.step() == 7.5**2 / 2
    assert second.places[:2] == [7, 7.5]


def test_a_restart_forgets_the_curvature_alone():
    parabola = Parabola(lambda number, _: number == 2)
    parabola.step()
    parabola.optimizer.restart()
    assert parabola.step() == 7.5**2 / 2
    assert parabola.places[2:5] == [7, 7.5, 6.5]


def test_where_all_trials_are_refused_nothing_moves_and_the_next_first_trial_is_shorter():
    parabola = Parabola(lambda _, u: u < 7.6, evaluations=2)
    parabola.step()
    assert parabola.places == [8, 7, 7.5]
    assert parabola.u.item() == 8
    assert parabola.optimizer.is_blocked
    parabola.step()
    assert parabola.places[3:5] == [8, 8 - SHORTER]
    assert parabola.u.item() == 7.75  # though the trial after it was refused
    assert not parabola.optimizer.is_blocked


def test_without_a_finite_start_there_is_no_loss_and_no_move():
    parabola = Parabola(lambda *_: True)
    assert parabola.step() != parabola.step()
    assert parabola.places == [8, 8]
    assert parabola.u.item() == 8


@pytest.mark.parametrize("iterations", [1, 3])
def test_whichever_evaluations_are_refused_no_step_raises_the_loss_or_leaves_the_finite_numbers(iterations):
    """All sequences of the first nine evaluations, of which the first has to be finite."""
    for refused in product((False, True), repeat=8):
        pattern = (False, *refused)
        parabola = Parabola(lambda number, _, p=pattern: number < len(p) and p[number], iterations=iterations)
        for _ in range(3):
            parabola.step()
            assert abs(parabola.u.item()) <= 8
        for _ in range(9):
            parabola.step()
        assert abs(parabola.u.item()) < 1e-3


def test_a_direction_beyond_the_finite_numbers_leaves_the_parameters_where_they_were():
    """Its product with a step length of 0 is not a number."""
    parabola = Parabola(lambda *_: False)
    parabola.step()
    with torch.no_grad():
        parabola.optimizer.state[parabola.u]["prev_flat_grad"].fill_(9)
        parabola.optimizer.state[parabola.u]["old_stps"] = [torch.tensor([torch.inf], dtype=torch.float64)]
        parabola.optimizer.state[parabola.u]["old_dirs"] = [torch.tensor([0.0], dtype=torch.float64)]
        parabola.optimizer.state[parabola.u]["ro"] = [torch.tensor(1.0, dtype=torch.float64)]
    parabola.step()
    assert parabola.u.item() == 7
    parabola.step()
    assert parabola.u.item() < 7
