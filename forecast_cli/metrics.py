"""Scores of forecast fields against true ones, each a mean of terms that belong to one start.

A metric gives for every start a sum and the weight it was taken over; a score is what `finish` makes of the
sum of sums over the sum of weights. So scores over all starts, over regions and over resampled starts come
from the same numbers. Only pairs that are present in both fields count.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from forecast_cli.data.fields import Fields
from forecast_cli.data.grid import is_latitude, is_longitude
from forecast_cli.data.roles import coordinate_of
from forecast_cli.errors import ConfigError

Terms = tuple[np.ndarray, np.ndarray]
"""Sums and weights of each start, lead time and region."""


@dataclass(frozen=True)
class Metric:
    """One score.

    terms: (forecast, truth, weights, usual) to Terms, from (start, lead, cell), (start, lead, cell),
    (region, cell), and the climatology (start, lead, cell) or None. meaning: one line for the score file.
    limits: the least and the greatest value that the score can have.
    """

    meaning: str
    terms: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None], Terms]
    finish: Callable[[np.ndarray], np.ndarray] = np.positive
    limits: tuple[float, float] = (0.0, np.inf)

    def score(self, sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The score of summed terms; NaN where nothing was summed."""
        mean = np.divide(sums, weights, out=np.full(np.shape(sums), np.nan), where=weights > 0)
        return self.finish(mean)


def _over_cells(values: np.ndarray, weights: np.ndarray) -> Terms:
    present = ~np.isnan(values)
    return np.where(present, values, 0) @ weights.T, present @ weights.T


def _squares(forecast: np.ndarray, truth: np.ndarray, weights: np.ndarray, _: np.ndarray | None) -> Terms:
    return _over_cells((forecast - truth) ** 2, weights)


def _shares(forecast: np.ndarray, truth: np.ndarray, weights: np.ndarray, _: np.ndarray | None) -> Terms:
    """Squared errors, and as their weight the squares of the truth, where both are present."""
    present = ~np.isnan(forecast + truth)
    errors, sizes = (np.where(present, part, 0) ** 2 for part in (forecast - truth, truth))
    return errors @ weights.T, sizes @ weights.T


def _distances(forecast: np.ndarray, truth: np.ndarray, weights: np.ndarray, _: np.ndarray | None) -> Terms:
    return _over_cells(np.abs(forecast - truth), weights)


def _differences(forecast: np.ndarray, truth: np.ndarray, weights: np.ndarray, _: np.ndarray | None) -> Terms:
    return _over_cells(forecast - truth, weights)


def _correlations(forecast: np.ndarray, truth: np.ndarray, weights: np.ndarray, usual: np.ndarray | None) -> Terms:
    """The correlation of each start, weight 1 where it exists.

    Source: Jolliffe and Stephenson (2011), Forecast Verification, the uncentred form.
    """
    if usual is None:
        raise ConfigError(
            "--metric acc needs the climatology that `forecast rollout` writes beside the forecast; this file has none."
        )
    anomaly, true = forecast - usual, truth - usual
    missing = np.isnan(anomaly + true)
    anomaly, true = np.where(missing, 0, anomaly), np.where(missing, 0, true)
    norm = np.sqrt(((anomaly**2) @ weights.T) * ((true**2) @ weights.T))
    exists = norm > 0
    return np.divide((anomaly * true) @ weights.T, norm, out=np.zeros_like(norm), where=exists), exists.astype(float)


METRICS = {
    "rmse": Metric(
        "Root of the weighted mean of (f - t)^2 over starts and cells, in the unit of the variable.", _squares, np.sqrt
    ),
    "relative_l2": Metric(
        "Root of the weighted sum of (f - t)^2 over that of t^2, over starts and cells; a pure number, 1 for a forecast of 0.",
        _shares,
        np.sqrt,
    ),
    "mae": Metric("Weighted mean of |f - t| over starts and cells, in the unit of the variable.", _distances),
    "bias": Metric(
        "Weighted mean of f - t over starts and cells, in the unit of the variable; positive where the forecast is too high.",
        _differences,
        limits=(-np.inf, np.inf),
    ),
    "acc": Metric(
        "Anomaly correlation: for each start sum(w f' t') / sqrt(sum(w f'^2) sum(w t'^2)) over cells, then the mean over starts; "
        "f' and t' are departures from the climatology, not centred again.",
        _correlations,
        limits=(-1.0, 1.0),
    ),
}


PURE_NUMBERS = ("acc", "relative_l2")
"""Metrics without a unit."""


def cell_weights(fields: Fields) -> xr.DataArray:
    """The area of each cell relative to their mean, on the grid; 1 where the grid is not latitude-longitude.

    A cell reaches halfway to its neighbours, and no further than the pole: its area is proportional to
    the difference of the sines of its bounding latitudes.
    """
    sizes = [fields.dataset.sizes[name] for name in fields.grid_dims]
    ones = xr.DataArray(np.ones(sizes), dims=fields.grid_dims)
    if fields.roles.y is None:
        return ones
    y, x = coordinate_of(fields.dataset, fields.roles.y, "y"), coordinate_of(fields.dataset, fields.roles.x, "x")
    if y is None or x is None or not is_latitude(y) or not is_longitude(x) or y.size < 2:
        return ones
    latitudes = y.values.astype(float)
    middles = (latitudes[1:] + latitudes[:-1]) / 2
    bounds = np.concatenate([[2 * latitudes[0] - middles[0]], middles, [2 * latitudes[-1] - middles[-1]]]).clip(-90, 90)
    areas = np.abs(np.diff(np.sin(np.deg2rad(bounds))))
    return ones * xr.DataArray(areas / areas.mean(), dims=fields.roles.y)
