"""Diffusion and reaction of an activator and an inhibitor (FitzHugh and Nagumo).

    u_t = D_u lap u + R_u(u, v),    R_u = u - u^3 - k - v
    v_t = D_v lap v + R_v(u, v),    R_v = u - v

u, v: activator and inhibitor. D_u, D_v: diffusivities, 1e-3 and 5e-3 in the published data; k = 5e-3. Boundary: nothing passes.
Dimensionless. Patterns form while D_v is well above D_u. Explicit steps blow up beyond dt (8 max(D) / dx^2 + 5) = 2 or so (heun,
on a square). Good values: 49 x 49 cells over [-1, 1], frames every 0.1.

Source: Karlbauer et al. (2022), arXiv 2111.11798.
"""

import numpy as np
import torch
from torch import Tensor

from forecast_cli.domain import Variable
from forecast_cli.equations.base import ClosureKind, Equation, Output, Parameter, Parameters, Problem, smooth_draw
from forecast_cli.physics.grid import Grid
from forecast_cli.physics.terms import Diffusion, Reaction, Term


def _fitzhugh_nagumo(state: Tensor, parameters: Parameters) -> Tensor:
    u, v = state[:, :1], state[:, 1:]
    return torch.cat([u - u**3 - parameters["k"] - v, u - v], dim=1)


class DiffusionReaction(Equation):
    """u_t = D_u lap u + R_u(u, v), v_t = D_v lap v + R_v(u, v)."""

    NAME = "diffusion-reaction"
    VARIABLES = (Variable("u", "1", "activator"), Variable("v", "1", "inhibitor"))
    PARAMETERS = {
        "D_u": Parameter(1e-3, "1", "the diffusivity D_u", diffusivity=True),
        "D_v": Parameter(5e-3, "1", "the diffusivity D_v", diffusivity=True),
        "k": Parameter(5e-3, "1", "the threshold k", positive=False),
    }
    CLOSURES = {
        "reaction": ClosureKind(
            "reactions R(u, v)",
            ("u", "v"),
            (Output("reaction_u", "1"), Output("reaction_v", "1")),
            {"fitzhugh-nagumo": _fitzhugh_nagumo},
            size=lambda _, rate, __: rate,
        )
    }

    def terms(self) -> tuple[Term, ...]:
        return (
            Diffusion((self.parameters["D_u"], self.parameters["D_v"])),
            Reaction(self.closure("reaction")),
        )

    def rate(self, lower: Tensor, upper: Tensor) -> float:
        fastest = max(self.number("D_u"), self.number("D_v"))
        return self.diffusion_rate(fastest) + self.steepest("reaction", lower, upper)


def _initial(grid: Grid, sample: int, generator: np.random.Generator) -> np.ndarray:
    """sin(pi (x + 1) / 2) sin(pi (y + 1) / 2) for both, the same less 0.5, then draws."""
    if sample > 1:
        return np.stack([smooth_draw(grid, generator, "cosine") for _ in range(2)])
    hill = np.ones(grid.shape)
    for places in grid.centres():
        hill = hill * np.sin(np.pi * (places + 1) / 2)
    return np.stack([hill, hill]) - 0.5 * sample


PROBLEMS = {
    "diffusion-reaction": Problem(
        "Diffusion and reaction", DiffusionReaction, (49, 49), ((-1.0, 1.0), (-1.0, 1.0)), 501, 50.0, _initial
    ),
}
