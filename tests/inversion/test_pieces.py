"""Laws of the pieces of an inversion at their edges; what they do in the middle is in test_inversion.py."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from seas import BOUNDS, CELLS, INTERVAL, bed, grid, hill, model, objective

from forecast_cli.config import ModelConfig, RunConfig
from forecast_cli.domain import Domain, TimeStep
from forecast_cli.equations.shallow_water import ShallowWater
from forecast_cli.inversion import guess
from forecast_cli.inversion.checks import scored, taylor_order
from forecast_cli.inversion.depths import Depths, smooth, white
from forecast_cli.inversion.descent import Descent, descend
from forecast_cli.inversion.ensemble import ensemble
from forecast_cli.inversion.judgement import widened
from forecast_cli.inversion.misfit import Objective, Soundings
from forecast_cli.inversion.noise import estimate
from forecast_cli.inversion.uncertainty import curvature_of, dense_posterior
from forecast_cli.inversion.verdict import judge
from forecast_cli.models import build_model
from forecast_cli.physics.grid import Grid


def draw(count, *, size=0.3, seed=1):
    return size * np.random.default_rng(seed).standard_normal(count)


def never():
    return False


# --- depths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amplitudes", [white(), smooth(grid(), 2e4)], ids=["white", "smooth"])
def test_sensitivities_are_pulled_back_by_the_transpose(amplitudes):
    """<w, H(x + e d) - H(x - e d)> / 2e = <pull(w), d>, to the second order of e = 1e-5."""
    depths = Depths.around(bed(), *BOUNDS, amplitudes)
    x, direction, weight = (draw(30, seed=seed).reshape(CELLS) for seed in (1, 2, 3))
    rise = (depths(x + 1e-5 * direction) - depths(x - 1e-5 * direction)) / 2e-5
    pulled = depths.pull(weight, depths.slope(x))
    assert float((pulled * direction).sum()) == pytest.approx(float((weight * rise).sum()), rel=1e-8)


@pytest.mark.parametrize("length", [1e3, 1e4, 4e4, 1e6])
@pytest.mark.parametrize("cells", [(5, 6), (1, 9), (8, 8)], ids=str)
def test_a_smooth_prior_has_its_spread_whatever_its_length(cells, length):
    """The trace of S S over the cells, S as a matrix."""
    depths = Depths.around(np.full(cells, 50.0), *BOUNDS, smooth(grid(cells), length, 0.7))
    columns = np.stack([depths.smoothed(unit.reshape(cells)).ravel() for unit in np.eye(math.prod(cells))])
    assert (columns**2).sum() / math.prod(cells) == pytest.approx(0.7**2)


def test_a_depth_at_or_beyond_its_bounds_is_moved_inside():
    depths = Depths.around(np.array([[0.0, 5.0], [120.0, 1e9]]), *BOUNDS, 1.0)
    found = depths(np.zeros((2, 2)))
    assert (found > BOUNDS[0]).all()
    assert (found < BOUNDS[1]).all()
    assert np.isfinite(depths.slope(np.zeros((2, 2)))).all()


def test_soundings_of_one_cell_add_up():
    """Two of 1 m each are one of 1 / sqrt(2) m at their mean; the slope is the gradient of half of chi2."""
    twice = Soundings(np.array([1, 1]), np.array([2, 2]), np.array([50.0, 54.0]), np.array([1.0, 1.0]))
    assert twice.weights(CELLS)[1, 2] == 2
    assert twice.weights(CELLS).sum() == 2
    depth = np.full(CELLS, 60.0)
    up, down = (twice.chi2(depth + size * np.eye(1, 30, 8).reshape(CELLS)) for size in (1e-4, -1e-4))
    assert twice.slope(depth)[1, 2] == pytest.approx((up - down) / 4e-4, rel=1e-6)
    assert twice.slope(np.full(CELLS, 52.0)).sum() == pytest.approx(0, abs=1e-12)


# --- objective, gradient check ------------------------------------------------------------------------------------------


def test_the_gradient_of_several_sequences_is_that_of_differences():
    found = objective(samples=2, learn=("gravity",), prior=smooth(grid(), 2e4))
    x = draw(31)
    _, gradient = found(x)
    differences = [(found(x + unit)[0] - found(x - unit)[0]) / 2e-5 for unit in 1e-5 * np.eye(31)]
    assert_allclose(gradient, differences, rtol=0, atol=1e-6 * np.abs(gradient).max())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("factor", "exact"), [(1.0, True), (1.01, False), (0.9, False), (0.0, False)])
def test_the_taylor_order_tells_right_from_wrong_in_either_precision(factor, exact, dtype):
    """The verdict's bound of 1.9 lies between."""

    class Scaled(Objective):
        def __call__(self, x):
            value, gradient = super().__call__(x)
            return value, factor * gradient

    found = objective(dtype=dtype)
    order = taylor_order(Scaled(found.misfit, found.depths), draw(30), np.random.default_rng(0))
    assert order == pytest.approx(2, abs=0.1) if exact else order < 1.9


def test_the_taylor_test_leaves_the_numbers_of_the_model_alone():
    found = objective(learn=("gravity",))
    x = draw(31)
    found.set_numbers(x)
    before = found.free[0].item()
    taylor_order(found, x, np.random.default_rng(0))
    assert found.free[0].item() == before


# --- first guesses ------------------------------------------------------------------------------------------------------


def seen(samples=1, scheme="upwind", frames=40):
    forward = model(scheme=scheme)
    start = hill(samples=samples)
    with torch.no_grad():
        static = torch.as_tensor(bed())[None, None].expand(samples, -1, -1, -1)
        later = forward(start, frames, static=static).fields
    later[:, :, 1, :, -1] = torch.nan
    later[:, :, 2, -1] = torch.nan
    given = {"channels": ("eta", "u", "v"), "grid": grid(), "interval": INTERVAL}
    return SimpleNamespace(start=start[:, 0].numpy(), later=later.numpy(), **given)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("scheme", ["upwind", "centred"])
def test_continuity_gives_the_bed_where_every_step_is_seen(scheme, samples):
    """Exact but for the pull of 1e-6 towards a constant, some cells of which move little water: 1e-4 of the depth."""
    found = guess.of_continuity(seen(samples, scheme), 60.0, upwind=scheme == "upwind")
    assert_allclose(found, bed(), rtol=1e-4)


def test_continuity_in_the_wrong_scheme_is_not_exact():
    found = guess.of_continuity(seen(), 60.0, upwind=False)
    assert np.abs(found / bed() - 1).max() > 1e-3


def test_continuity_needs_everything():
    partly = seen()
    partly.later[0, 3, 0, 1, 1] = np.nan
    assert guess.of_continuity(partly, 60.0, upwind=True) is None
    partly = seen()
    partly.channels = ("eta", "u")
    assert guess.of_continuity(partly, 60.0, upwind=True) is None


@pytest.mark.parametrize("depth", [8.0, 20.0, 100.0])
def test_the_scan_finds_any_flat_bottom(depth):
    """To the ratio of two neighbouring constants."""
    found = objective(frames=40).misfit
    flat = torch.full((1, 1, *CELLS), depth, dtype=torch.float64)
    with torch.no_grad():
        over_flat = replace(found, observed=found.fields(flat), seen=torch.empty(0))
    ratio = (0.98 * BOUNDS[1] / (1.02 * BOUNDS[0])) ** (1 / (guess.CONSTANTS - 1))
    assert depth / ratio < guess.best_constant(over_flat, *BOUNDS) < depth * ratio


# --- descent ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 5, 12])
def test_a_descent_that_is_stopped_has_a_history_of_what_it_did(after):
    found, asked = objective(), iter(range(10**6))
    descent = descend(
        found, Descent(found.start()), iterations=100, stop=lambda: next(asked) >= after, report=lambda _: None
    )
    assert descent.stopped
    assert len(descent.values) == len(descent.chi2)
    assert descent.iterations == max(0, len(descent.values) - 1) <= after
    assert found(descent.x)[0] <= found(found.start())[0]


def test_chi2_is_that_of_the_true_noise_though_the_objective_is_softened():
    found = objective()
    soft = replace(found, misfit=replace(found.misfit, deviation=5 * found.misfit.deviation))
    descent = descend(soft, Descent(found.start()), iterations=6, stop=never, report=lambda _: None, softened=5.0)
    chi2 = found.misfit.chi2(found.leaf(descent.x)) / found.misfit.count
    assert descent.chi2[-1] == pytest.approx(chi2, rel=1e-9)


def test_where_every_direction_counts_alike_the_way_ends_at_the_same_bed():
    """Both are at rest to 0.06 of a standard deviation in the mean; ten of them are far from a coincidence."""
    found = objective(prior=smooth(grid(), 2e4))
    plain = descend(found, Descent(found.start()), iterations=300, stop=never, report=lambda _: None)
    posterior = dense_posterior(found, plain.x, curvature_of(found, plain.x, never))
    there = descend(
        found, Descent(found.start()), iterations=300, stop=never, report=lambda _: None, change=posterior.root
    )
    assert there.converged
    assert np.sqrt(np.mean(((found.depth(there.x) - found.depth(plain.x)) / posterior.deviation) ** 2)) < 0.5


def test_single_precision_comes_to_rest_too():
    """Its rounding ends the descent before double precision would."""
    found = objective(dtype=torch.float32)
    descent = descend(found, Descent(found.start()), iterations=300, stop=never, report=lambda _: None)
    assert descent.iterations < 300
    assert descent.converged


def refusing(refused, places):
    """Rosenbrock's valley, minimum 0 at (1, 1), which is (inf, 0) at the numbers of evaluations in `refused`."""

    def evaluated(x):
        places.append(x.copy())
        if len(places) - 1 in refused or not np.isfinite(x).all():
            return np.inf, np.zeros_like(x)
        u, v = x
        value = 100 * (v - u**2) ** 2 + (1 - u) ** 2
        return value, np.array([-400 * u * (v - u**2) - 2 * (1 - u), 200 * (v - u**2)])

    evaluated.misfit = SimpleNamespace(count=1, start=torch.zeros((), dtype=torch.float64))
    return evaluated


@pytest.mark.parametrize(
    "change", [None, np.array([1.0, 2.0]), np.array([[2.0, 0.5], [0.5, 1.0]])], ids=["1", "diag", "full"]
)
@pytest.mark.parametrize("refused", [{1}, {2}, {1, 2, 3}, {3, 4, 9}, {5, 6}, set(range(1, 60, 3))], ids=str)
def test_trials_beyond_the_finite_numbers_do_not_end_a_descent(refused, change, monkeypatch):
    monkeypatch.setattr("forecast_cli.inversion.descent.CALM", 1e-12)
    monkeypatch.setattr("forecast_cli.inversion.descent.SHARP", 1e-12)
    descent = descend(
        refusing(refused, []),
        Descent(np.array([-1.0, 1.0])),
        iterations=200,
        stop=never,
        report=lambda _: None,
        change=change,
    )
    assert descent.x == pytest.approx([1.0, 1.0], abs=1e-3)
    assert np.isfinite(descent.values).all()


def test_after_a_refused_trial_comes_one_near_the_middle():
    """The first trial has the length 1: at (0, 1), which the slope of (-4, 0) at (-1, 1) points to."""
    places = []
    descend(refusing({1, 2}, places), Descent(np.array([-1.0, 1.0])), iterations=1, stop=never, report=lambda _: None)
    assert places[1].tolist() == [0, 1]
    for farther, nearer in ((0, places[2][0]), (places[2][0], places[3][0])):
        assert 0.3 < (nearer + 1) / (farther + 1) < 0.7


# --- uncertainty --------------------------------------------------------------------------------------------------------


def test_the_posterior_hardly_depends_on_the_precision():
    """Differences of 3e-3 of the depth in float32 are good to a few per cent."""
    single, double = objective(dtype=torch.float32, learn=("gravity",)), objective(learn=("gravity",))
    x = descend(double, Descent(double.start()), iterations=200, stop=never, report=lambda _: None).x
    posteriors = [dense_posterior(found, x, curvature_of(found, x, never)) for found in (single, double)]
    assert_allclose(posteriors[0].deviation, posteriors[1].deviation, rtol=0.05)
    assert_allclose(posteriors[0].numbers, posteriors[1].numbers, rtol=0.05)


def test_where_nothing_is_seen_the_posterior_is_the_prior():
    found = objective(prior=smooth(grid(), 2e4))
    blind = replace(found, misfit=replace(found.misfit, seen=torch.zeros_like(found.misfit.seen)))
    x = draw(30)
    posterior = dense_posterior(blind, x, curvature_of(blind, x, never))
    columns = np.stack([found.depths.smoothed(unit.reshape(CELLS)).ravel() for unit in np.eye(30)])
    prior = found.depths.slope(x.reshape(CELLS)) * np.sqrt((columns**2).sum(axis=1)).reshape(CELLS)
    assert_allclose(posterior.deviation, prior, rtol=1e-9)
    assert posterior.determined == pytest.approx(0, abs=1e-9)


def test_more_waves_make_the_depth_surer():
    x = draw(30)
    one, two = (objective(samples=samples) for samples in (1, 2))
    first, both = (dense_posterior(found, x, curvature_of(found, x, never)).deviation for found in (one, two))
    assert (both < first).all()


def test_a_sounding_makes_its_cell_as_sure_as_itself():
    """And no cell less sure."""
    known = Soundings(np.array([1]), np.array([2]), np.array([50.0]), np.array([1e-4]))
    x = draw(30)
    with_it, without = (
        dense_posterior(found, x, curvature_of(found, x, never)).deviation
        for found in (objective(soundings=known), objective())
    )
    assert with_it[1, 2] == pytest.approx(1e-4, rel=0.01)
    assert (with_it <= without * (1 + 1e-9)).all()


def test_an_ensemble_spreads_like_the_posterior():
    """Sixteen members tell a deviation to 18 %, the mean of 30 correlated cells to some 10 %."""
    found = objective(prior=smooth(grid(), 2e4, 0.5))
    x = descend(found, Descent(found.start()), iterations=300, stop=never, report=lambda _: None).x
    posterior = dense_posterior(found, x, curvature_of(found, x, never))
    spread = ensemble(found, x, posterior, seed=0, stop=never, report=lambda *_: None)
    assert np.mean(spread.deviation / posterior.deviation) == pytest.approx(1, abs=0.25)
    again = ensemble(found, x, posterior, seed=0, stop=never, report=lambda *_: None)
    assert np.array_equal(spread.deviation, again.deviation)
    assert ensemble(found, x, posterior, seed=0, stop=lambda: True, report=lambda *_: None) is None


# --- noise, scores, verdict ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resolved():
    """Waves that 32 cells and 0.6 of the stable step resolve, (1, 60, 32, 32), of spread 1."""
    cells = (32, 32)
    y, x = Grid.uniform(cells, ((0.0, 1e6), (0.0, 1e6)), units="m").axes
    domain = Domain(ShallowWater.VARIABLES, y, x, TimeStep(400.0, "s"), "cartesian", "zeros", static=("depth",))
    options = ModelConfig(name="finn", equation="shallow-water", time_step=400.0, parameters={"gravity": 9.81})
    forward = build_model(RunConfig(model=options), domain).double().eval().requires_grad_(False)
    places = (torch.arange(32, dtype=torch.float64) + 0.5) / 32
    eta = torch.exp(-((places[:, None] - 0.4) ** 2 + (places - 0.55) ** 2) / (2 * 0.1**2))[None, None, None]
    depth = 80 - 30 * eta[0]
    start = F.pad(eta, (0, 0, 0, 0, 0, 2))
    waves = forward(start, 60, static=depth).fields[:, :, 0].numpy()
    return waves / waves.std()


@pytest.mark.parametrize("hidden", [0.0, 0.3])
@pytest.mark.parametrize("size", [0.01, 0.05])
def test_noise_is_found_to_a_seventh_of_itself(size, hidden, resolved):
    """Also where three cells in ten of every frame are missing: of filters of one axis enough is left."""
    generator = np.random.default_rng(4)
    noisy = resolved + size * generator.standard_normal(resolved.shape)
    noisy[generator.random(noisy.shape) < hidden] = np.nan
    assert estimate(noisy) == pytest.approx(size, rel=0.15)


def test_nothing_is_said_of_the_inside_of_a_basin_that_has_none():
    """Four cells a side less two on each: the whole is scored."""
    truth = np.full((4, 4), 50.0)
    found = scored(truth * 1.01, truth * 0.01, truth)
    assert found == pytest.approx({"relative_l2": 0.01, "relative_l2_inner": 0.01, "coverage_95": 1.0})
    assert scored(truth, None, None) == {}


def test_the_inside_is_scored_without_the_margin():
    truth = np.full((10, 12), 50.0)
    depth = truth.copy()
    depth[:2] += 5
    assert scored(depth, None, truth)["relative_l2_inner"] == 0
    assert scored(depth, None, truth)["relative_l2"] == pytest.approx(0.1 * math.sqrt(0.2))


def verdict(**changes):
    calm = np.random.default_rng(0).standard_normal((1, 20, 1, 10, 10))
    given = {"converged": True, "stopped": "", "chi2": 1.0, "freedom": 2000.0, "residual": calm, "taylor": 2.0}
    given |= {
        "noise_known": True,
        "noise_share": 0.01,
        "sparse": False,
        "depth": np.full((10, 10), 50.0),
        "bounds": (5.0, 100.0),
    }
    return judge(**(given | {"deviation": None} | changes))


@pytest.mark.parametrize("at", [5.0, 100.0])
@pytest.mark.parametrize(("cells", "trusted"), [(1, True), (2, False)])
def test_one_cell_in_a_hundred_may_lie_at_a_bound(cells, trusted, at):
    depth = np.full((10, 10), 50.0)
    depth.flat[:cells] = at
    assert verdict(depth=depth).trustworthy is trusted


def test_every_reason_is_told_at_once():
    found = verdict(
        converged=False, chi2=9.0, taylor=1.0, depth=np.full((10, 10), 5.0), deviation=np.full((10, 10), 4.0)
    )
    assert len(found.reasons) == 5


def test_chi2_that_is_no_number_is_not_trusted():
    assert not verdict(chi2=math.nan).trustworthy


@pytest.mark.parametrize(("chi2", "expected"), [(4.0, [6.0, 1.0]), (1.0, [3.0, 0.5]), (0.25, [3.0, 0.5])])
def test_a_standard_deviation_grows_with_the_root_of_chi2_and_never_shrinks(chi2, expected):
    assert widened(np.array([3.0, 0.5]), chi2).tolist() == expected


def test_the_logarithm_of_a_free_number_that_nothing_tells_has_the_spread_of_its_prior():
    """0.3 with no data; with data that say as much as the prior, a curvature of 1 in its unknown, 0.3 / sqrt(2)."""
    found = objective(learn=("gravity",))
    x, curvature = draw(31), np.zeros((31, 31))
    assert_allclose(dense_posterior(found, x, curvature).numbers, [0.3])
    curvature[30, 30] = 1
    assert_allclose(dense_posterior(found, x, curvature).numbers, [0.3 / math.sqrt(2)])
