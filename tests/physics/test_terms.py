"""Terms of an equation: how fast they converge, and what they conserve."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from forecast_cli.physics.boundary import SIDES, Condition
from forecast_cli.physics.grid import Grid
from forecast_cli.physics.integrate import Solver, frames
from forecast_cli.physics.terms import (
    Diffusion,
    FiniteVolumes,
    LimitedAdvection,
    Reaction,
    Scaled,
    Source,
    Term,
    UpwindAdvection,
)

WAVE = 2 * math.pi
LINE = Grid.uniform((12,), ((0.0, 1.5),))
PLANE = Grid.uniform((6, 9), ((0.0, 0.6), (0.0, 1.8)))


def fitted_order(cells: tuple[int, ...], errors: list[float]) -> float:
    """The order at which the error falls with the number of cells: the slope in a log-log plot."""
    return -float(np.polyfit(np.log(cells), np.log(errors), 1)[0])


def unit_grid(cells: int, dimensions: int) -> tuple[Grid, list[Tensor]]:
    """Cells on (0, 1) or its square, and their centres along (x,) or (y, x)."""
    grid = Grid.uniform((cells,) * dimensions, ((0.0, 1.0),) * dimensions)
    return grid, [torch.as_tensor(places).expand(1, 1, *grid.shape) for places in grid.centres()]


def everywhere(kind: str, value: float = 0.0) -> dict[str, Condition]:
    return dict.fromkeys(SIDES, Condition(kind, value))


def random_state(grid: Grid, channels: int = 1, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(batch, channels, *grid.shape, dtype=torch.float64, generator=generator)


class Flow:
    """Finite volumes as a system that can be integrated."""

    def __init__(self, grid: Grid, conditions: dict[str, Condition], *terms: Term) -> None:
        self.tendency = FiniteVolumes(grid, conditions, terms)


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("boundary", ["dirichlet", "periodic"])
def test_diffusion_of_a_sine_converges_at_second_order(boundary, dimensions):
    """A product of sines over 0.4 decays at the rate D k^2 of each; time steps fall with dx^2, so that rk4 adds nothing."""
    number = math.pi if boundary == "dirichlet" else WAVE
    cells, errors, diffusivity, duration = (8, 16, 32), [], 0.1, 0.15
    for count in cells:
        grid, places = unit_grid(count, dimensions)
        phase = 0.0 if boundary == "dirichlet" else 0.4
        start = math.prod(torch.sin(number * place + phase) for place in places)
        flow = Flow(grid, everywhere(boundary, 0.4), Diffusion(diffusivity))
        end = frames(flow, 0.4 + start, duration, 1, Solver("rk4", steps=max(1, count**2 // 12)))[:, 0]
        exact = 0.4 + start * math.exp(-diffusivity * dimensions * number**2 * duration)
        errors.append((end - exact).abs().max().item())
    assert fitted_order(cells, errors) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_diffusion_that_depends_on_the_state_converges_at_second_order(dimensions):
    """div((1 + u^2) grad u) against its exact value, for u = sin(2 pi x + 0.3) [sin(2 pi y + 0.3)]."""
    cells, errors = (16, 32, 64), []
    for count in cells:
        grid, places = unit_grid(count, dimensions)
        places = [place.clone().requires_grad_() for place in places]
        state = math.prod(torch.sin(WAVE * place + 0.3) for place in places)
        exact = torch.zeros_like(state)
        for place in places:
            (slope,) = torch.autograd.grad(state.sum(), place, create_graph=True)
            exact = exact + torch.autograd.grad(((1 + state**2) * slope).sum(), place, create_graph=True)[0]
        volumes = FiniteVolumes(grid, everywhere("periodic"), (Diffusion(lambda u: 1 + u**2), Source(-exact)))
        errors.append(volumes(state).abs().max().item())
    assert fitted_order(cells, errors) == pytest.approx(2, abs=0.2)


def test_a_steady_state_of_diffusion_that_depends_on_the_state_converges_at_second_order():
    """((1 + u) u_x)_x = 0 between u = 0 and 1: (1 + u)^2 = 1 + 3 x."""
    cells, errors = (8, 16, 32, 64), []
    for count in cells:
        grid, (x,) = unit_grid(count, 1)
        conditions = {"left": Condition("dirichlet", 0.0), "right": Condition("dirichlet", 1.0)}
        volumes = FiniteVolumes(grid, conditions, (Diffusion(lambda u: 1 + u),))
        state = x.clone()
        for _ in range(6):  # Newton's method: 6 iterations reach rounding
            slopes = torch.autograd.functional.jacobian(volumes, state).reshape(count, count)
            state = state - torch.linalg.solve(slopes, volumes(state).flatten()).view_as(state)
        errors.append((state - (torch.sqrt(1 + 3 * x) - 1)).abs().max().item())
    assert fitted_order(cells, errors) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("velocity", [1.0, -1.0])
def test_upwind_advection_of_a_travelling_wave_converges_at_first_order(velocity):
    cells, errors, duration = (64, 128, 256), [], 0.1
    for count in cells:
        grid, (x,) = unit_grid(count, 1)
        flow = Flow(grid, everywhere("periodic"), UpwindAdvection(lambda u: torch.full_like(u, velocity)))
        end = frames(flow, torch.sin(WAVE * x), duration, 1, Solver("rk4", steps=count // 8))[:, 0]
        errors.append((end - torch.sin(WAVE * (x - velocity * duration))).abs().max().item())
    assert fitted_order(cells, errors) == pytest.approx(1, abs=0.2)


def test_a_manufactured_upwind_advection_in_the_plane_converges_at_first_order():
    """-u (u_x + u_y) + s = 0 for u = sin(2 pi x) cos(2 pi y): both directions of the flow, and its turning points."""
    cells, errors = (32, 64, 128), []
    for count in cells:
        grid, (y, x) = unit_grid(count, 2)
        state = torch.sin(WAVE * x) * torch.cos(WAVE * y)
        slopes = WAVE * (torch.cos(WAVE * x) * torch.cos(WAVE * y) - torch.sin(WAVE * x) * torch.sin(WAVE * y))
        terms = (UpwindAdvection(lambda u: u), Source(state * slopes))
        errors.append(FiniteVolumes(grid, everywhere("periodic"), terms)(state).abs().max().item())
    assert fitted_order(cells, errors) == pytest.approx(1, abs=0.2)


def test_upwind_advection_looks_against_the_flow():
    """A spike moves downstream only, whichever way the flow is."""
    spike = torch.zeros(1, 1, 1, 12, dtype=torch.float64)
    spike[..., 6] = 1.0
    for velocity, changed in ((2.0, [6, 7]), (-2.0, [5, 6])):
        term = UpwindAdvection(lambda u, velocity=velocity: torch.full_like(u, velocity))
        tendency = FiniteVolumes(LINE, everywhere("wall"), (term,))(spike)
        assert tendency.flatten().nonzero().flatten().tolist() == changed


COEFFICIENTS = {
    "one": 0.3,
    "one a channel": (0.3, 0.02),
    "of the state": lambda u: 0.1 + u**2,
    "of another channel": lambda u: 0.1 + u.flip(1) ** 2,
}


@pytest.mark.parametrize("grid", [LINE, PLANE], ids=["line", "plane"])
@pytest.mark.parametrize("boundary", ["periodic", "wall", "flux"])
@pytest.mark.parametrize("coefficient", COEFFICIENTS.values(), ids=COEFFICIENTS)
def test_diffusion_in_a_closed_domain_conserves_the_total(coefficient, boundary, grid):
    """To rounding: some hundred steps of 1e-16 each."""
    start = random_state(grid, channels=2)
    flow = Flow(grid, everywhere(boundary), Diffusion(coefficient))
    end = frames(flow, start, 1.0, 1, Solver("heun", steps=300))[:, 0]
    assert (end - start).abs().max() > 0.1
    assert_close(end.sum(dim=(-2, -1)), start.sum(dim=(-2, -1)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("coefficient", COEFFICIENTS.values(), ids=COEFFICIENTS)
def test_the_total_grows_by_what_the_boundary_lets_in(coefficient):
    """Flux times length of the side times time, whatever the diffusivity; 0.7 + 0.2 along y, 0.5 - 0.9 along x."""
    conditions = {side: Condition("flux", value) for side, value in zip(SIDES, (0.7, 0.2, 0.5, -0.9), strict=True)}
    start, duration = random_state(PLANE, channels=2), 0.4
    flow = Flow(PLANE, conditions, Diffusion(coefficient))
    end = frames(flow, start, duration, 1, Solver("rk4", steps=200))[:, 0]
    gained = (end - start).sum(dim=(-2, -1)) * PLANE.cell
    expected = duration * ((0.7 + 0.2) * 1.8 + (0.5 - 0.9) * 0.6)
    assert_close(gained, torch.full_like(gained, expected), rtol=1e-12, atol=0)


@pytest.mark.parametrize("boundary", ["periodic", "dirichlet", "neumann", "flux"])
def test_a_learned_stencil_of_minus_one_and_one_is_the_difference(boundary):
    """To the last bit."""
    state = random_state(PLANE) - 0.5
    terms = (Diffusion(lambda u: 1 + u**2), UpwindAdvection(lambda u: u))
    conditions = everywhere(boundary, 0.3)
    plain = FiniteVolumes(PLANE, conditions, terms)(state)
    stencil = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    assert torch.equal(FiniteVolumes(PLANE, conditions, terms, stencil)(state), plain)
    assert not torch.allclose(FiniteVolumes(PLANE, conditions, terms, 1.1 * stencil)(state), plain)


def test_a_learned_stencil_weighs_the_two_cells_beside_each_face():
    state, stencil = random_state(PLANE), torch.tensor([-0.9, 1.2], dtype=torch.float64)
    along_y, along_x = FiniteVolumes(PLANE, everywhere("wall"), (Diffusion(1.0),), stencil).faces(state)
    dy, dx = PLANE.spacing
    assert_close(along_x.gradient[..., 1:-1], (1.2 * state[..., 1:] - 0.9 * state[..., :-1]) / dx)
    assert_close(along_y.gradient[..., 1:-1, :], (1.2 * state[..., 1:, :] - 0.9 * state[..., :-1, :]) / dy)


def test_nothing_passes_a_wall_whatever_the_stencil():
    start = random_state(PLANE)
    flow = FiniteVolumes(PLANE, everywhere("wall"), (Diffusion(0.3),), torch.tensor([-0.9, 1.2], dtype=torch.float64))
    assert_close(flow(start).sum(dim=(-2, -1)), start.new_zeros(2, 1), rtol=0, atol=1e-12)


def test_a_diffusivity_for_each_channel_acts_as_if_alone():
    """In the precision of the state: as float32, 1e-3 is 5e-8 off."""
    state = random_state(PLANE, channels=2)
    together = FiniteVolumes(PLANE, everywhere("wall"), (Diffusion((1e-3, 5e-3)),))(state)
    for channel, diffusivity in enumerate((1e-3, 5e-3)):
        alone = FiniteVolumes(PLANE, everywhere("wall"), (Diffusion(diffusivity),))(state[:, [channel]])
        assert_close(together[:, [channel]], alone, rtol=1e-13, atol=1e-14)


def test_a_tensor_as_diffusivity_is_worth_its_number():
    state, number = random_state(LINE, channels=2), torch.tensor(1e-3, dtype=torch.float64)
    plain = FiniteVolumes(LINE, everywhere("wall"), (Diffusion(1e-3),))(state)
    for coefficient in (number, (number, number)):
        assert_close(
            FiniteVolumes(LINE, everywhere("wall"), (Diffusion(coefficient),))(state), plain, rtol=1e-13, atol=1e-14
        )


def test_a_scaled_term_multiplies_what_happens_to_one_channel():
    state = random_state(LINE, channels=2)
    diffused = FiniteVolumes(LINE, everywhere("wall"), (Diffusion(0.3),))(state)
    scaled = FiniteVolumes(LINE, everywhere("wall"), (Scaled(lambda u: 1 + u, Diffusion(0.3), channel=1),))(state)
    assert_close(scaled, (1 + state) * diffused[:, 1:])


def test_terms_add_up():
    state = random_state(PLANE)
    terms = (Diffusion(0.3), UpwindAdvection(lambda u: u), Reaction(lambda u: u - u**3), Source(state.new_tensor(0.7)))
    parts = [FiniteVolumes(PLANE, everywhere("wall"), (term,))(state) for term in terms]
    assert_close(FiniteVolumes(PLANE, everywhere("wall"), terms)(state), sum(parts))
    assert_close(parts[2], state - state**3)
    assert_close(parts[3], torch.full_like(state, 0.7))
    assert all(not torch.allclose(one, other) for one, other in itertools.combinations(parts, 2))


@pytest.mark.parametrize("velocity", [1.0, -1.0])
def test_limited_advection_of_a_smooth_wave_converges_at_second_order(velocity):
    """In the mean: the limiter cuts to first order where a slope turns, in a few cells around the crests."""
    cells, errors, duration = (64, 128, 256), [], 0.1
    for count in cells:
        grid, (x,) = unit_grid(count, 1)
        flow = Flow(grid, everywhere("periodic"), LimitedAdvection(lambda u: torch.full_like(u, velocity)))
        end = frames(flow, torch.sin(WAVE * x), duration, 1, Solver("rk4", steps=count // 4))[:, 0]
        errors.append((end - torch.sin(WAVE * (x - velocity * duration))).abs().mean().item())
    assert fitted_order(cells, errors) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("velocity", [1.0, -1.0])
def test_limited_advection_of_a_step_makes_no_new_extremes_and_keeps_it_steeper_than_upwind(velocity):
    grid, (x,) = unit_grid(64, 1)
    step = torch.where((x > 0.3) & (x < 0.6), 1.0, 0.0).to(torch.float64)
    ends = []
    for term in (LimitedAdvection, UpwindAdvection):
        flow = Flow(grid, everywhere("periodic"), term(lambda u: torch.full_like(u, velocity)))
        ends.append(frames(flow, step, 0.25, 1, Solver("rk4", steps=64))[:, 0])
    assert float(ends[0].min()) > -1e-3
    assert float(ends[0].max()) < 1 + 1e-3
    limited, upwind = ((end - step.roll(int(16 * velocity), -1)).abs().sum() for end in ends)
    assert limited < upwind
