r"""Two-dimensional incompressible flow on the unit torus, as vorticity.

    w_t + u . grad w = nu lap w + f,    u = (psi_y, -psi_x),    -lap psi = w
    f = 0.1 (sin 2 pi (x + y) + cos 2 pi (x + y))

w: vorticity, (batch, n, n), first axis x, second axis y, periodic, zero mean. nu: viscosity, 1e-3 in the
published data. Everything is dimensionless. Pseudo-spectral with the 2/3 rule; diffusion exactly by an
integrating factor, the rest by the classical Runge-Kutta method of fourth order. It blows up where
the step is too long for the flow: max|u| dt (2 pi n/3) beyond about 2.8; dt = 0.1 suits max|u| up to 0.4 at n = 64.

Same equation, forcing and distribution of initial states as Li et al. (2021), arXiv 2010.08895, and
Horuz et al. (2025), arXiv 2508.03614.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class NavierStokes:
    """The flow on an n x n grid. `forcing` scales f; 1 is the published one, 0 lets the flow decay."""

    grid: int
    viscosity: float = 1e-3
    forcing: float = 1.0
    dtype: torch.dtype = torch.float64
    device: torch.device | str = "cpu"

    def wavenumbers(self) -> tuple[Tensor, Tensor]:
        """Angular wavenumbers (n, 1) along x and (1, n // 2 + 1) along y, of the real transform."""
        n = self.grid
        like = {"dtype": self.dtype, "device": self.device}
        kx = 2 * math.pi * n * torch.fft.fftfreq(n, **like)
        ky = 2 * math.pi * n * torch.fft.rfftfreq(n, **like)
        return kx.unsqueeze(1), ky.unsqueeze(0)

    def points(self) -> Tensor:
        """Coordinates of the grid points along one axis: 0, 1/n, ..."""
        return torch.arange(self.grid, dtype=self.dtype, device=self.device) / self.grid

    def frames(self, vorticity: Tensor, *, interval: float, count: int, time_step: float) -> Iterator[Tensor]:
        """The vorticity after each of `count` intervals, (batch, n, n) each.

        The interval is cut into the fewest equal steps that are no longer than `time_step`.
        """
        steps = max(1, math.ceil(interval / time_step - 1e-9))
        step = _Stepper(self, interval / steps)
        spectrum = torch.fft.rfft2(vorticity.to(self.device, self.dtype))
        for _ in range(count):
            for _ in range(steps):
                spectrum = step(spectrum)
            yield torch.fft.irfft2(spectrum, s=(self.grid, self.grid))


class _Stepper:
    """One step of integrating-factor Runge-Kutta 4 on the spectrum of the vorticity."""

    def __init__(self, flow: NavierStokes, time_step: float) -> None:
        kx, ky = flow.wavenumbers()
        square = kx**2 + ky**2
        inverse = torch.where(square > 0, 1 / square.clamp(min=1.0), 0.0)
        limit = 2 * math.pi * flow.grid / 3
        self.kept = ((kx.abs() <= limit) & (ky.abs() <= limit)).to(flow.dtype)
        # One inverse transform for velocity (u, v) and gradient (w_x, w_y) together.
        zero = torch.zeros_like(square)
        imaginary = torch.stack([ky * inverse, -kx * inverse, kx + zero, ky + zero])
        self.to_products = torch.complex(torch.zeros_like(imaginary), imaginary)
        self.half = torch.exp(-flow.viscosity * square * time_step / 2)
        self.time_step = time_step
        self.shape = (flow.grid, flow.grid)

        x = flow.points()
        phase = 2 * math.pi * (x.unsqueeze(1) + x.unsqueeze(0))
        self.force = torch.fft.rfft2(0.1 * flow.forcing * (torch.sin(phase) + torch.cos(phase)))

    def tendency(self, spectrum: Tensor) -> Tensor:
        """Everything but diffusion."""
        u, v, w_x, w_y = torch.fft.irfft2(self.to_products * spectrum.unsqueeze(-3), s=self.shape).unbind(-3)
        return self.force - self.kept * torch.fft.rfft2(u * w_x + v * w_y)

    def __call__(self, w: Tensor) -> Tensor:
        dt, half = self.time_step, self.half
        at_start = self.tendency(w)
        decayed = half * w
        at_half = self.tendency(decayed + dt / 2 * half * at_start)
        at_half_again = self.tendency(decayed + dt / 2 * at_half)
        at_end = self.tendency(half * (decayed + dt * at_half_again))
        return half * (decayed + dt / 6 * (half * at_start + 2 * (at_half + at_half_again))) + dt / 6 * at_end


def random_vorticity(sample: int, *, seed: int, grid: int, alpha: float = 2.0, tau: float = 7.0) -> Tensor:
    """One draw (n, n), float64, of the Gaussian random field N(0, 2 tau^(2 alpha - 2) (-lap + tau^2)^(-alpha)).

    The draw depends on (seed, sample, grid) alone, not on how many are drawn together or on which device.
    """
    noise = torch.from_numpy(np.random.default_rng([seed, sample]).standard_normal((grid, grid)))
    kx, ky = NavierStokes(grid).wavenumbers()
    amplitude = math.sqrt(2) * tau ** (alpha - 1) * (kx**2 + ky**2 + tau**2) ** (-alpha / 2)
    amplitude[0, 0] = 0
    return torch.fft.irfft2(grid * amplitude * torch.fft.rfft2(noise), s=(grid, grid))


def coarsened(fields: Tensor, factor: int) -> Tensor:
    """Means over blocks of factor x factor cells of the last two axes."""
    height, width = fields.shape[-2] // factor, fields.shape[-1] // factor
    return fields.unflatten(-1, (width, factor)).unflatten(-3, (height, factor)).mean(dim=(-3, -1))
