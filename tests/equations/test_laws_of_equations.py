"""What every finite-volume equation obeys: conservation, stability, gradients, batches, dimensions, refusals."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from forecast_cli.equations import EQUATIONS, Equation
from forecast_cli.equations.allen_cahn import AllenCahn
from forecast_cli.equations.burgers import Burgers
from forecast_cli.equations.diffusion_reaction import DiffusionReaction
from forecast_cli.equations.diffusion_sorption import DiffusionSorption
from forecast_cli.equations.shallow_water import ShallowWater
from forecast_cli.errors import ConfigError
from forecast_cli.physics.boundary import BOUNDARIES, SIDES, Condition
from forecast_cli.physics.grid import Grid
from forecast_cli.physics.integrate import REACH, STEPPERS, Solver, frames

LINE = Grid.uniform((12,), ((-1.0, 1.0),))
PLANE = Grid.uniform((5, 12), ((0.0, 0.8), (-1.0, 1.0)))


class Tiny(NamedTuple):
    """A small case of an equation with numbers of order 1, so that no derivative drowns in another.

    bounds: of the states. learned: a smooth closure with three parameters in the place of the known one.
    """

    cells: tuple[int, ...]
    parameters: dict[str, float]
    bounds: tuple[float, float]
    closure: str
    learned: Callable[[Tensor, Tensor], Tensor]
    solver: str = "rk4"


TINY = {
    "burgers": Tiny((5,), {"D": 0.2}, (0.5, 1.5), "advection", lambda p, u: 1.2 + p[0] * torch.tanh(p[1] * u + p[2])),
    "allen-cahn": Tiny(
        (5,), {"D": 0.2, "k": 1.5}, (-1.0, 1.0), "reaction", lambda p, u: p[0] * torch.tanh(p[1] * u + p[2])
    ),
    "diffusion-sorption": Tiny(
        (5,),
        {"D": 0.2, "porosity": 0.4, "rho": 1.5, "k_f": 0.8, "n_f": 0.9, "s_max": 0.7, "k_l": 1.1, "k_d": 0.5},
        (0.2, 1.0),
        "retardation",
        lambda p, c: p[0] * torch.sigmoid(p[1] * c + p[2]),
    ),
    "diffusion-reaction": Tiny(
        (3, 4),
        {"D_u": 0.1, "D_v": 0.2, "k": 0.3},
        (-1.0, 1.0),
        "reaction",
        lambda p, s: torch.cat([p[0] * torch.tanh(p[1] * s[:, :1] + s[:, 1:]), p[2] * torch.tanh(s[:, :1])], dim=1),
    ),
    "shallow-water": Tiny(
        (3, 4),
        {"gravity": 1.3, "coriolis": 0.4, "beta": 0.2, "friction": 0.1},
        (0.5, 1.5),  # velocities keep their sign: the upwind flux has a kink at 0
        "transport",
        lambda p, s: s[:, :1] * s[:, 1:] * (1 + p[0] * torch.tanh(p[1] * s[:, 1:] + p[2])),
        "forward-backward",
    ),
}
THETA = (0.3, 0.7, 0.1)


def tiny(name: str, *, batch: int = 1) -> tuple[Equation, Tensor]:
    """The small case with its known closures, and a random state."""
    case, generator = TINY[name], torch.Generator().manual_seed(3)
    grid = Grid.uniform(case.cells, ((0.0, 1.0),) * len(case.cells))
    equation = EQUATIONS[name].build(grid, parameters=case.parameters, boundaries={}, closures={})
    low, high = case.bounds
    draw = torch.rand(batch, len(equation.VARIABLES) + 1, *grid.shape, dtype=torch.float64, generator=generator)
    state = low + (high - low) * draw
    return replace(equation, static=2 + state[:, -1:]) if equation.STATIC else equation, state[:, :-1]


def stepped(equation: Equation, state: Tensor, steps: int = 1) -> Tensor:
    """The state after some steps of 0.02."""
    for _ in range(steps):
        state = STEPPERS[TINY[equation.NAME].solver](equation, state, 0.02)
    return state


def built(kind: type[Equation], grid: Grid, *, boundary: str | None = None, **parameters: float) -> Equation:
    return kind.build(grid, parameters=parameters, boundaries={"all": boundary} if boundary else {}, closures={})


def without_reaction(equation: Equation) -> Equation:
    return replace(equation, closures={"reaction": torch.zeros_like})


def random_state(grid: Grid, channels: int = 1, low: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return low + (1 - low) * torch.rand(2, channels, *grid.shape, dtype=torch.float64, generator=generator)


def corner(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("grid", [LINE, PLANE], ids=["line", "plane"])
@pytest.mark.parametrize("boundary", ["periodic", "wall", "flux:0"])
@pytest.mark.parametrize(("kind", "channels"), [(AllenCahn, 1), (DiffusionReaction, 2)])
def test_without_reaction_the_total_is_conserved(kind, channels, boundary, grid):
    given = {"D": 0.02} if kind is AllenCahn else {"D_u": 0.02, "D_v": 0.01}
    equation = without_reaction(built(kind, grid, boundary=boundary, **given))
    start = random_state(grid, channels)
    end = frames(equation, start, 2.0, 1, Solver("heun", steps=300))[:, 0]
    assert (end - start).abs().max() > 0.1
    assert_close(end.sum(dim=(-2, -1)), start.sum(dim=(-2, -1)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("closure", DiffusionSorption.CLOSURES["retardation"].known)
def test_closed_soil_keeps_its_total_concentration(closure):
    """c_tot, wherever the dissolved part goes: 1000 days in 400 steps."""
    walls = {"left": "wall", "right": "wall"}
    equation = DiffusionSorption.build(LINE, parameters={}, boundaries=walls, closures={"retardation": closure})
    start = random_state(LINE, 2)
    end = frames(equation, start, 1000.0, 1, Solver("rk4", steps=400))[:, 0]
    assert (end - start)[:, 1].abs().max() > 1e-3
    assert_close(end[:, 1].sum(dim=-1), start[:, 1].sum(dim=-1), rtol=1e-12, atol=0)


def test_the_total_grows_by_what_enters_through_the_boundary():
    boundaries = {"left": "flux:0.3", "right": "flux:-0.1"}
    equation = without_reaction(AllenCahn.build(LINE, parameters={"D": 0.1}, boundaries=boundaries, closures={}))
    start = random_state(LINE)
    end = frames(equation, start, 2.0, 1, Solver("rk4", steps=100))[:, 0]
    gained = (end - start).sum(dim=-1) * LINE.cell
    assert_close(gained, torch.full_like(gained, (0.3 - 0.1) * 2.0), rtol=1e-12, atol=0)


def test_soil_gains_what_enters_through_the_boundary():
    """1000 p / rho g of solute a kg of soil for each kg m-3 times m."""
    boundaries = {"left": "flux:1e-4", "right": "wall"}
    equation = DiffusionSorption.build(LINE, parameters={}, boundaries=boundaries, closures={})
    start = random_state(LINE, 2)
    end = frames(equation, start, 1000.0, 1, Solver("rk4", steps=400))[:, 0]
    gained = (end - start)[:, 1].sum(dim=-1) * LINE.cell
    assert_close(gained, torch.full_like(gained, 1000 * 0.29 / 2880 * 1e-4 * 1000.0), rtol=1e-12, atol=0)


def test_burgers_standing_front_converges_at_first_order():
    """u = -tanh(x / (2 D)) does not move: advection balances diffusion; found by Newton's method."""
    cells, errors, diffusivity = (32, 64, 128), [], 0.25
    value = math.tanh(1 / (2 * diffusivity))
    for count in cells:
        grid = Grid.uniform((count,), ((-1.0, 1.0),))
        boundaries = {"left": f"dirichlet:{value}", "right": f"dirichlet:{-value}"}
        equation = Burgers.build(grid, parameters={"D": diffusivity}, boundaries=boundaries, closures={})
        exact = -torch.tanh(torch.as_tensor(grid.centres()[0]) / (2 * diffusivity)).view(1, 1, 1, -1)
        state = exact
        for _ in range(8):
            slopes = torch.autograd.functional.jacobian(equation.tendency, state).reshape(count, count)
            state = state - torch.linalg.solve(slopes, equation.tendency(state).flatten()).view_as(state)
        assert equation.tendency(state).abs().max() < 1e-10
        errors.append((state - exact).abs().max().item())
    assert -np.polyfit(np.log(cells), np.log(errors), 1)[0] == pytest.approx(1, abs=0.2)


def test_the_inverse_retardation_is_that_of_its_isotherm():
    """R = 1 + (1 - p) / p rho ds/dc, where s(c) is what the soil has sorbed; derived here from s by autograd."""
    values = {name: parameter.default for name, parameter in DiffusionSorption.PARAMETERS.items()}
    c = torch.linspace(0.01, 1.2, 7, dtype=torch.float64).view(1, 1, 1, -1).requires_grad_()
    isotherms = {
        "freundlich": values["k_f"] * (c + 1e-6) ** values["n_f"],
        "langmuir": values["s_max"] * c / (c + values["k_l"]),
        "linear": values["k_d"] * c,
    }
    known = DiffusionSorption.CLOSURES["retardation"].known
    assert set(known) == set(isotherms)
    for name, sorbed in isotherms.items():
        (slope,) = torch.autograd.grad(sorbed.sum(), c)
        factor = 1 + (1 - 0.29) / 0.29 * 2880 * slope
        assert_close(known[name](c.detach(), values), 1 / factor, rtol=1e-12, atol=0)


def test_a_constant_state_changes_by_its_reaction_alone():
    """Hand-computed at u = 0.5, v = 0.2: 5 (u - u^3); u - u^3 - 0.005 - v and u - v; a constant velocity carries nothing."""
    state = corner(0.5, 0.2).view(1, 2, 1, 1).expand(1, 2, *PLANE.shape)
    for kind, expected in ((AllenCahn, [1.875]), (DiffusionReaction, [0.17, 0.3]), (Burgers, [0.0])):
        found = built(kind, PLANE, boundary="wall").tendency(state[:, : len(expected)])
        assert_close(found, corner(*expected).view(1, -1, 1, 1).expand_as(found), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [(AllenCahn, {"D": 0.02}), (DiffusionReaction, {"D_u": 0.02, "D_v": 0.05})],
)
def test_each_variable_diffuses_at_its_own_rate(kind, parameters):
    """cos(pi (x + 1) / 2) between walls is an eigenfunction of the differences too, with 4 / dx^2 sin^2(pi dx / 4)."""
    equation = without_reaction(built(kind, LINE, boundary="wall", **parameters))
    wave = torch.cos(math.pi * (torch.as_tensor(LINE.centres()[0]) + 1) / 2).expand(1, len(parameters), 1, 12)
    dx = LINE.spacing[0]
    eigenvalue = -4 / dx**2 * math.sin(math.pi * dx / 4) ** 2
    rates = eigenvalue * corner(*parameters.values()).view(1, -1, 1, 1)
    assert_close(equation.tendency(wave), rates * wave, rtol=1e-10, atol=1e-13)


ONE_STATE = {
    "burgers": (Burgers, LINE, {"D": 0.01}, {}),
    "burgers in the plane": (Burgers, PLANE, {"D": 0.01}, {}),
    "diffusion": (AllenCahn, LINE, {"D": 0.1, "k": 0.0}, {}),
    "allen-cahn": (AllenCahn, LINE, {"D": 0.1}, {}),
    "allen-cahn in the plane": (AllenCahn, PLANE, {"D": 0.01}, {}),
    "diffusion-sorption": (DiffusionSorption, LINE, {}, {"retardation": "linear"}),
}


@pytest.mark.parametrize("solver", REACH)
@pytest.mark.parametrize("case", ONE_STATE.values(), ids=ONE_STATE)
def test_a_step_beyond_the_stable_one_blows_up_and_one_below_does_not(case, solver):
    """A chequerboard of 1e-9 on the constant state 1: the fastest mode on these grids, and too small to be nonlinear."""
    kind, grid, parameters, closures = case
    sides = ("left", "right", "bottom", "top")[: 2 * len(grid.axes)]
    boundaries = dict.fromkeys(sides, "dirichlet:1")
    equation = kind.build(grid, parameters=parameters, boundaries=boundaries, closures=closures)
    places = torch.arange(grid.shape[0]).view(-1, 1) + torch.arange(grid.shape[1])
    start = 1 + 1e-9 * (-1.0) ** places.to(torch.float64).expand(1, len(kind.VARIABLES), *grid.shape)
    lowest = corner(*[-1.0] * len(kind.VARIABLES)) if kind is not DiffusionSorption else corner(0.0, 0.0)
    highest = torch.ones_like(lowest)
    below = 0.97 * equation.stable_step(solver, lowest, highest)
    beyond = 1.03 * REACH[solver] / equation.rate(lowest, highest)
    departures = []
    for time_step in (below, beyond):
        end = frames(equation, start, 200 * time_step, 1, Solver(solver, steps=200))[:, 0]
        departures.append((end - 1)[:, 0].abs().max().item())
    assert departures[0] < 1e-9
    assert departures[1] > 1e-6


@pytest.mark.parametrize("solver", REACH)
@pytest.mark.parametrize("kind", [Burgers, AllenCahn])
def test_no_rough_state_blows_up_below_the_stable_step(kind, solver):
    """-1 and 1 at random, and a front between them.

    At a front a'(u) u_x is as large as 2 max|a| / dx: euler and heun keep every state between its bounds nevertheless, rk4 does
    so to 2 / rate only, and blows up from 0.86 of 2.785 / rate on.
    """
    equation = built(kind, LINE)
    front = torch.where(torch.arange(12) < 6, 1.0, -1.0).to(torch.float64)
    start = torch.cat([random_state(LINE, low=-1.0).sign(), front.view(1, 1, 1, -1)])
    limit = equation.stable_step(solver, corner(-1.0), corner(1.0))
    end = frames(equation, start, 500 * 0.95 * limit, 1, Solver(solver, steps=500))
    assert end.isfinite().all()
    assert end.abs().max() < 1.2


@pytest.mark.parametrize("length", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("kind", BOUNDARIES)
def test_the_rate_bounds_the_eigenvalues_of_diffusion_under_every_boundary_condition(kind, length):
    """A cauchy condition is the one that can be faster than 4 D / dx^2: its ghost cell weighs two cells with length / dx."""
    numbers = {"periodic": "", "wall": "", "robin": f":1:{length}", "cauchy": f":1:{length}"}.get(kind, ":1")
    equation = built(AllenCahn, LINE, boundary=kind + numbers, D=0.1, k=0.0)
    matrix = torch.autograd.functional.jacobian(equation.tendency, random_state(LINE)[:1]).reshape(12, 12)
    fastest = torch.linalg.eigvals(matrix).abs().max().item()
    rate = equation.rate(corner(-1.0), corner(1.0))
    assert fastest <= rate * (1 + 1e-9)


@pytest.mark.parametrize("diffusivities", [(0.2, 0.01), (0.01, 0.2)])
@pytest.mark.parametrize("decay", [(5.0, 1.0), (1.0, 5.0)])
def test_the_rate_is_that_of_the_faster_of_two_variables(decay, diffusivities):
    """Also where diffusion and reaction are fastest in different variables, where it is a bound, and not sharp."""
    equation = built(DiffusionReaction, LINE, **dict(zip(("D_u", "D_v"), diffusivities, strict=True)))
    speeds = corner(*decay).view(1, 2, 1, 1)
    equation = replace(equation, closures={"reaction": lambda state: -speeds * state})
    matrix = torch.autograd.functional.jacobian(equation.tendency, random_state(LINE, 2)[:1]).reshape(24, 24)
    fastest = torch.linalg.eigvals(matrix).abs().max().item()
    rate = equation.rate(corner(-1.0, -1.0), corner(1.0, 1.0))
    assert fastest <= rate * (1 + 1e-9)
    assert rate == pytest.approx(4 * 0.2 / LINE.spacing[0] ** 2 + 5.0)


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.5, 2.0), (1.0, 1.0)])
def test_the_rate_bounds_the_slope_of_the_reaction(bounds):
    """Also where both bounds are the same, as in a constant initial state."""
    equation = built(AllenCahn, LINE, D=0.0)
    u = np.linspace(*bounds, 1001)
    assert equation.rate(corner(bounds[0]), corner(bounds[1])) >= np.abs(5 * (1 - 3 * u**2)).max() * (1 - 1e-3)


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_step_has_exact_gradients_of_state_closure_parameters_and_static_field(name):
    equation, state = tiny(name)
    case, names = TINY[name], list(TINY[name].parameters)
    static = [equation.static] if equation.STATIC else []

    def step(state: Tensor, theta: Tensor, *rest: Tensor) -> Tensor:
        parameters = dict(zip(names, rest[len(static) :], strict=True))
        closures = {case.closure: lambda inputs: case.learned(theta, inputs)}
        field = rest[0] if static else None
        return stepped(replace(equation, closures=closures, parameters=parameters, static=field), state)

    inputs = [state, corner(*THETA), *static, *(corner(value).squeeze() for value in case.parameters.values())]
    assert gradcheck(step, [value.clone().requires_grad_() for value in inputs])


@pytest.mark.parametrize(
    ("name", "choice"),
    [(name, choice) for name in EQUATIONS for choice in EQUATIONS[name].CLOSURES[TINY[name].closure].known],
)
def test_a_step_has_exact_gradients_of_the_parameters_of_known_closures(name, choice):
    equation, state = tiny(name)
    names = list(TINY[name].parameters)

    def step(*values: Tensor) -> Tensor:
        parameters, closures = dict(zip(names, values, strict=True)), {TINY[name].closure: choice}
        return stepped(replace(equation, parameters=parameters, closures=closures), state)

    assert gradcheck(step, [corner(value).squeeze().requires_grad_() for value in TINY[name].parameters.values()])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", ["dirichlet", "dirichlet-ghost", "neumann", "robin", "cauchy", "flux"])
def test_a_step_has_exact_gradients_of_boundary_values(kind, side):
    """And of the length, where the condition has one."""
    equation = built(AllenCahn, Grid.uniform((3, 3), ((0.0, 1.0), (0.0, 1.0))), boundary="wall", D=0.3)
    state = random_state(equation.grid)

    def step(value: Tensor, length: Tensor) -> Tensor:
        conditions = equation.conditions | {side: Condition(kind, value, length)}
        return stepped(replace(equation, conditions=conditions), state)

    inputs = [corner(0.4).squeeze().requires_grad_(), corner(0.7).squeeze().requires_grad_()]
    assert gradcheck(step, inputs)
    slope, along_length = torch.autograd.grad(step(*inputs).sum(), inputs, allow_unused=True)
    assert slope.abs() > 1e-3
    assert (along_length is not None and along_length.abs() > 1e-3) == (kind in ("robin", "cauchy"))


@pytest.mark.parametrize("name", EQUATIONS)
def test_each_sample_of_a_batch_evolves_as_if_alone(name):
    equation, states = tiny(name, batch=3)
    together = stepped(equation, states, 10)
    for sample in range(3):
        alone = replace(equation, static=equation.static[[sample]]) if equation.STATIC else equation
        # Vectorised functions may round the last bit of odd shapes differently.
        assert_close(stepped(alone, states[[sample]], 10), together[[sample]], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", ["burgers", "allen-cahn", "diffusion-reaction"])
@pytest.mark.parametrize("across", ["neumann:0", "periodic", "wall"])
def test_a_plane_that_does_not_vary_along_y_is_a_line(name, across):
    kind = EQUATIONS[name]
    line = kind.build(LINE, parameters={}, boundaries={}, closures={})
    boundaries = {"bottom": across, "top": across}
    plane = kind.build(PLANE, parameters={}, boundaries=boundaries, closures={})
    start = random_state(LINE, len(kind.VARIABLES), low=-1.0)
    solver = Solver("rk4", steps=50)
    on_line = frames(line, start, 0.5, 1, solver)
    in_plane = frames(plane, start.expand(-1, -1, 5, -1), 0.5, 1, solver)
    assert (on_line[:, 0] - start).abs().max() > 0.01
    assert_close(in_plane, on_line.expand_as(in_plane), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["burgers", "allen-cahn", "diffusion-reaction"])
def test_x_and_y_are_alike(name):
    kind = EQUATIONS[name]
    transposed = Grid.uniform((12, 5), ((-1.0, 1.0), (0.0, 0.8)))
    texts = {"left": "dirichlet:0.4", "right": "neumann:-0.3", "bottom": "robin:0.2:0.1", "top": "flux:0.1"}
    swapped = dict(zip(("bottom", "top", "left", "right"), texts.values(), strict=True))
    start = random_state(PLANE, len(kind.VARIABLES), low=-1.0)
    found = [
        frames(kind.build(grid, parameters={}, boundaries=given, closures={}), state, 0.1, 1, Solver("rk4", steps=20))
        for grid, given, state in ((PLANE, texts, start), (transposed, swapped, start.mT))
    ]
    assert_close(found[1].mT, found[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_negative_coefficient_is_refused(name):
    first = next(key for key, parameter in EQUATIONS[name].PARAMETERS.items() if parameter.positive)
    grid = tiny(name)[0].grid
    with pytest.raises(ConfigError, match=f"--param {first}=-0.1: .* must be a number of at least 0"):
        EQUATIONS[name].build(grid, parameters={first: -0.1}, boundaries={}, closures={})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"parameters": {"nu": 1.0}}, r"--param nu: burgers has no such name\. Known are D\."),
        ({"parameters": {"D": math.nan}}, r"--param D=nan: the diffusivity D must be a number"),
        ({"closures": {"reaction": "cubic"}}, r"--closure reaction: burgers has no such name\. Known are advection\."),
        (
            {"closures": {"advection": "u2"}},
            r"--closure advection=u2: burgers's advection has no such name\. Known are u\.",
        ),
        ({"boundaries": {"left": "open"}}, r"--boundary left=open: no boundary condition 'open'\. Known are periodic"),
        ({"boundaries": {"west": "wall"}}, r"--boundary west=wall: no such side\. Sides here: left, right, or all"),
        ({"boundaries": {"left": "periodic"}}, r"both are periodic, or neither is"),
    ],
)
def test_a_name_or_value_that_the_equation_does_not_have_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Burgers.build(LINE, **({"parameters": {}, "boundaries": {}, "closures": {}} | given))


def test_a_parameter_of_either_sign_must_be_finite():
    built(DiffusionReaction, LINE, k=-0.3)
    with pytest.raises(ConfigError, match=r"--param k=inf: expected a finite number"):
        built(DiffusionReaction, LINE, k=math.inf)


@pytest.mark.parametrize(
    ("kind", "grid", "message"),
    [
        (DiffusionSorption, PLANE, r"diffusion-sorption has 1 dimension\(s\) of space, the grid 2"),
        (ShallowWater, LINE, r"shallow-water has 2 dimension\(s\) of space, the grid 1"),
    ],
)
def test_a_grid_of_other_dimensions_is_refused(kind, grid, message):
    with pytest.raises(ConfigError, match=message):
        built(kind, grid)


@pytest.mark.parametrize("name", EQUATIONS)
def test_an_equation_refuses_solvers_that_do_not_suit_it(name):
    wrong = "rk4" if name == "shallow-water" else "forward-backward"
    with pytest.raises(ConfigError, match=rf"--solver {wrong}: {name} takes {EQUATIONS[name].SOLVERS[0]}"):
        tiny(name)[0].require_solver(wrong, "--solver")


def test_what_has_no_waves_has_no_step_of_waves():
    with pytest.raises(ConfigError, match="forward-backward is for waves; burgers takes dopri5, rk4"):
        built(Burgers, LINE).forward_backward(random_state(LINE), 0.1)
