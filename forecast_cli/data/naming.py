"""The names of a forecast file: ours after CF, or those that WeatherBench 2 reads."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import xarray as xr

from forecast_cli.errors import ConfigError

if TYPE_CHECKING:
    from forecast_cli.data.fields import Fields

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


def names_of(naming: str, fields: "Fields") -> dict[str, str]:
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


def translated(name: str, names: Mapping[str, str]) -> str:
    """A name under another naming; the climatology of a variable follows it."""
    stem, climatology, kind = name.partition("_climatology")
    return names.get(name, names.get(stem, stem) + climatology + kind)


def with_our_names(dataset: xr.Dataset) -> xr.Dataset:
    """A forecast file as if it had been written under our own names."""
    names: dict[str, str] = json.loads(dataset.attrs.get("forecast_names", "{}"))
    back = {theirs: ours for ours, theirs in names.items()}
    ours = {name: translated(str(name), back) for name in (*dataset.variables, *dataset.dims)}
    return dataset.rename({theirs: name for theirs, name in ours.items() if theirs != name})
