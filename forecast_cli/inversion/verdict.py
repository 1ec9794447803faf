"""Whether the answer may be trusted, and why not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EXPLAINED = 1.2
"""Reduced chi^2 up to which the waves count as explained, where chance does not allow for more."""
CHANCE = 4.0
"""Standard deviations of chi^2 that are left to chance."""
CORRELATED = 0.25
"""Correlation of neighbouring residuals above which they are no noise."""
AT_BOUNDS = 0.01
"""Share of cells at a bound of the depth, and how near that is as a share of the bound."""
VAGUE = 0.1
"""Root mean square of the depth's standard deviation, as a share of it, above which the waves have not told enough."""
TAYLOR = 1.9
PHYSICS = "something in them is not in the model (rotation, friction, time step, resolution)"
NETWORK = "the error of the network itself is noise, too: say how large it is, or train the network for longer"
"""What a chi^2 that is too large is put down to."""


@dataclass(frozen=True)
class Verdict:
    """reasons: what speaks against trust, a line each; none is trust."""

    converged: bool
    reasons: tuple[str, ...]

    @property
    def trustworthy(self) -> bool:
        return not self.reasons


def judge(
    *,
    converged: bool,
    stopped: str,
    chi2: float,
    freedom: float,
    residual: np.ndarray,
    noise_known: bool,
    noise_share: float,
    sparse: bool,
    taylor: float,
    depth: np.ndarray,
    bounds: tuple[float, float],
    deviation: np.ndarray | None,
    chi2_soundings: float = 0.0,
    soundings: int = 0,
    doubts: Sequence[str] = (),
    blame: str = PHYSICS,
) -> Verdict:
    """The verdict on an inversion.

    chi2: of the residuals, divided by `freedom`, how many of them the depth has not used up. residual: (sample, time, channel, height,
    width) in standard deviations of the noise, NaN where nobody looked. stopped: on the way to what, "" if it was not. noise_share: the
    noise as a share of the signal. sparse: most cells are not observed. bounds: smallest and largest depth [m]. deviation: of the depth
    [m], None if unknown. chi2_soundings: over all the `soundings`. doubts: further reasons, known before.
    blame: PHYSICS or NETWORK.
    """
    reasons = []
    if not converged:
        reasons.append(f"stopped on the way to {stopped}" if stopped else "not converged: give more --iterations")
    if taylor < TAYLOR:
        reasons.append(f"the gradient is not exact (Taylor order {taylor:.2f}, expected 2)")
    allowed = 1 + max(EXPLAINED - 1, CHANCE * math.sqrt(2 / max(freedom, 1)))
    if not chi2 <= allowed and not converged:
        reasons.append(f"chi2 {chi2:.3g} so far, expected 1")
    elif not chi2 <= allowed:
        reasons.append(
            f"chi2 {chi2:.3g}, expected 1: no depth explains the waves to within {'their' if noise_known else 'the estimated'} noise; "
            + blame
        )
    elif sparse and not noise_known:
        reasons.append(
            "few cells are observed and --noise is not given: noise and what is not in the model look alike there"
        )
    elif converged and not noise_known and noise_share > 1e-3:
        correlation = neighbours(residual)
        if correlation > CORRELATED:
            reasons.append(
                f"what is left of the waves is no noise: neighbouring residuals are correlated ({correlation:.2f})"
            )
    reasons += doubts
    if chi2_soundings > soundings + CHANCE * math.sqrt(2 * max(soundings, 1)):
        reasons.append(
            f"the soundings contradict the waves: chi2 {chi2_soundings / soundings:.3g} for each, expected 1 at most"
        )
    stuck = float(((depth < (1 + AT_BOUNDS) * bounds[0]) | (depth > (1 - AT_BOUNDS) * bounds[1])).mean())
    if stuck > AT_BOUNDS:
        reasons.append(f"{stuck:.1%} of the cells lie at --min-depth {bounds[0]:.4g} or --max-depth {bounds[1]:.4g} m")
    if deviation is not None and (vague := float(np.sqrt(((deviation / depth) ** 2).mean()))) > VAGUE:
        reasons.append(f"the waves say little: the depth is uncertain by {vague:.0%} in the root mean square")
    return Verdict(converged, tuple(reasons))


def neighbours(residual: np.ndarray) -> float:
    """The largest correlation of residuals with their neighbours along time, y or x; 0 where it cannot be told.

    residual: (sample, time, channel, height, width).
    """
    found = [0.0]
    for axis in (1, 3, 4):
        count = residual.shape[axis]
        first, second = residual.take(range(count - 1), axis), residual.take(range(1, count), axis)
        both = np.isfinite(first) & np.isfinite(second)
        if both.sum() >= 30:
            a, b = first[both], second[both]
            found.append(float((a * b).sum() / max(np.sqrt((a**2).sum() * (b**2).sum()), 1e-300)))
    return max(found)
