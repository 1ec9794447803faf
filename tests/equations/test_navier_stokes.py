import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from forecast_cli.equations.navier_stokes import NavierStokes, coarsened, random_vorticity


def last_frame(
    flow: NavierStokes, start: torch.Tensor, *, duration: float, time_step: float | None = None
) -> torch.Tensor:
    return next(flow.frames(start, interval=duration, count=1, time_step=time_step))


def smooth_start(grid: int) -> torch.Tensor:
    """A few interacting waves, so that the advection does not vanish."""
    x = NavierStokes(grid).points().unsqueeze(1)
    y = x.T
    return (
        torch.sin(2 * math.pi * (x + 2 * y))
        + torch.cos(2 * math.pi * (3 * x - y))
        + 0.5 * torch.sin(2 * math.pi * 2 * x)
    )


def velocity(flow: NavierStokes, vorticity: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    kx, ky = flow.wavenumbers()
    square = (kx**2 + ky**2).clamp(min=1.0)
    spectrum = torch.fft.rfft2(vorticity)
    u = torch.fft.irfft2(1j * ky * spectrum / square, s=vorticity.shape[-2:])
    v = torch.fft.irfft2(-1j * kx * spectrum / square, s=vorticity.shape[-2:])
    return u, v


def energy_and_enstrophy(flow: NavierStokes, vorticity: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means over the torus of |u|^2 / 2 and w^2 / 2."""
    u, v = velocity(flow, vorticity)
    return (u**2 + v**2).mean() / 2, (vorticity**2).mean() / 2


@pytest.mark.parametrize("waves", [(1, 1), (2, 2), (1, 3)])
def test_a_taylor_green_vortex_decays_at_its_exact_rate(waves):
    """cos(ax) cos(by) is an eigenfunction: advection vanishes and diffusion shrinks it by exp(-nu (a^2 + b^2) t)."""
    flow = NavierStokes(32, viscosity=2e-3, forcing=0.0)
    x = flow.points().unsqueeze(1)
    a, b = 2 * math.pi * waves[0], 2 * math.pi * waves[1]
    start = torch.cos(a * x) * torch.cos(b * x.T)
    end = last_frame(flow, start, duration=3.0, time_step=0.1)
    assert_close(end, start * math.exp(-2e-3 * (a**2 + b**2) * 3.0), rtol=0, atol=1e-12)


def test_a_shear_flow_balances_its_forcing():
    """f = F cos(k.x + p) drives w = F (1 - exp(-nu k^2 t)) / (nu k^2): waves along one direction do not interact."""
    flow = NavierStokes(16, viscosity=1e-2)
    x = flow.points().unsqueeze(1)
    phase = 2 * math.pi * (x + x.T)
    rate = 1e-2 * 2 * (2 * math.pi) ** 2
    exact = 0.1 * (torch.sin(phase) + torch.cos(phase)) * (1 - math.exp(-rate * 2.0)) / rate
    end = last_frame(flow, torch.zeros(16, 16, dtype=torch.float64), duration=2.0, time_step=0.01)
    assert_close(end, exact, rtol=0, atol=1e-8)


def test_vorticity_is_carried_with_the_flow():
    """w_t = -u . grad w without viscosity and forcing, where -w runs backward in time: a step each way gives w_t."""
    flow = NavierStokes(48, viscosity=0.0, forcing=0.0)
    start = smooth_start(48)
    forward = last_frame(flow, start, duration=1e-4, time_step=1e-4)
    backward = -last_frame(flow, -start, duration=1e-4, time_step=1e-4)
    kx, ky = flow.wavenumbers()
    spectrum = torch.fft.rfft2(start)
    w_x, w_y = (torch.fft.irfft2(1j * k * spectrum, s=(48, 48)) for k in (kx, ky))
    u, v = velocity(flow, start)
    advection = u * w_x + v * w_y
    # Measured 2e-9 of the largest value; the one-sided difference is off by 4e-5.
    assert_close((forward - backward) / 2e-4, -advection, rtol=0, atol=1e-7 * advection.abs().max().item())


def test_without_viscosity_and_forcing_energy_and_enstrophy_are_conserved():
    flow = NavierStokes(48, viscosity=0.0, forcing=0.0)
    start = smooth_start(48)
    end = last_frame(flow, start, duration=0.5, time_step=0.005)
    assert not torch.allclose(start, end, atol=0.05)
    assert_close(energy_and_enstrophy(flow, end), energy_and_enstrophy(flow, start), rtol=1e-7, atol=0)


def test_energy_is_lost_to_viscosity_alone():
    """dE/dt = -2 nu Z, with the enstrophy Z: integrated by the trapezoidal rule over short intervals."""
    flow = NavierStokes(48, viscosity=5e-3, forcing=0.0)
    start = smooth_start(48)
    frames = [start, *flow.frames(start, interval=0.01, count=50, time_step=0.01)]
    energy, enstrophy = (
        torch.stack(values) for values in zip(*(energy_and_enstrophy(flow, frame) for frame in frames), strict=True)
    )
    lost = 2 * 5e-3 * torch.trapezoid(enstrophy, dx=0.01)
    assert_close(energy[0] - energy[-1], lost, rtol=1e-4, atol=0)


def test_the_error_falls_with_the_fourth_power_of_the_time_step():
    flow = NavierStokes(32)
    start = smooth_start(32)
    reference = last_frame(flow, start, duration=1.0, time_step=1 / 320)
    errors = [
        (last_frame(flow, start, duration=1.0, time_step=step) - reference).norm() for step in (1 / 10, 1 / 20, 1 / 40)
    ]
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert orders == pytest.approx([4.0, 4.0], abs=0.35)


def test_the_steps_of_a_flow_are_accurate():
    """Relative L2 error at t = 5, over 8 published flows, with the steps that are chosen: measured 3.7e-6."""
    flow = NavierStokes(64)
    starts = torch.stack([random_vorticity(sample, seed=0, grid=64) for sample in range(8)])
    fine = last_frame(flow, starts, duration=5.0, time_step=0.05)
    assert (last_frame(flow, starts, duration=5.0) - fine).norm() < 1e-5 * fine.norm()


@pytest.mark.parametrize("viscosity", [1e-3, 1e-5])
@pytest.mark.parametrize("scale", [1.0, 4.0, 16.0])
def test_the_steps_of_a_flow_are_stable_at_any_speed_and_viscosity(viscosity, scale):
    """Without forcing, energy and enstrophy only fall; steps too long for the flow make them grow beyond all numbers."""
    flow = NavierStokes(32, viscosity=viscosity, forcing=0.0)
    start = scale * random_vorticity(0, seed=2, grid=32)
    frames = list(flow.frames(start, interval=1.0, count=10))
    budgets = torch.tensor([energy_and_enstrophy(flow, frame) for frame in frames])
    assert torch.isfinite(budgets).all()
    assert (budgets[1:] < budgets[:-1]).all()


def test_a_fast_flow_is_asked_for_its_steps_once_a_time_unit():
    """One interval of 3 time units and three of 1 are the same steps."""
    flow = NavierStokes(32)
    start = 8 * random_vorticity(0, seed=2, grid=32)
    *_, last = flow.frames(start, interval=1.0, count=3)
    assert_close(last_frame(flow, start, duration=3.0), last, rtol=0, atol=1e-12)


def test_the_mean_vorticity_stays_zero():
    flow = NavierStokes(32)
    start = random_vorticity(0, seed=1, grid=32)
    assert_close(
        last_frame(flow, start, duration=2.0, time_step=0.1).mean(),
        torch.zeros((), dtype=torch.float64),
        rtol=0,
        atol=1e-14,
    )


@pytest.mark.parametrize("time_step", [0.1, None])
def test_samples_of_a_batch_are_integrated_independently(time_step):
    """Flows of different speeds, and so of different steps if these are chosen."""
    flow = NavierStokes(32)
    scales = torch.tensor([1.0, 6.0, 3.0, 1.5]).reshape(-1, 1, 1)
    starts = scales * torch.stack([random_vorticity(sample, seed=3, grid=32) for sample in range(4)])
    together = last_frame(flow, starts, duration=1.0, time_step=time_step)
    for sample, start in enumerate(starts):
        alone = last_frame(flow, start, duration=1.0, time_step=time_step)
        assert_close(together[sample], alone, rtol=0, atol=1e-12)


def test_initial_vorticity_has_the_published_spectrum():
    """Variance 2 tau^(2 alpha - 2) (|k|^2 + tau^2)^(-alpha) in each wave, alpha = 2, tau = 7: checked over 400 draws."""
    grid = 32
    draws = torch.stack([random_vorticity(sample, seed=0, grid=grid) for sample in range(400)])
    power = (torch.fft.fft2(draws) / grid**2).abs().square().mean(dim=0)
    frequencies = 2 * math.pi * grid * torch.fft.fftfreq(grid, dtype=torch.float64)
    square = frequencies.unsqueeze(1) ** 2 + frequencies**2
    expected = 2 * 7.0**2 * (square + 49.0) ** -2
    expected[0, 0] = 0
    shells = [(0, 10), (10, 20), (20, 40), (40, 80)]
    for low, high in shells:
        inside = (square.sqrt() > low) & (square.sqrt() <= high)
        # 400 draws of at least 8 waves each: the mean power is known within about 2 %.
        assert power[inside].sum().item() == pytest.approx(expected[inside].sum().item(), rel=0.1)
    assert power[0, 0].item() == pytest.approx(0, abs=1e-20)


def test_initial_vorticity_depends_on_seed_and_sample_alone():
    assert_close(random_vorticity(3, seed=5, grid=16), random_vorticity(3, seed=5, grid=16), rtol=0, atol=0)
    assert not torch.allclose(random_vorticity(3, seed=5, grid=16), random_vorticity(3, seed=6, grid=16))
    assert not torch.allclose(random_vorticity(3, seed=5, grid=16), random_vorticity(4, seed=5, grid=16))


def test_coarsening_takes_block_means():
    fields = torch.arange(32.0).reshape(2, 4, 4)
    assert_close(coarsened(fields, 2)[0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))
    assert_close(coarsened(fields, 1), fields)
