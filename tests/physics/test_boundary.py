"""Boundary conditions: what lies beyond each side, the steady states they hold, and texts that name them."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from forecast_cli.domain import Axis, Domain, TimeStep, Variable
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.physics.boundary import BOUNDARIES, SIDES, Condition, parse_condition, parse_conditions
from forecast_cli.physics.grid import Grid
from forecast_cli.physics.terms import Diffusion, FiniteVolumes, Source

D = 0.7
LENGTH = 0.3
PLANE = Grid.uniform((7, 9), ((-0.4, 1.0), (0.2, 2.0)))
PARAMETERS = {"D": 0.5, "k": 2.0}


def condition(kind: str, value: float, slope: float, spacing: float) -> Condition:
    """The condition that a profile meets whose value on the face is `value` and whose du/dn is `slope`."""
    outside = value + slope * spacing / 2
    numbers = {
        "dirichlet": (value,),
        "dirichlet-ghost": (outside,),
        "neumann": (slope,),
        "robin": (value + LENGTH * slope, LENGTH),
        "cauchy": (outside + LENGTH * slope, LENGTH),
        "flux": (D * slope,),
        "wall": (),
        "periodic": (),
    }
    return Condition(kind, *numbers[kind])


def profile(grid: Grid, dim: int, slope: float) -> tuple[Tensor, dict[str, float]]:
    """1.3 + slope * place along one dimension, and its values on the two outer faces."""
    axis, places = next(
        (axis, places) for axis, d, places in zip(grid.axes, grid.dims, grid.centres(), strict=True) if d == dim
    )
    state = torch.as_tensor(1.3 + slope * places).expand(1, 1, *grid.shape)
    low = 1.3 + slope * (axis.first - axis.spacing / 2)
    return state, {"low": low, "high": low + slope * axis.size * axis.spacing}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", BOUNDARIES)
def test_diffusion_rests_in_the_steady_state_of_its_boundary_condition(kind, side):
    """A linear profile, or a constant where nothing passes; dirichlet on the other side, walls along the profile."""
    dim, end = SIDES[side]
    other = next(name for name, place in SIDES.items() if place[0] == dim and name != side)
    slope = 0.0 if kind in ("wall", "periodic") else 0.8
    state, faces = profile(PLANE, dim, slope)
    spacing = PLANE.spacing[PLANE.dims.index(dim)]
    outward = slope if end == "high" else -slope
    conditions = {name: Condition("wall") for name in SIDES}
    conditions[side] = condition(kind, faces[end], outward, spacing)
    conditions[other] = (
        conditions[side] if kind == "periodic" else condition("dirichlet", faces[SIDES[other][1]], -outward, spacing)
    )
    tendency = FiniteVolumes(PLANE, conditions, (Diffusion(D),))(state)
    # States of 1 to 3 differenced over 0.2: a rounding of 4e-16 grows to 1e-14.
    assert_close(tendency, torch.zeros_like(state), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "order"),
    [("dirichlet", 2), ("dirichlet-ghost", 2), ("neumann", 2), ("robin", 2), ("flux", 2), ("cauchy", 1)],
)
def test_steady_solutions_converge_at_the_order_of_their_boundary_condition(kind, order):
    """D u_xx + s = 0 with u = exp(x) on [0, 1]; cauchy is first order, for its gradient lies 3/2 cells inside its value."""
    cells, errors = (12, 24, 48, 96), []
    for count in cells:
        grid = Grid.uniform((count,), ((0.0, 1.0),))
        dx = 1 / count
        exact = torch.as_tensor(np.exp(grid.centres()[0])).view(1, 1, 1, -1)
        right = condition(kind, math.e, math.e, dx)
        if kind in ("dirichlet-ghost", "cauchy"):
            here = math.exp(1 + dx / 2)
            right = Condition(kind, here + (LENGTH * here if kind == "cauchy" else 0.0), LENGTH)
        volumes = FiniteVolumes(
            grid, {"left": Condition("dirichlet", 1.0), "right": right}, (Diffusion(D), Source(-D * exact))
        )
        origin = torch.zeros_like(exact)
        matrix = torch.autograd.functional.jacobian(volumes, origin).reshape(count, count)
        found = torch.linalg.solve(matrix, -volumes(origin).flatten())
        errors.append((found - exact.flatten()).abs().max().item())
    assert fitted_order(cells, errors) == pytest.approx(order, abs=0.2)


def fitted_order(cells: tuple[int, ...], errors: list[float]) -> float:
    """The order at which the error falls with the number of cells: the slope in a log-log plot."""
    return -float(np.polyfit(np.log(cells), np.log(errors), 1)[0])


def test_what_enters_through_one_face_leaves_through_the_other():
    """The sign of a flux is that of what enters, on every side."""
    conditions = {"left": Condition("flux", 0.4), "right": Condition("flux", -0.4)}
    conditions |= {"bottom": Condition("flux", -0.1), "top": Condition("flux", 0.1)}
    volumes = FiniteVolumes(PLANE, conditions, (Diffusion(D),))
    tendency = volumes(torch.ones(1, 1, *PLANE.shape, dtype=torch.float64))
    dy, dx = PLANE.spacing
    assert_close(tendency[0, 0, 3, [0, -1]], torch.tensor([0.4, -0.4], dtype=torch.float64) / dx)
    assert_close(tendency[0, 0, [0, -1], 3], torch.tensor([-0.1, 0.1], dtype=torch.float64) / dy)
    assert tendency[0, 0, 1:-1, 1:-1].abs().max() == 0


@pytest.mark.parametrize(
    "text",
    ["periodic", "dirichlet:0.5", "dirichlet-ghost:-1", "neumann:0.25", "robin:0.5:2", "cauchy:0:D", "flux:k", "wall"],
)
def test_a_condition_reads_as_it_is_written(text):
    assert str(parse_condition(text, PARAMETERS, "--boundary left=")) == text


def test_a_condition_takes_the_value_of_the_parameter_that_it_names():
    found = parse_condition("cauchy:k:D", PARAMETERS, "--boundary")
    assert found.resolved(PARAMETERS) == Condition("cauchy", 2.0, 0.5)


def test_one_side_is_stronger_than_all_and_all_is_stronger_than_the_default():
    found = parse_conditions(
        {"all": "neumann:1", "top": "dirichlet:2"}, {"left": "flux:3"}, PLANE, PARAMETERS, where="--boundary"
    )
    assert {side: str(c) for side, c in found.items()} == {
        "bottom": "neumann:1",
        "top": "dirichlet:2",
        "left": "neumann:1",
        "right": "neumann:1",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no-slip", r"--boundary left=no-slip: no boundary condition 'no-slip'\. Known are periodic, wall, robin"),
        ("dirichlet:1:2", r"'dirichlet' takes 1 number"),
        ("wall:1", r"'wall' takes no number"),
        ("robin:1", r"expected robin:VALUE:LENGTH"),
        ("neumann:steep", r"'steep' is neither a number nor a parameter"),
        ("robin:0:-0.1", r"the length must be at least 0"),
        ("flux:", r"'' is neither a number nor a parameter"),
    ],
)
def test_a_text_that_is_no_condition_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_condition(text, PARAMETERS, "--boundary left=")


@pytest.mark.parametrize("text", ["dirichlet:nan", "flux:inf", "robin:0:-inf"])
def test_a_condition_that_is_not_finite_is_refused(text):
    with pytest.raises(ConfigError, match=text):
        parse_condition(text, PARAMETERS, "--boundary left=")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"front": "wall"}, r"--boundary front=wall: no such side\. Sides here: bottom, top, left, right, or all"),
        ({"left": "periodic"}, r"left is 'periodic' and right 'wall'; both are periodic, or neither"),
        ({"all": "periodic", "top": "flux:1"}, r"bottom is 'periodic' and top 'flux:1'"),
    ],
)
def test_conditions_that_do_not_fit_the_grid_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        parse_conditions(given, {"all": "wall"}, PLANE, PARAMETERS, where="--boundary")


def test_a_line_has_neither_bottom_nor_top():
    line = Grid.uniform((5,), ((0.0, 1.0),))
    assert list(parse_conditions({}, {"all": "wall"}, line, PARAMETERS, where="--boundary")) == ["left", "right"]
    with pytest.raises(ConfigError, match=r"no such side\. Sides here: left, right, or all"):
        parse_conditions({"top": "wall"}, {"all": "wall"}, line, PARAMETERS, where="--boundary")


def domain_of(y: Axis | None, x: Axis, grid: str = "cartesian") -> Domain:
    return Domain((Variable("u"),), y, x, TimeStep(1.0, "s"), grid, "zeros")


def test_a_grid_is_that_of_the_data():
    domain = domain_of(Axis("y", 3, "m", 0.5, 0.2), Axis("x", 4, "m", -1.0, 0.5))
    grid = Grid.of(domain, "burgers")
    assert (grid.shape, grid.spacing, grid.dims) == ((3, 4), (0.2, 0.5), (-2, -1))
    assert grid.cell == pytest.approx(0.1)
    y, x = grid.centres()
    assert np.allclose(y, [[0.5], [0.7], [0.9]])
    assert np.allclose(x, [[-1.0, -0.5, 0.0, 0.5]])
    assert Grid.of(domain_of(None, domain.x), "burgers").shape == (1, 4)


def test_a_uniform_grid_fills_its_extent():
    grid = Grid.uniform((4, 5), ((0.0, 2.0), (-1.0, 1.0)), units="m")
    y, x = grid.centres()
    assert np.allclose(y.ravel(), [0.25, 0.75, 1.25, 1.75])
    assert np.allclose(x.ravel(), [-0.8, -0.4, 0.0, 0.4, 0.8])
    assert [axis.name for axis in grid.axes] == ["y", "x"]


EVEN = Axis("x", 4, "m", 0.0, 1.0)


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (domain_of(Axis("y", 3, "m", 0.0, None), EVEN), r"burgers needs an evenly spaced grid, but 'y' has no evenly"),
        (domain_of(EVEN, Axis("x", 4), "index"), r"evenly spaced grid, but 'x' has no evenly"),
        (domain_of(Axis("y", 3, "m", 2.0, -0.5), EVEN), r"'y' descends \(spacing -0\.5\).*ncpdq -a -y"),
        (domain_of(EVEN, EVEN, "latitude-longitude"), r"units of length, but that of the data is latitude-longitude"),
    ],
    ids=["uneven", "without coordinate", "descending", "latitude-longitude"],
)
def test_a_grid_that_is_not_uniform_and_ascending_is_refused(domain, message):
    with pytest.raises(DataError, match=message):
        Grid.of(domain, "burgers")


def test_a_single_cell_is_refused():
    grid = Grid.uniform((1,), ((0.0, 1.0),))
    volumes = FiniteVolumes(grid, {"left": Condition("wall"), "right": Condition("wall")}, (Diffusion(D),))
    with pytest.raises(ConfigError, match="'x' has 1 cell; an equation needs at least 2"):
        volumes(torch.ones(1, 1, 1, 1, dtype=torch.float64))
