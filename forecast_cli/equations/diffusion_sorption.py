"""Diffusion of a solute through a soil that holds it back.

    c_t = (1 / R(c)) D c_xx,    c_tot,t = 1000 (p / rho) D c_xx

c: dissolved concentration [kg m-3]; c_tot: total concentration, per mass of soil [g kg-1]; x in m, t in days.
D: diffusivity [m2 day-1]; p: porosity; rho: bulk density [kg m-3]. The retardation factor R comes from a sorption isotherm:

    freundlich  R = 1 + (1 - p) / p rho k_f n_f (c + 1e-6)^(n_f - 1)
    langmuir    R = 1 + (1 - p) / p rho s_max k_l / (c + k_l)^2
    linear      R = 1 + (1 - p) / p rho k_d

What is learned is 1 / R, between 0 and a learned bound. Boundary: c = 1 on the left; on the right c = -D c_x one spacing
outside. Explicit steps blow up beyond dt 4 D / (R dx^2) = 2 (heun); freundlich steepens the front without end as c
goes to 0. Good values: 26 cells over 1 m, frames every 5 days, 10,000 days.

Source: Karlbauer et al. (2022), arXiv 2111.11798; parameters of its published experiments.
"""

import numpy as np
import torch
from torch import Tensor

from forecast_cli.domain import Variable
from forecast_cli.equations.base import ClosureKind, Equation, Output, Parameter, Parameters, Problem, smooth_draw
from forecast_cli.physics.grid import Grid
from forecast_cli.physics.terms import Diffusion, Scaled, Term


def _held_back(sorbed: Tensor | float, parameters: Parameters) -> Tensor | float:
    """1 / R where so much [m3 kg-1] is sorbed per change of concentration."""
    porosity = parameters["porosity"]
    return 1 / (1 + (1 - porosity) / porosity * parameters["rho"] * sorbed)


def _freundlich(c: Tensor, parameters: Parameters) -> Tensor:
    exponent = parameters["n_f"]
    return c.new_zeros(()) + _held_back(
        parameters["k_f"] * exponent * (c.clamp(min=0) + 1e-6) ** (exponent - 1), parameters
    )


def _langmuir(c: Tensor, parameters: Parameters) -> Tensor:
    affinity = parameters["k_l"]
    return c.new_zeros(()) + _held_back(parameters["s_max"] * affinity / (c + affinity) ** 2, parameters)


def _linear(c: Tensor, parameters: Parameters) -> Tensor:
    return torch.zeros_like(c) + _held_back(parameters["k_d"], parameters)


class DiffusionSorption(Equation):
    """c_t = D / R(c) c_xx and what the soil then holds in all."""

    NAME = "diffusion-sorption"
    VARIABLES = (
        Variable("c", "kg m-3", "dissolved concentration"),
        Variable("c_tot", "g kg-1", "total concentration"),
    )
    PARAMETERS = {
        "D": Parameter(5e-4, "m2 day-1", "the diffusivity D", diffusivity=True),
        "porosity": Parameter(0.29, "1", "the porosity"),
        "rho": Parameter(2880.0, "kg m-3", "the bulk density rho"),
        "k_f": Parameter(1.016 / 2880, "1", "Freundlich's coefficient k_f"),
        "n_f": Parameter(0.874, "1", "Freundlich's exponent n_f"),
        "s_max": Parameter(1 / 1700, "1", "Langmuir's capacity s_max"),
        "k_l": Parameter(1.0, "kg m-3", "Langmuir's half concentration k_l"),
        "k_d": Parameter(0.429 / 1000, "m3 kg-1", "the partitioning coefficient k_d"),
    }
    CLOSURES = {
        "retardation": ClosureKind(
            "inverse retardation factor 1 / R(c)",
            ("c",),
            (Output("inverse_retardation", "1"),),
            {"freundlich": _freundlich, "langmuir": _langmuir, "linear": _linear},
            form="share",
        )
    }
    DIMENSIONS = (1,)
    BOUNDARIES = {"left": "dirichlet:1", "right": "cauchy:0:D"}

    def terms(self) -> tuple[Term, ...]:
        held_back = self.closure("retardation")
        per_mass = 1000 * self.parameters["porosity"] / self.parameters["rho"]

        def factors(state: Tensor) -> Tensor:
            free = held_back(state[:, :1])
            return torch.cat([free, torch.zeros_like(free) + per_mass], dim=1)

        return (Scaled(factors, Diffusion(self.parameters["D"]), channel=0),)

    def rate(self, lower: Tensor, upper: Tensor) -> float:
        return self.diffusion_rate(self.largest("retardation", lower[:1], upper[:1]) * self.number("D"))


def _initial(grid: Grid, sample: int, generator: np.random.Generator) -> np.ndarray:
    """Clean soil; samples after the first start with some of the solute in it, and what it holds is counted from there."""
    c = 0.25 * (1 + smooth_draw(grid, generator, "cosine")) if sample else np.zeros(grid.shape)
    return np.stack([c, np.zeros(grid.shape)])


PROBLEMS = {
    "diffusion-sorption": Problem(
        "Diffusion with sorption", DiffusionSorption, (26,), ((0.0, 1.0),), 2001, 10000.0, _initial, "m", "days"
    ),
}
