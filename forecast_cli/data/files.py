"""From paths, globs and places inside HDF5 files to datasets, each opened lazily."""

import glob
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cftime
import h5py
import netCDF4
import numpy as np
import xarray as xr

from forecast_cli.data import layouts
from forecast_cli.data.classic import is_cut_short
from forecast_cli.data.grid import in_degrees
from forecast_cli.data.missing import Number, range_problems, unwritten_values, with_missing_marked
from forecast_cli.data.reading import is_software_fault, reading, refuse_odd_floats
from forecast_cli.data.storage import refuse_external_storage
from forecast_cli.data.times import GREGORIAN, in_nanoseconds, months_later
from forecast_cli.errors import DataError, reason

_HDF5, _CLASSIC = (b"\x89HDF\r\n\x1a\n", b"MATLAB 7.3"), b"CDF"


def expand(files: Iterable[str]) -> list[str]:
    """Paths with globs written out and `~` as the home directory; DataError for one that matches nothing.

    A path that exists is taken as it is, whatever signs of a pattern it holds.
    """
    places: list[str] = []
    for text in files:
        place = text if is_there(text) else os.path.expanduser(text)  # noqa: PTH111 - leaves what has no home
        if any(sign in place for sign in "*?[") and not is_there(place):
            matches = _matches(place)
            if not matches:
                raise DataError(f"{text}: no file matches this pattern.")
            places += matches
        else:
            places.append(place)
    if not places:
        raise DataError("no data file given.")
    for place in places:
        require_portable_name(place)
    return places


def is_there(place: str) -> bool:
    """Test whether the file, store or folder of a place exists; one that may not be looked at does not."""
    return os.path.exists(path_of(place))  # noqa: PTH110 - Path.exists raises for long names and closed folders


def require_portable_name(place: str | Path) -> None:
    """DataError for a name that is not UTF-8, which the NetCDF library cannot open."""
    try:
        str(place).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{place}: the name is not valid UTF-8. Rename the file, or link to it by another name."
        ) from error


def _matches(pattern: str) -> list[str]:
    """The files of a pattern whose leading folders are taken as they are where they exist.

    A bracket that matches nothing as a set of characters stands for itself.
    """
    cuts = [sign.start() for sign in re.finditer("/", pattern)]
    cut = next((cut for cut in reversed(cuts) if os.path.isdir(pattern[:cut])), 0)  # noqa: PTH112 - as above
    folder, rest = glob.escape(pattern[:cut]), pattern[cut:]
    for wanted in (folder + rest, folder + rest.replace("[", "[[]")):
        if matches := sorted(glob.glob(wanted, recursive=True)):  # noqa: PTH207 - patterns may be absolute
            return matches
    return []


def bound_caches(arrays: int) -> None:
    """Let the NetCDF library keep 64 MiB of unpacked chunks for all arrays of files that are opened from now on, not for each."""
    netCDF4.set_chunk_cache(max(2**20, 2**26 // max(1, arrays)))


class Opened(NamedTuple):
    """The dataset of a file, the one variable that the place itself names, and what a reader of the file should know."""

    dataset: xr.Dataset
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def open_place(place: str, *, time_as_steps: bool = False) -> Opened:
    """Open a file lazily, latitudes and longitudes in degrees.

    time_as_steps: leave the times undecoded. Raises DataError where the file is no whole file of a known format.
    """
    opened = _opened(place, time_as_steps)
    dataset, notes = in_degrees(opened.dataset)
    return Opened(dataset, opened.names, (*opened.notes, *notes))


def _opened(place: str, time_as_steps: bool) -> Opened:
    path, group = split_place(place)
    if os.path.isdir(path):  # noqa: PTH112 - False for a name that is too long
        dataset = _zarr(path, time_as_steps)
        return Opened(dataset, notes=range_problems(dataset))
    try:
        with path.open("rb") as file:
            signature = file.read(10)
    except (OSError, ValueError) as error:  # ValueError: a null character in a name
        raise DataError(f"{path}: cannot be read ({reason(error)}).") from error
    if not signature:
        raise DataError(f"{path}: the file is empty.")
    if signature.startswith(b"MATLAB 5"):
        return Opened(layouts.open_matlab(path))
    hdf5 = signature.startswith(_HDF5)
    if not hdf5 and not signature.startswith(_CLASSIC):
        raise DataError(f"{path}: neither NetCDF nor HDF5 (it starts with {signature[:8]!r}).")
    if not hdf5 and is_cut_short(path):
        raise DataError(f"{path}: truncated: its header announces more data than there are. Copy or download it again.")

    if hdf5:
        refuse_odd_floats(path)
        refuse_external_storage(path)

    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    with reading(f"{path}: damaged or truncated"):
        if group:
            group, names = _group_and_dataset(path, group)
        dataset = _decoded(path, group, time_as_steps)
        if hdf5 and not group:
            dataset = layouts.named(dataset, path)
            if not dataset.data_vars:
                group = layouts.group_with_fields(path)
                dataset, notes = _decoded(path, group, time_as_steps), (f"fields found in group /{group}",)
    if not dataset.data_vars:
        raise DataError(f"{place}: no fields here.{_elsewhere(path) if hdf5 else ''}")
    return Opened(dataset, names, notes + range_problems(dataset))


def _zarr(path: Path, time_as_steps: bool) -> xr.Dataset:
    """The dataset of a Zarr store."""
    if not any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata")):
        raise DataError(f"{path}: a folder, and no Zarr store. Give the files in it, for example as '{path}/*.nc'.")
    if find_spec("zarr") is None:
        raise DataError(f"{path}: reading Zarr needs a package more: pip install 'forecast_cli[zarr]'.")
    with reading(f"{path}: not a readable Zarr store"):
        return _with_times(path, partial(_decoded_store, path), time_as_steps)


def _decoded_store(path: Path, **options: Any) -> xr.Dataset:
    from forecast_cli.data.chunks import open_store  # needs what comes with zarr

    return xr.decode_cf(with_missing_marked(open_store(path, decode_cf=False), {}), **options)


def _decoded(path: Path, group: str, time_as_steps: bool) -> xr.Dataset:
    unwritten = unwritten_values(path, group)
    return _with_times(path, partial(_decoded_file, path, group, unwritten), time_as_steps)


def _decoded_file(path: Path, group: str, unwritten: Mapping[str, Number], **options: Any) -> xr.Dataset:
    stored = xr.open_dataset(path, engine="netcdf4", group=group or None, cache=False, decode_cf=False)
    return xr.decode_cf(with_missing_marked(stored, unwritten), **options)


def _with_times(path: Path, opener: Callable[..., xr.Dataset], time_as_steps: bool) -> xr.Dataset:
    """The dataset as CF says, its dates as cftime objects where datetime64[ns] does not reach.

    Coordinates are read, so that a damaged one is known here. Raises DataError where only the times are wrong.
    """
    options: dict[str, Any] = {"decode_timedelta": False, "decode_coords": "all"}
    with warnings.catch_warnings():
        # What is amiss is for us to tell: two fill values are both masked, an odd attribute is left out.
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", "Unable to decode time axis", xr.SerializationWarning)
        if time_as_steps:
            return _with_coordinates(opener(**options, decode_times=False))
        try:
            return _with_coordinates(opener(**options, decode_times=xr.coders.CFDatetimeCoder(use_cftime=None)))
        except Exception as error:
            if is_software_fault(error):
                raise
            try:
                return _with_coordinates(opener(**options, decode_times=xr.coders.CFDatetimeCoder(use_cftime=True)))
            except Exception as second:
                if is_software_fault(second):
                    raise
                plain = _with_coordinates(opener(**options, decode_times=False))
                with reading(f"{path}: the times cannot be decoded", _UNDECODED):
                    if not any(_counts_months(variable) for variable in plain.variables.values()):
                        raise error from None
                    return _by_calendar(plain)


_UNDECODED = "Correct their units attribute, or number the frames with --time-as-steps."
_TEXTS = ("units", "calendar", "standard_name", "long_name", "axis", "bounds", "equation")


_OF_HDF5 = ("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST")


def _is_attribute(name: str, value: Any) -> bool:
    """Whether NetCDF can hold an attribute, so that outputs can carry it: a leading _ is for libraries, the rest are mistakes."""
    values = np.asarray(value)
    named = name not in _OF_HDF5 and re.fullmatch(r"(?!_)\w[^/\x00-\x1f\x7f]*(?<! )", name)
    return bool(named) and values.dtype.kind in "iufUS" and values.ndim <= 1 and values.size > 0


def _with_coordinates(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with what has one dimension in memory, and with text where CF has text, whatever kind the file gives."""
    for variable in dataset.variables.values():
        if variable.ndim <= 1:
            variable.load()
        for mark in ("_FillValue", "missing_value"):  # gaps are NaN from here on; an output has marks of its own
            variable.encoding.pop(mark, None)
    for attributes in (dataset.attrs, *(variable.attrs for variable in dataset.variables.values())):
        attributes.update({name: str(attributes[name]) for name in _TEXTS if name in attributes})
        for name in [name for name, value in attributes.items() if not _is_attribute(name, value)]:
            del attributes[name]
    return dataset


_CALENDAR_UNITS = re.compile(r"\s*(month|year)s?\s+since\s+(.+)")


def _counts_months(variable: xr.Variable) -> bool:
    return bool(_CALENDAR_UNITS.match(str(variable.attrs.get("units", "")).lower()))


def _by_calendar(dataset: xr.Dataset) -> xr.Dataset:
    """Times in `months since` or `years since` as dates of their calendar; ValueError where they are no whole months."""
    decoded = {}
    for name, variable in dataset.variables.items():
        if not _counts_months(variable):
            continue
        unit, origin = _CALENDAR_UNITS.match(str(variable.attrs["units"]).lower()).groups()  # type: ignore[union-attr]
        calendar = str(variable.attrs.get("calendar", "standard"))
        (start,) = cftime.num2date([0], f"days since {origin}", calendar)
        months = np.asarray(variable.values, float) * (12 if unit == "year" else 1)
        if not (months == np.rint(months)).all():
            raise ValueError(f"'{name}' counts parts of a {unit}")
        attributes = {key: value for key, value in variable.attrs.items() if key not in ("units", "calendar")}
        dates = np.array([months_later(start, int(count)) for count in months], object)
        if calendar in GREGORIAN:
            dates = in_nanoseconds(dates)
        encoding = {"units": f"days since {origin}", "calendar": calendar}
        decoded[name] = xr.Variable(variable.dims, dates, attributes, encoding)
    rest = dataset.drop_vars([str(name) for name in decoded])
    return xr.decode_cf(rest, decode_timedelta=False).assign_coords(decoded)


def path_of(place: str) -> Path:
    """The file or store of a place."""
    return split_place(place)[0]


def split_place(place: str) -> tuple[Path, str]:
    """'file.h5:/group/dataset' as file and inner path."""
    before, colon, inside = place.rpartition(":/")
    is_file = bool(colon) and os.path.isfile(before)  # noqa: PTH113 - False for a name that is too long
    return (Path(before), inside.strip("/")) if is_file else (Path(place), "")


def split_variable(place: str) -> tuple[str, str]:
    """'FILE:variable' as file and variable; a file that exists is taken whole, with an empty variable."""
    if is_there(place):
        return place, ""
    file, _, name = place.rpartition(":")
    return (file, name) if file and is_there(file) else (place, "")


def _group_and_dataset(path: Path, inside: str) -> tuple[str, tuple[str, ...]]:
    with h5py.File(path) as file:
        if inside not in file:
            raise DataError(f"{path}: no '/{inside}' in it.{_elsewhere(path)}")
        if isinstance(file[inside], h5py.Group):
            return inside, ()
    group, _, name = inside.rpartition("/")
    return group, (name,)


def _elsewhere(path: Path) -> str:
    found: list[str] = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) and item.ndim > 1 else None
        )
    return f" Datasets in the file: {', '.join(f'{path}:/{name}' for name in found[:6])}." if found else ""
