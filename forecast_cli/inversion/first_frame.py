"""The whole state at the first frame, from which the waves run."""

from collections.abc import Mapping

import numpy as np

from forecast_cli.data.fields import Fields, open_fields
from forecast_cli.data.files import expand
from forecast_cli.errors import DataError
from forecast_cli.inversion.observed import CHANNELS, Source, Told
from forecast_cli.inversion.variables import found_names, on_faces, values_of, variables_of


def start_of(start: np.ndarray, source: Source, eta: Fields, told: Told) -> np.ndarray:
    """The whole state at the first frame: of the waves themselves, or of --initial-state; velocity of --initial-velocity, else at rest."""
    start = start.copy()
    if source.initial_state:
        start = _state_of(source.initial_state, start.shape, "--initial-state")
        told.notes.append(f"first frame of {source.initial_state}")
    if np.isnan(start[:, 0]).any():
        raise DataError(
            f"{eta.source}: '{eta.names[0]}' is missing in {np.isnan(start[:, 0]).mean():.2%} of the first frame, and an inversion "
            "starts from a whole surface. Give it: --initial-state FILE."
        )
    if source.initial_velocity not in ("auto", "rest"):
        start[:, 1:] = _state_of(source.initial_velocity, start.shape, "--initial-velocity", velocity=True)[:, 1:]
        told.notes.append(f"velocity at the first frame of {source.initial_velocity}")
    elif source.initial_velocity == "rest":
        start[:, 1:] = 0
    elif np.isnan(start[:, 1:]).all():
        here = found_names(variables_of(source.files), None, eta.source) if source.variables else {}
        if {"u", "v"} <= here.keys() and not source.initial_state:
            told.notes.append(
                "velocity at the first frame of the file's u and v, which are not used otherwise; --initial-velocity rest changes that"
            )
            start[:, 1:] = _state_of(
                expand(source.files)[0], start.shape, "first frame of", velocity=True, select=source.select
            )[:, 1:]
        else:
            told.notes.append("the water is at rest at the first frame")
            start[:, 1:] = 0
    for channel, name in ((1, "u"), (2, "v")):
        if np.isnan(start[:, channel]).all():
            told.notes.append(f"{name} is at rest at the first frame")
            start[:, channel] = 0
    start[:, 1, :, -1] = 0
    start[:, 2, -1, :] = 0
    if np.isnan(start).any():
        raise DataError(
            f"{eta.source}: the velocity of the first frame is missing somewhere. Give --initial-velocity rest, or --initial-velocity FILE."
        )
    return start


def _state_of(
    place: str, shape: tuple[int, ...], option: str, *, velocity: bool = False, select: Mapping[str, str] | None = None
) -> np.ndarray:
    """eta, u, v (sample, 3, height, width) at the first frame of a file; NaN for what is not in it."""
    named = found_names(variables_of([place]), None, f"{option} {place}")
    if velocity and not {"u", "v"} <= named.keys():
        raise DataError(f"{option} {place}: no u and v in it. Name them by their CF standard names.")
    found = np.full(shape, np.nan)
    for channel, ours in enumerate(CHANNELS):
        if ours not in named:
            continue
        fields = open_fields([place], variables=[named[ours]], static=True, select=select)
        values = values_of(fields)[:, :1]
        if values.shape[0] not in (1, shape[0]):
            raise DataError(f"{option} {place}: {values.shape[0]} samples, the waves have {shape[0]}.")
        spread = np.broadcast_to(values, (shape[0], *values.shape[1:]))
        if ours == "eta" and spread.shape[2:] != shape[2:]:
            raise DataError(
                f"{option} {place}: a grid of {spread.shape[2]} x {spread.shape[3]} cells, the waves have {shape[2]} x {shape[3]}."
            )
        found[:, channel] = (
            spread[:, 0]
            if ours == "eta"
            else on_faces(spread, (shape[0], 1, *shape[2:]), ours, place, named[ours])[:, 0]
        )
    return found
