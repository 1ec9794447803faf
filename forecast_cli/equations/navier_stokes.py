r"""Two-dimensional incompressible flow on the unit torus, as vorticity.

    w_t + u . grad w = nu lap w + f,    u = (psi_y, -psi_x),    -lap psi = w
    f = 0.1 (sin 2 pi (x + y) + cos 2 pi (x + y))

w: vorticity, (batch, n, n), first axis x, second axis y, periodic, zero mean. nu: viscosity, 1e-3 in the
published data. Everything is dimensionless. Pseudo-spectral with the 2/3 rule: waves above 2 pi n/3 along an axis
are dropped, those of the initial state too. With u = (u, v), advection takes two transforms each way:

    u . grad w = (d_xx - d_yy)(u v) + d_x d_y (v^2 - u^2)

Diffusion exactly by an integrating factor, the rest by the classical Runge-Kutta method of fourth order. In a flow
of speed U, a step dt multiplies wave k by at most |R(i k U dt)| exp(-nu k^2 dt), with R of that method. No wave grows
if dt <= 2.8 / (U k) at the largest, k = sqrt(2) 2 pi n/3; nor, on any grid, if dt <= 7.7 nu / U^2. At n = 64 and
nu = 1e-3 the second is the weaker bound: dt = 0.25 up to U = 0.175, 0.2 up to 0.196, 0.1 up to 0.277.

Same equation, forcing and distribution of initial states as Li et al. (2021), arXiv 2010.08895, and
Horuz et al. (2025), arXiv 2508.03614.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LONGEST_STEP = 0.25
"""The longest that is chosen, for accuracy: of 100 published flows at t = 5, half are off by 3e-6, the worst by 1.7e-5."""

SHORTEST_STEP = 1e-4
"""The shortest: a flow so fast leaves the finite numbers rather than the computer busy."""


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

    @torch.inference_mode()
    def frames(
        self, vorticity: Tensor, *, interval: float, count: int, time_step: float | None = None
    ) -> Iterator[Tensor]:
        """The vorticity after each of `count` intervals, in the shape of `vorticity`; nothing is kept for gradients.

        The interval is cut into the fewest equal steps that are no longer than `time_step`. Without one, each sample
        has steps of its own: the longest that its speed allows, asked at least once a time unit.
        """
        start = vorticity.to(self.device, self.dtype).reshape(-1, self.grid, self.grid)
        stepper = _Stepper(self)
        spectrum = stepper.spectrum(start)
        legs = math.ceil(interval) if time_step is None else 1
        fixed = torch.full((len(start),), time_step or LONGEST_STEP, dtype=torch.float64)
        for _ in range(count):
            for _ in range(legs):
                longest = stepper.longest_steps(spectrum) if time_step is None else fixed
                steps = (interval / legs / longest - 1e-9).ceil().clamp(min=1)
                for number in steps.unique().tolist():
                    alike = steps == number
                    spectrum[alike] = stepper.advance(spectrum[alike], int(number), interval / legs / number)
            yield torch.fft.irfft2(spectrum, s=(self.grid, self.grid)).reshape(vorticity.shape)


class _Stepper:
    """Integrating-factor Runge-Kutta 4 on spectra (batch, n, columns) of the vorticity: the columns that are kept."""

    def __init__(self, flow: NavierStokes) -> None:
        kept = 2 * math.pi * flow.grid / 3
        kx, ky = flow.wavenumbers()
        ky = ky[:, ky[0] <= kept]
        square = kx**2 + ky**2
        inverse = torch.where(square > 0, 1 / square.clamp(min=1.0), 0.0)
        self.flow, self.largest, self.columns = flow, math.sqrt(2) * kept, ky.shape[1]
        self.kept = (kx.abs() <= kept).to(flow.dtype)
        self.diffusion = -flow.viscosity * square
        self.to_velocity = 1j * torch.stack([ky * inverse, -kx * inverse]).unsqueeze(1)
        self.from_uv, self.from_squares = 0j + self.kept * torch.stack([kx**2 - ky**2, kx * ky])
        x = flow.points()
        phase = 2 * math.pi * (x.unsqueeze(1) + x.unsqueeze(0))
        self.force = self.spectrum(0.1 * flow.forcing * (torch.sin(phase) + torch.cos(phase)))

    def spectrum(self, vorticity: Tensor) -> Tensor:
        return self.kept * torch.fft.rfft2(vorticity)[..., : self.columns]

    def velocity(self, spectrum: Tensor) -> Tensor:
        """(u, v) on the grid, (2, batch, n, n). Two transforms, because the first need not touch dropped columns."""
        return torch.fft.irfft(torch.fft.ifft(self.to_velocity * spectrum, dim=-2), n=self.flow.grid)

    def tendency(self, spectrum: Tensor, products: Tensor, out: Tensor) -> Tensor:
        """Everything but diffusion, written to `out`; `products` (2, batch, n, n) is overwritten."""
        u, v = self.velocity(spectrum)
        torch.mul(u, v, out=products[0])
        torch.mul(v, v, out=products[1]).addcmul_(u, u, value=-1)
        uv, squares = torch.fft.fft(torch.fft.rfft(products)[..., : self.columns], dim=-2)
        return torch.addcmul(self.force, self.from_uv, uv, out=out).addcmul_(self.from_squares, squares)

    def longest_steps(self, spectrum: Tensor) -> Tensor:
        """The step that suits each flow, (batch,): the longest that is stable at its largest speed, or LONGEST_STEP."""
        speed = self.velocity(spectrum).square().sum(0).amax((-2, -1)).sqrt().cpu().double()  # mps has no float64
        stable = torch.maximum(2.8 / (speed * self.largest), 7.7 * self.flow.viscosity / speed**2)
        # A flow that has left the finite numbers goes on, for the caller to find.
        return torch.where(speed.isfinite(), stable, LONGEST_STEP).clamp(SHORTEST_STEP, LONGEST_STEP)

    def advance(self, w: Tensor, steps: int, dt: float) -> Tensor:
        """`w` after `steps` steps, in place: temporaries of a step made anew take 10 % longer, at times twice as long."""
        half = 0j + torch.exp(self.diffusion * (dt / 2))
        decayed, stage, slope = torch.empty_like(w), torch.empty_like(w), torch.empty_like(w)
        products = half.real.new_empty(2, len(w), self.flow.grid, self.flow.grid)
        for _ in range(steps):
            torch.mul(half, w, out=decayed)
            self.tendency(w, products, slope).mul_(half)
            torch.add(decayed, slope, alpha=dt / 6, out=w)
            torch.add(decayed, slope, alpha=dt / 2, out=stage)
            w.add_(self.tendency(stage, products, slope), alpha=dt / 3)
            torch.add(decayed, slope, alpha=dt / 2, out=stage)
            w.add_(self.tendency(stage, products, slope), alpha=dt / 3).mul_(half)
            torch.add(decayed, slope, alpha=dt, out=stage).mul_(half)
            w.add_(self.tendency(stage, products, slope), alpha=dt / 6)
        return w


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
