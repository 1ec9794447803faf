"""Waves on shallow water of varying depth: linear momentum, nonlinear continuity, closed walls.

    u_t - f v = -g eta_x - kappa u
    v_t + f u = -g eta_y - kappa v
    eta_t + ((eta + H) u)_x + ((eta + H) v)_y = 0,    f = f0 + beta y

eta: surface elevation [m]; u, v: velocity [m s-1]; H: depth of the resting water [m], positive down, which does not change;
g = 9.81 m s-2; f0: Coriolis parameter [s-1]; beta [m-1 s-1]; kappa: friction [s-1].

Arakawa C-grid: eta and H at cell centres, u on the east face of its cell, v on the north face; the outermost east and
north faces are wall. A step is forward-backward: momentum from the old surface, with semi-implicit Coriolis and the mean
of the other component over its four nearest faces; then the mass flux F = u (eta + H), of the cell it comes from in the scheme
"upwind", the mean of both sides in "centred"; then the surface. Volume is conserved to rounding, a lake at rest stays at
rest over any sea bed.

Upwind is the published scheme. Over a sloping bed it slowly feeds waves where the basin rotates: over the named seamount (32 x 32
cells, f0 = 1e-4) their energy has grown fivefold after 24 crossings of the basin; with centred it has fallen by a quarter.
Two crossings hardly tell.

It blows up beyond dt = dx / sqrt(2 g max H) (a little less under friction), and where the water falls dry
(eta + H < 0): there is no land. Waves shorter than four cells are slowed down by the grid. Good values: dx = L / 32, waves
of L / 10 and longer, H >> eta.

Source: Horuz et al. (2024), arXiv 2408.10649.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from forecast_cli.domain import Variable
from forecast_cli.equations.base import ClosureKind, Equation, Output, Parameter, Parameters, Problem
from forecast_cli.equations.wave_adjoint import Steps, waves
from forecast_cli.errors import ConfigError
from forecast_cli.physics.grid import Grid


def _product(inputs: Tensor, parameters: Parameters) -> Tensor:  # noqa: ARG001 - every closure is called alike
    return inputs[:, :1] * inputs[:, 1:]


class ShallowWater(Equation):
    """Waves over a depth that is given as `static`, (batch | 1, 1, height, width)."""

    NAME = "shallow-water"
    VARIABLES = (
        Variable("eta", "m", "surface elevation", "sea_surface_height_above_mean_sea_level"),
        Variable("u", "m s-1", "velocity along x, on the east face of the cell", "sea_water_x_velocity"),
        Variable("v", "m s-1", "velocity along y, on the north face of the cell", "sea_water_y_velocity"),
    )
    PARAMETERS = {
        "gravity": Parameter(9.81, "m s-2", "the gravity g"),
        "coriolis": Parameter(1e-4, "s-1", "the Coriolis parameter f0", positive=False),
        "beta": Parameter(2e-11, "m-1 s-1", "its change along y, beta", positive=False),
        "friction": Parameter(0.0, "s-1", "the friction kappa"),
    }
    CLOSURES = {
        "transport": ClosureKind(
            "mass flux through a face",
            ("u", "depth"),
            (Output("mass_flux", "m2 s-1"),),
            {"product": _product},
            form="correction",
        )
    }
    DIMENSIONS = (2,)
    KINDS = frozenset(("wall",))
    SCHEMES = ("upwind", "centred")
    SOLVERS = ("forward-backward",)
    STATIC = "depth"
    IS_SI = True

    def stable_step(self, solver: str, lower: Tensor, upper: Tensor) -> float:  # noqa: ARG002 - the depth decides
        """dx / sqrt(2 g max H) on square cells, 1 / sqrt(g max H (1/dx^2 + 1/dy^2)) on others [s]; a little less under friction.

        With friction kappa, the step dt is stable where (dt / dt0)^2 + kappa dt / 2 <= 1, dt0 being the step without.
        """
        curvature = sum(1 / dx**2 for dx in self.grid.spacing)
        fastest = math.sqrt(self.number("gravity") * self._depth.max().item() * curvature)
        friction = self.number("friction") / 4
        if fastest == 0:
            return 0.5 / friction if friction else math.inf
        return (math.hypot(friction / fastest, 1) - friction / fastest) / fastest

    @property
    def _depth(self) -> Tensor:
        if self.static is None:
            raise ConfigError(
                "shallow-water needs the depth of the resting water [m, positive down]: give --static FILE:depth."
            )
        return self.static

    def forward_backward(self, state: Tensor, time_step: float) -> Tensor:
        """The state (batch, 3, height, width) a step later; `time_step` in s. Velocities on walls are taken as 0."""
        eta, u, v = state[:, :1], F.pad(state[:, 1:2, :, :-1], (0, 1)), F.pad(state[:, 2:, :-1], (0, 0, 0, 1))
        dy, dx = self.grid.spacing
        u, v = self._momentum(eta, u, v, time_step)
        thickness = eta + self._depth
        east = self._mass_flux(u[..., :-1], thickness[..., :-1], thickness[..., 1:])
        north = self._mass_flux(v[..., :-1, :], thickness[..., :-1, :], thickness[..., 1:, :])
        inflow = -F.pad(east, (1, 1)).diff(dim=-1) / dx - F.pad(north, (0, 0, 1, 1)).diff(dim=-2) / dy
        return torch.cat([eta + time_step * inflow, u, v], dim=1)

    def waves(self, state: Tensor, time_step: float, steps: int, count: int) -> Tensor | None:
        """The same by in-place steps with an adjoint of their own; None where more is learned than depth and gravity."""
        numbers = {name: value for name, value in self.parameters.items() if name != "gravity"}
        if not isinstance(self.closures["transport"], str) or any(isinstance(n, Tensor) for n in numbers.values()):
            return None
        if state.device.type == "meta":
            return None
        f0, beta, friction = (float(numbers[name]) for name in ("coriolis", "beta", "friction"))
        dy, dx = self.grid.spacing
        rotation = None
        if f0 or beta:
            centre = self._rows(state)
            rotation = f0 + beta * centre, f0 + beta * (centre[:-1] + dy / 2)
        plan = Steps((dy, dx), time_step, steps, count, self.scheme, friction, rotation)
        return waves(state, self._depth, self.parameters["gravity"], plan)

    def _rows(self, like: Tensor) -> Tensor:
        """y at the centres, (height, 1)."""
        row = torch.arange(self.grid.shape[0], dtype=like.dtype, device=like.device).view(-1, 1)
        return (self.grid.axes[0].first or 0.0) + self.grid.spacing[0] * row

    def _momentum(self, eta: Tensor, u: Tensor, v: Tensor, dt: float) -> tuple[Tensor, Tensor]:
        """Velocities a step later; 0 on the walls.

        Forces p, q and rotation by the trapezoidal rule, with a = dt f / 2:
            u' = u + dt p + a (v + v'),  v' = v + dt q - a (u + u')
        solved for one component, (1 + a^2) u' = (1 - a^2) u + dt p + 2 a (v + dt q / 2); for v it is the same with
        -(u + dt p / 2). Leaving out the other component's force would let every wave grow.
        """
        dy, dx = self.grid.spacing
        gravity, friction = self.parameters["gravity"], self.parameters["friction"]
        force_x = F.pad(-gravity / dx * eta.diff(dim=-1), (0, 1)) - friction * u
        force_y = F.pad(-gravity / dy * eta.diff(dim=-2), (0, 0, 0, 1)) - friction * v
        centre = self._rows(eta)
        f0, beta = self.parameters["coriolis"], self.parameters["beta"]
        # On the east faces v of the cells on both sides, on their south and north faces; likewise u on north faces.
        v_half, u_half = v + dt / 2 * force_y, u + dt / 2 * force_x
        v_pairs, u_pairs = v_half[..., :-1] + v_half[..., 1:], u_half[..., :-1, :] + u_half[..., 1:, :]
        v_there = (v_pairs + F.pad(v_pairs, (0, 0, 1, 0))[..., :-1, :]) / 4
        u_there = (u_pairs + F.pad(u_pairs, (1, 0))[..., :-1]) / 4
        a, b = dt / 2 * (f0 + beta * centre), dt / 2 * (f0 + beta * (centre[:-1] + dy / 2))
        east = ((1 - a**2) * u + dt * force_x)[..., :-1] + 2 * a * v_there
        north = ((1 - b**2) * v[..., :-1, :] + dt * force_y[..., :-1, :]) - 2 * b * u_there
        return F.pad(east / (1 + a**2), (0, 1)), F.pad(north / (1 + b**2), (0, 0, 0, 1))

    def _mass_flux(self, velocity: Tensor, behind: Tensor, ahead: Tensor) -> Tensor:
        """Volume through a face per length and time [m2 s-1], from the thickness of the water on both sides."""
        if self.scheme == "upwind":
            thickness = torch.where(velocity > 0, behind, ahead)
        else:
            thickness = (behind + ahead) / 2
        return self.closure("transport")(torch.cat([velocity, thickness], dim=1))


BUMP = 0.05
"""Standard deviation of the initial hill of water, in units of the basin's width."""


def _initial(grid: Grid, sample: int, generator: np.random.Generator) -> np.ndarray:
    """A hill of 1 m, at rest: in the middle of the basin, then anywhere at some distance from the walls."""
    y, x = grid.centres()
    height, width = (axis.size * (axis.spacing or 0.0) for axis in grid.axes)
    places = generator.uniform(0.2, 0.8, 2) if sample else (0.5, 0.5)
    origin_y, origin_x = y.min() - grid.spacing[0] / 2, x.min() - grid.spacing[1] / 2
    distance = (y - origin_y - places[0] * height) ** 2 + (x - origin_x - places[1] * width) ** 2
    eta = np.exp(-distance / (2 * (BUMP * max(height, width)) ** 2))
    return np.stack([eta, np.zeros_like(eta), np.zeros_like(eta)])


def _flat(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.zeros(np.broadcast_shapes(y.shape, x.shape))


def _seamount(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 0.6 * np.exp(-((y - 0.45) ** 2 + (x - 0.6) ** 2) / (2 * 0.12**2))


def _ridge(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 0.5 * np.exp(-((x - 0.35 - 0.3 * y) ** 2) / (2 * 0.07**2))


def _shelf(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return _flat(y, x) + 0.3 * (1 + np.tanh((x - 0.65) / 0.1))


TOPOGRAPHIES = {"flat": _flat, "seamount": _seamount, "ridge": _ridge, "shelf": _shelf}
"""Sea beds by name: how high they rise at (y, x), both from 0 to 1, in units of the depth of the flat bottom."""


def named_depth(name: str, grid: Grid, depth: float) -> np.ndarray:
    """The depth [m, positive down] of a named sea bed whose flat bottom lies at `depth`, (height, width)."""
    y, x = (
        (axis - axis.min() + dx / 2) / (axis.size * dx) for axis, dx in zip(grid.centres(), grid.spacing, strict=True)
    )
    return depth * (1 - TOPOGRAPHIES[name](y, x))


SIDE = (0.0, 1e6)
PROBLEMS = {
    "shallow-water": Problem(
        "Waves on shallow water", ShallowWater, (32, 32), (SIDE, SIDE), 121, 72000.0, _initial, "m", "s"
    ),
}
