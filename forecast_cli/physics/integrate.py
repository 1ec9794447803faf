"""From one frame to the next: explicit steppers of our own, and torchdiffeq's adaptive ones, behind `frames`.

Stability, for a system whose fastest rate is r [1 / time] (an upper bound of the moduli of its Jacobian's
eigenvalues): a step of dt is stable where r dt is at most 2 (euler, heun) or 2.785 (rk4). Eigenvalues of diffusion
lie on the negative real axis, those of upwind advection on a circle that touches 0: for these the bounds are sharp.
Forward-backward steps of waves have their own limit, which the equation knows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from forecast_cli.errors import ConfigError, DivergedError

Tendency = Callable[[Tensor], Tensor]


class System(Protocol):
    """What can be integrated."""

    def tendency(self, state: Tensor) -> Tensor:
        """du/dt of a state (batch, channel, height, width)."""
        ...

    def forward_backward(self, state: Tensor, time_step: float) -> Tensor:
        """The state of waves after a step: velocity from the old surface, then surface from the new velocity."""
        ...

    def waves(self, state: Tensor, time_step: float, steps: int, count: int) -> Tensor | None:
        """`count` frames of forward-backward steps, `steps` apart, by a faster way; None where there is no other."""
        ...


def _euler(system: System, u: Tensor, dt: float) -> Tensor:
    return u + dt * system.tendency(u)


def _heun(system: System, u: Tensor, dt: float) -> Tensor:
    slope = system.tendency(u)
    ahead = system.tendency(u + dt * slope)
    return u + (dt / 2) * (slope + ahead)


def _rk4(system: System, u: Tensor, dt: float) -> Tensor:
    first = system.tendency(u)
    second = system.tendency(u + (dt / 2) * first)
    third = system.tendency(u + (dt / 2) * second)
    fourth = system.tendency(u + dt * third)
    return u + (dt / 6) * (first + 2 * (second + third) + fourth)


def _forward_backward(system: System, u: Tensor, dt: float) -> Tensor:
    return system.forward_backward(u, dt)


STEPPERS: dict[str, Callable[[System, Tensor, float], Tensor]] = {
    "euler": _euler,
    "heun": _heun,
    "rk4": _rk4,
    "forward-backward": _forward_backward,
}
REACH = {"euler": 2.0, "heun": 2.0, "rk4": 2.785}
"""The largest stable product of step and fastest rate."""
ADAPTIVE = {"dopri5": 6, "bosh3": 3, "dopri8": 13}
"""torchdiffeq's adaptive solvers, and how often a step of each evaluates the tendency."""
INTERPOLATED = ("dopri5",)
"""Those whose values between their steps are as good as the steps themselves; others are off by up to 70 times the tolerance (measured)."""
MOST_STEPS = 100_000
"""Steps from a frame to the next, at most: what asks for more has gone wrong."""
START_STEPS = 50
"""Further steps that an adaptive solver may spend on finding its first one."""

MARGIN = 0.9
"""The share of the stable step that is taken where the user leaves the choice to us."""


@dataclass(frozen=True)
class Solver:
    """How to get from frame to frame: so many equal steps, or adaptive ones.

    tolerance: of an adaptive step, relative to `scale` (channel, 1, 1), the size of each variable. most: steps a frame, in the mean.
    Adaptive steps are chosen for the whole batch; forecasts cut in two, or in another company, agree to the tolerance.
    """

    name: str
    steps: int = 1
    tolerance: float = 1e-6
    scale: Tensor | float = 1.0
    most: float = MOST_STEPS


def frames(system: System, state: Tensor, interval: float, count: int, solver: Solver) -> Tensor:
    """The state after each of `count` intervals, (batch, count, channel, height, width).

    Raises DivergedError where an adaptive step shrinks to nothing, or where there are too many.
    """
    if solver.name in ADAPTIVE:
        return _adaptive(system, state, interval, count, solver)
    step, time_step = STEPPERS[solver.name], interval / solver.steps
    if solver.name == "forward-backward":
        faster = system.waves(state, time_step, solver.steps, count)
        if faster is not None:
            return faster
    found = []
    for _ in range(count):
        for _ in range(solver.steps):
            state = step(system, state, time_step)
        found.append(state)
    return torch.stack(found, dim=1)


def _adaptive(system: System, state: Tensor, interval: float, count: int, solver: Solver) -> Tensor:
    from torchdiffeq import odeint

    times = interval * torch.arange(count + 1, dtype=torch.float64, device=state.device)
    if state.device.type == "mps":
        times = times.float()  # mps has no float64
    scale = torch.as_tensor(solver.scale, dtype=state.dtype, device=state.device)
    left = ADAPTIVE[solver.name] * (START_STEPS + math.ceil(solver.most * count))

    def slope(_: Tensor, u: Tensor) -> Tensor:
        nonlocal left
        left -= 1
        if left < 0:
            raise DivergedError(
                f"{solver.name} would take too many steps: the solution has become far stiffer than at its start. "
                "Look at parameters and boundary values, or take fixed steps (rk4)."
            )
        return system.tendency(u)

    try:
        found: Tensor = odeint(
            slope,
            state,
            times,
            rtol=solver.tolerance,
            atol=solver.tolerance * scale,
            method=solver.name,
            options=None if solver.name in INTERPOLATED else {"step_t": times},
        )
    except AssertionError as error:  # torchdiffeq's way to say that the step underflows
        raise DivergedError(
            f"{solver.name} found no step small enough ({error}). The state leaves the finite numbers, or the tolerance is too small."
        ) from error
    return found[1:].transpose(0, 1)


def stable_steps(interval: float, limit: float) -> int:
    """The fewest equal steps over `interval` that keep a margin to the stable step `limit`."""
    return max(1, math.ceil(interval / (MARGIN * limit) - 1e-9)) if math.isfinite(limit) else 1


MOST_STEPS = 10**6
"""Between two frames; even on a few cells they take minutes."""


def steps_of(interval: float, time_step: float, limit: float, *, name: str, where: str) -> int:
    """The number of equal steps of at most `time_step` that fill `interval`.

    Raises ConfigError, which names the limit, for a step longer than the stable one.
    """
    if not (time_step > 0 and math.isfinite(time_step)):
        raise ConfigError(f"{where} {time_step:g}: expected a positive number.")
    if interval / time_step > MOST_STEPS:
        raise ConfigError(
            f"{where} {time_step:g}: {interval / time_step:.3g} steps to a frame, {interval:g} apart, would never end. Check the units."
        )
    steps = max(1, math.ceil(interval / time_step - 1e-6))
    if interval / steps > limit * (1 + 1e-9):
        raise ConfigError(
            f"{where} {time_step:g}: steps of {interval / steps:.4g} are unstable; the limit of {name} is {limit:.4g} here. "
            "Give a smaller step, a coarser grid, or none, which takes a stable one."
        )
    return steps
