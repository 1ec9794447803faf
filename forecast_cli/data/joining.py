"""One dataset out of several files: along sample or time, or variable beside variable."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from forecast_cli.data.roles import Roles, coordinate_of, role_by_attributes
from forecast_cli.errors import DataError


def only(dataset: xr.Dataset, names: Sequence[str], source: str) -> xr.Dataset:
    """The wanted variables with everything that may be a coordinate of theirs."""
    missing = [name for name in names if name not in dataset.data_vars]
    if missing:
        raise DataError(f"{source}: no variable '{missing[0]}', which the first file has.")
    beside = [name for name in dataset.data_vars if str(name) not in names]
    # One-dimensional variables may be coordinates under another name, such as t(time), and so may latitudes lat(y, x).
    along = [
        name
        for name in beside
        if dataset[name].ndim == 1 or (dataset[name].ndim == 2 and role_by_attributes(dataset[name]) in ("y", "x"))
    ]
    edges = [name for name in map(bounds_of, dataset.coords.values()) if name in dataset.variables]
    return dataset[[*names, *along, *edges]].set_coords([*along, *edges])


def bounds_of(coordinate: xr.DataArray) -> str | None:
    """The name of the variable that holds the edges of a coordinate's cells, as CF says."""
    return coordinate.attrs.get("bounds") or coordinate.encoding.get("bounds")


def join(datasets: list[xr.Dataset], roles: Roles, source: str) -> xr.Dataset:
    """One dataset out of several with the same variables.

    Along sample where there are samples or the times are the same, else along time.
    """
    if len(datasets) == 1:
        return datasets[0]
    chunked = [dataset.chunk({}) for dataset in datasets]
    times = [coordinate_of(dataset, roles.time, "time") for dataset in datasets]
    same = all(
        dataset.sizes[roles.time] == datasets[0].sizes[roles.time]
        and (time is None or (times[0] is not None and time.equals(times[0])))
        for dataset, time in zip(datasets, times, strict=True)
    )
    along = roles.sample or ("sample" if same else roles.time)
    if along == roles.time and all(time is not None and time.size for time in times):
        order = sorted(range(len(times)), key=lambda i: times[i].values.min())  # type: ignore[union-attr]
        chunked = [chunked[i] for i in order]
    try:
        return xr.concat(
            chunked,
            along,
            data_vars="minimal" if along in datasets[0].dims else "all",
            coords="minimal",
            compat="override",
            join="exact",
        )
    except ValueError as error:
        raise DataError(
            f"{source}: the files do not fit together along '{along}' ({str(error).splitlines()[0]})."
        ) from error


def beside(datasets: Sequence[xr.Dataset], source: str) -> xr.Dataset:
    """One dataset out of several with different variables on the same grid and times."""
    try:
        return xr.merge(datasets, join="exact", compat="override", combine_attrs="override")
    except ValueError as error:
        raise DataError(
            f"{source}: the files hold different variables, which do not stand on the same grid and times ({str(error).splitlines()[0]})."
        ) from error


def in_order(dataset: xr.Dataset, roles: Roles) -> tuple[xr.Dataset, tuple[str, ...]]:
    """The dataset sorted by time, and a note if it was not; times that cannot be compared stay as they are."""
    time = coordinate_of(dataset, roles.time, "time")
    if time is None or time.size < 2 or time.dtype.kind not in "MOiuf":
        return dataset, ()
    values = time.values
    try:
        order = np.argsort(values, kind="stable")
    except TypeError:
        return dataset, ()
    if (order == np.arange(len(order))).all():
        return dataset, ()
    return dataset.isel({roles.time: order}), (f"the times '{time.name}' are not in order: sorted",)
