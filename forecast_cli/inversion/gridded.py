"""Waves out of fields on a grid, whole or with holes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from forecast_cli.data.fields import Fields, open_fields
from forecast_cli.data.inputs import mask_of
from forecast_cli.errors import DataError
from forecast_cli.inversion.first_frame import start_of
from forecast_cli.inversion.metric import metric_grid, seconds
from forecast_cli.inversion.observed import CHANNELS, Observed, Source, Told
from forecast_cli.inversion.places import station_cells
from forecast_cli.inversion.variables import on_faces, values_of, variables_of


def gridded(named: Mapping[str, str], source: Source, told: Told) -> Observed:
    """Fields on a grid, whole or with holes."""
    options: dict[str, Any] = {"dims": source.dims, "select": source.select}
    eta = open_fields(source.files, variables=[named["eta"]], **options)
    told.notes.extend(eta.notes)
    if eta.domain.y is None:
        raise DataError(f"{eta.source}: '{named['eta']}' has one dimension of space; an inversion needs two.")
    grid, latitude = metric_grid(eta, told)
    values = values_of(eta)
    samples, frames, height, width = values.shape
    every = np.empty((samples, frames, len(named), height, width))
    every[:, :, 0] = values
    for channel, ours in enumerate(named):
        if ours != "eta":
            other = open_fields(
                source.files, variables=[named[ours]], dims=_face_dims(named[ours], source, eta), select=source.select
            )
            every[:, :, channel] = on_faces(values_of(other), values.shape, ours, other.source, named[ours])
    spread = np.nanstd(every, axis=(0, 1, 3, 4))
    first = np.full((samples, 3, height, width), np.nan)
    for channel, ours in enumerate(named):
        first[:, CHANNELS.index(ours)] = every[:, 0, channel]
    start, later = start_of(first, source, eta, told), every[:, 1:]
    for channel, ours in enumerate(named):
        # What flows through a wall is no observation.
        if ours == "u":
            later[:, :, channel, :, -1] = np.nan
        elif ours == "v":
            later[:, :, channel, -1, :] = np.nan
    if source.gauges:
        there = np.zeros((height, width), bool)
        there[tuple(np.array(station_cells(source.gauges, eta, told)).T)] = True
        later[..., ~there] = np.nan
    if source.mask:
        later[..., ~mask_of(source.mask, eta, "--mask ")] = np.nan
    return Observed(
        eta.source,
        tuple(named),
        start,
        later,
        spread,
        grid,
        seconds(eta.domain.time_step, eta.source),
        eta.times,
        eta.spatial_coordinates(),
        (str(eta.roles.y), eta.roles.x),
        dict(eta.dataset.attrs),
        latitude,
    )


def _face_dims(name: str, source: Source, eta: Fields) -> dict[str, str]:
    """The roles of the dimensions of a velocity, whose faces may be counted by dimensions of their own."""
    roles = {role: getattr(eta.roles, role) for role in ("sample", "time", "y", "x")}
    own = [str(dim) for dim in variables_of(source.files)[name].dims]
    found = {role: dim for role, dim in roles.items() if dim in own}
    rest = [dim for dim in own if dim not in found.values() and dim not in (source.select or {})]
    missing = [role for role in ("y", "x") if role not in found]
    return found | (dict(zip(missing, rest, strict=True)) if len(missing) == len(rest) else {})
