"""How sure one may be: the spread of sea beds that explain the waves as well, from the curvature at the best one.

The Gauss-Newton curvature of the objective in its unknowns is A + 1, A = J^T J, J being the change of the residuals with the
unknowns. On small grids A is computed whole, column by column, with differences of the model; on larger ones samples of
N(0, (A + 1)^-1) are drawn, each the solution of (A + 1) x = J^T e + e' for standard normal e, e'.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import Tensor

from forecast_cli.inversion.depths import Depths
from forecast_cli.inversion.misfit import FREEDOM, Objective

DENSE = 1600
"""Cells up to which the curvature is computed whole: 40 x 40."""
CHUNK = 64
"""Sea beds that the model runs over at a time: their states stay near the processor."""
SAMPLES, POOLED = 12, 3
"""Samples on larger grids, and cells a side over which their variances are averaged."""
PROBES = 4
"""Draws of noise that the diagonal of the curvature is told from."""
SETTLED, MOST = 0.002, 500
"""Conjugate gradients end where ten iterations move a sample by less than this for each unknown, in squared standard deviations."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """deviation: standard deviation of the depth (height, width) [m]. numbers: of the logarithms of the free numbers.

    determined: how many unknowns the data rather than the prior determine. root: (A + 1)^-1/2, symmetric; None where it is not known.
    """

    deviation: np.ndarray
    numbers: np.ndarray
    determined: float
    root: np.ndarray | None = None


def curvature_of(objective: Objective, x: np.ndarray, stop: Callable[[], bool]) -> np.ndarray | None:
    """The curvature of the misfit in z, see Depths, and in the free numbers, (cells + numbers) squared; None if stopped on the way."""
    curvature = _curvature(objective, x, stop)
    if curvature is None:
        return None
    cells = math.prod(objective.shape)
    curvature[np.arange(cells), np.arange(cells)] += objective.soundings.weights(objective.shape).ravel()
    scale = _scale(objective, x)
    found: np.ndarray = scale[:, None] * curvature * scale
    return found


def _scale(objective: Objective, x: np.ndarray) -> np.ndarray:
    """d(depth)/dz of each cell, and that of each free number's logarithm."""
    cells = math.prod(objective.shape)
    slope = objective.depths.slope(x[:cells].reshape(objective.shape)).ravel()
    return np.concatenate([slope, np.full(len(objective.free), FREEDOM)])


def _smoothed(rows: np.ndarray, depths: Depths, shape: tuple[int, ...]) -> np.ndarray:
    """S on the cells of each row."""
    cells, found = math.prod(shape), rows.copy()
    for row in found:
        row[:cells] = depths.smoothed(row[:cells].reshape(shape)).ravel()
    return found


def _spectrum(curvature: np.ndarray, depths: Depths, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of A, and their eigenvectors as columns."""
    a = _smoothed(_smoothed(curvature, depths, shape).T, depths, shape)
    spectrum, modes = np.linalg.eigh((a + a.T) / 2)
    return spectrum.clip(min=0), modes


def dense_posterior(objective: Objective, x: np.ndarray, curvature: np.ndarray) -> Posterior:
    """The posterior from the whole curvature, as `curvature_of` gives it."""
    cells = math.prod(objective.shape)
    spectrum, modes = _spectrum(curvature, objective.depths, objective.shape)
    there = _smoothed(modes.T.copy(), objective.depths, objective.shape) * _scale(objective, x)
    variance = (there**2 / (1 + spectrum)[:, None]).sum(axis=0)
    root = (modes / np.sqrt(1 + spectrum)) @ modes.T
    determined = float((spectrum / (1 + spectrum)).sum())
    return Posterior(np.sqrt(variance[:cells]).reshape(objective.shape), np.sqrt(variance[cells:]), determined, root)


def likeliest_prior(
    objective: Objective,
    x: np.ndarray,
    curvature: np.ndarray,
    priors: Sequence[np.ndarray],
    spreads: tuple[float, float],
) -> tuple[int, float]:
    """Which of some priors, and which spread of it, makes the data most probable, in the linear approximation at x.

    priors: amplitudes at a spread of 1. With A = S C S, C the curvature in z, and b = S (C z - g), g being the misfit's gradient in z, the
    logarithm of the evidence is half of b (A + 1)^-1 b - log det (A + 1).
    Source: MacKay (1992), Neural Computation 4, 415-447.
    """
    shape, cells = objective.shape, math.prod(objective.shape)
    _, gradient = objective(x)
    of_z = objective.depths.unsmoothed((gradient - x)[:cells].reshape(shape)).ravel()
    inner = curvature[:cells, :cells]
    pull = inner @ objective.depths.smoothed(x[:cells].reshape(shape)).ravel() - of_z
    factors = np.geomspace(*spreads, 121)
    best = (-math.inf, 0, 1.0)
    for number, amplitudes in enumerate(priors):
        depths = replace(objective.depths, amplitudes=amplitudes)
        spectrum, modes = _spectrum(inner, depths, shape)
        squares = (modes.T @ depths.smoothed(pull.reshape(shape)).ravel()) ** 2
        grown = 1 + factors[:, None] ** 2 * spectrum
        evidence = (factors[:, None] ** 2 * squares / grown - np.log(grown)).sum(axis=1) / 2
        at = int(np.argmax(evidence))
        if evidence[at] > best[0]:
            best = (float(evidence[at]), number, float(factors[at]))
    return best[1], best[2]


@torch.no_grad()
def _curvature(objective: Objective, x: np.ndarray, stop: Callable[[], bool]) -> np.ndarray | None:
    """J^T J with respect to the depth [m-2] and to the free numbers: all cells march together, a frame at a time."""
    misfit, cells = objective.misfit, math.prod(objective.shape)
    depth = objective.leaf(x)
    size = _difference(depth)
    moved = depth.view(1, cells) + size * torch.eye(cells, dtype=depth.dtype, device=depth.device)
    beds = moved.view(cells, 1, *objective.shape).split(CHUNK)
    total = torch.zeros(
        cells + len(objective.free), cells + len(objective.free), dtype=depth.dtype, device=depth.device
    )
    of_numbers = _number_columns(objective, x)
    channels = list(misfit.channels)
    for sample in range(len(misfit.start)):
        first = misfit.start[sample : sample + 1]
        context, state = first, None
        marching = [(first.expand(len(bed), -1, -1, -1, -1), None) for bed in beds]
        for frame in range(misfit.observed.shape[1]):
            if stop():
                return None
            seen = misfit.seen[sample, frame].flatten()
            here = misfit.model(context, 1, static=depth, state=state)
            context, state = here.fields, here.state
            rises = []
            for number, (bed, (before, memory)) in enumerate(zip(beds, marching, strict=True)):
                there = misfit.model(before, 1, static=bed, state=memory)
                marching[number] = (there.fields, there.state)
                rise = (
                    (there.fields[:, 0, channels] - here.fields[:, 0, channels])
                    / misfit.deviation.view(-1, 1, 1)
                    / size
                )
                rises.append(rise.flatten(1)[:, seen])
            columns = torch.cat([*rises, of_numbers[:, sample, frame].flatten(1)[:, seen]])
            total.addmm_(columns, columns.T)
    return total.cpu().numpy().astype(float)


def _number_columns(objective: Objective, x: np.ndarray) -> Tensor:
    """Change of the residuals with each free number, (number, sample, time, channel, height, width)."""
    base, found = objective.misfit.residual(objective.fields(x)), []
    for number in range(len(objective.free)):
        shifted = x.copy()
        shifted[math.prod(objective.shape) + number] += 1e-4 / FREEDOM
        there = objective.misfit.residual(objective.fields(shifted))
        found.append((there - base) / 1e-4)
    objective.set_numbers(x)
    return torch.stack(found) if found else base.new_zeros(0, *base.shape)


def _difference(depth: Tensor) -> float:
    """A change of depth [m] small enough to be linear and large enough not to drown in rounding."""
    return (1e-5 if depth.dtype == torch.float64 else 3e-3) * float(depth.mean())


def sampled_posterior(
    objective: Objective, x: np.ndarray, *, seed: int, stop: Callable[[], bool], report: Callable[[int, int], None]
) -> Posterior | None:
    """The posterior from samples; None if stopped before there are two.

    Standard deviations are good to a fifth, better where errors are local.
    """
    linear, generator, scales = (
        _Linear(objective, x),
        np.random.default_rng([seed, 2]),
        scales_of(objective, x, seed=seed),
    )
    cells, drawn = math.prod(objective.shape), []
    for number in range(SAMPLES):
        pull, drawn_prior = linear.pulled_by_noise(generator), generator.standard_normal(len(x))
        sample = _solved(linear, pull + drawn_prior, scales, stop, start=scales**2 * drawn_prior)
        if sample is None:
            break
        drawn.append(sample)
        report(number + 1, SAMPLES)
    if len(drawn) < 2:
        return None
    slope = objective.depths.slope(x[:cells].reshape(objective.shape))
    shifts = np.stack([slope * objective.depths.smoothed(d[:cells].reshape(objective.shape)) for d in drawn])
    variance = uniform_filter((shifts**2).mean(axis=0), POOLED, mode="nearest")
    free = slice(cells, cells + len(objective.free))
    numbers = FREEDOM * np.sqrt(np.mean([d[free] ** 2 for d in drawn], axis=0))
    determined = len(x) - float(np.mean([(d**2).sum() for d in drawn]))
    return Posterior(np.sqrt(variance), numbers, max(0.0, determined))


def scales_of(objective: Objective, x: np.ndarray, *, seed: int, apart: bool = True) -> np.ndarray:
    """About (A + 1)^-1/2 of each unknown by itself, from the diagonal of A: the mean of (J^T e)^2 over PROBES, and over neighbours.

    A descent in unknowns so scaled takes a third of the steps near its end, and with a noisy first frame it ends where it should.
    apart: cells by themselves; else all of a variable alike.
    """
    linear, generator = _Linear(objective, x), np.random.default_rng([seed, 4])
    squares = np.mean([linear.pulled_by_noise(generator) ** 2 for _ in range(PROBES)], axis=0)
    return 1 / np.sqrt(1 + objective.pooled(squares, POOLED if apart else 0))


class _Linear:
    """J and its transpose at one sea bed, by a difference of the model and by its backward()."""

    def __init__(self, objective: Objective, x: np.ndarray) -> None:
        self.objective, self.x = objective, x
        self.leaves = objective.leaves(x)
        self.base = objective.misfit.residual(objective.misfit.fields(self.leaves[0], self.leaves[-1]))
        self.depth = objective.depth(x)
        self.weights = objective.soundings.weights(objective.shape)
        self.slope = objective.depths.slope(x[: self.depth.size].reshape(objective.shape))

    def transposed(self, residuals: Tensor, at_depth: np.ndarray) -> np.ndarray:
        """J^T of weighted residuals, and of what pulls at the depth itself, (height, width) [m-1]."""
        found = torch.autograd.grad(self.base, self.objective.moving(self.leaves), residuals, retain_graph=True)
        return self.objective.pulled(self.x, found, at_depth)

    def pulled_by_noise(self, generator: np.random.Generator) -> np.ndarray:
        """J^T of standard normal residuals, and of soundings off by as much."""
        noise = self.objective.like(generator.standard_normal(tuple(self.base.shape)))
        weights = np.sqrt(self.weights) * generator.standard_normal(self.weights.shape)
        return self.transposed(noise.masked_fill_(~self.objective.misfit.seen, 0), weights)

    @torch.no_grad()
    def curvature(self, direction: np.ndarray) -> np.ndarray:
        """A times a direction."""
        objective, cells = self.objective, self.depth.size
        numbers = slice(cells, cells + len(objective.free))
        shift = self.slope * objective.depths.smoothed(direction[:cells].reshape(self.depth.shape))
        first = (
            objective.first(direction) - objective.misfit.start if objective.is_loose else self.leaves[-1].new_zeros(1)
        )
        # Alike in the depth, in the logarithms of the numbers and in the first frame, relative to their size.
        relative = [np.abs(shift).max() / self.depth.mean(), *np.abs(FREEDOM * direction[numbers])]
        relative.append(float(first.abs().max() / self.leaves[-1].abs().max().clamp(min=1e-30)))
        size = 10 * _difference(self.leaves[0]) / float(self.depth.mean()) / max(*relative, 1e-30)
        moved = self.x.copy()
        moved[numbers] += size * direction[numbers]
        objective.set_numbers(moved)
        bed = self.leaves[0] + objective.like(size * shift)
        fields = objective.misfit.fields(bed, self.leaves[-1] + size * first)
        objective.set_numbers(self.x)
        rise = (objective.misfit.residual(fields) - self.base) / size
        with torch.enable_grad():
            return self.transposed(rise, self.weights * shift)


def _solved(
    linear: _Linear, right: np.ndarray, scales: np.ndarray, stop: Callable[[], bool], *, start: np.ndarray
) -> np.ndarray | None:
    """(A + 1)^-1 right by conjugate gradients in x / scales, until it no longer changes; None if stopped.

    start: where the data say nothing it should be right already.
    """
    x, residual = start.copy(), right - linear.curvature(start) - start
    towards = scales**2 * residual
    direction, size, moved = towards.copy(), float(residual @ towards), list[float]()
    while len(moved) < MOST and not (len(moved) >= 10 and sum(moved[-10:]) < SETTLED * len(x)):
        if stop():
            return None
        image = linear.curvature(direction) + direction
        step = size / float(direction @ image)
        x += step * direction
        residual -= step * image
        moved.append(step * size)
        towards = scales**2 * residual
        size, last = float(residual @ towards), size
        direction = towards + size / last * direction
    return x
