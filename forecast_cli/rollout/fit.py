"""Whether a model and some fields belong together."""

from collections.abc import Iterator

import numpy as np

from forecast_cli.checkpoint import SavedModel
from forecast_cli.data.coordinates import axes_of, first_difference
from forecast_cli.data.fields import Fields
from forecast_cli.data.inputs import Inputs
from forecast_cli.domain import Domain, TimeStep
from forecast_cli.errors import CheckpointError
from forecast_cli.units import same_time_unit, same_unit


def require_fit(saved: SavedModel, fields: Fields) -> None:
    """Raise CheckpointError if the fields differ from those the model was trained on in units, grid, level or time step."""
    for name, before, now in _differences(saved, fields):
        raise CheckpointError(f"{fields.source}: {name} is {now}, but the model was trained on {before}.")


def _differences(saved: SavedModel, fields: Fields) -> Iterator[tuple[str, object, object]]:
    trained, here = saved.domain, fields.domain
    for before, now in zip(trained.variables, here.variables, strict=True):
        if not same_unit(before.units, now.units):
            yield f"the unit of '{now.name}'", f"'{before.units}'", f"'{now.units}'"
    if trained.shape != here.shape:
        yield "the grid", _grid(trained), _grid(here)
    # Older runs hold even axes only, by their first two cells.
    pair = (saved.coordinates, fields.coordinates) if saved.coordinates else (axes_of(trained), axes_of(here))
    if difference := first_difference(*pair):
        yield difference
    if not _same_step(trained.time_step, here.time_step):
        yield "the time step", trained.time_step, here.time_step


def _grid(domain: Domain) -> str:
    return f"{domain.shape[1]} x {domain.shape[2]}"


def _same_step(trained: TimeStep, here: TimeStep) -> bool:
    """Compare two time steps. Plain numbers share their unit too: the run keeps its periods as such numbers."""
    units = trained.unit, here.unit
    own = {"second", "month", "frame"}.intersection(units)  # of dates, and of files without times
    same = units[0] == units[1] if own else same_time_unit(*units)
    return same and bool(np.isclose(trained.amount, here.amount, rtol=1e-3))


def require_inputs(saved: SavedModel, inputs: Inputs) -> None:
    """CheckpointError unless the inputs are those that the model was trained with."""
    for kind in ("static", "forcing"):
        trained, here = getattr(saved.domain, kind), tuple(getattr(inputs, kind))
        if trained != here:
            raise CheckpointError(
                f"--{kind}: the model was trained with {', '.join(trained) or 'none'}, in this order; here are {', '.join(here) or 'none'}."
            )
