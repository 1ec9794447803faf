"""Whether a model and some fields belong together."""

from collections.abc import Iterator

import numpy as np

from forecast_cli.checkpoint import SavedModel
from forecast_cli.data.fields import Fields
from forecast_cli.data.inputs import Inputs
from forecast_cli.domain import Axis, Domain
from forecast_cli.errors import CheckpointError


def require_fit(saved: SavedModel, fields: Fields) -> None:
    """Raise CheckpointError if the fields differ from those the model was trained on in variables, units, grid or time step."""
    trained, here = saved.domain, fields.domain
    for name, before, now in _differences(trained, here):
        raise CheckpointError(f"{fields.source}: {name} is {now}, but the model was trained on {before}.")


def _differences(trained: Domain, here: Domain) -> Iterator[tuple[str, object, object]]:
    for before, now in zip(trained.variables, here.variables, strict=True):
        if before.units != now.units:
            yield f"the unit of '{now.name}'", f"'{before.units}'", f"'{now.units}'"
    if trained.shape != here.shape:
        yield "the grid", _grid(trained), _grid(here)
    for old_axis, new_axis in ((trained.y, here.y), (trained.x, here.x)):
        old, new = _place(old_axis), _place(new_axis)
        if old and new and not np.allclose(old, new, rtol=0, atol=1e-3 * abs(old[1])):
            yield f"'{new_axis.name if new_axis else ''}'", _described(old), _described(new)
    old_step, new_step = trained.time_step, here.time_step
    if old_step.unit != new_step.unit or not np.isclose(old_step.amount, new_step.amount, rtol=1e-3):
        yield "the time step", old_step, new_step


def _grid(domain: Domain) -> str:
    return f"{domain.shape[1]} x {domain.shape[2]}"


def _place(axis: Axis | None) -> tuple[float, float] | None:
    """First coordinate and spacing of an even axis."""
    return None if axis is None or axis.first is None or axis.spacing is None else (axis.first, axis.spacing)


def _described(place: tuple[float, float]) -> str:
    return f"{place[0]:g} on in steps of {place[1]:g}"


def require_inputs(saved: SavedModel, inputs: Inputs) -> None:
    """CheckpointError unless the inputs are those that the model was trained with."""
    for kind in ("static", "forcing"):
        trained, here = getattr(saved.domain, kind), tuple(getattr(inputs, kind))
        if trained != here:
            raise CheckpointError(
                f"--{kind}: the model was trained with {', '.join(trained) or 'none'}, in this order; here are {', '.join(here) or 'none'}."
            )
