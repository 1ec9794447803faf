"""Fill values that a file does not declare: customary numbers such as -9999 that lie alone, far outside all other values."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import netCDF4
import numpy as np
import xarray as xr

from forecast_cli.data.missing import declared_range, packing, stored_type, unsigned_of
from forecast_cli.data.reading import reading
from forecast_cli.data.sampling import evenly
from forecast_cli.errors import DataError

HUGE = (
    netCDF4.default_fillvals["f4"],
    *(sign * v for v in (1e20, 1e30, 1e34, 1e35, 1e36, 9.999e20, float(np.finfo("f4").max)) for sign in (1, -1)),
)
"""Numbers of no field, refused wherever they stand: the default of NetCDF, customs of models, and the largest of float32 (GDAL)."""
CUSTOMARY = (
    *(-99.9, -99.99, -999.0, -999.9, -999.99, -9999.0, -9999.9, -9999.99, -99999.0, -999999.0, -9999999.0, -99999999.0),
    *(-7777.0, -8888.0, 65535.0, 1e10, -1e10, 1e15, -1e15),
    *(999.9, 9999.0, 9999.9, 99999.0, 999999.0, 9999999.0, 99999999.0),
    *(-32768.0, -32767.0, 32767.0, -2147483648.0, -2147483647.0, 2147483647.0),
)
"""Numbers that mark a missing value by custom, and may be measured: refused where they lie alone."""
_BLOCK, _BUDGET = 2**22, 2**27
"""Values that are read at once, and in all, to find out whether a number lies alone in a record."""
_LETTERS = {"i1": "b", "u1": "ub", "i2": "s", "u2": "us", "i4": "l", "u4": "ui", "i8": "ll", "u8": "ull", "f8": "d"}


@dataclass
class Extent:
    """The range of the values that are no customary fill values at an end of it, and the number of those that are."""

    lower: float = math.inf
    upper: float = -math.inf
    counts: Counter[float] = field(default_factory=Counter)
    size: int = 0

    def add(self, other: "Extent") -> None:
        self.lower, self.upper = min(self.lower, other.lower), max(self.upper, other.upper)
        self.counts += other.counts
        self.size += other.size

    def alone(self) -> list[float]:
        """The customary fill values that lie outside the range, by more than half its width, or as the only negative ones."""
        return [value for value in self.counts if self._is_alone(value)]

    def _is_alone(self, value: float) -> bool:
        if abs(value) >= 1e19 or self.lower > self.upper:
            return True
        if self.lower <= value <= self.upper:
            return False
        gap = self.lower - value if value < self.lower else value - self.upper
        wide = gap > (self.upper - self.lower) / 2 or value < 0 <= self.lower
        return wide and gap > abs(value) / 100


@dataclass(frozen=True)
class Sentinels:
    """The numbers that a variable's values are compared with, within a tolerance, as float32."""

    values: np.ndarray
    tolerance: float

    @classmethod
    def of(cls, variable: xr.Variable) -> "Sentinels":
        """Those of a variable; a declared valid range is trusted, so that none on its side of zero is left."""
        declared, stored = declared_range(variable), stored_type(variable)
        attributes = {**variable.encoding, **variable.attrs}
        limits = np.iinfo(unsigned_of(attributes, stored)) if stored.kind in "iu" else None
        ends = {float(limits.min), float(limits.max)} - {0.0} if limits and stored.itemsize > 1 else set()
        customary = [v for v in {*CUSTOMARY, *ends} if (declared.lower if v < 0 else declared.upper) is None]
        packed = packing(attributes) if limits else None
        if limits is None or packed is None:
            return cls(np.array([*customary, *HUGE], np.float32), 0.0)
        scale, offset = packed
        unpacked = [v * scale + offset for v in customary if limits.min <= v <= limits.max and v % 1 == 0]
        return cls(np.array([*customary, *HUGE, *unpacked], np.float32), abs(scale) / 4)

    def __contains__(self, value: float) -> bool:
        with np.errstate(over="ignore"):
            return bool((np.abs(self.values - np.float32(value)) <= self.tolerance).any())

    def extent(self, values: np.ndarray) -> Extent:
        """Take customary fill values from both ends of some values until others are there."""
        found, rest = Extent(size=values.size), values
        while rest.size:
            lower, upper = np.fmin.reduce(rest, axis=None), np.fmax.reduce(rest, axis=None)
            end = next((end for end in (lower, upper) if end in self), None)
            if end is None:
                if not np.isnan(lower):
                    found.lower, found.upper = float(lower), float(upper)
                break
            kept = rest != end
            found.counts[float(np.float32(end))] += rest.size - int(kept.sum())
            rest = rest[kept]
        return found


class UndeclaredFill:
    """Refuses the values of a variable that hold a customary fill value, alone in the whole record.

    A few frames cannot show whether a number lies alone, so that the record is read, up to a budget, when it does in some.

    Parameters
    ----------
    variable : xr.DataArray
        The variable that all values are of, read lazily.
    source : str
        The file, for messages.
    """

    def __init__(self, variable: xr.DataArray, source: str) -> None:
        self.variable, self.source = variable, source

    @cached_property
    def sentinels(self) -> Sentinels:
        return Sentinels.of(self.variable.variable)

    def refuse(self, values: np.ndarray) -> None:
        """DataError where values hold an undeclared fill value."""
        here = self.sentinels.extent(values)
        if not here.alone():
            return
        whole = Extent()
        whole.add(self._record)
        whole.add(Extent(here.lower, here.upper))
        wrong = [value for value in here.alone() if value in Extent(whole.lower, whole.upper, here.counts).alone()]
        if wrong:
            raise DataError(self._message(wrong, whole, here))

    @cached_property
    def _record(self) -> Extent:
        found = Extent()
        for _, values in _blocks(self.variable, self.source):
            found.add(self.sentinels.extent(values))
        return found

    def _message(self, wrong: list[float], whole: Extent, here: Extent) -> str:
        name, counted = self.variable.name, whole if whole.counts[wrong[0]] else here
        shown, stored = " and ".join(f"{value:g}" for value in wrong), ",".join(self._stored(value) for value in wrong)
        kind = "a fill value" if len(wrong) == 1 else "fill values"
        count = sum(counted.counts[value] for value in wrong)
        rest = f"; the others lie within {whole.lower:.4g} and {whole.upper:.4g}" if whole.lower <= whole.upper else ""
        letter = _LETTERS.get(stored_type(self.variable.variable).str[1:], "f")
        return (
            f"{self.source}: '{name}' holds {shown}, {kind} that the file does not declare, "
            f"in {count:,} of {counted.size:,} values{self._first(wrong[0])}{rest}. "
            f"Declare missing_value (NetCDF: ncatted -a missing_value,{name},o,{letter},{stored} FILE); "
            "then see --nan mask. If it was measured, declare a valid_range that holds it."
        )

    def _stored(self, value: float) -> str:
        """A fill value as the number that is stored."""
        attributes = {**self.variable.encoding, **self.variable.attrs}
        packed = packing(attributes) if stored_type(self.variable.variable).kind in "iu" else None
        if packed:
            return str(round((value - packed[1]) / packed[0]))
        return str(int(value)) if value % 1 == 0 and abs(value) < 1e15 else str(np.float32(value))

    def _first(self, value: float) -> str:
        """The place of the first such value, by dimensions."""
        for start, values in _blocks(self.variable, self.source):
            there = np.argwhere(values.astype(np.float32) == np.float32(value))
            if there.size:
                place = there[0] + np.array(start)
                return ", first at " + ", ".join(
                    f"{name} {number}" for name, number in zip(self.variable.dims, place.tolist(), strict=True)
                )
        return ""


def _blocks(variable: xr.DataArray, source: str) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Blocks of a variable with their first positions; of a large one evenly chosen ones."""
    shape = variable.shape
    axis = next((a for a in range(len(shape)) if math.prod(shape[a + 1 :]) <= _BLOCK), len(shape) - 1)
    length = max(1, _BLOCK // max(1, math.prod(shape[axis + 1 :])))
    starts = [(*outer, start) for outer in np.ndindex(shape[:axis]) for start in range(0, shape[axis], length)]
    for *outer, start in evenly(starts, _BUDGET // _BLOCK):
        index = (*(slice(place, place + 1) for place in outer), slice(start, start + length))
        with reading(f"{source}: '{variable.name}' cannot be read", "The file is damaged: copy or download it again."):
            values: np.ndarray = variable.variable[index].values
        yield (*outer, start, *(0 for _ in shape[axis + 1 :])), values
