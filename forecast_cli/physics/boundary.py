"""Boundary conditions as values: each says what lies beyond one side of the grid.

u: state of the outermost cell; n: outward normal. The face lies half a spacing outside the cell's centre.

    periodic               the cell at the other end
    dirichlet:V            u = V on the face (second order)
    dirichlet-ghost:V      u = V on a centre one spacing outside, as in the published FINN data
    neumann:V              du/dn = V on the face
    robin:V:L              u + L du/dn = V on the face
    cauchy:V:L             u = V - L du/dn on a centre one spacing outside, du/dn from the two outermost cells
    flux:V                 V enters through the face [unit of u times length per time]; no gradient besides
    wall                   nothing passes

V and L are numbers, names of the equation's parameters, or tensors (values to be learned).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from forecast_cli.domain import Axis
from forecast_cli.errors import ConfigError
from forecast_cli.physics.grid import Grid

Scalar = float | Tensor

SIDES = {"bottom": (-2, "low"), "top": (-2, "high"), "left": (-1, "low"), "right": (-1, "high")}
"""Each side's dimension of a state and its end: left and bottom are where x and y are lowest."""


@dataclass(frozen=True)
class Condition:
    """A boundary condition on one side. `value` and `length` may name a parameter until `resolved`."""

    kind: str
    value: Scalar | str = 0.0
    length: Scalar | str = 0.0

    def __str__(self) -> str:
        numbers = (self.value, self.length)[: _NUMBERS[self.kind]]
        return ":".join([self.kind, *(f"{v:g}" if isinstance(v, float) else str(v) for v in numbers)])

    def resolved(self, parameters: Mapping[str, Scalar]) -> "Condition":
        """The condition with the values of the parameters that it names."""
        value, length = (parameters[v] if isinstance(v, str) else v for v in (self.value, self.length))
        return replace(self, value=value, length=length)

    def ghost(self, edge: Tensor, inner: Tensor, spacing: float) -> Tensor:
        """The state one spacing outside, from that of the outermost cell and of its neighbour, (..., 1)."""
        return GHOSTS[self.kind](edge, inner, self.value, self.length, spacing)

    @property
    def flux(self) -> Scalar | None:
        """The flux that enters through the face, where the condition prescribes it."""
        assert not isinstance(self.value, str)
        return {"flux": self.value, "wall": 0.0}.get(self.kind)


def _dirichlet(edge: Tensor, _: Tensor, value: Scalar, __: Scalar, ___: float) -> Tensor:
    return 2 * value - edge


def _dirichlet_ghost(edge: Tensor, _: Tensor, value: Scalar, __: Scalar, ___: float) -> Tensor:
    return torch.zeros_like(edge) + value


def _neumann(edge: Tensor, _: Tensor, value: Scalar, __: Scalar, spacing: float) -> Tensor:
    return edge + spacing * value


def _robin(edge: Tensor, _: Tensor, value: Scalar, length: Scalar, spacing: float) -> Tensor:
    return (value - edge * (0.5 - length / spacing)) / (0.5 + length / spacing)


def _cauchy(edge: Tensor, inner: Tensor, value: Scalar, length: Scalar, spacing: float) -> Tensor:
    return value - length * (edge - inner) / spacing


def _same(edge: Tensor, _: Tensor, __: Scalar, ___: Scalar, ____: float) -> Tensor:
    return edge


GHOSTS: dict[str, Callable[..., Tensor]] = {
    "dirichlet": _dirichlet,
    "dirichlet-ghost": _dirichlet_ghost,
    "neumann": _neumann,
    "robin": _robin,
    "cauchy": _cauchy,
    "flux": _same,
    "wall": _same,
}
_NUMBERS = {"periodic": 0, "wall": 0, "robin": 2, "cauchy": 2} | dict.fromkeys(
    ("dirichlet", "dirichlet-ghost", "neumann", "flux"), 1
)
BOUNDARIES = tuple(_NUMBERS)
"""Every kind of boundary condition."""

Conditions = Mapping[str, Condition]
"""Side to condition; (left, right) in one dimension, all four in two."""


def sides_of(grid: Grid) -> list[str]:
    return [side for side, (dim, _) in SIDES.items() if dim in grid.dims]


def parse_condition(text: str, parameters: Mapping[str, object], where: str) -> Condition:
    """'dirichlet:0.5' as a condition. Raises ConfigError, which lists what is known."""
    kind, *numbers = text.strip().split(":")
    if kind not in _NUMBERS:
        raise ConfigError(f"{where}{text}: no boundary condition '{kind}'. Known are {', '.join(BOUNDARIES)}.")
    if len(numbers) > _NUMBERS[kind]:
        raise ConfigError(f"{where}{text}: '{kind}' takes {_NUMBERS[kind] or 'no'} number(s).")
    if kind in ("robin", "cauchy") and len(numbers) < 2:
        raise ConfigError(f"{where}{text}: expected {kind}:VALUE:LENGTH, such as {kind}:0:0.1.")
    found = Condition(kind, *(number if number in parameters else _number(number, text, where) for number in numbers))
    if isinstance(found.length, float) and found.length < 0:
        raise ConfigError(
            f"{where}{text}: the length must be at least 0; below it the boundary feeds what it should drain."
        )
    return found


def _number(number: str, text: str, where: str) -> float:
    try:
        value = float(number)
    except ValueError as error:
        raise ConfigError(f"{where}{text}: '{number}' is neither a number nor a parameter of the equation.") from error
    if not math.isfinite(value):
        raise ConfigError(f"{where}{text}: expected finite numbers.")
    return value


def parse_conditions(
    given: Mapping[str, str], default: Mapping[str, str], grid: Grid, parameters: Mapping[str, object], *, where: str
) -> dict[str, Condition]:
    """The condition of every side of a grid, from texts by side, or by "all".

    Raises ConfigError for unknown sides and kinds, and where one side is periodic and its opposite is not.
    """
    sides = sides_of(grid)
    if wrong := next((side for side in given if side not in (*sides, "all")), None):
        raise ConfigError(f"{where} {wrong}={given[wrong]}: no such side. Sides here: {', '.join(sides)}, or all.")
    texts = {side: default.get(side, default.get("all", "wall")) for side in sides}
    texts |= dict.fromkeys(sides, given["all"]) if "all" in given else {}
    texts |= {side: text for side, text in given.items() if side != "all"}
    found = {side: parse_condition(texts[side], parameters, f"{where} {side}=") for side in sides}
    for low, high in (("left", "right"), ("bottom", "top")):
        if low in found and (found[low].kind == "periodic") != (found[high].kind == "periodic"):
            raise ConfigError(
                f"{where}: {low} is '{found[low]}' and {high} '{found[high]}'; both are periodic, or neither is."
            )
    return found


def padded(state: Tensor, dim: int, low: Condition, high: Condition, spacing: float) -> Tensor:
    """The state with one ghost cell on both ends of a dimension."""
    size = state.shape[dim]
    first, last = state.narrow(dim, 0, 1), state.narrow(dim, size - 1, 1)
    if low.kind == "periodic":
        return torch.cat([last, state, first], dim)
    second, last_but_one = state.narrow(dim, min(1, size - 1), 1), state.narrow(dim, max(0, size - 2), 1)
    return torch.cat([low.ghost(first, second, spacing), state, high.ghost(last, last_but_one, spacing)], dim)


def ends(conditions: Conditions, axis: Axis, dim: int) -> tuple[Condition, Condition]:
    """The conditions at the low and the high end of an axis. Raises ConfigError where the axis is too short for them."""
    low, high = (conditions[side] for side, (d, _) in SIDES.items() if d == dim)
    if axis.size < 2:
        raise ConfigError(f"'{axis.name}' has {axis.size} cell; an equation needs at least 2 along each axis.")
    return low, high
