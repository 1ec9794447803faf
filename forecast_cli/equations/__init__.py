"""Partial differential equations, one a file: finite volumes by name, and Navier-Stokes, which is spectral."""

from forecast_cli.equations import allen_cahn, burgers, diffusion_reaction, diffusion_sorption, shallow_water
from forecast_cli.equations.base import Equation, Problem

__all__ = ["EQUATIONS", "PROBLEMS", "Equation", "Problem"]

PROBLEMS: dict[str, Problem] = (
    burgers.PROBLEMS
    | allen_cahn.PROBLEMS
    | diffusion_sorption.PROBLEMS
    | diffusion_reaction.PROBLEMS
    | shallow_water.PROBLEMS
)
"""Every problem that can be simulated with finite volumes, by its name on the command line."""

EQUATIONS: dict[str, type[Equation]] = {problem.equation.NAME: problem.equation for problem in PROBLEMS.values()}
"""Every equation, by the name that `model.equation` has."""
