"""The sea bed that was found, as CF NetCDF: the depth and its uncertainty, how it came about, and what is left of the waves."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from forecast_cli.data.output import Writer, open_writer
from forecast_cli.equations.shallow_water import ShallowWater
from forecast_cli.inversion.given import FLOOR
from forecast_cli.inversion.observed import Observed
from forecast_cli.inversion.verdict import Verdict

KIND = "topography"
SERIES = 64
"""Gauges whose series are written, at most."""


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
    told = {"title": "Sea bed inferred from waves", "forecast_kind": KIND, "references": "arXiv 2408.10649"}
    with open_writer(path, overwrite=overwrite) as file:
        file.attributes({**told, **result.attributes})
        for name, coordinate in observed.coordinates.items():
            file.coordinate(name, coordinate)
        times = observed.times
        file.coordinate(times.name, times.variable(times.name, times.values))
        sizes = dict(zip(observed.dims, observed.grid.shape, strict=True))
        _write_depths(file, sizes, result)
        _write_residuals(file, sizes, result)
        _write_descent(file, result)
        _write_waves(file, sizes, times.name, result)
        _write_series(file, observed, result)


def _write_depths(file: Writer, sizes: Mapping[str, int], result: Result) -> None:
    maps = [("depth", result.depth, "depth of the resting water, inferred", FLOOR)]
    maps.append(("depth_initial", result.initial, "depth at which the descent started", ""))
    if result.deviation is not None:
        long_name = "standard deviation of the inferred depth"
        maps.append(("depth_std", result.deviation, long_name, f"{FLOOR} standard_error"))
    if result.truth is not None:
        maps.append(("depth_true", result.truth, "true depth", ""))
        maps.append(("depth_error", result.depth - result.truth, "error of the inferred depth", ""))
    for name, values, long_name, standard_name in maps:
        said = {"long_name": long_name, "units": "m"}
        said |= {"standard_name": standard_name} if standard_name else {}
        said |= {} if name in ("depth_std", "depth_error") else {"positive": "down"}
        if name == "depth" and result.deviation is not None:
            said["ancillary_variables"] = "depth_std"
        file.field(name, sizes, said, dtype="f8")
        file.write(name, (), values)


def _write_residuals(file: Writer, sizes: Mapping[str, int], result: Result) -> None:
    """What was seen of each cell, and what is left there."""
    seen = np.isfinite(result.residual)
    file.field("observed", sizes, {"long_name": "share of frames and variables that were observed", "units": "1"})
    file.write("observed", (), seen.mean(axis=(0, 1, 2)))
    long_name = "root mean square of what is left of the waves, in standard deviations of their noise"
    file.field("residual", sizes, {"long_name": long_name, "units": "1"})
    squares, count = np.where(seen, result.residual, 0) ** 2, seen.sum(axis=(0, 1, 2))
    means = np.where(count > 0, squares.sum(axis=(0, 1, 2)) / np.maximum(count, 1), np.nan)
    file.write("residual", (), np.sqrt(means))


def _write_descent(file: Writer, result: Result) -> None:
    number = np.arange(len(result.values))
    file.coordinate("iteration", xr.Variable("iteration", number, {"long_name": "iteration", "units": "1"}))
    for name, series, long_name in (
        ("misfit", result.values, "objective: half of chi2 and of the prior's"),
        ("chi2", result.chi2, "mean squared residual of what is fitted at the time, in units of the noise"),
    ):
        file.coordinate(name, xr.Variable("iteration", np.array(series), {"long_name": long_name, "units": "1"}))


def _write_waves(file: Writer, sizes: Mapping[str, int], time: str, result: Result) -> None:
    """The waves over the inferred bed."""
    samples, frames = result.fields.shape[:2]
    shape = {"sample": samples, time: frames, **sizes}
    for channel, variable in enumerate(ShallowWater.VARIABLES):
        said = {"long_name": f"{variable.long_name}, over the inferred depth", "units": variable.units}
        said["standard_name"] = variable.standard_name
        file.field(variable.name, shape, said, chunks=(1, frames, *sizes.values()))
        file.write(variable.name, (), result.fields[:, :, channel])


def _write_series(file: Writer, observed: Observed, result: Result) -> None:
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
