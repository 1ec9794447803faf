"""The Allen-Cahn equation: two phases that separate.

    u_t = D (u_xx [+ u_yy]) + R(u),    R(u) = k (u - u^3)

u: order parameter, between the phases -1 and 1. D: diffusivity, 1e-4 in the published data. k: reaction rate, 5 there.
Boundary: periodic. Dimensionless. Fronts are about sqrt(D / k) wide: cells wider than that do not resolve them.
Explicit steps blow up beyond dt (4 D / dx^2 + 2 k) = 2 (heun). Good values: 49 cells over [-1, 1], frames every 0.0025.

Source: Karlbauer et al. (2022), arXiv 2111.11798.
"""

import numpy as np
from torch import Tensor

from forecast_cli.domain import Variable
from forecast_cli.equations.base import ClosureKind, Equation, Output, Parameter, Parameters, Problem, smooth_draw
from forecast_cli.physics.grid import Grid
from forecast_cli.physics.terms import Diffusion, Reaction, Term


def _cubic(u: Tensor, parameters: Parameters) -> Tensor:
    return parameters["k"] * (u - u**3)


class AllenCahn(Equation):
    """u_t = D (u_xx [+ u_yy]) + R(u)."""

    NAME = "allen-cahn"
    VARIABLES = (Variable("u", "1", "order parameter"),)
    PARAMETERS = {
        "D": Parameter(1e-4, "1", "the diffusivity D", diffusivity=True),
        "k": Parameter(5.0, "1", "the reaction rate k"),
    }
    CLOSURES = {
        "reaction": ClosureKind(
            "reaction R(u)", ("u",), (Output("reaction", "1"),), {"cubic": _cubic}, size=lambda _, rate, __: rate
        )
    }
    BOUNDARIES = {"all": "periodic"}

    def terms(self) -> tuple[Term, ...]:
        return Diffusion(self.parameters["D"]), Reaction(self.closure("reaction"))

    def rate(self, lower: Tensor, upper: Tensor) -> float:
        return self.diffusion_rate(self.number("D")) + self.steepest("reaction", lower, upper)


def _initial(grid: Grid, sample: int, generator: np.random.Generator) -> np.ndarray:
    """x^2 cos(pi x), sin(pi x / 2), then draws."""
    if sample > 1 or len(grid.axes) > 1:
        return smooth_draw(grid, generator, "periodic")[None]
    (x,) = grid.centres()
    return (np.sin(np.pi * x / 2) if sample else x**2 * np.cos(np.pi * x))[None]


PROBLEMS = {
    "allen-cahn": Problem("The Allen-Cahn equation", AllenCahn, (49,), ((-1.0, 1.0),), 401, 1.0, _initial),
}
