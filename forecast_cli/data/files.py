"""From paths, globs and places inside HDF5 files to datasets, each opened lazily."""

import glob
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import xarray as xr

from forecast_cli.data.classic import is_cut_short
from forecast_cli.errors import DataError

_HDF5, _CLASSIC = b"\x89HDF\r\n\x1a\n", b"CDF"


def expand(files: Iterable[str]) -> list[str]:
    """Paths with globs written out; DataError for one that matches nothing."""
    places: list[str] = []
    for text in files:
        if any(sign in text for sign in "*?["):
            matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - patterns may be absolute
            if not matches:
                raise DataError(f"{text}: no file matches this pattern.")
            places += matches
        else:
            places.append(text)
    if not places:
        raise DataError("no data file given.")
    return places


def open_place(place: str) -> tuple[xr.Dataset, tuple[str, ...]]:
    """The dataset of a file, and the one variable that the place itself names."""
    path, group = _split_place(place)
    try:
        with path.open("rb") as file:
            signature = file.read(8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    if not signature:
        raise DataError(f"{path}: the file is empty.")
    if signature != _HDF5 and not signature.startswith(_CLASSIC):
        raise DataError(f"{path}: neither NetCDF nor HDF5 (it starts with {signature!r}).")
    if signature.startswith(_CLASSIC) and is_cut_short(path):
        raise DataError(f"{path}: truncated: its header announces more data than there are. Copy or download it again.")

    names: tuple[str, ...] = ()
    try:
        if group:
            group, names = _group_and_dataset(path, group)
        dataset = _decoded(path, group)
    except (ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: the times cannot be decoded ({reason}). Correct their units attribute.") from error
    except (OSError, RuntimeError, AttributeError) as error:
        raise DataError(f"{path}: damaged or truncated ({str(error).splitlines()[0]}).") from error
    if not dataset.data_vars:
        raise DataError(f"{place}: no fields here.{_elsewhere(path) if signature == _HDF5 else ''}")
    return dataset, names


def _decoded(path: Path, group: str) -> xr.Dataset:
    """The dataset as CF says, its dates as cftime objects where datetime64[ns] does not reach."""
    options: dict[str, Any] = {"engine": "netcdf4", "group": group or None, "cache": False}
    options |= {"decode_timedelta": False, "decode_coords": "all"}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Unable to decode time axis", xr.SerializationWarning)
        try:
            return xr.open_dataset(path, **options, decode_times=xr.coders.CFDatetimeCoder(use_cftime=None))
        except ValueError:
            return xr.open_dataset(path, **options, decode_times=xr.coders.CFDatetimeCoder(use_cftime=True))


def _split_place(place: str) -> tuple[Path, str]:
    """'file.h5:/group/dataset' as file and inner path."""
    before, colon, inside = place.rpartition(":/")
    return (Path(before), inside.strip("/")) if colon and Path(before).is_file() else (Path(place), "")


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
