"""Reading back the forecasts that `forecast rollout` wrote."""

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from forecast_cli.data.fields import Reading
from forecast_cli.data.files import require_portable_name
from forecast_cli.data.naming import with_our_names
from forecast_cli.data.reading import reading, refuse_odd_floats
from forecast_cli.data.storage import refuse_external_storage
from forecast_cli.data.times import rounded_times, rounding_of
from forecast_cli.errors import DataError


@dataclass(frozen=True, eq=False)
class ForecastFile:
    """A forecast as `forecast rollout` writes it.

    outer: the dimension of the starts, init_time or sample. starts, lead_keys: what tells one start, or
    one lead time, from another.
    """

    label: str
    path: Path
    dataset: xr.Dataset
    outer: str
    variables: tuple[str, ...]

    @property
    def reading(self) -> Reading:
        """How the fields were read that it was made from."""
        found = json.loads(self.dataset.attrs.get("forecast_reading", "{}"))
        return Reading(found.get("dims", {}), found.get("select", {}), bool(found.get("time_as_steps")))

    @property
    def leads(self) -> int:
        return self.dataset.sizes["lead_time"]

    @property
    def starts(self) -> list[tuple[object, object]]:
        inits = self.init_times
        if self.outer == "init_time":
            return [(None, init) for init in inits.tolist()]
        return [(sample, inits.tolist()[0]) for sample in self.dataset[self.outer].values.tolist()]

    @property
    def lead_keys(self) -> list[float]:
        leads = self.dataset["lead_time"].values
        seconds = leads / np.timedelta64(1, "s") if leads.dtype.kind == "m" else leads
        return [float(f"{lead:.9g}") for lead in seconds]

    def only(self, starts: Sequence[int], leads: Sequence[int]) -> "ForecastFile":
        """The forecast cut to some positions along its starts and lead times."""
        return replace(self, dataset=self.dataset.isel({self.outer: list(starts), "lead_time": list(leads)}))

    @property
    def init_times(self) -> np.ndarray:
        """(start,) of a series, (1,) of trajectories; without the rounding of their storage."""
        return self._rounded(np.atleast_1d(self.dataset["init_time"].values))

    def _rounded(self, times: np.ndarray) -> np.ndarray:
        """Dates without the rounding of their storage, as a series of this forecast's steps has it; numbers as they are."""
        if times.dtype.kind not in "MO":
            return times
        leads = self.dataset["lead_time"].values
        dated = leads.dtype.kind == "m" and leads.size
        steps = np.abs(np.diff(leads / np.timedelta64(1, "s"), prepend=0.0)) if dated else np.zeros(1)
        return rounded_times(times, rounding_of(float(steps.min())))

    @property
    def valid_times(self) -> np.ndarray:
        """(start, lead), without the rounding of their storage."""
        valid = self._rounded(self.dataset["valid_time"].values)
        return np.broadcast_to(valid, (self.dataset.sizes[self.outer], self.leads))

    def read(self, name: str, index: Mapping[str, int | list[int]]) -> np.ndarray:
        """Values of a variable at positions along init_time or sample, and lead_time; DataError if the file is damaged."""
        return read_values(self.dataset[name].variable.isel(index), str(self.path))


def kind_of(place: str) -> str:
    """ "run" for a run directory, what `forecast` says of a file that it wrote ("forecast", "scores"), else "data"."""
    path = Path(place)
    if os.path.exists(path / "config.toml"):  # noqa: PTH110 - False for a name that is too long
        return "run"
    try:
        with open_written(path) as dataset:
            return str(dataset.attrs.get("forecast_kind", "data"))
    except DataError:
        return "data"  # other rooms know more kinds of files, and say what is wrong


def open_written(path: Path) -> xr.Dataset:
    """Open a file that `forecast` wrote, NetCDF or Zarr, lazily; DataError if it cannot be read."""
    if path.suffix == ".partial":
        raise DataError(f"{path}: not complete. The command that began it goes on with --resume auto.")
    # A plain number of days or seconds stays a number; lead_time says itself that it is a duration.
    durations = xr.coders.CFTimedeltaCoder(decode_via_units=False)
    if not os.path.exists(path):  # noqa: PTH110 - as above
        raise DataError(f"{path}: no such file.")
    require_portable_name(path)
    if path.is_dir() and find_spec("zarr") is None:
        raise DataError(f"{path}: reading Zarr needs a package more: pip install 'forecast_cli[zarr]'.")
    with reading(f"{path}: not a readable NetCDF file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.is_dir():
            from forecast_cli.data.chunks import open_store  # needs what comes with zarr

            return open_store(path, decode_timedelta=durations)
        if h5py.is_hdf5(path):
            refuse_odd_floats(path)
            refuse_external_storage(path)
        return xr.open_dataset(path, engine="netcdf4", cache=False, decode_timedelta=durations)


@contextmanager
def trusting(path: str | Path) -> Iterator[None]:
    """Inside, whatever a file that `forecast` wrote lacks, or has of another kind, is a DataError that names the file."""
    with reading(f"{path}: damaged, or written by another version of forecast"):
        yield


def open_forecast(path: Path, label: str | None = None) -> ForecastFile:
    """Open a forecast file lazily; DataError if it is not one."""
    dataset = with_our_names(open_written(path))
    if dataset.attrs.get("forecast_kind") != "forecast":
        raise DataError(f"{path}: not a forecast that `forecast rollout` wrote.")
    with trusting(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dates beyond the range of nanoseconds are read as cftime objects
        for name in ("init_time", "lead_time", "valid_time"):
            dataset[name].load()
        variables = tuple(str(dataset.attrs["forecast_variables"]).split())
        outer = str(dataset[variables[0]].dims[0])
        return ForecastFile(label or str(dataset.attrs["forecast_model"]), path, dataset, outer, variables)


def read_values(variable: xr.Variable, source: str) -> np.ndarray:
    """The values of a part of a file as float64; DataError if the file is damaged there, or a value infinite."""
    with reading(f"{source}: cannot be read to its end", "The file is damaged."):
        values = np.asarray(variable.values, np.float64)
    if np.isinf(values).any():
        raise DataError(f"{source}: a value is infinite. Mark as missing (NaN) what is not known.")
    return values
