"""Where the descent starts: a scan of constant depths, or the depth that continuity asks for where everything is seen at every step."""

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import spsolve

from forecast_cli.errors import DivergedError
from forecast_cli.inversion.misfit import Misfit
from forecast_cli.inversion.observed import Observed

CONSTANTS = 25
FRAMES = 100
"""Frames that the least squares take, evenly spread: more hardly change a first guess."""
RIDGE = 1e-6
"""Pull towards the constant depth, as a share of the mean curvature: it decides where no water moves."""


@torch.no_grad()
def best_constant(misfit: Misfit, lower: float, upper: float) -> float:
    """The constant depth [m] that explains the waves best, of CONSTANTS between the bounds in equal ratios.

    Raises DivergedError where the waves leave the finite numbers over all of them.
    """
    depths = np.geomspace(1.02 * lower, 0.98 * upper, CONSTANTS)
    shape = (1, 1, *misfit.start.shape[-2:])
    found = [misfit.chi2(misfit.start.new_full(shape, depth)) for depth in depths]
    if not np.isfinite(found).any():
        raise DivergedError(
            "the waves leave the finite numbers over every constant depth. Look at --time-step, --coriolis and the first frame."
        )
    return float(depths[int(np.nanargmin(np.where(np.isfinite(found), found, np.nan)))])


def of_continuity(observed: Observed, constant: float, *, upwind: bool) -> np.ndarray | None:
    """The depth (height, width) [m] that best satisfies continuity, linear in it: exact without noise, biased low with it.

    (eta' - eta) / dt + div(u' (eta + H)) = 0 at every cell and step, in the scheme of the model; constant: where no water moves.
    None unless eta, u and v are seen everywhere; for frames that are one step apart.
    """
    if observed.channels != ("eta", "u", "v") or np.isnan(observed.later[:, :, 0]).any():
        return None
    height, width = observed.grid.shape
    dy, dx = observed.grid.spacing
    cells = height * width
    number = np.arange(cells).reshape(height, width)
    identity = sparse.identity(cells, format="csr")

    def neighbour(of: np.ndarray, to: np.ndarray) -> sparse.csr_array:
        return sparse.csr_array((np.ones(of.size), (of.ravel(), to.ravel())), (cells, cells))

    east, north = neighbour(number[:, :-1], number[:, 1:]), neighbour(number[:-1], number[1:])
    # What leaves through the east face of a cell, less what came through that of its western neighbour; likewise north.
    leaves = ((identity - east.T) / dx, (identity - north.T) / dy)
    normal, right = sparse.csr_array((cells, cells)), np.zeros(cells)
    for sample in range(len(observed.start)):
        record = np.nan_to_num(np.concatenate([observed.start[sample, None], observed.later[sample]]))
        chosen = np.unique(np.linspace(0, len(record) - 2, min(FRAMES, len(record) - 1)).astype(int))
        for step in chosen:
            eta = record[step, 0].ravel()
            through = sparse.csr_array((cells, cells))
            for channel, ahead, leave in ((1, east, leaves[0]), (2, north, leaves[1])):
                velocity = record[step + 1, channel].ravel()
                share = (velocity > 0).astype(float) if upwind else np.full(cells, 0.5)
                through = through + leave @ (
                    sparse.diags_array(velocity * share) + sparse.diags_array(velocity * (1 - share)) @ ahead
                )
            rate = (record[step + 1, 0].ravel() - eta) / observed.interval
            normal = normal + through.T @ through
            right -= through.T @ (rate + through @ eta)
    ridge = RIDGE * normal.diagonal().mean()
    found = spsolve((normal + ridge * identity).tocsc(), right + ridge * constant)
    return np.asarray(found).reshape(height, width)
