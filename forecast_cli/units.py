"""Units of coordinates: names of lengths, times and angles, and the factors between them."""

METRES = {
    "m": 1.0,
    "metre": 1.0,
    "metres": 1.0,
    "meter": 1.0,
    "meters": 1.0,
    "km": 1000.0,
    "kilometre": 1000.0,
    "kilometres": 1000.0,
    "kilometer": 1000.0,
    "kilometers": 1000.0,
    "cm": 0.01,
    "mm": 0.001,
}
"""Metres to a unit of length."""
SECONDS = {"s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86400, "day": 86400}
"""Seconds to a unit of time, in the singular."""
NORTH = frozenset(("degrees_north", "degree_north", "degrees_n", "degree_n", "degreesn", "degreen"))
EAST = frozenset(("degrees_east", "degree_east", "degrees_e", "degree_e", "degreese", "degreee"))
DEGREES = frozenset(("degree", "degrees", "deg", "°")) | NORTH | EAST
RADIANS = frozenset(("radian", "radians", "rad"))
DIMENSIONLESS = frozenset(("", "1"))


def metres_per(unit: str) -> float | None:
    """Metres to a unit of length; None for other units."""
    return METRES.get(unit.strip().lower())


def seconds_per(unit: str) -> int | None:
    """Seconds to a unit of time, in the singular or the plural; None for other units."""
    return SECONDS.get(unit.removesuffix("s") if len(unit) > 1 else unit)
