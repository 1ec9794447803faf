"""Configurations and command lines that hypothesis makes up: valid ones, contradictory ones, and nonsense."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from hypothesis import strategies as st

from forecast_cli.cli import app
from forecast_cli.config import RunConfig
from forecast_cli.models import MODELS

_WHOLE = (0, 1, 2, 3, 5, 8, 25, 1000, -1, 2**31, 2**63, 10**30)
_REAL = (0.0, 0.5, 1e-3, 1.0, 3.0, -1.0, 1e30, 1e-30, 1e300, math.inf, math.nan)
_NONSENSE = st.one_of(
    st.text(max_size=6), st.integers(), st.floats(), st.booleans(), st.lists(st.integers(-2, 9), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(-1, 3), max_size=2), st.just([[]]), st.dates(),
)  # fmt: skip
_KNOWN: Mapping[str, Sequence[Any]] = {
    "data.files": (["x.nc"], [], "x.nc"),
    "data.variables": (["t2m"], "t2m,pressure", ["t2m", "t2m"], ["lat"], ["none"]),
    "data.dims": ({"time": "time"}, "y=lon,x=lat", {"time": "lat"}, {"z": "lat"}, {"time": "time", "x": "time"}),
    "data.select": ({"lat": "50"}, {"time": "2000-01-01:2000-01-04"}, {"lon": "3:4"}, {"time": "nan"}, {"": ""}),
    "data.split": ([0.5, 0.25, 0.25], [12, 6, 6], "0.9,0.1,0", [1], ["a", "b", "c"], [0, 0, 0], [1e9, 1, 1],
                   ["2000-01-01:2000-01-03", "2000-01-04:2000-01-05"], [-1, 2, 3], [math.nan, 0.1, 0.1], "::,:", [":2", "1:"]),
    "data.memory": ("1K", "0", "2G", 5, "-1M", "1e3M", ".", "9" * 400),
    "data.mask": ("t2m", "t2m=280", "lat", "none:none", "=", ":", "t2m=x"),
    "data.static": (["t2m"], ["lat"], "x.nc:v", [":"]),
    "data.forcing": (["pressure"], ["lat"], "x.nc:v", [":"]),
    "data.calendar_features": ("auto", ["hour", "hour"], "dayofyear", ["x"]),
    "data.climatology_features": ("auto", "hour", ["dayofyear", "month"], ["x"]),
    "data.coordinates": ("y", ["y", "x"], ["y", "y"], "z"),
    "model.name": (*MODELS, "", "unknown", "MinConvLSTM"),
    "model.hidden": ([3], [3, 3], "2x3", "0x3", "3x0", [], [0], [10**9], "x", [4, 2, 4], "1000x1"),
    "model.scan": ("auto", "sequential", "log_space", "fused", "native", "triton", "x"),
    "model.equation": ("burgers", "allen-cahn", "diffusion-sorption", "diffusion-reaction", "shallow-water", "", "x"),
    "model.learn": (["advection"], "D", ["stencil"], ["left", "right"], ["x"], ["D", "D"]),
    "model.parameters": ({"D": 0.1}, {"D": -1.0}, {"x": 1}, {"D": math.nan}, {"D": 1e300}),
    "model.boundaries": ({"left": "dirichlet:1"}, {"left": "periodic"}, {"top": "x"}, {"left": "cauchy:::"}, "left="),
    "model.closures": ({"retardation": "langmuir"}, {"x": "y"}, "retardation=x"),
    "model.scheme": ("upwind", "limited", "centred", "x"),
    "model.solver": ("auto", "euler", "heun", "dopri5", "x"),
    "training.segments": ([1], [0, 2], "3,1", [10**9], [-1]),
}  # fmt: skip


def configurations() -> st.SearchStrategy[dict[str, dict[str, Any]]]:
    """Sections with some keys, nine of ten with values that are at least of the right kind."""
    schema = RunConfig.model_json_schema()
    choices: dict[str, st.SearchStrategy[Any]] = {}
    for section, reference in schema["properties"].items():
        for key, described in schema["$defs"][reference["$ref"].rpartition("/")[2]]["properties"].items():
            known = st.sampled_from(_KNOWN.get(f"{section}.{key}") or _of_kind(described))
            choices[f"{section}.{key}"] = st.integers(0, 9).flatmap(lambda n, known=known: known if n else _NONSENSE)
    keys = st.lists(st.sampled_from([*choices, "model.nam", "", "x.y"]), min_size=1, max_size=5, unique=True)

    def nested(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for place, value in values.items():
            section, _, key = place.partition(".")
            found.setdefault(section, {})[key] = value
        return found

    return keys.flatmap(lambda chosen: st.fixed_dictionaries({key: choices.get(key, _NONSENSE) for key in chosen})).map(
        nested
    )


def _of_kind(described: Mapping[str, Any]) -> Sequence[Any]:
    """Values of the kind that a schema describes, good and bad."""
    if "enum" in described:
        return [*described["enum"], "x"]
    kinds = {choice.get("type") for choice in described.get("anyOf", [described])}
    if choice := next((choice["enum"] for choice in described.get("anyOf", []) if "enum" in choice), None):
        return [*choice, "x"]
    return (
        (True, False)
        if "boolean" in kinds
        else _WHOLE
        if "integer" in kinds
        else _REAL
        if "number" in kinds
        else ("", "x")
    )


# Command lines

_TEXTS = (
    "", " ", "é☃", "a=b", "=", ":", "x:y", "0", "1", "2", "-1", "1.5", "1e999", "nan", "inf", "last", "2000-01-03", "t2m",
    "time=0:3", "lat=50", "lat=nan", "lon=10:14", "sample=0", "/", ".", "..", "-", "--", "~", "9" * 30, str(2**31), "0.5,0.25,0.25",
    "10,5,5", "1:2,3:4", "eta=1%", "time=time,y=lat", "y=lon", "*.nc", "[", "model.name=convgru", "training.seed=-1",
    "none.nc:x", "rmse,acc", "persistence:2", "climatology:hour", "a=0:1,0:1", "1h", "6h", "6mo", "00:00:01", "auto",
    "must", "must", "out/", "out.zarr", "out.nc", "out.png", "out.gif", "x" * 300,
)  # fmt: skip
_COUNTS = ("0", "1", "2", "3", "-1", "x", "1.5", "")
"""For what takes as long as it is large."""
_LONG = {
    "epochs",
    "iterations",
    "frames",
    "samples",
    "steps",
    "bootstrap",
    "members",
    "grid",
    "every",
    "rate",
    "substeps",
}


def command_lines(bases: Sequence[Sequence[str]], files: Sequence[Path]) -> st.SearchStrategy[list[str]]:
    """A command line that works, with options added, repeated, moved and lost."""
    texts = st.one_of(
        st.sampled_from([*_TEXTS, *map(str, files)]), st.text(st.characters(exclude_characters="\0"), max_size=5)
    )

    @st.composite
    def line(draw: st.DrawFn) -> list[str]:
        base = list(draw(st.sampled_from(bases)))
        names, rest = _command_of(base)
        parts = _parts(rest)
        for option, takes, long in draw(st.lists(st.sampled_from(_options(names)), max_size=4)):
            pool = st.sampled_from(_COUNTS) if long else texts
            parts.append([option, draw(pool)] if takes else [option])
        parts = draw(st.permutations(parts)) if draw(st.booleans()) else parts
        if draw(st.integers(0, 4)) == 0:
            parts = parts[:-1]
        if draw(st.integers(0, 4)) == 0:
            parts.insert(draw(st.integers(0, len(parts))), [draw(texts)])
        return [*names, *(word for part in parts for word in part)]

    return line()


def _command_of(base: list[str]) -> tuple[list[str], list[str]]:
    count = 2 if base[0] == "simulate" else 1
    return base[:count], base[count:]


def _parts(words: Sequence[str]) -> list[list[str]]:
    """Words as options with their values, and single words."""
    parts: list[list[str]] = []
    for word in words:
        if parts and len(parts[-1]) == 1 and parts[-1][0].startswith("-"):
            parts[-1].append(word)
        else:
            parts.append([word])
    return parts


def _options(names: Sequence[str]) -> list[tuple[str, bool, bool]]:
    """Options of a command: its word, whether a value follows, and whether that costs time."""
    found: Any = typer.main.get_command(app)
    for name in names:
        found = found.commands[name]
    return [
        (word, not option.is_flag, option.name in _LONG)
        for option in found.params
        if option.param_type_name == "option"
        for word in option.opts
    ]
