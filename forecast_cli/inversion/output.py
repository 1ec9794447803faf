"""The sea bed that was found, as CF NetCDF: the depth and its uncertainty, how it came about, and what is left of the waves."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from forecast_cli.data.output import open_writer
from forecast_cli.inversion.observed import CHANNELS, Observed
from forecast_cli.inversion.verdict import Verdict

KIND = "topography"
SERIES = 64
"""Gauges whose series are written, at most."""
_LONG = {
    "eta": "surface elevation",
    "u": "velocity along x, on the east face of the cell",
    "v": "velocity along y, on the north face of the cell",
}


@dataclass(frozen=True, eq=False)
class Result:
    """What an inversion has found. All maps are (height, width) [m]; deviation and truth None where unknown.

    fields: (sample, time, 3, height, width), the waves over the depth found, the first frame included. residual: (sample, time, channel,
    height, width) in standard deviations of the noise, NaN where nobody looked. values, chi2: the objective, and the mean squared
    residual, at the start and after each iteration. noise: of each channel.
    """

    depth: np.ndarray
    initial: np.ndarray
    deviation: np.ndarray | None
    truth: np.ndarray | None
    fields: np.ndarray
    residual: np.ndarray
    values: list[float]
    chi2: list[float]
    noise: np.ndarray
    verdict: Verdict
    attributes: Mapping[str, Any]


def write(path: Path, observed: Observed, result: Result, *, overwrite: bool) -> None:
    """Write everything; the file takes its name when it is whole. Raises OutputError."""
    y, x = observed.dims
    sizes = dict(zip((y, x), observed.grid.shape, strict=True))
    samples, frames = result.fields.shape[:2]
    with open_writer(path, overwrite=overwrite) as file:
        file.attributes(
            {"title": "Sea bed inferred from waves", "forecast_kind": KIND, "references": "arXiv 2408.10649"}
        )
        file.attributes(result.attributes)
        for name, variable in observed.coordinates.items():
            file.coordinate(name, variable)
        times = observed.times.variable(observed.times.name, observed.times.values)
        file.coordinate(
            observed.times.name,
            xr.Variable("time", times.values, times.attrs, times.encoding) if observed.times.name == "time" else times,
        )
        maps = {"depth": (result.depth, "depth of the resting water, inferred", "sea_floor_depth_below_mean_sea_level")}
        maps["depth_initial"] = (result.initial, "depth at which the descent started", "")
        if result.deviation is not None:
            maps["depth_std"] = (result.deviation, "standard deviation of the inferred depth", "")
        if result.truth is not None:
            maps["depth_true"] = (result.truth, "true depth", "")
            maps["depth_error"] = (result.depth - result.truth, "error of the inferred depth", "")
        for name, (values, long_name, standard_name) in maps.items():
            said = {"long_name": long_name, "units": "m"}
            said |= {"standard_name": standard_name} if standard_name else {}
            said |= {} if name in ("depth_std", "depth_error") else {"positive": "down"}
            if name == "depth" and result.deviation is not None:
                said["ancillary_variables"] = "depth_std"
            file.field(name, sizes, said, dtype="f8")
            file.write(name, (), values)
        seen = np.isfinite(result.residual)
        file.field("observed", sizes, {"long_name": "share of frames and variables that were observed", "units": "1"})
        file.write("observed", (), seen.mean(axis=(0, 1, 2)))
        said = {
            "long_name": "root mean square of what is left of the waves, in standard deviations of their noise",
            "units": "1",
        }
        file.field("residual", sizes, said)
        squares = np.where(seen, result.residual, 0) ** 2
        count = seen.sum(axis=(0, 1, 2))
        file.write(
            "residual", (), np.sqrt(np.where(count > 0, squares.sum(axis=(0, 1, 2)) / np.maximum(count, 1), np.nan))
        )
        number = np.arange(len(result.values))
        file.coordinate("iteration", xr.Variable("iteration", number, {"long_name": "iteration", "units": "1"}))
        for name, series, long_name in (
            ("misfit", result.values, "objective: half of chi2 and of the prior's"),
            ("chi2", result.chi2, "mean squared residual of what is fitted at the time, in units of the noise"),
        ):
            file.coordinate(name, xr.Variable("iteration", np.array(series), {"long_name": long_name, "units": "1"}))
        units = {"eta": "m", "u": "m s-1", "v": "m s-1"}
        for channel, name in enumerate(CHANNELS):
            said = {"long_name": f"{_LONG[name]}, over the inferred depth", "units": units[name]}
            file.field(
                name,
                {"sample": samples, observed.times.name: frames, **sizes},
                said,
                chunks=(1, frames, *sizes.values()),
            )
            file.write(name, (), result.fields[:, :, channel])
        _write_series(file, observed, result)


def _write_series(file: Any, observed: Observed, result: Result) -> None:
    """Elevation at gauges, observed and fitted; where cells are few."""
    there = np.isfinite(observed.later[:, :, 0]).any(axis=(0, 1))
    rows, columns = np.nonzero(there)
    if not 0 < len(rows) <= SERIES:
        return
    y, x = (np.asarray(observed.coordinates[name].values) for name in observed.dims)
    attributes = [dict(observed.coordinates[name].attrs) for name in observed.dims]
    number = np.arange(len(rows))
    file.coordinate("gauge", xr.Variable("gauge", number, {"long_name": "number of the gauge", "units": "1"}))
    for name, values, said in (("gauge_y", y[rows], attributes[0]), ("gauge_x", x[columns], attributes[1])):
        kept = {key: value for key, value in said.items() if key in ("units",)}
        file.coordinate(name, xr.Variable("gauge", values, {"long_name": f"{name[-1]} of the gauge's cell", **kept}))
    samples, frames = result.fields.shape[:2]
    sizes = {"sample": samples, observed.times.name: frames, "gauge": len(rows)}
    start = observed.start[:, None, 0]
    record = np.concatenate([start, observed.later[:, :, 0]], axis=1)[..., rows, columns]
    noise = float(result.noise[0])
    file.field(
        "eta_observed", sizes, {"long_name": "surface elevation observed at the gauge", "units": "m", "noise": noise}
    )
    file.write("eta_observed", (), record)
    file.field(
        "eta_fitted", sizes, {"long_name": "surface elevation at the gauge, over the inferred depth", "units": "m"}
    )
    file.write("eta_fitted", (), result.fields[:, :, 0][..., rows, columns])
