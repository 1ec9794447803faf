"""Many steps at once, in C and in torch, are those of `ShallowWater.forward_backward`, and their adjoint is that of autograd."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from forecast_cli import native
from forecast_cli.equations import wave_adjoint
from forecast_cli.equations.shallow_water import ShallowWater
from forecast_cli.physics.grid import Grid
from forecast_cli.physics.integrate import Solver, frames

CELLS = (7, 9)
INTERVAL, STEPS, COUNT = 3000.0, 3, 5
SOURCE = Path(wave_adjoint.__file__).with_name("waves.c")
PHYSICS = {
    "rotating": {"coriolis": 1e-4, "beta": 2e-11},
    "still": {"coriolis": 0.0, "beta": 0.0},
    "rubbing": {"coriolis": -1e-4, "beta": 0.0, "friction": 2e-5},
}


class StepByStep(ShallowWater):
    """The oracle: autograd through one step after the other."""

    def waves(self, *_: object) -> None:
        return None


@pytest.fixture(params=["C", "torch"])
def backend(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(native, "load", lambda _: None)
    elif native.load(SOURCE) is None:
        pytest.skip("no C compiler")


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def rollout(
    kind: type[ShallowWater],
    scheme: str,
    physics: dict[str, float],
    state: Tensor,
    depth: Tensor,
    gravity: Tensor | float,
) -> Tensor:
    grid = Grid.uniform(CELLS, ((-3e5, 2e5), (0.0, 1e6)), units="m")
    equation = kind.build(grid, parameters=physics, boundaries={}, closures={}, scheme=scheme)
    equation = replace(equation, static=depth, parameters={**equation.parameters, "gravity": gravity})
    return frames(equation, state, INTERVAL, COUNT, Solver("forward-backward", STEPS))


def gradients(
    kind: type[ShallowWater], scheme: str, physics: dict[str, float], batch: int, depths: int, dtype: torch.dtype
) -> list[Tensor]:
    """Frames, and the gradients of a random sum of them with respect to state, depth and gravity."""
    state, depth = draw(batch, 3, *CELLS, dtype=dtype), 80 + 5 * draw(depths, 1, *CELLS, seed=1, dtype=dtype)
    gravity = torch.tensor(9.81, dtype=dtype)
    leaves = [leaf.requires_grad_() for leaf in (state, depth, gravity)]
    found = rollout(kind, scheme, physics, *leaves)
    return [found.detach(), *torch.autograd.grad((found * draw(*found.shape, seed=2, dtype=dtype)).sum(), leaves)]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("stored", [2**24, 1000], ids=["whole", "in segments"])
@pytest.mark.parametrize(("batch", "depths"), [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("scheme", ["upwind", "centred"])
@pytest.mark.parametrize("physics", PHYSICS)
def test_frames_and_gradients_are_those_of_autograd(physics, scheme, batch, depths, stored, monkeypatch):
    """To rounding: a relative 1e-12 of the largest value."""
    monkeypatch.setattr(wave_adjoint, "STORED_BYTES", stored)
    mine = gradients(ShallowWater, scheme, PHYSICS[physics], batch, depths, torch.float64)
    oracle = gradients(StepByStep, scheme, PHYSICS[physics], batch, depths, torch.float64)
    for found, expected in zip(mine, oracle, strict=True):
        assert_close(found, expected, rtol=0, atol=1e-12 * expected.abs().max().item())


@pytest.mark.usefixtures("backend")
def test_single_precision_agrees_to_its_rounding():
    """15 steps gather some ten roundings of 6e-8."""
    mine = gradients(ShallowWater, "upwind", PHYSICS["rotating"], 1, 1, torch.float32)
    oracle = gradients(StepByStep, "upwind", PHYSICS["rotating"], 1, 1, torch.float64)
    for found, expected in zip(mine, oracle, strict=True):
        assert found.dtype == torch.float32
        assert_close(found.double(), expected, rtol=0, atol=2e-5 * expected.abs().max().item())


@pytest.mark.usefixtures("backend")
def test_velocities_on_walls_count_for_nothing():
    state, depth = draw(1, 3, *CELLS), 80 + 5 * draw(1, 1, *CELLS, seed=1)
    walls = state.clone()
    walls[:, 1, :, -1] += 1
    walls[:, 2, -1] += 1
    first, second = (rollout(ShallowWater, "upwind", PHYSICS["rotating"], s, depth, 9.81) for s in (state, walls))
    assert torch.equal(first, second)
    assert not first[:, :, 1, :, -1].any()
    assert not first[:, :, 2, -1].any()


@pytest.mark.usefixtures("backend")
def test_a_lake_at_rest_stays_at_rest():
    """Bit for bit, over a rough bed."""
    state = F.pad(torch.full((1, 1, *CELLS), 0.7, dtype=torch.float64), (0, 0, 0, 0, 0, 2))
    found = rollout(ShallowWater, "upwind", PHYSICS["rubbing"], state, 80 + 5 * draw(1, 1, *CELLS), 9.81)
    assert torch.equal(found, state.unsqueeze(1).expand_as(found))


@pytest.mark.usefixtures("backend")
def test_going_back_twice_gives_the_same(monkeypatch):
    monkeypatch.setattr(wave_adjoint, "STORED_BYTES", 1000)
    depth = (80 + 5 * draw(1, 1, *CELLS)).requires_grad_()
    found = rollout(ShallowWater, "upwind", PHYSICS["rotating"], draw(1, 3, *CELLS), depth, 9.81).square().sum()
    once = torch.autograd.grad(found, depth, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(found, depth)[0], once)


def test_a_learned_closure_takes_the_way_of_autograd():
    """Whatever it is, its gradient must flow."""
    grid = Grid.uniform(CELLS, ((0.0, 1e6), (0.0, 1e6)), units="m")
    factor = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    equation = ShallowWater.build(grid, parameters={}, boundaries={}, closures={})
    equation = replace(
        equation,
        static=torch.full((1, 1, *CELLS), 80.0, dtype=torch.float64),
        closures={"transport": lambda inputs: factor * inputs[:, :1] * inputs[:, 1:]},
    )
    found = frames(equation, draw(1, 3, *CELLS), INTERVAL, 2, Solver("forward-backward", STEPS))
    assert torch.autograd.grad(found.square().sum(), factor)[0].abs() > 0
