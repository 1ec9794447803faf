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

PLACES = {
    "netcdf4": "netcdf4.nc",
    "waves": "waves.nc",
    "run": "run of netcdf4.nc",
    "scores": "scores.nc",
    "forecast": "forecast.nc",
}
"""What stands in the folder of the originals."""

_TEXTS = (
    "", " ", "é☃", "a=b", "=", ":", "x:y", "0", "1", "2", "-1", "1.5", "1e999", "nan", "inf", "last", "2000-01-03", "t2m",
    "time=0:3", "lat=50", "lat=nan", "lon=10:14", "sample=0", "/", ".", "..", "-", "--", "~", "9" * 30, str(2**31), "0.5,0.25,0.25",
    "10,5,5", "1:2,3:4", "eta=1%", "time=time,y=lat", "y=lon", "*.nc", "[", "model.name=convgru", "training.seed=-1",
    "none.nc:x", "rmse,acc", "persistence:2", "climatology:hour", "a=0:1,0:1", "1h", "6h", "6mo", "00:00:01", "auto",
    "must", "must", "out/", "out.zarr", "out.nc", "out.png", "out.gif", "x" * 300,
)  # fmt: skip
_GOOD: Mapping[str, Sequence[str]] = {
    "select": ("time=2000-01-01:2000-01-04", "lat=50", "lon=10:14", "lat=44:50", "time=last", "lat=nan", "sample=0:1", "x=3", "lon=:"),
    "dims": ("time=time,y=lat,x=lon", "y=lon,x=lat", "time=time", "y=y", "z=lat", "time=lat", "time=time,time=lat"),
    "split": ("0.5,0.25,0.25", "12,6,6", "24,0,0", "1,1,1", "0.5,0.5", "2000-01-01:2000-01-04,2000-01-05:2000-01-06", ":12,12:", "nan,1,1"),
    "split_along": ("time", "sample", "x"),
    "variable": ("t2m", "pressure", "t2m,pressure", "eta", "eta=eta,u=u", "u", ","),
    "set_": ("model.kernel_size=9", "training.segments=1", "model.patch=2", "data.normalize=pointwise", "model.boundary=circular",
             "data.coordinates='y,x'", "data.calendar_features=auto", "model.name=convlstm", "data.stride=9", "x", "a.b=c",
             "model.hidden=[]"),
    "static": ("t2m", "lat", "{netcdf4}:t2m", "{netcdf4}:lat"), "forcing": ("t2m", "pressure", "{netcdf4}:pressure", "lat"),
    "mask": ("t2m", "t2m=1", "{netcdf4}:lat", "{netcdf4}:t2m"),
    "init_time": ("last", "2000-01-03", "2000-01-03T06", "1999-01-01", "3"), "lead_time": ("6h", "1d", "2", "0h", "1e9d", "6mo"),
    "metric": ("rmse", "acc", "bias,mae", "relative_l2", "x"), "region": ("a=44:50,10:14", "a=0:1,0:1", "a={netcdf4}:t2m", "a=nan:1,0:1"),
    "baseline": ("persistence", "persistence:2", "climatology", "climatology:hour", "persistence:0", "persistence:999"),
    "climatology": ("mean", "hour", "dayofyear", "month", "x"), "label": ("a", "a,b", "[red]", "é"), "block": ("1", "2", "99", "0"),
    "lead": ("1", "1,2", "0", "99", "2,1"), "what": ("fields", "animation", "scores", "spectra", "training", "topography"),
    "preset": ("series", "finn", "navier-stokes", "x"), "model": ("convgru", "finn", "minconvgru", "x"), "hidden": ("2x2", "1", "0", "3,"),
    "resume": ("auto", "must", "never"), "time_limit": ("00:00:01", "0", "1e9", "::"), "naming": ("cf", "weatherbench2", "x"),
    "nan": ("mask", "error"), "precision": ("32", "bf16", "16"), "device": ("cpu", "cuda", "cuda:99", "mps", "meta", "x"),
    "learning_rate": ("0.1", "1e30", "nan", "-1"), "seed": ("0", "-1", "9" * 30), "batch_size": ("1", "2", "1000000", "0"),
    "context": ("1", "3", "23", "24", "1000"), "horizon": ("0", "1", "20", "1000"), "init_every": ("1", "2", "99"),
    "start": ("0", "-1", "99"),
    "checkpoint_every": ("1", "1m", "0", "x"), "noise": ("1%", "0.1", "eta=1%", "0", "-1%", "nan"), "gravity": ("free", "9.81", "0", "nan"),
    "dtype": ("float32", "float64", "x"), "prior": ("white", "smooth", "smooth:1000", "smooth:x"), "initial": ("50", "auto", "-1", "1e9"),
    "topography": ("seamount", "shelf", "flat", "x"), "duration": ("1", "0", "-1", "nan"), "time_step": ("10", "1e-30", "0", "nan"),
    "min_depth": ("1", "-1", "1e9", "nan"), "max_depth": ("100", "4000", "0", "nan"), "uncertainty": ("none", "gauss-newton", "x"),
    "scheme": ("upwind", "centred", "x"), "param": ("D=1", "nu=0.01", "x=1", "D=nan"),
    "boundary": ("left=dirichlet:1", "top=x", "left=periodic"),
    "output": ("out.nc", "out.zarr", "out.png", "out", "no/where.nc", "."), "init_from": ("{run}", "."),
    "initial_velocity": ("rest", "auto", "x"),
    "refine": ("1", "2", "0"), "coarsen": ("1", "2", "3"), "viscosity": ("0.001", "0", "nan"), "truth": ("{netcdf4}", "{waves}:depth", "x"),
    "coriolis": ("0", "1e-4", "nan"), "beta": ("0", "1", "nan"), "friction": ("0", "1", "-1"), "data": ("{netcdf4}", "{waves}", "x.nc"),
}  # fmt: skip
"""Values that an option may take, some of them good, by the name of its parameter."""
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


def command_lines(bases: Sequence[Sequence[str]], folder: Path) -> st.SearchStrategy[list[str]]:
    """A command line that works, with options added, repeated, moved and lost."""
    texts = st.one_of(
        st.sampled_from([*_TEXTS, *(str(folder / name) for name in PLACES.values())]),
        st.text(st.characters(exclude_characters="\0"), max_size=5),
    )

    @st.composite
    def line(draw: st.DrawFn) -> list[str]:
        base = list(draw(st.sampled_from(bases)))
        names, rest = _command_of(base)
        parts = _parts(rest)
        for option in draw(st.lists(st.sampled_from(_options(names)), max_size=4)):
            meant = _COUNTS if option.name in _LONG else _GOOD.get(option.name)
            pool = st.sampled_from(meant) if meant and (option.name in _LONG or draw(st.integers(0, 5))) else texts
            word = draw(st.sampled_from(option.opts))
            parts.append([word] if option.is_flag else [word, _placed(draw(pool), folder)])
        parts = draw(st.permutations(parts)) if draw(st.booleans()) else parts
        if draw(st.integers(0, 9)) == 0:
            parts = parts[:-1]
        if draw(st.integers(0, 9)) == 0:
            parts.insert(draw(st.integers(0, len(parts))), [draw(texts)])
        return [*names, *(word for part in parts for word in part)]

    return line()


def _placed(text: str, folder: Path) -> str:
    """A value with the files that it names as {key} in the place of their keys."""
    for key, name in PLACES.items():
        text = text.replace(f"{{{key}}}", str(folder / name))
    return text


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


def _options(names: Sequence[str]) -> list[Any]:
    """The options of a command."""
    found: Any = typer.main.get_command(app)
    for name in names:
        found = found.commands[name]
    return [option for option in found.params if option.param_type_name == "option"]
