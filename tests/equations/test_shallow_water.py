"""Waves on shallow water: exact standing waves, lakes at rest, rotation, symmetry, and where the step blows up."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from forecast_cli.equations import PROBLEMS
from forecast_cli.equations.shallow_water import TOPOGRAPHIES, ShallowWater, named_depth
from forecast_cli.errors import ConfigError
from forecast_cli.physics.boundary import BOUNDARIES
from forecast_cli.physics.grid import Grid
from forecast_cli.physics.integrate import MARGIN

GRAVITY, DEPTH = 9.81, 50.0
EXTENT = (6e4, 1e5)
"""Height and width of the basin: 8 x 10 cells of it are oblong."""
STILL = {"coriolis": 0.0, "beta": 0.0}


def basin(
    cells: tuple[int, int] = (8, 10),
    *,
    depth: float | Tensor = DEPTH,
    extent: tuple[float, float] = EXTENT,
    **parameters: float,
) -> ShallowWater:
    """A basin without rotation unless it is given."""
    grid = Grid.uniform(cells, ((0.0, extent[0]), (0.0, extent[1])), units="m")
    equation = ShallowWater.build(grid, parameters=STILL | parameters, boundaries={}, closures={})
    field = depth if isinstance(depth, Tensor) else torch.full((1, 1, *cells), depth, dtype=torch.float64)
    return replace(equation, static=field)


def draw(*shape: int, seed: int = 2) -> Tensor:
    """Between 0 and 1."""
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rough_depth(cells: tuple[int, int] = (8, 10)) -> Tensor:
    return 20 + 60 * draw(1, 1, *cells)


def rough_state(cells: tuple[int, int] = (8, 10), *, size: float = 1.0) -> Tensor:
    """Surface and velocities at random, nothing through the outer walls."""
    eta, u, v = (size * (2 * draw(3, 2, 1, *cells) - 1)).unbind()
    return torch.cat([eta, F.pad(u[..., :-1], (0, 1)), F.pad(v[..., :-1, :], (0, 0, 0, 1))], dim=1)


def limit(equation: ShallowWater) -> float:
    bounds = torch.zeros(3, dtype=torch.float64)
    return equation.stable_step("forward-backward", bounds, bounds)


def run(equation: ShallowWater, state: Tensor, time_step: float, steps: int) -> Tensor:
    for _ in range(steps):
        state = equation.forward_backward(state, time_step)
    return state


def standing_wave_error(cells: int, steps: int, axis: int) -> float:
    """The error of the surface, as a share of its height, after 0.2 periods of the basin's first mode along an axis.

    eta = A cos(k x) cos(w t) with w = k sqrt(g H), over a flat bottom and without rotation; A is so small that the
    waves are linear.
    """
    equation = basin((cells, cells))
    height, number = 1e-6, math.pi / EXTENT[axis]
    places = torch.as_tensor(equation.grid.centres()[axis]).expand(1, 1, cells, cells)
    frequency = number * math.sqrt(GRAVITY * DEPTH)
    duration = 0.2 * 2 * math.pi / frequency
    start = torch.cat([height * torch.cos(number * places), torch.zeros(1, 2, cells, cells)], dim=1)
    end = run(equation, start, duration / steps, steps)
    exact = start[:, :1] * math.cos(frequency * duration)
    return (end[:, :1] - exact).abs().max().item() / height


def fitted_order(numbers: tuple[int, ...], errors: list[float]) -> float:
    """The order at which the error falls: the slope in a log-log plot."""
    return -float(np.polyfit(np.log(numbers), np.log(errors), 1)[0])


@pytest.mark.parametrize("axis", [0, 1])
def test_a_standing_wave_converges_at_first_order_in_time(axis):
    """On 64 cells, whose own error is a hundredth of the smallest here."""
    steps = (100, 200, 400)
    errors = [standing_wave_error(64, n, axis) for n in steps]
    assert fitted_order(steps, errors) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_standing_wave_converges_at_second_order_in_space(axis):
    """Time steps fall with the square of the cells, and add a fifth to the error of space."""
    cells = (6, 12, 24)
    errors = [standing_wave_error(n, 6 * n**2, axis) for n in cells]
    assert fitted_order(cells, errors) == pytest.approx(2, abs=0.2)


def test_volume_is_conserved():
    """To the rounding of 500 steps, over rough topography with rotation and friction."""
    equation = basin(depth=rough_depth(), coriolis=1e-4, beta=2e-11, friction=1e-5)
    start = rough_state() + torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64).view(3, 1, 1)
    end = run(equation, start, 0.5 * limit(equation), 500)
    assert (end - start)[:, 0].abs().max() > 0.1
    assert_close(end[:, 0].sum(dim=(-2, -1)), start[:, 0].sum(dim=(-2, -1)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("level", [0.0, 0.7, -3.1])
def test_a_lake_at_rest_stays_at_rest_over_any_sea_bed(level):
    """Bit for bit."""
    equation = basin(depth=rough_depth(), coriolis=1e-4, beta=2e-11, friction=1e-5)
    start = torch.zeros(1, 3, 8, 10, dtype=torch.float64)
    start[:, 0] = level
    assert torch.equal(run(equation, start, 0.9 * limit(equation), 50), start)


def test_nothing_passes_the_walls():
    end = run(basin(coriolis=1e-4), rough_state(), 100.0, 20)
    assert end[:, 1, :, -1].abs().max() == 0
    assert end[:, 2, -1, :].abs().max() == 0


def test_a_step_beyond_the_stable_one_blows_up_over_a_flat_bottom_and_one_below_does_not():
    equation, start = basin((16, 16)), rough_state((16, 16), size=1e-6)
    below, beyond = (run(equation, start, share * limit(equation), 400)[:, 0].abs().max() for share in (0.95, 1.03))
    assert below < 1e-5
    assert not beyond < 1e-3  # nan counts as blown up


def test_waves_over_a_rough_bottom_do_not_grow_at_the_margin_of_the_stable_step():
    """Depths of 20 to 80 m from cell to cell, whose upwind flux feeds them a little: 4-fold here, 3000-fold at 0.99 of the limit."""
    equation = basin((16, 16), depth=rough_depth((16, 16)))
    end = run(equation, rough_state((16, 16), size=1e-6), MARGIN * limit(equation), 1000)
    assert end[:, 0].abs().max() < 1e-5


def test_the_limit_is_that_of_square_and_of_oblong_cells():
    square = basin(extent=(8e4, 1e5))
    assert limit(square) == pytest.approx(1e4 / math.sqrt(2 * GRAVITY * DEPTH))
    curvature = 1 / 7.5e3**2 + 1 / 1e4**2
    assert limit(basin()) == pytest.approx(1 / math.sqrt(GRAVITY * DEPTH * curvature))


def growth(equation: ShallowWater, time_step: float) -> float:
    """The largest growth of a small disturbance of the resting lake in a step: the spectral radius."""
    size, count = 1e-9, 3 * math.prod(equation.grid.shape)
    unit = size * torch.eye(count, dtype=torch.float64).view(count, 3, *equation.grid.shape)
    matrix = equation.forward_backward(unit, time_step).reshape(count, count).T / size
    return torch.linalg.eigvals(matrix).abs().max().item()


@pytest.mark.parametrize("coriolis", [0.0, 1e-4, -1e-4, 3e-4])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_no_wave_grows_below_the_stable_step(share, coriolis):
    """Over a flat bottom. Rotation that leaves out the other component's force amplifies waves by 0.1 to 1 % a step here."""
    equation = basin((6, 7), depth=100.0, extent=(5e5, 6e5), coriolis=coriolis)
    assert growth(equation, share * limit(equation)) < 1 + 1e-7


@pytest.mark.parametrize("friction", [1e-3, 0.1])
def test_friction_shortens_the_stable_step(friction):
    """It is a forward step of its own, stable to 2 / kappa; beyond both limits together waves grow."""
    equation = basin((6, 7), friction=friction)
    assert limit(equation) < limit(basin((6, 7)))
    assert growth(equation, 0.98 * limit(equation)) < 1 + 1e-7
    assert growth(equation, 1.05 * limit(equation)) > 1.001


def test_friction_slows_a_current_down():
    """Without gravity u falls by 1 - kappa dt a step."""
    equation = basin(gravity=0.0, friction=1e-4)
    start = rough_state(size=1e-6)
    end = run(equation, start, 100.0, 3)
    assert_close(end[:, 1:], start[:, 1:] * 0.99**3, rtol=1e-12, atol=0)


@pytest.mark.parametrize("coriolis", [1e-4, -1e-4])
def test_rotation_turns_a_current_and_keeps_its_energy(coriolis):
    """Far from the walls u = cos(f t), v = -sin(f t): to the right where f > 0; gravity is off.

    The trapezoidal rule turns by 2 atan(f dt / 2) a step, and keeps u^2 + v^2 to rounding.
    """
    equation = basin((16, 16), gravity=0.0, coriolis=coriolis)
    start = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    start[:, 1] = 1.0
    end = run(equation, start, 600.0, 5)[0, :, 8, 8]
    angle = 5 * 2 * math.atan(600.0 * coriolis / 2)
    assert_close(end[1:], torch.tensor([math.cos(angle), -math.sin(angle)], dtype=torch.float64), rtol=1e-12, atol=0)


def test_rotation_grows_northward_with_beta():
    """f = f0 + beta y, at the place of the face: u at the height of the centre, v half a cell further north."""
    equation = basin(gravity=0.0, coriolis=1e-4, beta=1e-9)
    (y, _), dy, dt = equation.grid.centres(), equation.grid.spacing[0], 10.0
    for channel, other, f in ((1, 2, 1e-4 + 1e-9 * y[1:-1]), (2, 1, 1e-4 + 1e-9 * (y[1:-1] + dy / 2))):
        start = torch.zeros(1, 3, 8, 10, dtype=torch.float64)
        start[:, other] = 1.0
        found = equation.forward_backward(start, dt)[0, channel, 1:-1, 4]
        expected = torch.as_tensor(dt * f / (1 + (dt * f / 2) ** 2)).flatten() * (1 if channel == 1 else -1)
        assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("coriolis", [0.0, 1e-4])
def test_x_and_y_are_alike(coriolis):
    """A transposed basin, u and v exchanged, turns the other way round."""
    depth, start = rough_depth(), rough_state()
    end = run(basin(depth=depth, coriolis=coriolis), start, 100.0, 30)
    transposed = basin((10, 8), depth=depth.mT, extent=EXTENT[::-1], coriolis=-coriolis)
    other = run(transposed, start[:, [0, 2, 1]].mT, 100.0, 30)
    assert_close(other.mT[:, [0, 2, 1]], end, rtol=1e-10, atol=1e-12)


def mirrored(state: Tensor) -> Tensor:
    """West for east: faces on the west of their cells become faces on the east, and u changes its sign."""
    eta, u, v = state.flip(-1).unbind(1)
    return torch.stack([eta, -u.roll(-1, dims=-1), v], dim=1)


@pytest.mark.parametrize("coriolis", [0.0, 1e-4])
def test_a_mirrored_basin_has_mirrored_waves(coriolis):
    """It turns the other way round. Water from the west and from the east has the thickness of where it comes from."""
    depth, start = rough_depth(), rough_state()
    end = run(basin(depth=depth, coriolis=coriolis), start, 100.0, 30)
    other = run(basin(depth=depth.flip(-1), coriolis=-coriolis), mirrored(start), 100.0, 30)
    assert_close(mirrored(other), end, rtol=1e-10, atol=1e-12)


def test_water_takes_the_thickness_of_the_cell_it_comes_from():
    """A step over a shelf without gravity: eta falls by dt / dx u (eta + H), H that of the west for u > 0."""
    depth = torch.full((1, 1, 8, 10), 30.0, dtype=torch.float64)
    depth[..., 5:] = 70.0
    equation, dx = basin(depth=depth, gravity=0.0), EXTENT[1] / 10
    for velocity, thickness in ((0.5, 30.0), (-0.5, 70.0)):
        start = torch.zeros(1, 3, 8, 10, dtype=torch.float64)
        start[:, 1, :, 4] = velocity
        change = equation.forward_backward(start, 10.0)[0, 0, 3]
        moved = 10.0 / dx * velocity * thickness
        assert_close(change[[4, 5]], torch.tensor([-moved, moved], dtype=torch.float64), rtol=1e-12, atol=0)
        assert change.count_nonzero() == 2


def test_a_transport_closure_of_the_upwind_flux_is_the_upwind_flux():
    equation, start = basin(depth=rough_depth(), coriolis=1e-4), rough_state()
    learned = replace(equation, closures={"transport": lambda inputs: inputs[:, :1] * inputs[:, 1:]})
    assert torch.equal(run(learned, start, 100.0, 5), run(equation, start, 100.0, 5))


@pytest.mark.parametrize("name", TOPOGRAPHIES)
def test_a_named_sea_bed_is_wet_and_lies_no_deeper_than_its_flat_bottom(name):
    grid = Grid.uniform((24, 32), ((0.0, 3e5), (0.0, 4e5)))
    depth = named_depth(name, grid, 200.0)
    assert depth.shape == (24, 32)
    assert depth.min() > 0.3 * 200
    assert depth.max() <= 200.0
    assert (depth.min() < 130.0) == (name != "flat")


@pytest.mark.parametrize("kind", [kind for kind in BOUNDARIES if kind != "wall"])
def test_sides_other_than_walls_are_refused(kind):
    text = kind + (":0:1" if kind in ("robin", "cauchy") else "")
    with pytest.raises(ConfigError, match=f"--boundary bottom={kind}.*: shallow-water takes wall only"):
        ShallowWater.build(basin().grid, parameters={}, boundaries={"all": text}, closures={})


def test_a_depth_that_is_not_given_is_asked_for():
    equation = replace(basin(), static=None)
    with pytest.raises(ConfigError, match=r"shallow-water needs the depth .* --static FILE:depth"):
        equation.forward_backward(rough_state(), 1.0)
    with pytest.raises(ConfigError, match="needs the depth"):
        limit(equation)


def test_centred_fluxes_feed_no_wave_over_a_sloping_bed_of_a_rotating_basin():
    """The published upwind ones do: a third more energy after ten crossings of a basin with a seamount."""
    grid = Grid.uniform((16, 16), ((0.0, 1e6), (0.0, 1e6)), units="m")
    depth = torch.from_numpy(named_depth("seamount", grid, 100.0))[None, None]
    start = torch.from_numpy(PROBLEMS["shallow-water"].initial(grid, 0, np.random.default_rng(0)))[None]

    def growth(scheme: str) -> float:
        equation = ShallowWater.build(grid, parameters={}, boundaries={}, closures={}, scheme=scheme)
        equation = replace(equation, static=depth)
        end = run(equation, start, MARGIN * limit(equation), 300)
        energy = [
            (GRAVITY * s[:, :1] ** 2 + depth * s[:, 1:].square().sum(1, keepdim=True)).sum() for s in (start, end)
        ]
        return float(energy[1] / energy[0])

    assert growth("centred") < 1 < growth("upwind")
