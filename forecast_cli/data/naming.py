"""The names of a forecast file: ours after CF, or those that WeatherBench 2 reads."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from forecast_cli.data.fields import Fields
from forecast_cli.data.output import FieldType, Writer
from forecast_cli.errors import ConfigError

NAMINGS = ("cf", "weatherbench2")

WEATHERBENCH2 = {
    "t2m": "2m_temperature",
    "u10": "10m_u_component_of_wind",
    "v10": "10m_v_component_of_wind",
    "msl": "mean_sea_level_pressure",
    "sst": "sea_surface_temperature",
    "tp": "total_precipitation",
    "z": "geopotential",
    "t": "temperature",
    "u": "u_component_of_wind",
    "v": "v_component_of_wind",
    "w": "vertical_velocity",
    "q": "specific_humidity",
}
"""Short names of ERA5 and what WeatherBench 2 calls them."""


def names_of(naming: str, fields: Fields) -> dict[str, str]:
    """Our name to the file's, where they differ. Raises ConfigError for forecasts that WeatherBench 2 cannot hold."""
    if naming not in NAMINGS:
        raise ConfigError(f"--naming {naming}: expected {' or '.join(NAMINGS)}.")
    if naming == "cf":
        return {}
    if fields.is_trajectories or not fields.times.is_dated or fields.times.step.unit != "second":
        raise ConfigError("--naming weatherbench2: for dated series with steps of seconds to days. Leave it at cf.")
    names = {"init_time": "time", "lead_time": "prediction_timedelta"}
    if fields.domain.grid == "latitude-longitude":
        names |= {str(fields.roles.y): "latitude", fields.roles.x: "longitude"}
    names |= {name: WEATHERBENCH2[name] for name in fields.names if name in WEATHERBENCH2}
    return {ours: theirs for ours, theirs in names.items() if ours != theirs}


class Renaming:
    """A writer that writes under other names, and leaves a note in the file of what they were."""

    def __init__(self, writer: Writer, names: Mapping[str, str]) -> None:
        self.writer, self.names = writer, names
        if names:
            writer.attributes({"forecast_names": json.dumps(dict(names))})

    def _name(self, name: str) -> str:
        stem, climatology, kind = name.partition("_climatology")
        return self.names.get(name, self.names.get(stem, stem) + climatology + kind)

    def attributes(self, values: Mapping[str, Any]) -> None:
        self.writer.attributes(values)

    def coordinate(self, name: str, variable: xr.Variable) -> None:
        renamed = xr.Variable(
            [self._name(str(d)) for d in variable.dims],
            variable.values,
            self._described(variable.attrs),
            variable.encoding,
        )
        self.writer.coordinate(self._name(name), renamed)

    def field(
        self,
        name: str,
        dimensions: Mapping[str, int],
        attributes: Mapping[str, Any],
        *,
        chunks: tuple[int, ...] | None = None,
        dtype: FieldType = "f4",
    ) -> None:
        sizes = {self._name(dimension): size for dimension, size in dimensions.items()}
        self.writer.field(self._name(name), sizes, self._described(attributes), chunks=chunks, dtype=dtype)

    def _described(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes whose references to other variables follow their names."""
        found = dict(attributes)
        for key in ("coordinates", "bounds"):
            if key in found:
                found[key] = " ".join(self._name(name) for name in str(found[key]).split())
        return found

    def write(self, name: str, index: tuple[Any, ...], values: np.ndarray) -> None:
        self.writer.write(self._name(name), index, values)

    def sync(self) -> None:
        self.writer.sync()


def with_our_names(dataset: xr.Dataset) -> xr.Dataset:
    """A forecast file as if it had been written under our own names."""
    names: dict[str, str] = json.loads(dataset.attrs.get("forecast_names", "{}"))
    back = {theirs: ours for ours, theirs in names.items()}
    renamed = {}
    for name in (*dataset.variables, *dataset.dims):
        stem, climatology, kind = str(name).partition("_climatology")
        ours = back.get(str(name), back.get(stem, stem) + climatology + kind)
        if ours != name:
            renamed[name] = ours
    return dataset.rename(renamed)
