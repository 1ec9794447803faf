"""One dataset out of several files: which variables, and how the files go together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from forecast_cli.data.agreement import (
    ALL,
    IGNORED,
    KIND,
    NONE,
    VALUES,
    VERTICAL,
    Part,
    agreeing,
    with_dates_of_one_kind,
)
from forecast_cli.data.files import Opened
from forecast_cli.data.joined import joined
from forecast_cli.data.roles import Roles, coordinate_of, find_roles, nearest, role_by_attributes, role_of
from forecast_cli.errors import DataError


def gather(
    opened: Sequence[Opened],
    places: Sequence[str],
    wanted: tuple[str, ...],
    dims: Mapping[str, str],
    select: Mapping[str, str],
    *,
    static: bool,
    time_as_steps: bool = False,
) -> tuple[xr.Dataset, tuple[str, ...], tuple[str, ...]]:
    """All files as one dataset, the names of its fields, and notes.

    Files with the same variables follow each other, files with different ones stand beside each other; all must agree.
    static: a map without time is taken as one frame. time_as_steps: times and their units are ignored.
    Arguments otherwise as of `fields.open_fields`, whose DataErrors these are.
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
        parts = [Part(_only(dataset, names), place, roles) for dataset, place in files]
        part, note = _in_succession(parts, names, source, time_as_steps)
        notes += note
        joined.append(part)
    if len(joined) == 1:
        return joined[0].dataset, wanted or found, tuple(notes)
    problem = f"{source}: the files hold different variables, which do not stand on the same grid and times"
    joined = agreeing(joined, (), problem, scalars=NONE, times=IGNORED if time_as_steps else VALUES)
    return _beside([part.dataset for part in joined], problem), wanted or found, tuple(notes)


def _in_succession(
    parts: list[Part], names: tuple[str, ...], source: str, time_as_steps: bool
) -> tuple[Part, list[str]]:
    """Files with the same variables as one, and a note where they become samples."""
    first, along = parts[0], _dimension_along(parts)
    # Samples may be members and places of their own, but share their levels and times.
    scalars, times = (ALL, KIND) if along == first.roles.time else (VERTICAL, VALUES)
    problem = f"{source}: the files do not fit together"
    parts = agreeing(parts, names, problem, scalars=scalars, times=IGNORED if time_as_steps else times)
    becomes = len(parts) > 1 and along == "sample" and not first.roles.sample
    notes = [f"{source}: {len(parts)} files of the same times: joined along 'sample'"] if becomes else []
    return replace(first, dataset=_join(parts, along, source)), notes


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


def _dimension_along(parts: Sequence[Part]) -> str:
    """The dimension that files with the same variables follow each other along.

    That of the samples where there are any, "sample" where the times are the same, else that of time.
    """
    roles, times = parts[0].roles, [part.times for part in parts]
    same = all(
        part.dataset.sizes.get(roles.time) == parts[0].dataset.sizes[roles.time]
        and (time is None or (times[0] is not None and time.variable.equals(times[0].variable)))
        for part, time in zip(parts, times, strict=True)
    )
    return roles.sample or ("sample" if same else roles.time)


def _join(parts: Sequence[Part], along: str, source: str) -> xr.Dataset:
    """One dataset out of several with the same variables, along a dimension."""
    if len(parts) == 1:
        return parts[0].dataset
    parts = with_dates_of_one_kind(parts)
    datasets, times = [part.dataset for part in parts], [part.times for part in parts]
    if along == parts[0].roles.time and all(time is not None and time.size for time in times):
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


def _beside(datasets: Sequence[xr.Dataset], problem: str) -> xr.Dataset:
    """One dataset out of several with different variables on the same grid and times."""
    try:
        return xr.merge(datasets, join="exact", compat="override", combine_attrs="override")
    except ValueError as error:
        raise DataError(f"{problem} ({str(error).splitlines()[0]}).") from error


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
