"""What every finite-volume equation is: variables, parameters, closures, boundary conditions, and a list of terms.

With known closures an equation is simulated; with networks in their place it is a finite volume neural
network (models/finn.py). Nothing else differs.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from forecast_cli.domain import Variable
from forecast_cli.errors import ConfigError
from forecast_cli.physics.boundary import SIDES, Condition, Scalar, parse_conditions
from forecast_cli.physics.grid import Grid
from forecast_cli.physics.integrate import REACH
from forecast_cli.physics.terms import Closure, FiniteVolumes, Term

Parameters = Mapping[str, Scalar]
T = TypeVar("T")


class Parameter(NamedTuple):
    """A number in an equation. `positive` ones are never below 0, and are learned as logarithms."""

    default: float
    units: str
    meaning: str
    positive: bool = True
    diffusivity: bool = False


class Output(NamedTuple):
    """One thing that a closure gives."""

    name: str
    units: str


class ClosureKind(NamedTuple):
    """A function of the state within an equation, that may be known or learned.

    inputs: variables (or what the equation makes of them) that it sees. known: functions of (inputs, parameters) by name,
    the default first. form: what a network's raw output is made into, see models/closures.py.
    size: typical size of each output, from the scale of the variables (channel, 1, 1), their typical
    rate of change (the same) and the length of the domain.
    """

    meaning: str
    inputs: tuple[str, ...]
    outputs: tuple[Output, ...]
    known: Mapping[str, Callable[[Tensor, Parameters], Tensor]]
    form: str = "free"
    size: Callable[[Tensor, Tensor, float], Tensor] = lambda scale, _, __: torch.ones_like(scale)


@dataclass(frozen=True)
class Equation:
    """An equation on a grid.

    conditions: for each side. parameters: numbers, or tensors to be learned. closures: the name of a known function, or
    a function such as a network. stencil: see FiniteVolumes. static: a field that does not change, (batch | 1, 1, height, width).
    scheme: how advection is differenced, out of SCHEMES.
    """

    grid: Grid
    conditions: Mapping[str, Condition]
    parameters: Parameters
    closures: Mapping[str, str | Closure] = field(default_factory=dict)
    stencil: Tensor | None = None
    static: Tensor | None = None
    scheme: str = ""

    NAME: ClassVar[str]
    VARIABLES: ClassVar[tuple[Variable, ...]]
    PARAMETERS: ClassVar[Mapping[str, Parameter]]
    CLOSURES: ClassVar[Mapping[str, ClosureKind]] = {}
    DIMENSIONS: ClassVar[tuple[int, ...]] = (1, 2)
    BOUNDARIES: ClassVar[Mapping[str, str]] = {"all": "wall"}
    """The conditions unless others are given, by side or for all."""
    KINDS: ClassVar[frozenset[str]] = frozenset(
        ("periodic", "dirichlet", "dirichlet-ghost", "neumann", "robin", "cauchy", "flux", "wall")
    )
    """Conditions that the equation can have."""
    SOLVERS: ClassVar[tuple[str, ...]] = ("dopri5", "rk4", "heun", "euler", "bosh3", "dopri8")
    """Solvers that suit it, the best first."""
    SCHEMES: ClassVar[tuple[str, ...]] = ()
    """How its advection can be differenced, the default first; empty without advection."""
    STATIC: ClassVar[str] = ""
    """What the equation needs to know besides, such as the depth; empty for nothing."""
    IS_SI: ClassVar[bool] = False
    """Whether its constants hold in metres and seconds only."""

    def terms(self) -> tuple[Term, ...]:
        """What the tendency is the sum of."""
        raise NotImplementedError

    def rate(self, lower: Tensor, upper: Tensor) -> float:
        """An upper bound of the fastest rate [1 / time] for states between `lower` and `upper`, (channel,)."""
        raise NotImplementedError

    @cached_property
    def _volumes(self) -> FiniteVolumes:
        conditions = {side: condition.resolved(self.parameters) for side, condition in self.conditions.items()}
        return FiniteVolumes(self.grid, conditions, self.terms(), self.stencil)

    def tendency(self, state: Tensor) -> Tensor:
        """du/dt of a state (batch, channel, height, width)."""
        return self._volumes(state)

    def forward_backward(self, state: Tensor, time_step: float) -> Tensor:  # noqa: ARG002 - waves override it
        """A step of waves, see physics.integrate.System; ConfigError for equations of other things."""
        raise ConfigError(f"the solver forward-backward is for waves; {self.NAME} takes {', '.join(self.SOLVERS)}.")

    def waves(self, state: Tensor, time_step: float, steps: int, count: int) -> Tensor | None:  # noqa: ARG002 - as above
        """Frames of forward-backward steps by a faster way, see physics.integrate.System; None without one."""
        return None

    def stable_step(self, solver: str, lower: Tensor, upper: Tensor) -> float:
        """The longest stable step of a fixed-step solver for states between `lower` and `upper`, (channel,)."""
        rate = self.rate(lower, upper)
        return REACH[solver] / rate if rate > 0 else math.inf

    def require_solver(self, solver: str, where: str) -> None:
        """ConfigError, which lists those that suit the equation, for another solver."""
        if solver not in self.SOLVERS:
            raise ConfigError(f"{where} {solver}: {self.NAME} takes {', '.join(self.SOLVERS)}.")

    def closure(self, name: str) -> Closure:
        """A closure as a function of its inputs, (batch, inputs, height, width)."""
        chosen = self.closures[name]
        if not isinstance(chosen, str):
            return chosen
        known = self.CLOSURES[name].known[chosen]
        return lambda inputs: known(inputs, self.parameters)

    def number(self, name: str) -> float:
        """The value of a parameter, also while it is being learned."""
        value = self.parameters[name]
        return float(value.detach() if isinstance(value, Tensor) else value)

    def largest(self, name: str, lower: Tensor, upper: Tensor) -> float:
        """The largest modulus of a closure between `lower` and `upper`, (inputs,)."""
        with torch.no_grad():
            return float(self.closure(name)(lattice(lower, upper)).abs().max())

    def steepest(self, name: str, lower: Tensor, upper: Tensor) -> float:
        """The largest row sum of the moduli of a closure's Jacobian between `lower` and `upper`, (inputs,).

        By central differences, which need no gradients and so work wherever a forecast is made.
        """
        points = lattice(lower, upper)
        step = 1e-3 * torch.maximum(upper - lower, torch.maximum(lower.abs(), upper.abs())).clamp(min=1e-6)
        closure, slopes = self.closure(name), []
        with torch.no_grad():
            for index in range(len(lower)):
                shift = torch.zeros_like(points)
                shift[:, index] = step[index]
                rise = closure(points + shift) - closure(points - shift)
                slopes.append((rise / (2 * step[index])).abs().amax(dim=(0, 2, 3)))
        return float(torch.stack(slopes).sum(dim=0).max())

    def diffusion_rate(self, diffusivity: float) -> float:
        """The fastest rate of diffusion, 4 D / dx^2 summed over the axes; a cauchy condition is faster where its length exceeds dx / 2."""
        rate = 0.0
        for dim, dx in zip(self.grid.dims, self.grid.spacing, strict=True):
            lengths = [
                float(torch.as_tensor(condition.resolved(self.parameters).length).detach())
                for side, condition in self.conditions.items()
                if condition.kind == "cauchy" and SIDES[side][0] == dim
            ]
            rate += diffusivity / dx**2 * max(4.0, *(3 + 2 * length / dx for length in lengths), 0.0)
        return rate

    @classmethod
    def build(
        cls,
        grid: Grid,
        *,
        parameters: Mapping[str, float],
        boundaries: Mapping[str, str],
        closures: Mapping[str, str],
        scheme: str = "",
        where: tuple[str, str, str, str] = ("--param", "--boundary", "--closure", "--scheme"),
    ) -> "Equation":
        """The equation with known closures, defaults in the place of what is not given.

        where: how the user says parameters, boundaries, closures and scheme, for messages.
        Raises ConfigError for names that the equation does not have, and for values that make it unstable.
        """
        if len(grid.axes) not in cls.DIMENSIONS:
            wanted = " or ".join(map(str, cls.DIMENSIONS))
            raise ConfigError(f"{cls.NAME} has {wanted} dimension(s) of space, the grid {len(grid.axes)}.")
        for name, value in parameters.items():
            known = _known(name, cls.PARAMETERS, f"{where[0]} {name}", cls.NAME)
            if not math.isfinite(value) or (known.positive and value < 0):
                raise ConfigError(
                    f"{where[0]} {name}={value:g}: {known.meaning} must be a number of at least 0; below it every solution blows up."
                    if known.positive
                    else f"{where[0]} {name}={value:g}: expected a finite number."
                )
        found = {name: parameter.default for name, parameter in cls.PARAMETERS.items()} | dict(parameters)
        for name, choice in closures.items():
            kind = _known(name, cls.CLOSURES, f"{where[2]} {name}", cls.NAME)
            _known(choice, kind.known, f"{where[2]} {name}={choice}", f"{cls.NAME}'s {name}")
        chosen = {name: next(iter(kind.known)) for name, kind in cls.CLOSURES.items()} | dict(closures)
        conditions = parse_conditions(boundaries, cls.BOUNDARIES, grid, cls.PARAMETERS, where=where[1])
        if wrong := next((s for s, c in conditions.items() if c.kind not in cls.KINDS), None):
            raise ConfigError(
                f"{where[1]} {wrong}={conditions[wrong]}: {cls.NAME} takes {', '.join(sorted(cls.KINDS))} only."
            )
        if scheme and scheme not in cls.SCHEMES:
            raise ConfigError(f"{where[3]} {scheme}: {cls.NAME} has the schemes {', '.join(cls.SCHEMES) or '(none)'}.")
        return cls(grid, conditions, found, chosen, scheme=scheme or next(iter(cls.SCHEMES), ""))


def _known(name: str, table: Mapping[str, T], said: str, owner: str) -> T:
    if name not in table:
        raise ConfigError(f"{said}: {owner} has no such name. Known are {', '.join(table) or 'none'}.")
    return table[name]


def lattice(lower: Tensor, upper: Tensor) -> Tensor:
    """Points that span the box between two corners (inputs,): (1, inputs, height, width), the first input along the height."""
    counts = {1: (1, 129), 2: (33, 33)}[len(lower)]
    lines = [torch.linspace(0, 1, count, dtype=lower.dtype, device=lower.device) for count in counts[2 - len(lower) :]]
    spans = [low + (high - low) * line for low, high, line in zip(lower, upper, lines, strict=True)]
    return torch.stack(torch.meshgrid(*spans, indexing="ij")).reshape(1, len(lower), *counts)


class Problem(NamedTuple):
    """What `forecast simulate` computes unless told otherwise.

    cells, extent: along (x,) or (y, x). initial: (grid, sample, generator) to (channel, height, width);
    sample 0 is the published training state, sample 1 the published test state, the rest are drawn.
    """

    title: str
    equation: type[Equation]
    cells: tuple[int, ...]
    extent: tuple[tuple[float, float], ...]
    frames: int
    duration: float
    initial: Callable[[Grid, int, np.random.Generator], np.ndarray]
    units: str = "1"
    time_units: str = "1"


def smooth_draw(grid: Grid, generator: np.random.Generator, basis: str, *, waves: int = 3) -> np.ndarray:
    """A smooth random field (height, width) between -1 and 1 that suits a boundary.

    basis: "sine" is 0 on every face of the boundary, "cosine" has no gradient there, "periodic" closes on itself.
    """
    total = np.zeros(grid.shape)
    shapes = []
    for axis, places in zip(grid.axes, grid.centres(), strict=True):
        share = (places - (axis.first or 0) + (axis.spacing or 0) / 2) / (axis.size * (axis.spacing or 1))
        shapes.append(share)
    for numbers in itertools.product(range(0 if basis == "cosine" else 1, waves + 1), repeat=len(shapes)):
        wave = np.full(grid.shape, generator.standard_normal())
        for number, share in zip(numbers, shapes, strict=True):
            if basis == "periodic":
                wave = wave * np.sin(2 * np.pi * (number * share + generator.random()))
            else:
                wave = wave * (np.sin if basis == "sine" else np.cos)(np.pi * number * share)
        total = total + wave / (1 + sum(numbers))
    return total / np.abs(total).max()
