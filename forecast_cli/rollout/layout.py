"""What a forecast file holds: dimensions, coordinates, empty variables, climatology and provenance."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from forecast_cli.checkpoint import SavedModel
from forecast_cli.config import config_toml
from forecast_cli.data.fields import Fields
from forecast_cli.data.grid import is_latitude, is_longitude
from forecast_cli.data.missing import RANGE_ATTRIBUTES
from forecast_cli.data.output import Writer
from forecast_cli.rollout.starts import Start

CHUNK_BYTES = 2**18
"""Size of a compressed chunk in the file: small, so that reading one lead time does not unpack them all."""

FIRST_POSITIONS = {
    "hour": (0, "hour of the day"),
    "dayofyear": (1, "day of the year"),
    "month": (1, "month of the year"),
}
"""The first position of a cycle as people count it, and what it is a position in."""


def lay_out(
    file: Writer,
    saved: SavedModel,
    fields: Fields,
    starts: Sequence[Start],
    *,
    context: int,
    steps: int,
    chunk: int,
) -> None:
    """Dimensions, coordinates, empty variables and provenance of a forecast file. chunk: lead times compressed together."""
    auxiliary = fields.auxiliary_coordinates()
    for name, variable in fields.spatial_coordinates().items():
        is_coordinate = name in auxiliary or name in fields.grid_dims
        file.coordinate(name, _named(fields.dataset[name]) if is_coordinate else variable)
    outer = _lay_out_times(file, fields, starts, steps)
    for kind, cycle in saved.cycles.items():
        first, name = FIRST_POSITIONS[kind]
        file.coordinate(kind, xr.Variable(kind, first + np.arange(len(cycle)), {"long_name": name}))
    _lay_out_variables(file, saved, fields, {outer: len(starts), "lead_time": steps}, chunk)
    file.attributes(
        {
            "title": f"Forecast of {', '.join(fields.names)} by {saved.config.model.name}",
            "forecast_kind": "forecast",
            "forecast_variables": " ".join(fields.names),
            "forecast_model": saved.config.model.name,
            "forecast_context": context,
            "forecast_weights_sha256": saved.sha256,
            "forecast_seed": saved.config.training.seed,
            "forecast_epoch": saved.epoch,
            "forecast_data": fields.source,
            "forecast_reading": json.dumps(fields.reading._asdict()),
            "forecast_configuration": config_toml(saved.config),
        }
    )


def _named(coordinate: xr.DataArray) -> xr.Variable:
    """A coordinate with the standard name of latitude or longitude, else with a long name, where it has none."""
    variable = coordinate.variable.copy(deep=False)
    if is_latitude(coordinate):
        variable.attrs.setdefault("standard_name", "latitude")
    elif is_longitude(coordinate):
        variable.attrs.setdefault("standard_name", "longitude")
    variable.attrs = _with_name(variable.attrs, str(coordinate.name))
    return variable


def _with_name(attributes: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Attributes with a long name where they have no name at all."""
    named = {"standard_name", "long_name"} & attributes.keys()
    return dict(attributes) if named else {**attributes, "long_name": name.replace("_", " ")}


def _lay_out_times(file: Writer, fields: Fields, starts: Sequence[Start], steps: int) -> str:
    """Write init_time, lead_time, valid_time and the sample numbers; returns the dimension of the starts."""
    times, roles = fields.times, fields.roles
    inits, leads = [start.init for start in starts], np.arange(1, steps + 1)
    file.coordinate("lead_time", times.lead_times(steps))
    said = {"standard_name": "forecast_reference_time"}, {"standard_name": "time"}
    of_init, of_valid = said if times.is_dated else ({}, {})  # CF has these names for dates alone
    if roles.sample:
        outer = roles.sample
        samples = fields.dataset[outer].variable[np.array([start.sample for start in starts])]
        samples.attrs.setdefault("long_name", f"number of the {outer}")
        file.coordinate(outer, samples)
        init = times.variable((), times.at(inits[:1])[0])
        valid = times.variable("lead_time", times.at(inits[0] + leads))
    else:
        outer = "init_time"
        init = times.variable("init_time", times.at(inits))
        valid = times.variable(
            ("init_time", "lead_time"), times.at((np.array(inits)[:, None] + leads).ravel()).reshape(-1, steps)
        )
    init.attrs.update(of_init, long_name="time of the last frame that the forecast saw")
    valid.attrs.update(of_valid, long_name="time that the forecast is for")
    file.coordinate("init_time", init)
    file.coordinate("valid_time", valid)
    return outer


def chunk_steps(fields: Fields, block: int) -> int:
    """How many lead times are compressed together, in a forecast that is written `block` by block."""
    return max(1, min(block, CHUNK_BYTES * len(fields.names) // fields.frame_bytes))


def _lay_out_variables(file: Writer, saved: SavedModel, fields: Fields, outer: dict[str, int], chunk: int) -> None:
    """Create each variable on (starts, lead_time, grid), and write its climatology beside it."""
    grid = {name: fields.dataset.sizes[name] for name in fields.grid_dims}
    auxiliary = fields.auxiliary_coordinates()
    climatology = saved.model.climatology.cpu().numpy()
    for channel, name in enumerate(fields.names):
        source = fields.dataset[name]
        ranges = (*RANGE_ATTRIBUTES, "actual_range")
        attributes = {key: value for key, value in source.attrs.items() if key not in ranges}
        attributes = _with_name(attributes, name)
        mapping = source.encoding.get("grid_mapping")
        attributes |= {"grid_mapping": mapping} if mapping else {}
        attributes["coordinates"] = " ".join(
            ["valid_time", *(["init_time"] if fields.is_trajectories else []), *(a for a in auxiliary if a != mapping)]
        )
        file.field(name, {**outer, **grid}, attributes, chunks=(1, chunk, *grid.values()))
        mean = {
            "long_name": f"mean of {name} over the training part",
            "units": source.attrs.get("units", "1"),
            "cell_methods": "time: mean",
        }
        file.field(f"{name}_climatology", grid, mean)
        file.write(f"{name}_climatology", (), climatology[channel].reshape(*grid.values()))
        for kind, cycle in saved.cycles.items():
            usual = mean | {"long_name": f"mean of {name} over the training part, by {kind}"}
            file.field(f"{name}_climatology_{kind}", {kind: len(cycle), **grid}, usual)
            file.write(f"{name}_climatology_{kind}", (), cycle[:, channel].reshape(-1, *grid.values()))
