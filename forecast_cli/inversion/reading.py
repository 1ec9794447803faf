"""From files to waves: whole fields, fields with holes, cells that gauges stand in, or files of stations."""

from dataclasses import replace

import numpy as np

from forecast_cli.data.files import expand, open_place
from forecast_cli.errors import DataError
from forecast_cli.inversion.gridded import gridded
from forecast_cli.inversion.observed import Observed, Source, Told
from forecast_cli.inversion.stations import at_stations, station_dimension
from forecast_cli.inversion.variables import found_names, variables_of

FEWEST = 3
"""Frames below which nothing can be said."""


def read_waves(source: Source) -> Observed:
    """Read and check what an inversion starts from. Raises DataError or ConfigError, in one line."""
    told = Told()
    places = expand(source.files)
    named = found_names(variables_of(source.files), source.variables, places[0])
    told.notes.append(
        "observed: " + ", ".join(f"{ours} ('{theirs}')" if ours != theirs else ours for ours, theirs in named.items())
    )
    first = open_place(places[0]).dataset
    if named["eta"] in first and station_dimension(first, named["eta"]):
        observed = at_stations(first, named, source, places[0], told)
    else:
        observed = gridded(named, source, told)
    if observed.later.shape[1] + 1 < FEWEST:
        raise DataError(
            f"{observed.source}: {observed.later.shape[1] + 1} frames; an inversion needs at least {FEWEST}, and gains by hundreds."
        )
    _require_signal(observed)
    return replace(observed, notes=tuple(told.notes), warnings=tuple(told.warnings))


def _require_signal(observed: Observed) -> None:
    """DataError where nothing is observed, or nothing moves."""
    surface = observed.later[:, :, 0]
    if not np.isfinite(surface).any():
        raise DataError(f"{observed.source}: no elevation is observed after the first frame.")
    lowest = min(np.nanmin(surface), observed.start[:, 0].min())
    highest = max(np.nanmax(surface), observed.start[:, 0].max())
    if not highest - lowest > 1e-12 * max(1.0, abs(highest)):
        raise DataError(
            f"{observed.source}: no signal: the surface is {highest:g} m everywhere and always. Waves are needed."
        )
