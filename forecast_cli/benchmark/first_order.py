"""The published scheme for two-dimensional Navier-Stokes flow, to measure against."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor


def first_order_frames(
    vorticity: Tensor, *, interval: float, count: int, viscosity: float = 1e-3, time_step: float = 1e-2
) -> Iterator[Tensor]:
    """The vorticity after each of `count` intervals, (batch, n, n) each.

    Forward Euler for advection and forcing, Crank-Nicolson for diffusion, complex transforms of whole spectra, four of
    them inverse and one forward in a step, dealiased by the 2/3 rule. The multipliers are made once, outside the steps.
    Source: the data of Li et al. (2021), arXiv 2010.08895, and Horuz et al. (2025), arXiv 2508.03614.
    """
    n = vorticity.shape[-1]
    k = 2 * math.pi * n * torch.fft.fftfreq(n, dtype=vorticity.dtype)
    kx, ky = torch.meshgrid(k, k, indexing="ij")
    square = kx**2 + ky**2
    inverse = torch.where(square > 0, 1 / square.clamp(min=1.0), 0.0)
    kept = (kx.abs() <= 2 * math.pi * n / 3) & (ky.abs() <= 2 * math.pi * n / 3)
    multipliers = [1j * ky * inverse, -1j * kx * inverse, 1j * kx, 1j * ky]
    x = torch.arange(n, dtype=vorticity.dtype) / n
    phase = 2 * math.pi * (x.unsqueeze(1) + x)
    force = torch.fft.fft2(0.1 * (torch.sin(phase) + torch.cos(phase)))

    diffusion = viscosity * square * time_step / 2
    spectrum = torch.fft.fft2(vorticity)
    for _ in range(count):
        for _ in range(round(interval / time_step)):
            u, v, w_x, w_y = (torch.fft.ifft2(multiplier * spectrum).real for multiplier in multipliers)
            advection = kept * torch.fft.fft2(u * w_x + v * w_y)
            spectrum = ((1 - diffusion) * spectrum + time_step * (force - advection)) / (1 + diffusion)
        yield torch.fft.ifft2(spectrum).real
