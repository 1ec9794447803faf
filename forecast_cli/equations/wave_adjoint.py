"""Many steps of shallow water in place, and their adjoint by hand: what training and inversion run on.

The same numbers as `ShallowWater.forward_backward`, to rounding, in a third of the time of autograd, and in memory that the
length of the record hardly touches: where the states of all steps would not fit into STORED_BYTES, those at the ends of
segments are kept and the rest is computed again on the way back.

With uh = u + dt/2 p, vh = v + dt/2 q (half a step of the forces) and four-point sums v4, u4, momentum is
    u' = 2 (uh + a v4 / 4) / (1 + a^2) - u,   v' = 2 (vh - b u4 / 4) / (1 + b^2) - v.
Walls cost no operation: buffers carry a margin of zeros.
"""

import ctypes
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from forecast_cli import native

STORED_BYTES = 2**24
"""Memory for the states between two frames of the way back."""


@dataclass(frozen=True)
class Steps:
    """How waves are stepped.

    spacing: (dy, dx) [m]. time_step [s]. per_frame, frames: steps to a frame, and frames. scheme: "upwind" or "centred".
    friction [s-1]. rotation: f at the rows of centres (height, 1) and of the inner north faces (height - 1, 1) [s-1]; None
    where nothing rotates.
    """

    spacing: tuple[float, float]
    time_step: float
    per_frame: int
    frames: int
    scheme: str
    friction: float
    rotation: tuple[Tensor, Tensor] | None


class _InTorch:
    """Coefficients and buffers for fields of one shape (batch, height, width)."""

    def __init__(self, steps: Steps, depth: Tensor, gravity: float, batch: int) -> None:
        shape = (batch, *depth.shape[-2:])
        height, width = shape[1:]
        dy, dx = steps.spacing
        dt = steps.time_step
        self.depth, self.upwind = depth, steps.scheme == "upwind"
        self.force = (gravity * dt / (2 * dy), gravity * dt / (2 * dx))
        self.flow = (dt / dy, dt / dx)
        self.keep = 1 - dt * steps.friction / 2
        self.rotating = steps.rotation is not None
        if steps.rotation is not None:
            a, b = (dt / 2 * f for f in steps.rotation)
            self.turn = (a / 4, b / 4)
            self.share = (2 / (1 + a**2), 2 / (1 + b**2))

        def buffer(rows: int = height, columns: int = width, kind: torch.dtype = depth.dtype) -> Tensor:
            return torch.zeros(batch, rows, columns, dtype=kind, device=depth.device)

        # On faces with a margin: west and east walls, south and north walls.
        self.east, self.north = buffer(columns=width + 1), buffer(rows=height + 1)
        self.east_flux, self.north_flux = buffer(columns=width + 1), buffer(rows=height + 1)
        self.on_east, self.on_north = buffer(columns=width - 1), buffer(rows=height - 1)
        self.more_east, self.more_north = buffer(columns=width - 1), buffer(rows=height - 1)
        self.behind_x = buffer(columns=width - 1, kind=torch.bool)
        self.behind_y = buffer(rows=height - 1, kind=torch.bool)
        self.cells, self.thickness = buffer(), buffer()
        self.nothing = torch.zeros((), dtype=depth.dtype, device=depth.device)

    def half_step(self, eta: Tensor, u: Tensor, v: Tensor) -> None:
        """uh and vh on inner faces, into the inside of `east` and `north`."""
        torch.sub(eta[..., 1:], eta[..., :-1], out=self.on_east)
        torch.sub(eta[..., 1:, :], eta[..., :-1, :], out=self.on_north)
        if self.keep == 1:
            before = u[..., :-1], v[..., :-1, :]
        else:
            before = torch.mul(u[..., :-1], self.keep), torch.mul(v[..., :-1, :], self.keep)
        torch.add(before[0], self.on_east, alpha=-self.force[1], out=self.east[..., 1:-1])
        torch.add(before[1], self.on_north, alpha=-self.force[0], out=self.north[..., 1:-1, :])

    def forward(self, states: Tensor) -> None:
        """States 1.. from state 0, (count + 1, 3, batch, height, width)."""
        for now, later in itertools.pairwise(states):
            self._step(now, later)

    def backward(self, states: Tensor, adjoint: Tensor, to_depth: Tensor) -> float:
        """The way back over `states`: sensitivities to the last become those to the first, (3, batch, height, width), in place.

        What the depth, (batch, height, width), gathers is added; what the logarithm of gravity gathers is returned.
        """
        total = to_depth.new_zeros(())
        for now, later in itertools.pairwise(states.flip(0).unbind()):
            self._back(later, now, adjoint, to_depth)
            torch.sub(later[0][..., 1:], later[0][..., :-1], out=self.on_east)
            torch.sub(later[0][..., 1:, :], later[0][..., :-1, :], out=self.on_north)
            total -= self.force[1] * (self.on_east * self.east[..., 1:-1]).sum()
            total -= self.force[0] * (self.on_north * self.north[..., 1:-1, :]).sum()
        return float(total)

    def _step(self, now: Tensor, later: Tensor) -> None:
        eta, u, v = now
        self.half_step(eta, u, v)
        inner_u, inner_v = later[1][..., :-1], later[2][..., :-1, :]
        if self.rotating:
            torch.add(self.north[..., :-1, :], self.north[..., 1:, :], out=self.cells)
            torch.add(self.cells[..., :-1], self.cells[..., 1:], out=self.on_east)
            torch.addcmul(self.east[..., 1:-1], self.on_east, self.turn[0], out=self.on_east)
            torch.sub(self.on_east.mul_(self.share[0]), u[..., :-1], out=inner_u)
            torch.add(self.east[..., :-1], self.east[..., 1:], out=self.cells)
            torch.add(self.cells[..., :-1, :], self.cells[..., 1:, :], out=self.on_north)
            torch.addcmul(self.north[..., 1:-1, :], self.on_north, self.turn[1], value=-1, out=self.on_north)
            torch.sub(self.on_north.mul_(self.share[1]), v[..., :-1, :], out=inner_v)
        else:
            torch.sub(torch.mul(self.east[..., 1:-1], 2, out=self.on_east), u[..., :-1], out=inner_u)
            torch.sub(torch.mul(self.north[..., 1:-1, :], 2, out=self.on_north), v[..., :-1, :], out=inner_v)
        self.face_thickness(eta, inner_u, inner_v)
        torch.mul(self.on_east, inner_u, out=self.east_flux[..., 1:-1])
        torch.mul(self.on_north, inner_v, out=self.north_flux[..., 1:-1, :])
        torch.sub(self.east_flux[..., 1:], self.east_flux[..., :-1], out=self.cells)
        torch.add(eta, self.cells, alpha=-self.flow[1], out=later[0])
        torch.sub(self.north_flux[..., 1:, :], self.north_flux[..., :-1, :], out=self.cells)
        later[0].add_(self.cells, alpha=-self.flow[0])

    def face_thickness(self, eta: Tensor, u: Tensor, v: Tensor) -> None:
        """The thickness of the water that flows through inner faces, into `on_east` and `on_north`."""
        water = torch.add(eta, self.depth, out=self.thickness)
        west, east, south, north = water[..., :-1], water[..., 1:], water[..., :-1, :], water[..., 1:, :]
        if self.upwind:
            torch.where(torch.gt(u, 0, out=self.behind_x), west, east, out=self.on_east)
            torch.where(torch.gt(v, 0, out=self.behind_y), south, north, out=self.on_north)
        else:
            torch.add(west, east, out=self.on_east).mul_(0.5)
            torch.add(south, north, out=self.on_north).mul_(0.5)

    def _back(self, now: Tensor, later: Tensor, adjoint: Tensor, to_depth: Tensor) -> None:
        """One step of `backward`; leaves the sensitivities to uh and vh in the inside of `east` and `north`."""
        of_eta, of_u, of_v = adjoint
        inner_u, inner_v = later[1][..., :-1], later[2][..., :-1, :]
        to_u, to_v = of_u[..., :-1], of_v[..., :-1, :]
        # The surface: eta' = eta - dt/dx (difference of u' thickness), thickness of eta and the depth.
        self.face_thickness(now[0], inner_u, inner_v)
        torch.sub(of_eta[..., 1:], of_eta[..., :-1], out=self.more_east)
        torch.sub(of_eta[..., 1:, :], of_eta[..., :-1, :], out=self.more_north)
        to_u.addcmul_(self.more_east, self.on_east, value=self.flow[1])
        to_v.addcmul_(self.more_north, self.on_north, value=self.flow[0])
        self.more_east.mul_(inner_u)
        self.more_north.mul_(inner_v)
        if self.upwind:
            torch.where(self.behind_x, self.more_east, self.nothing, out=self.on_east)
            torch.where(self.behind_y, self.more_north, self.nothing, out=self.on_north)
        else:
            torch.mul(self.more_east, 0.5, out=self.on_east)
            torch.mul(self.more_north, 0.5, out=self.on_north)
        self.more_east.sub_(self.on_east)
        self.more_north.sub_(self.on_north)
        water = self.cells.zero_()
        water[..., :-1].add_(self.on_east, alpha=self.flow[1])
        water[..., 1:].add_(self.more_east, alpha=self.flow[1])
        water[..., :-1, :].add_(self.on_north, alpha=self.flow[0])
        water[..., 1:, :].add_(self.more_north, alpha=self.flow[0])
        of_eta.add_(water)
        to_depth.add_(water)
        # Momentum, transposed: the four-point sums spread what they had gathered.
        to_uh, to_vh = self.east[..., 1:-1], self.north[..., 1:-1, :]
        if self.rotating:
            torch.mul(to_u, self.share[0], out=self.on_east)
            torch.mul(to_v, self.share[1], out=self.on_north)
            torch.mul(self.on_north, self.turn[1], out=to_vh)
            torch.add(self.north[..., :-1, :], self.north[..., 1:, :], out=self.cells)
            torch.add(self.cells[..., :-1], self.cells[..., 1:], out=self.more_east)
            torch.mul(self.on_east, self.turn[0], out=to_uh)
            torch.add(self.east[..., :-1], self.east[..., 1:], out=self.cells)
            torch.add(self.cells[..., :-1, :], self.cells[..., 1:, :], out=self.more_north)
            torch.sub(self.on_east, self.more_east, out=to_uh)
            torch.add(self.on_north, self.more_north, out=to_vh)
        else:
            torch.mul(to_u, 2, out=to_uh)
            torch.mul(to_v, 2, out=to_vh)
        of_eta[..., :-1].add_(to_uh, alpha=self.force[1])
        of_eta[..., 1:].sub_(to_uh, alpha=self.force[1])
        of_eta[..., :-1, :].add_(to_vh, alpha=self.force[0])
        of_eta[..., 1:, :].sub_(to_vh, alpha=self.force[0])
        torch.add(to_u.neg_(), to_uh, alpha=self.keep, out=to_u)
        torch.add(to_v.neg_(), to_vh, alpha=self.keep, out=to_v)


class _InC:
    """The same as `_InTorch`, in C: for a CPU."""

    def __init__(self, library: ctypes.CDLL, steps: Steps, depth: Tensor, gravity: float) -> None:
        self.library, self.depth = library, depth.contiguous()
        kind, self.suffix = (ctypes.c_double, "double") if depth.dtype == torch.float64 else (ctypes.c_float, "float")
        height, width = depth.shape[-2:]
        dy, dx = steps.spacing
        dt = steps.time_step
        still = depth.new_zeros(height)
        rotation = [dt / 2 * f.flatten().to(depth) for f in steps.rotation] if steps.rotation else [still, still[1:]]
        # Kept here for as long as C may look at them.
        self.rows = [row for a in rotation for row in (a / 4, 2 / (1 + a**2))]
        fields: list[tuple[str, Any]] = [(name, ctypes.c_long) for name in ("height", "width", "plane")]
        fields += [(name, kind) for name in ("share_out", "share_in", "force_y", "force_x", "flow_y", "flow_x", "keep")]
        fields += [(name, ctypes.c_void_p) for name in ("turn_u", "share_u", "turn_v", "share_v", "depth")]
        form = type("Waves", (ctypes.Structure,), {"_fields_": fields})
        force = gravity * dt / 2
        numbers = (force / dy, force / dx, dt / dy, dt / dx, 1 - dt * steps.friction / 2)
        places = [row.data_ptr() for row in (*self.rows, self.depth)]
        shares = (1, 0) if steps.scheme == "upwind" else (0.5, 0.5)
        self.waves = form(height, width, 0, *shares, *numbers, *places)

    def forward(self, states: Tensor) -> None:
        count, batch = len(states) - 1, states.shape[2]
        self._call("forward", batch, count, states.data_ptr())

    def backward(self, states: Tensor, adjoint: Tensor, to_depth: Tensor) -> float:
        count, batch = len(states) - 1, states.shape[2]
        found = ctypes.c_double(0)
        self._call(
            "backward",
            batch,
            count,
            states.data_ptr(),
            adjoint.data_ptr(),
            to_depth.data_ptr(),
            ctypes.addressof(found),
        )
        return found.value

    def _call(self, name: str, batch: int, count: int, *places: int) -> None:
        function = getattr(self.library, f"{name}_{self.suffix}")
        numbers = (ctypes.c_long(number) for number in (len(self.depth), batch, count))
        if function(self.waves, *numbers, *map(ctypes.c_void_p, places)):
            raise MemoryError


def _stepper(steps: Steps, depth: Tensor, gravity: float, batch: int) -> "_InTorch | _InC":
    """C on a CPU where it can be compiled, torch elsewhere."""
    if depth.device.type == "cpu" and depth.dtype in (torch.float32, torch.float64):
        library = _library()
        if library is not None:
            return _InC(library, steps, depth, gravity)
    return _InTorch(steps, depth, gravity, batch)


def is_available() -> bool:
    """Whether this machine has compiled it, or can."""
    return _library() is not None


def _library() -> ctypes.CDLL | None:
    return native.load(Path(__file__).with_name("waves.c"))


class _Waves(torch.autograd.Function):
    """(batch, frames, 3, height, width) from a state (batch, 3, height, width), a depth (batch | 1, 1, height, width) and gravity."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, depth: Tensor, gravity: Tensor, steps: Steps) -> Tensor:
        stepper = _stepper(steps, depth[:, 0], float(gravity), len(state))
        now = state.transpose(0, 1).contiguous().clone()
        _still_on_walls(now)
        frames = state.new_empty(len(state), steps.frames, *state.shape[1:])
        wanted = any(ctx.needs_input_grad)
        segment = _segment(steps, now) if wanted else 1
        states = now.new_zeros(segment * steps.per_frame + 1, *now.shape)
        states[0] = now
        kept = []
        for frame in range(steps.frames):
            place = frame % segment * steps.per_frame
            if place == 0:
                if frame:
                    states[0] = states[-1]
                if wanted:
                    kept.append(states[0].clone())
            stepper.forward(states[place : place + steps.per_frame + 1])
            frames[:, frame] = states[place + steps.per_frame].transpose(0, 1)
        if wanted:
            ctx.save_for_backward(depth, gravity, states, *kept)
            ctx.steps, ctx.segment = steps, segment
        return frames

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_frames: Tensor) -> tuple[Tensor | None, ...]:
        depth, gravity, states, *kept = ctx.saved_tensors
        steps, segment = ctx.steps, ctx.segment
        stepper = _stepper(steps, depth[:, 0], float(gravity), len(to_frames))
        adjoint = torch.zeros_like(kept[0])
        to_depth, to_gravity = torch.zeros_like(adjoint[0]), 0.0
        if len(kept) > 1:
            states = torch.zeros_like(states)  # what was kept may be asked for again
        for number in range(len(kept) - 1, -1, -1):
            first, last = number * segment, min((number + 1) * segment, steps.frames)
            if len(kept) > 1:
                states[0] = kept[number]
                stepper.forward(states[: (last - first) * steps.per_frame + 1])
            for frame in range(last - 1, first - 1, -1):
                adjoint.add_(to_frames[:, frame].transpose(0, 1))
                _still_on_walls(adjoint)
                place = (frame - first) * steps.per_frame
                to_gravity += stepper.backward(states[place : place + steps.per_frame + 1], adjoint, to_depth)
        if len(depth) < len(to_depth):
            to_depth = to_depth.sum(dim=0, keepdim=True)
        return (
            adjoint.transpose(0, 1),
            to_depth.unsqueeze(1),
            torch.full_like(gravity, to_gravity / float(gravity)),
            None,
        )


def _still_on_walls(state: Tensor) -> None:
    """No velocity on the outermost east and north faces, in place; (3, batch, height, width)."""
    state[1, ..., -1] = 0
    state[2, ..., -1, :] = 0


def _segment(steps: Steps, state: Tensor) -> int:
    """Frames whose steps are kept at a time: all where they fit, else about as many as there are segments."""
    fits = steps.frames * steps.per_frame * state.numel() * state.element_size() <= STORED_BYTES
    return steps.frames if fits else max(1, round(math.sqrt(steps.frames / steps.per_frame)))


def waves(state: Tensor, depth: Tensor, gravity: Tensor | float, steps: Steps) -> Tensor:
    """Frames (batch, frames, 3, height, width) of waves from a state (batch, 3, height, width); velocities on walls are taken as 0.

    depth: (batch | 1, 1, height, width). Gradients go to the state, the depth and gravity.
    """
    gravity = torch.as_tensor(gravity, dtype=state.dtype, device=state.device)
    found: Tensor = _Waves.apply(state, depth, gravity, steps)
    return found
