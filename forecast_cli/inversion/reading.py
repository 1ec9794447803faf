"""From files to waves: whole fields, fields with holes, cells that gauges stand in, or files of stations."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from forecast_cli.data.files import expand, open_place
from forecast_cli.errors import DataError
from forecast_cli.inversion.gridded import gridded
from forecast_cli.inversion.observed import CHANNELS, Observed, Source, Told
from forecast_cli.inversion.stations import at_stations, station_dimension
from forecast_cli.inversion.variables import found_names, require_units, variables_of

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
    if len(places) > len({Path(place).absolute() for place in places}):
        raise DataError(f"{', '.join(places)}: a file is given twice.")
    first = open_place(places[0]).dataset
    if first.attrs.get("forecast_kind") == "topography":
        raise DataError(
            f"{places[0]}: a result of invert-topography; its eta, u, v are not observed, but run over the depth in it. Give the waves."
        )
    require_units(source.files, named)
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
    """DataError where a variable is observed nowhere, or does not change."""
    for place, name in enumerate(observed.channels):
        values = observed.later[:, :, place]
        seen = np.isfinite(values).any(axis=1)
        if not seen.any():
            raise DataError(
                f"{observed.source}: nothing of '{name}' is observed after the first frame. Leave it out with --variable."
            )
        start = observed.start[:, CHANNELS.index(name)]
        lowest = np.minimum(np.nanmin(np.where(seen[:, None], values, np.inf), axis=1), start)[seen]
        highest = np.maximum(np.nanmax(np.where(seen[:, None], values, -np.inf), axis=1), start)[seen]
        if not (highest - lowest).max() > 1e-12 * np.abs(highest).max():
            raise DataError(f"{observed.source}: no signal: '{name}' never changes. Waves are needed.")
