"""The finite volume neural network: an equation where the physics is known, networks where it is not.

Every piece of `model.equation` is known unless `model.learn` names it: a closure (a function of the state) becomes a
network, a parameter or the value of a boundary condition a number to be learned, "stencil" the weights of the two cells
beside a face. With nothing to learn it is the simulator.

Source: Karlbauer et al. (2022), arXiv 2111.11798; Horuz et al. (2024), arXiv 2408.10649 for shallow water.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from forecast_cli.config import RunConfig
from forecast_cli.domain import Domain
from forecast_cli.equations import Equation
from forecast_cli.equations.base import ClosureKind, lattice
from forecast_cli.errors import DataError
from forecast_cli.models.base import Forecast, ForecastModel, LearnedFunction, State
from forecast_cli.models.closures import LearnedClosure
from forecast_cli.models.described import interval_of, known_equation, learned_of, refuse_inputs, require_variables
from forecast_cli.physics.boundary import SIDES
from forecast_cli.physics.integrate import ADAPTIVE, MARGIN, MOST_STEPS, Solver, frames, stable_steps, steps_of
from forecast_cli.physics.terms import Closure

LIKE_ADAPTIVE = "rk4"
"""A solver with fixed steps that needs about as many as adaptive ones."""
MORE_STEPS = 5
"""Steps that a trial may take, in units of those that the known equation needs."""


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
        self.interval = interval_of(domain)
        self.equation = known_equation(options, domain)
        require_variables(self.equation, domain)
        refuse_inputs(self.equation, config, domain)
        self.register_buffer("lower", torch.full_like(self.mean, -1.0))
        self.register_buffer("upper", torch.full_like(self.mean, 1.0))
        self.solver = options.solver if options.solver != "auto" else self.equation.SOLVERS[0]
        self.equation.require_solver(self.solver, "model.solver =")

        learned = learned_of(options.learn, self.equation)
        self.closures = nn.ModuleDict(
            {
                name: LearnedClosure(len(kind.inputs), options.hidden, len(kind.outputs), kind.form)
                for name, kind in self.equation.CLOSURES.items()
                if name in learned.closures
            }
        )
        # A learned number is start * exp(z) where it must stay positive, else start + size * z.
        self.numbers = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in learned.numbers})
        self.learns_stencil = learned.stencil
        if learned.stencil:
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
        """Where a positive number starts: at what the user says, else at a value that owes nothing to the file's.

        A diffusivity: a tenth of what one explicit step a frame could take. Others: four fifths of the equation's
        default, or a hundredth per frame where that is 0.
        """
        if given:
            return given
        parameter = self.equation.PARAMETERS[name]
        if parameter.diffusivity:
            return 0.1 / (2 * self.interval * sum(1 / dx**2 for dx in self.equation.grid.spacing))
        return 0.8 * parameter.default or 0.01 / self.interval

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

    def _closure(self, name: str, equation: Equation) -> Closure:
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
        equation = self.present_equation()
        known = replace(self.equation, parameters=equation.parameters)
        return [self._tabulated(name, equation, known) for name in self.closures]

    def _tabulated(self, name: str, equation: Equation, known: Equation) -> LearnedFunction:
        kind, names = equation.CLOSURES[name], [variable.name for variable in self.equation.VARIABLES]
        ends = zip(*(self._range(input_) for input_ in kind.inputs), strict=True)
        points = lattice(*(torch.stack(corner) for corner in ends))
        lines = [points[0, 0, :, 0], points[0, -1, 0, :]][2 - len(kind.inputs) :]
        units = [self.domain.variables[names.index(i)].units if i in names else "m" for i in kind.inputs]
        shape = (len(kind.outputs), *(len(line) for line in lines))
        return LearnedFunction(
            name=name,
            meaning=kind.meaning,
            inputs=list(zip(kind.inputs, units, lines, strict=True)),
            channels=[names.index(i) for i in kind.inputs] if set(kind.inputs) <= set(names) else None,
            outputs=[(output.name, output.units) for output in kind.outputs],
            learned=equation.closure(name)(points)[0].reshape(shape),
            known=known.closure(name)(points)[0].reshape(shape),
        )

    def _range(self, name: str) -> tuple[Tensor, Tensor]:
        """The smallest and the largest value of an input of a closure: of a static field, two deviations around its mean."""
        names = [variable.name for variable in self.equation.VARIABLES]
        if name in names:
            channel = names.index(name)
            return self.lower[channel, 0, 0], self.upper[channel, 0, 0]
        middle, reach = self.static_mean[0, 0, 0], 2 * self.static_scale[0, 0, 0]
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
        learns = any(True for _ in self.parameters())
        lower, upper = self.lower.flatten(), self.upper.flatten()
        most = self._most_steps(equation, lower, upper) if learns and self.training else float(MOST_STEPS)
        if self.solver in ADAPTIVE:
            return Solver(self.solver, tolerance=self.options.tolerance, scale=self.scale, most=most)
        limit = equation.stable_step(self.solver, lower, upper)
        stable = min(stable_steps(self.interval, limit), math.ceil(most))
        if self.options.time_step is None:
            return Solver(self.solver, stable)
        # What is being learned may ask for shorter steps on the way than what it comes to; steps that were said need no margin.
        steps = steps_of(
            self.interval,
            self.options.time_step,
            math.inf if learns else limit,
            name=self.solver,
            where="model.time_step =",
        )
        least = min(stable_steps(self.interval, limit / MARGIN), math.ceil(most))
        return Solver(self.solver, max(steps, least) if learns else steps)

    def _most_steps(self, equation: Equation, lower: Tensor, upper: Tensor) -> float:
        """Steps a frame, at most, in training: so many times what the known equation needs.

        A trial of the line search that makes a closure steep would otherwise take hours, and the memory of its gradient, to
        end nowhere: 24 GB on 49 x 49 cells before there was a bound.
        """
        known = replace(self.equation, static=equation.static)
        solver = self.solver if self.solver not in ADAPTIVE else LIKE_ADAPTIVE
        return MORE_STEPS * self.interval / known.stable_step(solver, lower, upper)
