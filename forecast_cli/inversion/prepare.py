"""Everything that an inversion needs before its first step: read, checked and told."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from forecast_cli.errors import ConfigError, DataError
from forecast_cli.inversion import guess
from forecast_cli.inversion.checks import taylor_order
from forecast_cli.inversion.depths import Depths, smooth, white
from forecast_cli.inversion.given import depth_of, first_depth, soundings_of
from forecast_cli.inversion.misfit import FREEDOM, NONE, Misfit, Objective
from forecast_cli.inversion.noise import deviations, of_first_frame, told
from forecast_cli.inversion.observed import CHANNELS, Observed, Told
from forecast_cli.inversion.physics import Forward, settle
from forecast_cli.inversion.plan import Earlier, Inversion, Reporter
from forecast_cli.inversion.reading import read_waves

SPREAD = 0.15
"""Spread of the smooth prior before the data have chosen theirs."""
LENGTHS = (1 / 16, 1 / 32, 1 / 8, 1 / 4, 1 / 2)
"""Correlation lengths that the data choose the smooth prior's from, as shares of the basin's shorter side; the first to start with."""
NOISY = "the first frame is noisy and taken as exact: depth_std is too small. Give a better one with --initial-state"
PRODUCT = (
    "gravity is free and only eta is observed: waves tell gravity times depth, not the depth. Give u, v or --soundings"
)
FAR = 30.0
"""chi2 of each value above which an earlier run is no nearer than a first guess, and may be in a wrong valley."""
FEW_FRAMES = 10
"""Frames below which a user is warned."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Where the descent starts.

    objective, start: what is to be lowered, and from which unknowns. origin: how the start was found. approached: an earlier run had
    come near there. estimated: channels whose noise was not said. lengths: correlation lengths of the prior to choose
    from [m], the present one first; none for a white prior. truth: the true depth (height, width) [m], if it is known. taylor: see
    `taylor_order`. doubts: why the answer will not be trusted, known already.
    """

    observed: Observed
    forward: Forward
    objective: Objective
    start: np.ndarray
    origin: str
    approached: bool
    estimated: tuple[str, ...]
    lengths: tuple[float, ...]
    truth: np.ndarray | None
    taylor: float
    doubts: tuple[str, ...]
    warnings: tuple[str, ...]


def prepare(inversion: Inversion, before: Earlier | None, reporter: Reporter) -> Prepared:
    """Read, check, tell, and find a place to start from: `before` where an earlier run has come to.

    Raises ForecastErrors before anything is told.
    """
    observed = read_waves(inversion.source)
    forward = settle(inversion.physics, observed, inversion.dtype, torch.device(inversion.device))
    truth = None if inversion.truth is None else depth_of(inversion.truth, observed, "--truth")
    first = first_depth(inversion.initial, observed)
    noise, estimated = deviations(observed, inversion.noise)
    soundings, told_of_soundings = (
        soundings_of(inversion.soundings, observed) if inversion.soundings else (NONE, Told())
    )
    if first is not None:
        _require_within(first, forward, "--initial")
    if len(soundings.depth):
        _require_within(soundings.depth, forward, "--soundings")
    if before is not None and before.depth.shape != observed.grid.shape:
        have, want = (" x ".join(map(str, shape)) for shape in (before.depth.shape, observed.grid.shape))
        raise DataError(f"--resume auto: the output has {have} cells, the waves have {want}. Choose another name.")
    lengths = _lengths(inversion, observed)
    misfit = _misfit(inversion, observed, forward, noise)
    first_noise = of_first_frame(observed, noise)
    loose = () if lengths or forward.free or forward.context > 1 else first_noise
    doubts = [NOISY] * (any(first_noise) and not any(loose))
    doubts += [PRODUCT] * (bool(forward.free) and observed.channels == ("eta",) and not len(soundings.depth))
    warnings = (*observed.warnings, *forward.warnings, *told_of_soundings.warnings, *_few_frames(observed), *doubts)
    for text in filter(None, (*observed.notes, *forward.notes, *told_of_soundings.notes)):
        reporter.say(text)
    reporter.say(f"noise: {told(observed, noise, estimated)}")
    if any(loose):
        reporter.say("the first frame is noisy too, and is inferred beside the depth")
    for text in warnings:
        reporter.say(f"warning: {text}")

    centre, start, origin = _first_guess(observed, forward, misfit, first, inversion.initial)
    if before is not None:
        start, origin = before.depth, "where the earlier run had come to"
    amplitudes = smooth(observed.grid, lengths[0], SPREAD) if lengths else white()
    depths = Depths.around(centre, forward.lower, forward.upper, amplitudes)
    objective = Objective(misfit, depths, soundings, forward.free, loose)
    x = objective.start()
    if start is not None:
        x[: start.size] = depths.unknowns(start).ravel()
    for number, name in enumerate(inversion.physics.free):
        value = before.numbers.get(name, 0.0) if before else 0.0
        if value > 0:
            x[centre.size + number] = math.log(value / float(forward.settled[name])) / FREEDOM
    near = before is not None and misfit.chi2_of(objective.fields(x)) < FAR * misfit.count
    taylor = taylor_order(objective, x, np.random.default_rng([inversion.seed, 1]))
    prior = f"smooth over {lengths[0]:.4g} m" if lengths else "white"
    reporter.say(f"depth between {forward.lower:.4g} and {forward.upper:.4g} m, prior {prior}; start: {origin}")
    reporter.say(f"gradient checked: Taylor order {taylor:.2f} (2 is exact)")
    return Prepared(
        observed,
        forward,
        objective,
        x,
        origin,
        near,
        estimated,
        lengths,
        truth,
        taylor,
        tuple(doubts),
        warnings,
    )


def _require_within(depth: np.ndarray, forward: Forward, option: str) -> None:
    """ConfigError for depths that the bounds rule out."""
    if not (forward.lower < depth.min() and depth.max() < forward.upper):
        raise ConfigError(
            f"{option}: {depth.min():.4g} to {depth.max():.4g} m, beyond the bounds of {forward.lower:.4g} and {forward.upper:.4g} m. "
            "Give --min-depth or --max-depth; deeper water needs a smaller --time-step."
        )


def _first_guess(
    observed: Observed, forward: Forward, misfit: Misfit, first: np.ndarray | None, said: str
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """The most likely depth of the prior (height, width) [m], where to start if that is elsewhere, and how it was found."""
    if first is not None:
        return first, None, f"--initial {said}"
    constant = guess.best_constant(misfit, forward.lower, forward.upper)
    centre = np.full(observed.grid.shape, constant)
    if forward.settled.get("steps_per_frame") == 1:
        linear = guess.of_continuity(observed, constant, upwind=forward.settled["scheme"] == "upwind")
        if linear is not None and _is_better(misfit, forward, linear, constant):
            return centre, linear, "least squares of continuity"
    return centre, None, f"{constant:.4g} m, the best of constant depths"


def _misfit(inversion: Inversion, observed: Observed, forward: Forward, noise: np.ndarray) -> Misfit:
    """The misfit of the frames after those that the model sees first."""
    context = forward.context
    start = observed.start[:, None]
    if context > 1:
        # A model that needs more than one frame needs them whole, with all their variables; on walls nothing moves.
        known = observed.later[:, : context - 1].copy()
        if observed.channels == CHANNELS:
            known[:, :, 1, :, -1] = known[:, :, 2, -1, :] = 0
        if observed.channels != CHANNELS or np.isnan(known).any():
            raise DataError(
                f"{observed.source}: the model of the run sees {context} whole frames first, and some of eta, u, v are missing in them."
            )
        start = np.concatenate([start, known], axis=1)
    later = observed.later[:, context - 1 :]
    kind: dict[str, Any] = {"dtype": inversion.dtype, "device": inversion.device}
    channels = tuple(CHANNELS.index(name) for name in observed.channels)
    return Misfit(
        forward.model,
        torch.as_tensor(start, **kind),
        torch.as_tensor(later, **kind),
        torch.as_tensor(noise, **kind),
        channels,
    )


def _lengths(inversion: Inversion, observed: Observed) -> tuple[float, ...]:
    """Correlation lengths of the prior to choose from [m]; none for a white one, which is for waves that are seen in most cells."""
    kind, _, length = inversion.prior.partition(":")
    if length and kind != "smooth":
        raise ConfigError(f"--prior {inversion.prior}: a length is for smooth. Give --prior smooth:{length}.")
    if kind == "white" or (kind == "auto" and observed.is_dense):
        return ()
    sides = [axis.size * (axis.spacing or 0.0) for axis in observed.grid.axes]
    if not length:
        return tuple(share * min(sides) for share in LENGTHS)
    try:
        value = float(length)
    except ValueError:
        value = math.nan
    if not 0 < value < max(sides):
        raise ConfigError(
            f"--prior {inversion.prior}: expected a length in metres, between 0 and the basin's {max(sides):g}."
        )
    return (value,)


def _is_better(misfit: Misfit, forward: Forward, depth: np.ndarray, constant: float) -> bool:
    """Whether a first guess explains the waves better than a constant does."""
    start, shape = misfit.start, (1, 1, *depth.shape)
    bounded = depth.clip(1.001 * forward.lower, 0.999 * forward.upper)
    with torch.no_grad():
        mine = misfit.chi2(torch.as_tensor(bounded, dtype=start.dtype, device=start.device).view(shape))
        return mine < misfit.chi2(start.new_full(shape, constant))


def _few_frames(observed: Observed) -> list[str]:
    frames = observed.later.shape[1] + 1
    return [f"{frames} frames only: the depth gains by more of them"] if frames < FEW_FRAMES else []
