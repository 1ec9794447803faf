"""Scores of forecast fields against true ones, with one signature for all.

Every score is taken over pairs that are present in both fields.
"""

from collections.abc import Callable

import numpy as np
import scores.continuous
import xarray as xr

from forecast_cli.data.fields import Fields, is_latitude, is_longitude
from forecast_cli.data.roles import coordinate_of
from forecast_cli.errors import ConfigError


def rmse(forecast: xr.DataArray, truth: xr.DataArray, weights: xr.DataArray, _: xr.DataArray | None = None) -> float:
    """Root of the weighted mean of (f - t)^2 over starts and cells, in the unit of the variable."""
    return float(scores.continuous.rmse(forecast, truth, weights=weights))


def mae(forecast: xr.DataArray, truth: xr.DataArray, weights: xr.DataArray, _: xr.DataArray | None = None) -> float:
    """Weighted mean of |f - t| over starts and cells, in the unit of the variable."""
    return float(scores.continuous.mae(forecast, truth, weights=weights))


def bias(forecast: xr.DataArray, truth: xr.DataArray, weights: xr.DataArray, _: xr.DataArray | None = None) -> float:
    """Weighted mean of f - t over starts and cells, in the unit of the variable; positive where the forecast is too high."""
    return float(scores.continuous.additive_bias(forecast, truth, weights=weights))


def acc(forecast: xr.DataArray, truth: xr.DataArray, weights: xr.DataArray, climatology: xr.DataArray | None) -> float:
    """Anomaly correlation: for each start sum(w f' t') / sqrt(sum(w f'^2) sum(w t'^2)) over cells, then the mean over starts.

    f' and t' are departures from the climatology, not centred again. NaN where an anomaly vanishes
    everywhere, as the climatology's own does. Raises ConfigError without a climatology.
    Source: Jolliffe and Stephenson (2011), Forecast Verification, the uncentred form.
    """
    if climatology is None:
        raise ConfigError(
            "--metric acc needs the climatology that `forecast rollout` writes beside the forecast; this file has none."
        )
    anomaly, true_anomaly = forecast - climatology, truth - climatology
    weights = weights.where((anomaly + true_anomaly).notnull())
    cells = [dimension for dimension in forecast.dims if dimension != "start"]
    product = (weights * anomaly * true_anomaly).sum(cells)
    norm = ((weights * anomaly**2).sum(cells) * (weights * true_anomaly**2).sum(cells)) ** 0.5
    return float((product / norm.where(norm > 0)).mean())


Metric = Callable[[xr.DataArray, xr.DataArray, xr.DataArray, xr.DataArray | None], float]

METRICS: dict[str, Metric] = {"rmse": rmse, "mae": mae, "bias": bias, "acc": acc}


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
