"""The pieces of an inversion: each does what its docstring says, and its gradient is exact."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from forecast_cli.config import ModelConfig, RunConfig
from forecast_cli.data.noise import Noise
from forecast_cli.domain import Axis, Domain, TimeStep
from forecast_cli.equations.shallow_water import ShallowWater
from forecast_cli.errors import ConfigError, DivergedError
from forecast_cli.inversion import Inversion, Source, guess, uncertainty
from forecast_cli.inversion.checks import scored, taylor_order
from forecast_cli.inversion.depths import Depths, smooth, white
from forecast_cli.inversion.descent import Descent, descend
from forecast_cli.inversion.misfit import FREEDOM, NONE, Misfit, Objective, Soundings
from forecast_cli.inversion.noise import deviations, estimate
from forecast_cli.inversion.refined import Refined
from forecast_cli.inversion.uncertainty import (
    curvature_of,
    dense_posterior,
    likeliest_prior,
    sampled_posterior,
)
from forecast_cli.inversion.verdict import judge, neighbours
from forecast_cli.models import build_model
from forecast_cli.physics.grid import Grid

CELLS = (8, 9)
SIDES = (8e4, 9e4)
BOUNDS = (5.0, 120.0)
NOISE = 1e-3


def never() -> bool:
    return False


def grid(cells=CELLS):
    return Grid.uniform(cells, ((0.0, SIDES[0]), (0.0, SIDES[1])), units="m")


def model(cells=CELLS, *, learn=(), interval=400.0, steps=2):
    y, x = grid(cells).axes
    domain = Domain(ShallowWater.VARIABLES, y, x, TimeStep(interval, "s"), "cartesian", "zeros", static=("depth",))
    options = ModelConfig(
        name="finn", equation="shallow-water", learn=learn, time_step=interval / steps, parameters={"gravity": 9.81}
    )
    found = build_model(RunConfig(model=options), domain).double().eval().requires_grad_(False)
    for parameter in found.parameters():
        parameter.requires_grad_()
    return found


def bed(cells=CELLS):
    y, x = grid(cells).centres()
    return 60 - 25 * np.exp(-((y - 3e4) ** 2 + (x - 5e4) ** 2) / 2e8)


def hill(cells=CELLS):
    y, x = grid(cells).centres()
    eta = np.exp(-((y - 4e4) ** 2 + (x - 3e4) ** 2) / 2e8)
    return torch.as_tensor(np.stack([eta, 0 * eta, 0 * eta]))[None, None]


def misfit(cells=CELLS, *, channels=(0, 1, 2), learn=(), frames=12, seed=0):
    forward = model(cells, learn=learn)
    with torch.no_grad():
        truth = forward(hill(cells), frames, static=torch.as_tensor(bed(cells))[None, None]).fields[
            :, :, list(channels)
        ]
    noise = NOISE * torch.randn(truth.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    observed = truth + noise
    observed[:, 3, :, 2, 2] = torch.nan
    return Misfit(forward, hill(cells), observed, torch.full((len(channels),), NOISE, dtype=torch.float64), channels)


def objective(*, prior=None, soundings=NONE, **options):
    found = misfit(**options)
    depths = Depths.around(np.full(CELLS, 55.0), *BOUNDS, white() if prior is None else prior)
    return Objective(found, depths, soundings, tuple(p for p in found.model.parameters() if p.requires_grad))


def draw(count, *, size=0.3, seed=1):
    return size * np.random.default_rng(seed).standard_normal(count)


# --- depths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amplitudes", [white(), smooth(grid(), 2e4)], ids=["white", "smooth"])
def test_depths_keep_their_bounds(amplitudes):
    depths = Depths.around(bed(), *BOUNDS, amplitudes)
    for size in (1, 30, 1000):
        depth = depths(size * draw(72).reshape(CELLS))
        assert depth.min() >= BOUNDS[0]
        assert depth.max() <= BOUNDS[1]


@pytest.mark.parametrize("amplitudes", [white(), smooth(grid(), 2e4)], ids=["white", "smooth"])
def test_the_unknowns_of_a_depth_give_it_back(amplitudes):
    depths = Depths.around(np.full(CELLS, 50.0), *BOUNDS, amplitudes)
    depth = depths(draw(72).reshape(CELLS))
    assert depths(depths.unknowns(depth)) == pytest.approx(depth, rel=1e-9)


def test_a_smooth_prior_has_its_spread_and_is_smooth():
    """Mean variance spread^2 exactly; neighbours of a field over two cells are alike, those of a white one are not."""
    depths = Depths.around(np.full(CELLS, 50.0), *BOUNDS, smooth(grid(), 2e4, 0.3))
    columns = np.stack([depths.smoothed(unit.reshape(CELLS)).ravel() for unit in np.eye(72)])
    assert columns == pytest.approx(columns.T, abs=1e-14)
    covariance = columns @ columns
    assert np.diag(covariance).mean() == pytest.approx(0.3**2)
    assert covariance[40, 41] > 0.6 * covariance[40, 40]


# --- the objective ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [None, smooth(grid(), 2e4)], ids=["white", "smooth"])
@pytest.mark.parametrize("channels", [(0, 1, 2), (0,)])
def test_the_gradient_is_that_of_differences(prior, channels):
    """With soundings and gravity free. Central differences of 1e-5 are good to 1e-6 of the largest component."""
    known = Soundings(np.array([1, 1]), np.array([2, 2]), np.array([50.0, 58.0]), np.array([1.0, 2.0]))
    found = objective(prior=prior, channels=channels, soundings=known, learn=("gravity",))
    x = draw(73)
    _, gradient = found(x)
    units = 1e-5 * np.eye(73)[[0, 10, 11, 40, 71, 72]]
    differences = [(found(x + unit)[0] - found(x - unit)[0]) / 2e-5 for unit in units]
    assert gradient[[0, 10, 11, 40, 71, 72]] == pytest.approx(differences, abs=1e-6 * np.abs(gradient).max())


def test_the_truth_leaves_the_noise():
    """chi^2 per value is 1 to within four times its standard deviation."""
    found = misfit()
    chi2 = found.chi2(torch.as_tensor(bed())[None, None]) / found.count
    assert chi2 == pytest.approx(1, abs=4 * math.sqrt(2 / found.count))
    assert found.count == 12 * 3 * 72 - 3


def test_the_taylor_test_tells_right_from_wrong():
    found = objective()
    assert taylor_order(found, draw(72), np.random.default_rng(0)) == pytest.approx(2, abs=0.05)

    class Wrong(Objective):
        def __call__(self, x):
            value, gradient = super().__call__(x)
            return value, 1.01 * gradient

    assert taylor_order(Wrong(found.misfit, found.depths), draw(72), np.random.default_rng(0)) < 1.5


# --- guess, descent -----------------------------------------------------------------------------------------------------


def test_a_flat_bottom_is_found_by_the_scan():
    """To the ratio of two neighbouring constants."""
    found = misfit()
    flat = torch.full((1, 1, *CELLS), 40.0, dtype=torch.float64)
    found = replace(found, observed=found.fields(flat), seen=torch.empty(0))
    ratio = (0.98 * BOUNDS[1] / (1.02 * BOUNDS[0])) ** (1 / (guess.CONSTANTS - 1))
    assert 40 / ratio < guess.best_constant(found, *BOUNDS) < 40 * ratio


def test_waves_that_blow_up_over_every_depth_are_an_error():
    found = misfit()
    with pytest.raises(DivergedError, match="every constant depth"):
        guess.best_constant(replace(found, start=found.start * torch.nan), *BOUNDS)


def test_the_descent_finds_the_bed_and_tells_of_it():
    found = objective()
    rows = []
    descent = descend(
        found, Descent(found.start()), iterations=200, stop=never, report=lambda d: rows.append(d.iterations)
    )
    assert descent.converged
    assert not descent.stopped
    assert rows == list(range(1, descent.iterations + 1))
    assert len(descent.values) == len(descent.chi2) == descent.iterations + 1
    assert descent.values == sorted(descent.values, reverse=True)
    assert descent.chi2[-1] < 1.1 < descent.chi2[0]
    assert scored(found.depth(descent.x), None, bed())["relative_l2"] < 0.02


def test_a_descent_that_is_stopped_keeps_its_best():
    found, left = objective(), iter([False] * 12 + [True] * 1000)
    descent = descend(found, Descent(found.start()), iterations=200, stop=lambda: next(left), report=lambda _: None)
    assert descent.stopped
    assert not descent.converged
    assert found(descent.x)[0] == pytest.approx(descent.values[-1])
    assert descent.values[-1] < descent.values[0]


def test_iterations_are_a_limit():
    found = objective()
    descent = descend(found, Descent(found.start()), iterations=5, stop=never, report=lambda _: None)
    assert descent.iterations == 5
    assert not descent.converged


# --- uncertainty --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settled():
    """An objective with gravity free and soundings, and where it is least."""
    known = Soundings(np.array([1]), np.array([2]), np.array([57.0]), np.array([0.5]))
    found = objective(prior=smooth(grid(), 2e4, 0.5), soundings=known, learn=("gravity",))
    return found, descend(found, Descent(found.start()), iterations=300, stop=never, report=lambda _: None).x


def test_the_posterior_is_the_inverse_of_the_curvature(settled):
    """Against J from differences of the residuals in x: 1 % for what is curved in a sigmoid."""
    found, x = settled

    def residuals(y):
        waves = found.misfit.residual(found.misfit.fields(found.leaf(y))).ravel().numpy()
        known = (found.depth(y)[1, 2] - 57.0) / 0.5
        return np.append(waves, known)

    with torch.no_grad():
        columns = np.stack([(residuals(x + 1e-4 * unit) - residuals(x - 1e-4 * unit)) / 2e-4 for unit in np.eye(73)])
    covariance = np.linalg.inv(columns @ columns.T + np.eye(73))
    slope = found.depths.slope(x[:72].reshape(CELLS)).ravel()
    smoothing = np.stack([found.depths.smoothed(unit.reshape(CELLS)).ravel() for unit in np.eye(72)])
    expected = slope * np.sqrt(np.einsum("ij,jk,ik->i", smoothing, covariance[:72, :72], smoothing))
    posterior = dense_posterior(found, x, curvature_of(found, x, never))
    assert posterior.deviation.ravel() == pytest.approx(expected, rel=0.01)
    assert posterior.numbers[0] == pytest.approx(FREEDOM * math.sqrt(covariance[72, 72]), rel=0.01)
    assert posterior.determined == pytest.approx(73 - np.trace(covariance), rel=0.01)
    assert posterior.root @ posterior.root == pytest.approx(covariance, abs=0.01)


def test_samples_spread_like_the_posterior(settled, monkeypatch):
    """The mean over all cells of the ratio of deviations: 60 samples are good to 9 %. Pooling would mix cells that differ much here."""
    monkeypatch.setattr(uncertainty, "SAMPLES", 60)
    monkeypatch.setattr(uncertainty, "POOLED", 1)
    found, x = settled
    whole = dense_posterior(found, x, curvature_of(found, x, never))
    sampled = sampled_posterior(found, x, seed=0, stop=never, report=lambda *_: None)
    assert np.mean(sampled.deviation / whole.deviation) == pytest.approx(1, abs=0.2)
    assert sampled.determined == pytest.approx(whole.determined, abs=0.1)


def test_uncertainty_that_is_stopped_is_none(settled):
    found, x = settled
    assert curvature_of(found, x, lambda: True) is None
    assert sampled_posterior(found, x, seed=0, stop=lambda: True, report=lambda *_: None) is None


def test_the_likeliest_prior_is_the_one_that_beds_are_drawn_from():
    """In a linear problem: beds of some length and spread, seen directly; the spread to a quarter, as 72 values tell it."""
    truth = smooth(grid(), 2e4, 0.4)
    found = objective(prior=smooth(grid(), 1e4, 0.15))
    z = Depths(*BOUNDS, np.zeros(CELLS), truth).smoothed(draw(72, size=1.0, seed=5).reshape(CELLS))
    weight = 1e4

    class Seen(Objective):
        def __call__(self, x):
            off = self.depths.smoothed(x.reshape(CELLS)) - z
            return weight * (off**2).sum() / 2 + (x**2).sum() / 2, x + weight * self.depths.smoothed(off).ravel()

    seen = Seen(found.misfit, found.depths)
    curvature = weight * np.eye(72)
    root = np.stack([found.depths.smoothed(unit.reshape(CELLS)).ravel() for unit in np.eye(72)])
    x = np.linalg.solve(weight * root @ root + np.eye(72), weight * root @ z.ravel())
    priors = [smooth(grid(), length, 1.0) for length in (5e3, 2e4, 8e4)]
    chosen, spread = likeliest_prior(seen, x, curvature, priors, (0.01, 5.0))
    assert chosen == 1
    assert spread == pytest.approx(0.4, rel=0.25)


# --- noise, verdict -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0.01, 0.05])
def test_noise_is_told_from_waves(size):
    """To a fifth, on waves that 24 cells resolve."""
    cells = (24, 24)
    forward = model(cells, interval=100.0, steps=1)
    with torch.no_grad():
        waves = forward(hill(cells), 40, static=torch.as_tensor(bed(cells))[None, None]).fields[:, :, 0].numpy()
    noise = size * np.random.default_rng(0).standard_normal(waves.shape)
    assert estimate(waves + noise) == pytest.approx(size, rel=0.2)
    assert estimate(waves) < 0.002


def judged(**changes):
    calm = np.random.default_rng(0).standard_normal((1, 20, 1, 6, 6))
    given = {
        "converged": True,
        "stopped": "",
        "chi2": 1.0,
        "freedom": 700.0,
        "residual": calm,
        "noise_known": True,
        "noise_share": 0.01,
        "sparse": False,
        "taylor": 2.0,
        "depth": np.full((6, 6), 50.0),
        "bounds": (5.0, 100.0),
        "deviation": np.full((6, 6), 1.0),
    }
    return judge(**(given | changes))


def test_a_good_answer_is_trusted():
    assert judged() == (judged(chi2=1.15))
    assert judged().trustworthy
    assert judged(noise_known=False).trustworthy


WAVE = np.sin(np.arange(20) / 3)[None, :, None, None, None] * np.ones((1, 20, 1, 6, 6))
WRONG = {
    "not converged": {"converged": False},
    "stopped": {"converged": False, "stopped": "the depth"},
    "Taylor order": {"taylor": 1.5},
    "chi2 1.4": {"chi2": 1.4},
    "correlated": {"noise_known": False, "residual": WAVE},
    "lie at": {"depth": np.r_[np.full((1, 6), 99.9), np.full((5, 6), 50.0)]},
    "say little": {"deviation": np.r_[np.full((1, 6), 20.0), np.full((5, 6), 1.0)]},
    "--noise is not given": {"noise_known": False, "sparse": True},
    "soundings contradict": {"chi2_soundings": 60.0, "soundings": 9},
    "known before": {"doubts": ("known before",)},
}


@pytest.mark.parametrize("reason", WRONG)
def test_every_fault_is_a_reason(reason):
    verdict = judged(**WRONG[reason])
    assert not verdict.trustworthy
    assert len(verdict.reasons) == 1
    assert reason in verdict.reasons[0]


def test_few_values_are_left_more_to_chance():
    assert judged(chi2=1.4, freedom=100.0).trustworthy


def test_neighbours_are_correlated_as_they_are():
    assert neighbours(WAVE) > 0.9
    assert abs(neighbours(np.random.default_rng(0).standard_normal((2, 30, 3, 8, 8)))) < 0.05
    assert neighbours(np.full((1, 2, 1, 1, 1), np.nan)) == 0


# --- a finer model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 3])
def test_going_to_a_finer_grid_and_back_changes_nothing(factor):
    """Velocities exactly; the surface to what four corrections leave of it."""
    y, x = grid().axes
    domain = Domain(ShallowWater.VARIABLES, y, x, TimeStep(400.0, "s"), "cartesian", "zeros", static=("depth",))
    refined = Refined(model(), domain, factor)
    state = torch.as_tensor(np.random.default_rng(0).standard_normal((2, 3, *CELLS)))
    state[:, 0] = hill()[0, 0, 0]
    state[:, 1, :, -1] = 0
    state[:, 2, -1] = 0
    back = refined.coarser(refined.finer(state))
    assert back.shape == state.shape
    assert (back - state)[:, 0].abs().max() < 2e-3
    # Along the face velocities are interpolated between cells and averaged again, which smooths them a little.
    flat = state.clone()
    flat[:, 1], flat[:, 2] = state[:, 1, :1], state[:, 2, :, :1]
    assert torch.allclose(refined.coarser(refined.finer(flat))[:, 1:], flat[:, 1:], atol=1e-12)


def test_a_finer_model_continues_where_it_stopped():
    y, x = grid().axes
    domain = Domain(ShallowWater.VARIABLES, y, x, TimeStep(400.0, "s"), "cartesian", "zeros", static=("depth",))
    fine = (2 * CELLS[0], 2 * CELLS[1])
    refined = Refined(model(fine, steps=4), domain, 2)
    depth = torch.as_tensor(bed())[None, None]
    whole = refined(hill(), 5, static=depth)
    first = refined(hill(), 2, static=depth)
    second = refined(first.fields[:, -1:], 3, static=depth, state=first.state)
    assert torch.equal(torch.cat([first.fields, second.fields], dim=1), whole.fields)
    assert isinstance(y, Axis)


def test_a_device_without_double_precision_is_told_so():
    with pytest.raises(ConfigError, match="float32"):
        Inversion(Source(("waves.nc",)), device="mps")


def test_noise_of_nothing_is_refused():
    class Seen:
        channels, spread, later = ("eta",), np.array([1.0]), np.zeros((1, 3, 1, 2, 2))

    with pytest.raises(ConfigError, match="expected more than 0"):
        deviations(Seen(), {"eta": Noise(0.0, False)})
