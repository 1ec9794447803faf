"""Burgers' equation: a wave that steepens, and the diffusion that rounds it.

    u_t = -a(u) (u_x [+ u_y]) + D (u_xx [+ u_yy]),    a(u) = u

u: velocity. D: diffusivity, 0.01 / pi in the published data. Boundary: u = 0. Lengths, times and u are dimensionless
in the published problem; with data in metres and seconds, D is in m2 s-1.

Advection is not conservative, and upwinded as published. A front forms near t = 1 / (pi max|u|); the upwind scheme adds a
diffusion of |a| dx / 2, which on few cells is more than D. The scheme "limited" adds none where u is smooth. Explicit steps
blow up beyond dt (2 max|a| / dx + 4 D / dx^2) = 2, summed over axes (limited: 3 instead of the first 2).
Good values: 49 cells over [-1, 1], frames every 0.005.

Source: Karlbauer et al. (2022), arXiv 2111.11798.
"""

import math

import numpy as np
import torch
from torch import Tensor

from forecast_cli.domain import Variable
from forecast_cli.equations.base import ClosureKind, Equation, Output, Parameter, Parameters, Problem, smooth_draw
from forecast_cli.physics.grid import Grid
from forecast_cli.physics.integrate import REACH
from forecast_cli.physics.terms import ADVECTION, Diffusion, Term


def _itself(u: Tensor, parameters: Parameters) -> Tensor:  # noqa: ARG001 - every closure is called alike
    return u


def _speed(scale: Tensor, rate: Tensor, length: float) -> Tensor:
    """What carries a wave as long as the domain so fast that u changes at its typical rate."""
    return rate / scale * length / (2 * torch.pi)


class Burgers(Equation):
    """u_t = -a(u) (u_x [+ u_y]) + D (u_xx [+ u_yy])."""

    NAME = "burgers"
    VARIABLES = (Variable("u", "1", "velocity"),)
    PARAMETERS = {"D": Parameter(0.01 / np.pi, "1", "the diffusivity D", diffusivity=True)}
    CLOSURES = {
        "advection": ClosureKind(
            "advection velocity a(u)", ("u",), (Output("velocity", "1"),), {"u": _itself}, size=_speed
        )
    }
    BOUNDARIES = {"all": "dirichlet:0"}
    SCHEMES = tuple(ADVECTION)

    def terms(self) -> tuple[Term, ...]:
        return ADVECTION[self.scheme](self.closure("advection")), Diffusion(self.parameters["D"])

    def rate(self, lower: Tensor, upper: Tensor) -> float:
        speed = self.largest("advection", lower, upper)
        reach = 2 if self.scheme == "upwind" else 3  # the limited slope sees a cell further
        return sum(reach * speed / dx for dx in self.grid.spacing) + self.diffusion_rate(self.number("D"))

    def stable_step(self, solver: str, lower: Tensor, upper: Tensor) -> float:
        """At most 2 / rate: beyond, fronts overshoot with rk4 too, and then grow."""
        rate = self.rate(lower, upper)
        return min(REACH[solver], 2.0) / rate if rate > 0 else math.inf


def _initial(grid: Grid, sample: int, generator: np.random.Generator) -> np.ndarray:
    """-sin(pi x), sin(pi x), then draws; in two dimensions -sin(pi (x + y)), -sin(pi (x - y)), then draws."""
    if sample > 1:
        return smooth_draw(grid, generator, "sine")[None]
    *y, x = grid.centres()
    if not y:
        return np.sin(np.pi * x)[None] * (1 if sample else -1)
    return -np.sin(np.pi * (x - y[0] if sample else x + y[0]))[None]


SIDE = (-1.0, 1.0)
PROBLEMS = {
    "burgers": Problem("Burgers' equation", Burgers, (49,), (SIDE,), 401, 2.0, _initial),
    "burgers-2d": Problem("Burgers' equation in the plane", Burgers, (49, 49), (SIDE, SIDE), 401, 2.0, _initial),
}
