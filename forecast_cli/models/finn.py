"""The finite volume neural network: an equation where the physics is known, networks where it is not.

Every piece of `model.equation` is known unless `model.learn` names it: a closure (a function of the state) becomes a
network, a parameter or the value of a boundary condition a number to be learned, "stencil" the weights of the two cells
beside a face. With nothing to learn it is the simulator.

Source: Karlbauer et al. (2022), arXiv 2111.11798; Horuz et al. (2024), arXiv 2408.10649 for shallow water.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from forecast_cli.config import ModelConfig, RunConfig
from forecast_cli.domain import Domain
from forecast_cli.equations import EQUATIONS, Equation
from forecast_cli.equations.base import ClosureKind, lattice
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.models.base import Forecast, ForecastModel, LearnedFunction, State
from forecast_cli.models.closures import LearnedClosure
from forecast_cli.physics.boundary import SIDES
from forecast_cli.physics.grid import Grid
from forecast_cli.physics.integrate import ADAPTIVE, MOST_STEPS, Solver, frames, stable_steps, steps_of

WHERE = ("model.parameters", "model.boundaries", "model.closures", "model.scheme")
"""How the configuration says what an equation is made of."""


class FiniteVolumeNetwork(ForecastModel):
    """An equation as a forecaster: a context of one frame is enough, and the state is the frame itself.

    Buffers beside those of every model: lower, upper (channel, 1, 1), the range of the training part.
    """

    lower: Tensor
    upper: Tensor

    def __init__(self, config: RunConfig, domain: Domain) -> None:
        super().__init__(domain)
        options = config.model
        self.options = options
        self.interval = _interval(domain)
        self.equation = known_equation(options, domain)
        _require_variables(self.equation, domain)
        _refuse_inputs(self.equation, config, domain)
        self.register_buffer("lower", torch.full_like(self.mean, -1.0))
        self.register_buffer("upper", torch.full_like(self.mean, 1.0))
        self.solver = options.solver if options.solver != "auto" else self.equation.SOLVERS[0]
        self.equation.require_solver(self.solver, "model.solver =")

        closures, numbers, self.learns_stencil = _split_learned(options.learn, self.equation)
        self.closures = nn.ModuleDict(
            {
                name: LearnedClosure(len(kind.inputs), options.hidden, len(kind.outputs), kind.form)
                for name, kind in self.equation.CLOSURES.items()
                if name in closures
            }
        )
        # A learned number is start * exp(z) where it must stay positive, else start + size * z.
        self.numbers = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in numbers})
        if self.learns_stencil:
            self.stencil = nn.Parameter(torch.tensor([-1.0, 1.0]) + 0.1 * torch.randn(2))

    def learned_number(self, name: str) -> Tensor:
        """The present value of a learned parameter, or of the value of a boundary condition, in its unit."""
        z, given = self.numbers[name], self.options.parameters.get(name)
        if name in SIDES:
            return self.mean[0, 0, 0] + self.scale[0, 0, 0] * z
        parameter = self.equation.PARAMETERS[name]
        if parameter.positive:
            return self._guess(name, given) * torch.exp(z)
        return (given or 0.0) + abs(parameter.default or 1.0) * z

    def _guess(self, name: str, given: float | None) -> float:
        """Where a positive number starts: at what the user says, else at a value that owes nothing to the truth.

        For a diffusivity that is a tenth of what one explicit step a frame could take.
        """
        if given:
            return given
        if name.startswith("D"):
            return 0.1 / (2 * self.interval * sum(1 / dx**2 for dx in self.equation.grid.spacing))
        return 1.0

    def present_equation(self, static: Tensor | None = None) -> Equation:
        """The equation with everything learned in its place."""
        numbers = {name: self.learned_number(name) for name in self.numbers}
        parameters = {name: value for name, value in numbers.items() if name not in SIDES}
        conditions = dict(self.equation.conditions)
        for side in numbers.keys() & SIDES.keys():
            conditions[side] = replace(conditions[side], value=numbers[side])
        bare = replace(
            self.equation,
            parameters={**self.equation.parameters, **parameters},
            conditions=conditions,
            stencil=self.stencil if self.learns_stencil else None,
            static=static,
        )
        if not self.closures:
            return bare
        closures = {**self.equation.closures, **{name: self._closure(name, bare) for name in self.closures}}
        return replace(bare, closures=closures)

    def _closure(self, name: str, equation: Equation) -> Any:
        kind, network = equation.CLOSURES[name], self.closures[name]
        assert isinstance(network, LearnedClosure)
        mean, scale = self.input_statistics(kind)
        axes = self.equation.grid.axes
        length = max(axis.size * (axis.spacing or 0.0) for axis in axes)
        size = kind.size(self.scale, self.change / self.interval, length)
        return network.bind(mean=mean, scale=scale, size=size[: len(kind.outputs)], known=equation.closure(name))

    def input_statistics(self, kind: ClosureKind) -> tuple[Tensor, Tensor]:
        """Mean and scale of a closure's inputs, (inputs, 1, 1): those of the variables, or of the static field."""
        return self._of_inputs(kind, self.mean, "static_mean"), self._of_inputs(kind, self.scale, "static_scale")

    def learned_numbers(self) -> dict[str, tuple[float, str]]:
        units = {name: parameter.units for name, parameter in self.equation.PARAMETERS.items()}
        units |= dict.fromkeys(SIDES, self.domain.variables[0].units)
        found = {name: (self.learned_number(name).item(), units[name]) for name in self.numbers}
        if self.learns_stencil:
            weights = zip(("low", "high"), self.stencil.tolist(), strict=True)
            found |= {f"stencil_{side}": (weight, "1") for side, weight in weights}
        return found

    def learned_range(self) -> tuple[Tensor, Tensor] | None:
        return (self.lower, self.upper) if self.closures else None

    @torch.no_grad()
    def learned_functions(self) -> list[LearnedFunction]:
        """Every learned closure over the range that the training part spans, and what the equation says itself."""
        equation, known = self.present_equation(), replace(self.equation, parameters=self.present_equation().parameters)
        names = [variable.name for variable in self.equation.VARIABLES]
        found = []
        for name in self.closures:
            kind = equation.CLOSURES[name]
            ranges = [self._range(input_) for input_ in kind.inputs]
            points = lattice(*(torch.stack(ends) for ends in zip(*ranges, strict=True)))
            lines = [points[0, 0, :, 0], points[0, -1, 0, :]][2 - len(kind.inputs) :]
            units = [self.domain.variables[names.index(i)].units if i in names else "m" for i in kind.inputs]
            learned, true = (closure.closure(name)(points)[0] for closure in (equation, known))
            shape = (len(kind.outputs), *(len(line) for line in lines))
            found.append(
                LearnedFunction(
                    name,
                    kind.meaning,
                    list(zip(kind.inputs, units, lines, strict=True)),
                    [names.index(i) for i in kind.inputs] if set(kind.inputs) <= set(names) else None,
                    [(output.name, output.units) for output in kind.outputs],
                    learned.reshape(shape),
                    true.expand(learned.shape).reshape(shape),
                )
            )
        return found

    def _range(self, name: str) -> tuple[Tensor, Tensor]:
        """The smallest and the largest value of an input of a closure: of a static field, two deviations around its mean."""
        names = [variable.name for variable in self.equation.VARIABLES]
        if name in names:
            return self.lower[names.index(name)].flatten()[0], self.upper[names.index(name)].flatten()[0]
        middle, reach = self.static_mean.flatten()[0], 2 * self.static_scale.flatten()[0]
        return (middle - reach).clamp(min=0), middle + reach

    def _of_inputs(self, kind: ClosureKind, per_variable: Tensor, of_static: str) -> Tensor:
        names = [variable.name for variable in self.equation.VARIABLES]
        found = [
            per_variable[names.index(name)] if name in names else getattr(self, of_static)[0] for name in kind.inputs
        ]
        return torch.stack(found)

    def require_inputs(self, static: Tensor | None, forcing: Tensor | None) -> None:
        """As for every model; and DataError where there is land."""
        super().require_inputs(static, forcing)
        if static is not None and static.device.type != "meta" and not bool((static > 0).all()):
            raise DataError(
                f"'{self.domain.static[0]}' is {float(static.min()):g} m somewhere: {self.equation.NAME} has no land, "
                "and its depth is positive down. Deepen land to a smallest depth, as forecast simulate's --min-depth does."
            )

    def forward(
        self,
        context: Tensor,
        steps: int,
        *,
        static: Tensor | None = None,
        forcing: Tensor | None = None,
        state: State | None = None,  # noqa: ARG002 - the last frame of the context is all there is to know
    ) -> Forecast:
        self.require_inputs(static, forcing)
        equation, known = self.present_equation(static), context.shape[1] - 1
        solver = self._solver(equation)
        fields = frames(equation, context[:, -1], self.interval, steps, solver)
        if not known:
            return Forecast(context[:, :0], fields, ())
        if static is not None:
            equation = replace(equation, static=static.repeat_interleave(known, dim=0))
        fitted = frames(equation, context[:, :-1].flatten(0, 1), self.interval, 1, solver)
        return Forecast(fitted.view_as(context[:, 1:]), fields, ())

    def _solver(self, equation: Equation) -> Solver:
        """The solver with so many steps a frame that it is stable over the range of the training part."""
        if self.mean.device.type == "meta":
            # Shapes only: there are no values to choose a step by.
            return Solver("forward-backward" if "forward-backward" in self.equation.SOLVERS else "rk4")
        if self.solver in ADAPTIVE:
            return Solver(self.solver, tolerance=self.options.tolerance, scale=self.scale)
        limit = equation.stable_step(self.solver, self.lower.flatten(), self.upper.flatten())
        given, stable = self.options.time_step, min(stable_steps(self.interval, limit), MOST_STEPS)
        if given is None:
            return Solver(self.solver, stable)
        if not self.closures and not self.numbers:
            return Solver(
                self.solver, steps_of(self.interval, given, limit, name=self.solver, where="model.time_step =")
            )
        # What is being learned may ask for shorter steps on the way than what it comes to.
        return Solver(
            self.solver, max(steps_of(self.interval, given, math.inf, name="", where="model.time_step ="), stable)
        )


def known_equation(options: ModelConfig, domain: Domain) -> Equation:
    """The equation that a configuration describes, with known closures. Raises ConfigError or DataError."""
    if options.equation not in EQUATIONS:
        raise ConfigError(
            f"model.equation = '{options.equation}': FINN needs one of {', '.join(EQUATIONS)}. "
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


def _interval(domain: Domain) -> float:
    """The time between two frames, in the unit of the file."""
    step = domain.time_step
    if step.unit in ("month", "frame"):
        told = "regular in the calendar only" if step.unit == "month" else "without times"
        raise DataError(
            f"an equation needs times in a unit of time, and those of the data are {told}. Give the file a time coordinate with units."
        )
    return step.amount


def _require_variables(equation: Equation, domain: Domain) -> None:
    """ConfigError unless the data have the equation's variables, in its order if they go by its names."""
    wanted = [variable.name for variable in equation.VARIABLES]
    here = [variable.name for variable in domain.variables]
    if len(here) != len(wanted) or (set(here) & set(wanted) and here != wanted):
        raise ConfigError(
            f"{equation.NAME} is about {', '.join(wanted)}, in this order; the data have {', '.join(here)}. Choose with --variable."
        )


def _refuse_inputs(equation: Equation, config: RunConfig, domain: Domain) -> None:
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


def _split_learned(learn: tuple[str, ...], equation: Equation) -> tuple[list[str], list[str], bool]:
    """Names of `model.learn` as closures, numbers (parameters and sides), and whether the stencil is among them."""
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
    return closures, numbers, "stencil" in learn
