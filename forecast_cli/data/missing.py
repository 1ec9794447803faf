"""Missing values by the attributes of CF (sections 2.5.1 and 8.1): the valid range, and the fill values of cells never written.

xarray masks `_FillValue` and `missing_value`. Values outside `valid_min`, `valid_max` or `valid_range`, and those of cells that
were never written, are replaced by a fill value here, in the numbers as they are stored, before xarray decodes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

Number = int | float
RANGE_ATTRIBUTES = ("valid_range", "valid_min", "valid_max")
_MARKS = ("_FillValue", "missing_value")


class ValidRange(NamedTuple):
    """The bounds of valid values in stored numbers, None where open; and a sentence for each attribute that has no meaning."""

    lower: Number | None = None
    upper: Number | None = None
    problems: tuple[str, ...] = ()


def valid_range(attributes: Mapping[str, Any], stored: np.dtype[Any]) -> ValidRange:
    """Return the valid range of a variable.

    Bounds are in stored (packed) numbers, unless packed integers have bounds that are floating-point: those are in unpacked
    units (NetCDF Users' Guide, Attribute Conventions). `valid_range` comes before `valid_min` and `valid_max`.

    Parameters
    ----------
    attributes : mapping
        Attributes of the variable with those of packing, `scale_factor`, `add_offset`, `_Unsigned`.
    stored : dtype
        Type of the numbers in the file.
    """
    problems: list[str] = []
    both = _numbers(attributes, "valid_range", 2, problems)
    one = [_numbers(attributes, key, 1, problems) for key in ("valid_min", "valid_max")]
    for names, bounds in (("valid_range", both), ("valid_min and valid_max", one)):
        if bounds is None or all(bound is None for bound in bounds):
            continue
        lower, upper = _in_order([None if b is None else _stored(b, attributes, stored) for b in bounds])
        if lower is None or upper is None or lower <= upper:
            return ValidRange(lower, upper, tuple(problems))
        problems.append(f"{names}: no number lies within: ignored")
    return ValidRange(problems=tuple(problems))


def _numbers(attributes: Mapping[str, Any], key: str, count: int, problems: list[str]) -> Any:
    """The numbers of an attribute, `count` of them, None where it has others, which is added to the problems."""
    if key not in attributes:
        return None
    values = np.asarray(attributes[key])
    if values.dtype.kind in "iuf" and values.size == count and not np.isnan(values).any():
        return values.reshape((2,) if count == 2 else ())
    shown = " ".join(str(attributes[key]).split())[:40]
    problems.append(f"{key} = {shown} is not {'two numbers' if count == 2 else 'a number'}: ignored")
    return None


class _Bound(NamedTuple):
    value: Number
    is_reversed: bool
    """In unpacked units that fall where the stored numbers rise."""


def _in_order(bounds: list[_Bound | None]) -> tuple[Number | None, Number | None]:
    lower, upper = (None if bound is None else bound.value for bound in bounds)
    return (upper, lower) if any(bound is not None and bound.is_reversed for bound in bounds) else (lower, upper)


def packing(attributes: Mapping[str, Any]) -> tuple[float, float] | None:
    """Scale and offset, None for a variable that is not packed."""
    if not {"scale_factor", "add_offset"} & attributes.keys():
        return None
    try:
        scale, offset = float(attributes.get("scale_factor", 1)), float(attributes.get("add_offset", 0))
    except (TypeError, ValueError):
        return None
    return (scale, offset) if np.isfinite([scale, offset]).all() and scale else None


def _stored(bound: np.ndarray, attributes: Mapping[str, Any], stored: np.dtype[Any]) -> _Bound:
    """A bound in stored numbers."""
    packed = packing(attributes)
    if packed and bound.dtype.kind == "f" and stored.kind in "iu":
        scale, offset = packed
        exact = (float(bound) - offset) / scale
        # A bound is a number of the packing, up to the rounding of its type.
        is_near = bool(np.isfinite(exact)) and abs(exact - round(exact)) < 0.01 + 1e-6 * abs(exact)
        return _Bound(round(exact) if is_near else exact, scale < 0)
    unsigned = unsigned_of(attributes, stored)
    return _Bound((bound.view(unsigned) if bound.dtype == stored else bound).item(), False)


def unsigned_of(attributes: Mapping[str, Any], stored: np.dtype[Any]) -> np.dtype[Any]:
    """The type that the attribute `_Unsigned` gives the stored numbers."""
    said = str(attributes.get("_Unsigned", "")).lower()
    kind = {"true": "u", "false": "i"}.get(said, stored.kind) if stored.kind in "iu" else stored.kind
    return np.dtype(f"{stored.byteorder}{kind}{stored.itemsize}")


@dataclass(frozen=True)
class _Rule:
    """Which stored numbers are missing, and the stored number that marks them; numbers are compared as `type`."""

    lower: Number | None
    upper: Number | None
    mark: Number
    type: np.dtype[Any]

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        values = stored.view(self.type)
        outside = np.zeros(values.shape, bool)
        if self.lower is not None:
            outside |= values < self.lower
        if self.upper is not None:
            outside |= values > self.upper
        return np.where(outside, np.asarray(self.mark).astype(stored.dtype), stored) if outside.any() else stored


class _Ruled(BackendArray):
    """The stored numbers of a variable, of which no more is read than is asked for, with the missing ones marked."""

    def __init__(self, variable: xr.Variable, rule: _Rule) -> None:
        self.variable, self.rule = variable, rule
        self.shape, self.dtype = variable.shape, variable.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        return self.rule(np.asarray(self.variable[key].values))


def with_missing_marked(dataset: xr.Dataset, unwritten: Mapping[str, Number]) -> xr.Dataset:
    """The undecoded dataset with all missing values marked by fill values that decoding masks; lazy as before.

    Parameters
    ----------
    dataset : xr.Dataset
        As stored, with all attributes.
    unwritten : mapping
        What cells of a variable hold that were never written, where no attribute says so (`unwritten_values`).
    """
    marked = {
        name: _marked(variable, unwritten.get(str(name)), is_axis=name in dataset.dims)
        for name, variable in dataset.variables.items()
        if variable.dtype.kind in "iuf"
    }
    return dataset.assign({name: variable for name, variable in marked.items() if variable is not None})


def _marked(variable: xr.Variable, unwritten: Number | None, *, is_axis: bool) -> xr.Variable | None:
    """The variable with its missing values marked, None where nothing changes."""
    attributes, stored = _marks_in_type(variable.attrs, variable.dtype), variable.dtype
    # Decoding with a fill value makes integers floating-point: times and numbers keep theirs if they can.
    if unwritten is not None and (variable.ndim > 1 or (variable.values == unwritten).any()):
        attributes["_FillValue"] = stored.type(unwritten)
    found, kind = ValidRange() if is_axis else valid_range(attributes, stored), unsigned_of(attributes, stored)
    mark = None if found.lower is None and found.upper is None else _mark(attributes, found, kind)
    if mark is None:
        if not set(_MARKS) & (attributes.keys() | variable.attrs.keys()):
            return None
        described = variable.copy(deep=False)
        described.attrs = attributes
        return described
    if stored.kind in "iu":
        attributes.setdefault("_FillValue", np.asarray(mark, kind).view(stored)[()])
    data = indexing.LazilyIndexedArray(_Ruled(variable, _Rule(found.lower, found.upper, mark, kind)))
    return xr.Variable(variable.dims, data, attributes, variable.encoding)


def _mark(attributes: Mapping[str, Any], found: ValidRange, kind: np.dtype[Any]) -> Number | None:
    """A number that is masked or invalid anyway, for those outside the valid range; None where the type has none outside."""
    if kind.kind == "f":
        return float("nan")
    declared = np.asarray(attributes.get("_FillValue", ""))
    if declared.dtype.kind in "iuf" and declared.size == 1:
        return int(declared.astype(kind).item())
    limits = np.iinfo(kind)
    if found.lower is not None and limits.min < found.lower:
        return int(limits.min)
    return int(limits.max) if found.upper is not None and limits.max > found.upper else None


def _marks_in_type(attributes: Mapping[str, Any], stored: np.dtype[Any]) -> dict[str, Any]:
    """The attributes, those of fill values in the type of the numbers that they are compared with: -99.9 is another in float32."""
    found = dict(attributes)
    for key in [key for key in _MARKS if key in found]:
        try:
            values = np.asarray(found[key]).astype(float if np.asarray(found[key]).dtype.kind in "US" else None)
        except ValueError:  # a text that is no number marks none
            del found[key]
            continue
        with np.errstate(over="ignore"):
            found[key] = values.astype(stored)[()] if stored.kind == "f" else values[()]
    return found


def range_problems(dataset: xr.Dataset) -> tuple[str, ...]:
    """A note on each attribute of a valid range that has no meaning, from a decoded dataset."""
    notes = []
    for name, variable in dataset.variables.items():
        if variable.dtype.kind in "iuf" and name not in dataset.dims:
            found = declared_range(variable)
            notes += [f"'{name}': {problem}" for problem in found.problems]
    return tuple(notes)


def declared_range(variable: xr.Variable) -> ValidRange:
    """The valid range of a decoded variable, in stored numbers."""
    return valid_range({**variable.encoding, **variable.attrs}, stored_type(variable))


def stored_type(variable: xr.Variable) -> np.dtype[Any]:
    """The type of the numbers in the file that a decoded variable comes from."""
    return np.dtype(variable.encoding.get("dtype", variable.dtype))


def unwritten_values(path: Path, group: str) -> dict[str, Number]:
    """What cells hold that were never written, of each variable of a NetCDF or HDF5 file that declares no `_FillValue`.

    Types of one byte have no such value by convention, and 0 is none. The default of floating-point types is left in fields,
    where it is refused with the remedy to declare it (`sentinels`).
    """
    found: dict[str, Number] = {}
    with netCDF4.Dataset(path) as file:
        for name, variable in (file[group] if group else file).variables.items():
            kind = getattr(variable.dtype, "kind", "O") if variable.dtype is not str else "O"
            if kind not in "iuf" or "_FillValue" in variable.ncattrs() or variable.dtype.itemsize == 1:
                continue
            value = variable.get_fill_value()
            if value is None or value == 0 or not np.isfinite(value):
                continue
            default = netCDF4.default_fillvals[variable.dtype.str[1:]]
            if kind == "f" and variable.ndim > 1 and np.isclose(value, default):
                continue
            found[name] = np.asarray(value).item()
    return found
