"""One dataset out of several files: which variables, and how the files go together."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from forecast_cli.data.files import Opened
from forecast_cli.data.joined import joined
from forecast_cli.data.roles import Roles, coordinate_of, find_roles, nearest, role_by_attributes, role_of
from forecast_cli.data.times import GREGORIAN, as_cftime
from forecast_cli.errors import DataError


def gather(
    opened: Sequence[Opened],
    places: Sequence[str],
    wanted: tuple[str, ...],
    dims: Mapping[str, str],
    select: Mapping[str, str],
    *,
    static: bool,
) -> tuple[xr.Dataset, tuple[str, ...], tuple[str, ...]]:
    """All files as one dataset, the names of its fields, and notes.

    Files with the same variables follow each other, files with different ones stand beside each other. static: a map without
    time is taken as one frame. Arguments otherwise as of `fields.open_fields`, whose DataErrors these are.
    """
    wanted = wanted or next((file.names for file in opened if file.names), ())
    groups: dict[tuple[str, ...], list[tuple[xr.Dataset, str]]] = {}
    notes: list[str] = []
    for file, place in zip(opened, places, strict=True):
        here = tuple(name for name in wanted if name in file.dataset.data_vars)
        if wanted and not here and len(places) > 1:
            notes.append(f"{place}: holds no {' and no '.join(wanted)}: left out")
            continue
        names = _choose(file.dataset, here or wanted, dims, place)
        dataset, note = _timed(file.dataset, names, dims, place, static)
        notes += note
        groups.setdefault(names, []).append((dataset, place))
    found = tuple(name for names in groups for name in names)
    if missing := [name for name in wanted if name not in found]:
        _choose(opened[0].dataset, missing, dims, places[0])
    source = place_of(places)
    if len(set(found)) < len(found):
        first, *others = groups
        lacking = next(name for names in others for name in {*first} ^ {*names})
        raise DataError(
            f"{source}: some files have '{lacking}' and others not. Give files of the same variables, or of one each."
        )
    joined = []
    for names, files in groups.items():
        roles, _ = find_roles(files[0][0], names, dims, files[0][1], selected=select)
        joined.append(_join([_only(dataset, names) for dataset, _ in files], roles, source))
    return joined[0] if len(joined) == 1 else _beside(joined, source), wanted or found, tuple(notes)


def place_of(places: Sequence[str]) -> str:
    """The files for a message."""
    return places[0] if len(places) == 1 else f"{places[0]} and {len(places) - 1} more"


def _timed(
    dataset: xr.Dataset, names: Sequence[str], dims: Mapping[str, str], place: str, static: bool
) -> tuple[xr.Dataset, list[str]]:
    """The dataset; maps without time, all of whose dimensions are known to be of space, as one frame with a note, or refused."""
    there = [str(dimension) for dimension in dataset[names[0]].dims]
    if "time" in dims or not {role_of(dataset, dimension) for dimension in there} <= {"y", "x"}:
        return dataset, []
    listed = ", ".join(f"--static {place}:{name}" for name in names)
    if not static:
        raise DataError(
            f"{place}: '{names[0]}' ({', '.join(there)}) has no time: a static field. Give it beside fields that change, as {listed}."
        )
    maps = dataset[list(names)]  # without the times of fields beside them
    timed = maps.assign({name: maps[name].expand_dims("time") for name in names})
    return timed, [f"{place}: no time, a static field: an input for {listed}"]


def _choose(dataset: xr.Dataset, wanted: Sequence[str], dims: Mapping[str, str], source: str) -> tuple[str, ...]:
    """The variables to forecast: those asked for, or all that share the dimensions of the largest."""
    fields = {
        str(name): variable
        for name, variable in dataset.data_vars.items()
        if variable.dtype.kind in "fiu" and variable.ndim >= 2
    }
    for name in wanted:
        if name not in dataset.data_vars:
            raise DataError(
                f"{source}: no variable '{name}'{nearest(name, fields)}. Variables: {', '.join(fields) or 'none'}."
            )
        if name not in fields:
            raise DataError(
                f"{source}: variable '{name}' is not a field of numbers over time and space. Fields: {', '.join(fields)}."
            )
    if wanted:
        sets = {frozenset(dataset[name].dims) for name in wanted}
        if len(sets) > 1:
            raise DataError(
                f"{source}: the variables {', '.join(wanted)} have different dimensions: choose some of the same with --variable."
            )
        return tuple(wanted)
    given = set(dims.values()) - {dims.get("sample")}
    fields = {name: variable for name, variable in fields.items() if given <= set(variable.dims)} or fields
    if not fields:
        raise DataError(
            f"{source}: no variable with at least two dimensions. It has {', '.join(map(str, dataset.data_vars)) or 'none'}."
        )
    most = max(variable.ndim for variable in fields.values())
    largest = [name for name, variable in fields.items() if variable.ndim == most]
    if len({frozenset(fields[name].dims) for name in largest}) > 1:
        listed = ", ".join(f"{name}({', '.join(map(str, fields[name].dims))})" for name in largest)
        raise DataError(f"{source}: fields on different dimensions: {listed}. Choose with --variable.")
    return tuple(largest)


def _only(dataset: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """The wanted variables with everything that may be a coordinate of theirs."""
    others = [name for name in dataset.data_vars if str(name) not in names]
    # One-dimensional variables may be coordinates under another name, such as t(time), and so may latitudes lat(y, x).
    along = [
        name
        for name in others
        if dataset[name].ndim == 1 or (dataset[name].ndim == 2 and role_by_attributes(dataset[name]) in ("y", "x"))
    ]
    edges = [name for name in map(bounds_of, dataset.coords.values()) if name in dataset.variables]
    return dataset[[*names, *along, *edges]].set_coords([*along, *edges])


def bounds_of(coordinate: xr.DataArray) -> str | None:
    """The name of the variable that holds the edges of a coordinate's cells, as CF says."""
    return coordinate.attrs.get("bounds") or coordinate.encoding.get("bounds")


def _join(datasets: list[xr.Dataset], roles: Roles, source: str) -> xr.Dataset:
    """One dataset out of several with the same variables.

    Along sample where there are samples or the times are the same, else along time.
    """
    if len(datasets) == 1:
        return datasets[0]
    datasets = _with_dates_of_one_kind(datasets, roles)
    times = [coordinate_of(dataset, roles.time, "time") for dataset in datasets]
    same = all(
        dataset.sizes[roles.time] == datasets[0].sizes[roles.time]
        and (time is None or (times[0] is not None and time.equals(times[0])))
        for dataset, time in zip(datasets, times, strict=True)
    )
    along = roles.sample or ("sample" if same else roles.time)
    if along == roles.time and all(time is not None and time.size for time in times):
        order = sorted(range(len(times)), key=lambda i: times[i].values.min())  # type: ignore[union-attr]
        datasets = [datasets[i] for i in order]
    try:
        fields = {
            name: joined([dataset[name].variable for dataset in datasets], along) for name in datasets[0].data_vars
        }
        around = [dataset.drop_vars(list(fields)) for dataset in datasets]
        whole = xr.concat(around, along, coords="minimal", compat="override", join="exact")
        return whole.assign(fields)
    except ValueError as error:
        raise DataError(
            f"{source}: the files do not fit together along '{along}' ({str(error).splitlines()[0]})."
        ) from error


def _with_dates_of_one_kind(datasets: list[xr.Dataset], roles: Roles) -> list[xr.Dataset]:
    """The datasets with the dates of all as cftime objects where some are beyond the range of nanoseconds."""
    times = [coordinate_of(dataset, roles.time, "time") for dataset in datasets]
    far = next((time for time in times if time is not None and time.size and time.dtype.kind == "O"), None)
    if far is None or not any(time is not None and time.dtype.kind == "M" for time in times):
        return datasets
    calendar = str(getattr(far.values.flat[0], "calendar", ""))
    if calendar not in GREGORIAN:
        return datasets
    return [
        dataset
        if time is None or time.dtype.kind != "M"
        else dataset.assign_coords({str(time.name): (time.dims, as_cftime(time.values, calendar), time.attrs)})
        for dataset, time in zip(datasets, times, strict=True)
    ]


def _beside(datasets: Sequence[xr.Dataset], source: str) -> xr.Dataset:
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
