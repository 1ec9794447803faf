"""The terms of a balance equation on a grid, and their sum.

    du/dt = sum over terms

Conservative terms are differences of one flux per face, so that what leaves a cell enters its neighbour to
the last bit; cell terms (advection in non-conservative form, reaction, source) conserve nothing by themselves.
Every term is a value with a call (state, faces) -> tendency, both (batch, channel, height, width).

Source: Karlbauer et al. (2022), arXiv 2111.11798; the faces are ours (each flux once, by slicing).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from forecast_cli.physics.boundary import Conditions, Scalar, ends, padded
from forecast_cli.physics.grid import Grid

Closure = Callable[[Tensor], Tensor]
"""A function of the state in each cell: (batch, inputs, height, width) to (batch, outputs, height, width)."""


class Faces(NamedTuple):
    """The n + 1 faces between n cells along one dimension, those on the boundary included.

    cells: the state with one ghost cell on both ends. gradient: of the state across each face.
    entering: the fluxes that boundary conditions prescribe at the low and at the high end, or None.
    """

    dim: int
    spacing: float
    cells: Tensor
    gradient: Tensor
    entering: tuple[Scalar | None, Scalar | None]

    @property
    def number(self) -> int:
        return self.gradient.shape[self.dim]

    def low(self, faces: Tensor) -> Tensor:
        """Of values on the faces, those on the low side of each cell."""
        return faces.narrow(self.dim, 0, self.number - 1)

    def high(self, faces: Tensor) -> Tensor:
        """Of values on the faces, those on the high side of each cell."""
        return faces.narrow(self.dim, 1, self.number - 1)

    def divergence(self, flux: Tensor) -> Tensor:
        """The flux out of each cell per length, from the flux towards the high side through each face."""
        return (self.high(flux) - self.low(flux)) / self.spacing

    def with_prescribed(self, flux: Tensor) -> Tensor:
        """The flux with what boundary conditions prescribe in its first and last place."""
        for end, entering in enumerate(self.entering):
            if entering is None:
                continue
            sign, place = (1, 0) if end == 0 else (-1, self.number - 1)
            here = torch.zeros_like(flux.narrow(self.dim, place, 1)) + sign * entering
            rest = flux.narrow(self.dim, 1 - end, self.number - 1)
            flux = torch.cat([here, rest] if end == 0 else [rest, here], self.dim)
        return flux


Term = Callable[[Tensor, Sequence[Faces]], Tensor]


@dataclass(frozen=True)
class Diffusion:
    """div(D grad u), conservative.

    coefficient: D >= 0 [length^2 per time], one for all channels or one for each, or a closure of the state,
    whose mean over the two sides of a face counts.
    """

    coefficient: Scalar | tuple[Scalar, ...] | Closure

    def __call__(self, state: Tensor, faces: Sequence[Faces]) -> Tensor:  # noqa: ARG002 - every term is called alike
        return -_sum(
            along.divergence(along.with_prescribed(-self._on_faces(along) * along.gradient)) for along in faces
        )

    def _on_faces(self, along: Faces) -> Scalar:
        if isinstance(self.coefficient, tuple):
            cells = along.cells
            numbers = [torch.as_tensor(value, dtype=cells.dtype, device=cells.device) for value in self.coefficient]
            return torch.stack(numbers).view(-1, 1, 1)
        if not callable(self.coefficient):
            return self.coefficient
        cells = self.coefficient(along.cells)
        return 0.5 * (cells.narrow(along.dim, 0, along.number) + cells.narrow(along.dim, 1, along.number))


@dataclass(frozen=True)
class Scaled:
    """f(u) times what another term does to one channel: a cell term, and conservative only where f is constant.

    factor: a closure of the state that gives the factor of every channel.
    """

    factor: Closure
    term: Term
    channel: int

    def __call__(self, state: Tensor, faces: Sequence[Faces]) -> Tensor:
        return self.factor(state) * self.term(state, faces)[:, self.channel : self.channel + 1]


@dataclass(frozen=True)
class UpwindAdvection:
    """-a(u) sum over axes of du/dx, a cell term, differenced against the flow: to the low side where a > 0.

    First order: it adds a diffusion of |a| spacing / 2.
    """

    velocity: Closure

    def __call__(self, state: Tensor, faces: Sequence[Faces]) -> Tensor:
        velocity = self.velocity(state)
        onward, backward = torch.relu(velocity), torch.relu(-velocity)
        low = _sum(along.low(along.gradient) for along in faces)
        high = _sum(along.high(along.gradient) for along in faces)
        return backward * high - onward * low


@dataclass(frozen=True)
class LimitedAdvection:
    """-a(u) sum over axes of du/dx, a cell term of second order where u is smooth, upwind where its slope changes.

    The slope is that of the upwind side, plus half of what it lacks to the mean of both sides, times van Albada's limiter
    2 s t / (s^2 + t^2) of the two slopes s and t, or 0 where their signs differ. It adds no diffusion to smooth waves.
    Source: van Albada, van Leer, Roberts (1982), Astron. Astrophys. 108.
    """

    velocity: Closure

    def __call__(self, state: Tensor, faces: Sequence[Faces]) -> Tensor:
        velocity = self.velocity(state)
        onward, backward = torch.relu(velocity), torch.relu(-velocity)
        return _sum(self._along(along, onward, backward) for along in faces)

    @staticmethod
    def _along(along: Faces, onward: Tensor, backward: Tensor) -> Tensor:
        low, high = along.low(along.gradient), along.high(along.gradient)
        limiter = torch.relu(2 * low * high / (low**2 + high**2 + 1e-30))
        centring = limiter * (high - low) / 2
        return backward * (high - centring) - onward * (low + centring)


@dataclass(frozen=True)
class Reaction:
    """R(u), what appears in a cell of each variable per time."""

    rate: Closure

    def __call__(self, state: Tensor, faces: Sequence[Faces]) -> Tensor:  # noqa: ARG002 - every term is called alike
        return self.rate(state)


@dataclass(frozen=True)
class Source:
    """A given tendency, broadcast over (batch, channel, height, width), whatever the state."""

    tendency: Tensor

    def __call__(self, state: Tensor, faces: Sequence[Faces]) -> Tensor:  # noqa: ARG002 - every term is called alike
        return self.tendency.expand_as(state)


@dataclass(frozen=True)
class FiniteVolumes:
    """The sum of terms on a grid, with a condition on each side.

    stencil: weights of the two cells beside a face in the gradient across it, (2,); None is (-1, 1).
    """

    grid: Grid
    conditions: Conditions
    terms: Sequence[Term]
    stencil: Tensor | None = None

    def faces(self, state: Tensor) -> list[Faces]:
        """The faces along each axis of the grid."""
        found = []
        for axis, dim, spacing in zip(self.grid.axes, self.grid.dims, self.grid.spacing, strict=True):
            low, high = ends(self.conditions, axis, dim)
            cells = padded(state, dim, low, high, spacing)
            count = cells.shape[dim] - 1
            before, after = cells.narrow(dim, 0, count), cells.narrow(dim, 1, count)
            difference = after - before if self.stencil is None else self.stencil[0] * before + self.stencil[1] * after
            found.append(Faces(dim, spacing, cells, difference / spacing, (low.flux, high.flux)))
        return found

    def __call__(self, state: Tensor) -> Tensor:
        """du/dt."""
        faces = self.faces(state)
        return _sum(term(state, faces) for term in self.terms)


def _sum(parts: Iterable[Tensor]) -> Tensor:
    """The sum of at least one tensor, without a zero to start from."""
    return reduce(torch.add, parts)


ADVECTION: dict[str, Callable[[Closure], Term]] = {"upwind": UpwindAdvection, "limited": LimitedAdvection}
"""Schemes for advection by name, the published one first."""
