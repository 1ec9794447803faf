"""Which equation a configuration and a data file describe, and whether the data are those of the equation."""

import difflib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from forecast_cli.config import ModelConfig, RunConfig
from forecast_cli.domain import Domain
from forecast_cli.equations import EQUATIONS, Equation
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.physics.boundary import SIDES
from forecast_cli.physics.grid import Grid
from forecast_cli.units import DEGREES, DIMENSIONLESS, metres_per, seconds_per

WHERE = ("model.parameters", "model.boundaries", "model.closures", "model.scheme")
"""How the configuration says what an equation is made of."""


def known_equation(options: ModelConfig, domain: Domain) -> Equation:
    """The equation that a configuration describes, with known closures. Raises ConfigError or DataError."""
    if options.equation not in EQUATIONS:
        match = difflib.get_close_matches(options.equation, EQUATIONS, n=1)
        hint = f"did you mean {match[0]}? " if match else ""
        raise ConfigError(
            f"model.equation = '{options.equation}': {hint}FINN needs one of {', '.join(EQUATIONS)}. "
            "Give it with --set model.equation=NAME."
        )
    kind = EQUATIONS[options.equation]
    return kind.build(
        Grid.of(domain, options.equation),
        parameters=options.parameters,
        boundaries=options.boundaries,
        closures=options.closures,
        scheme=options.scheme,
        where=WHERE,
    )


def completed(options: ModelConfig, attributes: Mapping[str, Any]) -> ModelConfig:
    """The options of a FINN with what the user did not say taken from the attributes of the data file.

    A number that is to be learned is not taken: it would start at the truth. Solver and time step are part of the
    physics of simulated data, and are taken too where the file was simulated with the same equation.
    """
    equation = EQUATIONS.get(options.equation)
    if options.name != "finn" or equation is None:
        return options
    if attributes.get("equation", options.equation) != options.equation:
        return options
    parameters = {
        name: float(attributes[name])
        for name in equation.PARAMETERS
        if name in attributes and name not in options.learn and _is_number(attributes[name])
    }
    update: dict[str, Any] = {"parameters": parameters | dict(options.parameters)}
    if attributes.get("equation") == options.equation:
        boundaries = {side: str(attributes[f"boundary_{side}"]) for side in SIDES if f"boundary_{side}" in attributes}
        update["boundaries"] = (boundaries if "all" not in options.boundaries else {}) | dict(options.boundaries)
        closures = {
            name: str(attributes[f"closure_{name}"]) for name in equation.CLOSURES if f"closure_{name}" in attributes
        }
        update["closures"] = closures | dict(options.closures)
        update["scheme"] = options.scheme or str(attributes.get("scheme", ""))
        if options.solver == "auto" and attributes.get("solver") in equation.SOLVERS:
            update["solver"] = str(attributes["solver"])
            if options.time_step is None and "time_step" in attributes:
                update["time_step"] = float(attributes["time_step"])
    return options.model_copy(update=update)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and math.isfinite(value)


def interval_of(domain: Domain) -> float:
    """The time between two frames, in the unit of the file."""
    step = domain.time_step
    if step.unit in ("month", "frame"):
        told = "regular in the calendar only" if step.unit == "month" else "without times"
        raise DataError(
            f"an equation needs times in a unit of time, and those of the data are {told}. Give the file a time coordinate with units."
        )
    return step.amount


def require_units(options: ModelConfig, domain: Domain, source: str) -> None:
    """DataError unless the coordinates are in one unit along both axes, and in metres and seconds where constants of the equation are."""
    equation = EQUATIONS.get(options.equation)
    axes = [axis for axis in (domain.y, domain.x) if axis]
    if domain.grid == "latitude-longitude":
        return  # refused as a grid
    if len({_scale(axis.units.strip()) for axis in axes}) > 1:
        listed = " and ".join(f"'{axis.name}' in '{axis.units}'" for axis in axes)
        raise DataError(
            f"{source}: {options.equation} needs one unit along both axes; the data have {listed}. Convert one of them."
        )
    if len(axes) > 1 and axes[0].units.strip().lower() in DEGREES:
        raise DataError(
            f"{source}: {options.equation} needs a grid in units of length; '{axes[0].name}' is in '{axes[0].units}'. "
            "Project the data first."
        )
    if equation is None or not equation.IS_SI:
        return
    for axis in axes:
        if axis.units.strip() not in DIMENSIONLESS and metres_per(axis.units) != 1:
            raise DataError(
                f"{source}: {options.equation} needs metres; '{axis.name}' is in '{axis.units}'. Convert it."
            )
    unit = domain.time_step.unit
    if unit not in (*DIMENSIONLESS, "month", "frame") and seconds_per(unit) != 1:
        raise DataError(
            f"{source}: {options.equation} needs times in seconds, or dates; those of the data are in '{unit}'. Convert them."
        )


def _scale(unit: str) -> float | str:
    """Metres to a unit of length, else its name."""
    return metres_per(unit) or ("" if unit in DIMENSIONLESS else unit)


def require_variables(equation: Equation, domain: Domain) -> None:
    """ConfigError unless the data have the equation's variables, in its order if they go by its names."""
    wanted = [variable.name for variable in equation.VARIABLES]
    here = [variable.name for variable in domain.variables]
    if len(here) != len(wanted) or (set(here) & set(wanted) and here != wanted):
        raise ConfigError(
            f"{equation.NAME} is about {', '.join(wanted)}, in this order; the data have {', '.join(here)}. Choose with --variable."
        )


def refuse_inputs(equation: Equation, config: RunConfig, domain: Domain) -> None:
    """ConfigError for masks, forcing, and static fields other than those that the equation needs."""
    if config.data.normalize != "global":
        raise ConfigError(
            "finn works in units of the equation, with one scale a variable: leave data.normalize = global."
        )
    if config.data.masked:
        raise ConfigError(
            "finn takes no missing values: an equation needs every cell. Leave out --nan mask and --mask."
        )
    if domain.forcing:
        raise ConfigError(f"finn takes no forcing; here is {', '.join(domain.forcing)}.")
    if len(domain.static) != bool(equation.STATIC):
        wanted = (
            f"one static field, the {equation.STATIC}: give --static {equation.STATIC}, or --static FILE:NAME"
            if equation.STATIC
            else "no static fields"
        )
        raise ConfigError(f"{equation.NAME} takes {wanted}; here are {', '.join(domain.static) or 'none'}.")


class Learned(NamedTuple):
    """What is to be learned: closures, numbers (parameters, and sides for the values of their conditions), the stencil."""

    closures: list[str]
    numbers: list[str]
    stencil: bool


def learned_of(learn: tuple[str, ...], equation: Equation) -> Learned:
    """The names in `model.learn`, sorted; ConfigError for one that the equation does not have."""
    sides = list(equation.conditions)
    known = [*equation.CLOSURES, *equation.PARAMETERS, *sides, "stencil"]
    if wrong := next((name for name in learn if name not in known), None):
        raise ConfigError(f"model.learn: {equation.NAME} has no '{wrong}' to learn. It has {', '.join(known)}.")
    for side in sides:
        if side in learn and equation.conditions[side].kind in ("periodic", "wall"):
            raise ConfigError(
                f"model.learn: the boundary {side} is '{equation.conditions[side]}', which has no value to learn."
            )
    if "stencil" in learn and equation.STATIC:
        raise ConfigError(f"model.learn: the stencil of {equation.NAME} is fixed.")
    closures = [name for name in learn if name in equation.CLOSURES]
    numbers = [name for name in learn if name in equation.PARAMETERS or name in sides]
    return Learned(closures, numbers, "stencil" in learn)
