"""Units of measurement as files spell them: equal ones recognised, lengths, pressures, angles and times brought to one scale."""

import re

_SPELLINGS = {
    "K": ("kelvin", "kelvins", "degk", "deg_k", "degree_kelvin", "degrees_kelvin"),
    "degC": ("celsius", "degc", "deg_c", "degree_c", "degrees_c", "degree_celsius", "degrees_celsius", "°c"),
    "m": ("metre", "metres", "meter", "meters"),
    "km": ("kilometre", "kilometres", "kilometer", "kilometers"),
    "kg": ("kilogram", "kilograms"),
    "Pa": ("pascal", "pascals"),
    "hPa": ("hectopascal", "hectopascals", "millibar", "millibars", "mbar"),
    "s": ("sec", "secs", "second", "seconds"),
    "min": ("mins", "minute", "minutes"),
    "h": ("hr", "hrs", "hour", "hours"),
    "d": ("day", "days"),
    "rad": ("radian", "radians"),
    "%": ("percent",),
}
_CANONICAL = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings}
_SCALES = {
    "m": ("m", 1.0),
    "cm": ("m", 0.01),
    "mm": ("m", 0.001),
    "km": ("m", 1000.0),
    "Pa": ("Pa", 1.0),
    "hPa": ("Pa", 100.0),
    "kPa": ("Pa", 1000.0),
    "s": ("s", 1.0),
    "min": ("s", 60.0),
    "h": ("s", 3600.0),
    "d": ("s", 86400.0),
    "degree": ("degree", 1.0),
    "rad": ("degree", 57.29577951308232),
}
_DEGREES = re.compile(r"deg(ree)?s?(_(north|south|east|west|n|s|e|w|true))?", re.IGNORECASE)
NORTH = frozenset(("degrees_north", "degree_north", "degrees_n", "degree_n", "degreesn", "degreen"))
EAST = frozenset(("degrees_east", "degree_east", "degrees_e", "degree_e", "degreese", "degreee"))
DEGREES = frozenset(("degree", "degrees", "deg", "°")) | NORTH | EAST
RADIANS = frozenset(("radian", "radians", "rad"))
DIMENSIONLESS = frozenset(("", "1"))


def same_unit(first: str, second: str) -> bool:
    """Compare two units, apart from their spelling: 'm/s' is 'm s-1', 'hours' is 'h'."""
    return first == second or _factors(first) == _factors(second)


def scale(unit: str) -> tuple[str, float] | None:
    """Return the base unit of a length, pressure, angle or time and the factor to it; None for any other unit."""
    text = unit.strip()
    return _SCALES.get("degree" if _DEGREES.fullmatch(text) else _symbol(text))


def metres_per(unit: str) -> float | None:
    """Return the metres to a unit of length; None for other units."""
    return _factor(unit, "m")


def seconds_per(unit: str) -> float | None:
    """Return the seconds to a unit of time; None for other units."""
    return _factor(unit, "s")


def _factor(unit: str, base: str) -> float | None:
    found = scale(unit)
    return found[1] if found and found[0] == base else None


def same_time_unit(first: str, second: str) -> bool:
    """Compare the units of two times or durations; plain numbers may have none, or 1."""
    return same_unit(first or "1", second or "1")


def _symbol(text: str) -> str:
    return _CANONICAL.get(text.lower(), text)


def _factors(unit: str) -> tuple[tuple[str, int], ...]:
    """Return symbols with their exponents, sorted; a text that is no product of powers stands for itself."""
    text = _symbol(unit.strip())
    product = re.sub(r"\.(?=[A-Za-z])|[*·]", " ", text.replace("**", "^"))
    exponents: dict[str, int] = {}
    for sign, factor in re.findall(r"(/?)\s*([^\s/]+)", product):
        match = re.fullmatch(r"([A-Za-z%°_]+)\^?([+-]?\d+)?", factor)
        if not match and factor != "1":
            return ((text, 1),)
        if match:
            symbol = _symbol(match[1])
            exponents[symbol] = exponents.get(symbol, 0) + (-1 if sign else 1) * int(match[2] or 1)
    return tuple(sorted(exponents.items())) or ((text, 1),)
