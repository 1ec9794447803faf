"""What a model knows of the world it forecasts: variables, grid and time step, as plain data.

A Domain is read off a file (`data.fields`), travels in the checkpoint, and says at rollout whether
another file fits. It holds numbers and strings only, so that it can be written as JSON.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

GridKind = Literal["latitude-longitude", "cartesian", "index"]
Boundary = Literal["zeros", "circular", "cylinder", "replicate"]

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True)
class Variable:
    """One forecast quantity. `units` and names are those of the file, empty where it says nothing."""

    name: str
    units: str = ""
    long_name: str = ""
    standard_name: str = ""


@dataclass(frozen=True)
class Axis:
    """A spatial dimension: `size` cell centres from `first` on, `spacing` apart [units].

    `spacing` is negative on a descending axis and None where the centres are not evenly spaced;
    both are None on a dimension without coordinate.
    """

    name: str
    size: int
    units: str = ""
    first: float | None = None
    spacing: float | None = None


@dataclass(frozen=True)
class TimeStep:
    """The time between two frames.

    unit: "second" for dated series of fixed step, "month" for series regular in the calendar,
    "frame" where the file has no times, otherwise the file's own unit of a plain numeric time.
    """

    amount: float
    unit: str

    def __str__(self) -> str:
        if self.unit == "month" and self.amount % 12 == 0:
            return _counted(self.amount / 12, "year")
        if self.unit == "second":
            for name, seconds in reversed(_SECONDS.items()):
                if self.amount >= seconds:
                    return _counted(self.amount / seconds, name)
        return _counted(self.amount, self.unit)


def _counted(amount: float, unit: str) -> str:
    if unit == "1":
        return f"{amount:g}"
    return f"{amount:g} {unit}" + (
        "s" if amount != 1 and unit.isalpha() and len(unit) > 2 and not unit.endswith("s") else ""
    )


@dataclass(frozen=True)
class Domain:
    """Variables, grid and time step of a data set; `y` is None for fields in one dimension.

    boundary: the padding that suits the grid, chosen where the user says "auto".
    static, forcing: names of the further input channels, which do not change or are known ahead.
    """

    variables: tuple[Variable, ...]
    y: Axis | None
    x: Axis
    time_step: TimeStep
    grid: GridKind
    boundary: Boundary
    static: tuple[str, ...] = ()
    forcing: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channel, height, width) of one frame."""
        return len(self.variables), self.y.size if self.y else 1, self.x.size

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Domain":
        return cls(
            variables=tuple(Variable(**variable) for variable in content["variables"]),
            y=Axis(**content["y"]) if content["y"] else None,
            x=Axis(**content["x"]),
            time_step=TimeStep(**content["time_step"]),
            grid=content["grid"],
            boundary=content["boundary"],
            static=tuple(content["static"]),
            forcing=tuple(content["forcing"]),
        )
