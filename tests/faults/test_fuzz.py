"""A thousand inputs that nobody meant: no traceback, no hang, no exit code 0 with a wrong result.

Each is a function of its number alone. `make test` runs a share of them, `make test-faults` all. To run one again:
pytest -m 'faults or not faults' 'tests/faults/test_fuzz.py::test_a_file_that_nobody_meant[123]'
"""

import csv
import itertools
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest
import tomli_w
import torch
import zarr
from faults.mutations import BYTES, FORMATS, MEANINGS, WHOLE
from faults.watched import WRITTEN, End, command
from faults.words import command_lines, configurations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from forecast_cli.checkpoint import load_model
from forecast_cli.cli import app
from forecast_cli.data.fields import open_fields
from forecast_cli.data.forecasts import open_forecast, open_written
from forecast_cli.errors import DataError

FILES, SHARE = 700, 16
"""How many files, and the n-th of them that `make test` runs too."""
TINY = ("--hidden", 3, "--context", 2, "--horizon", 1, "--epochs", 1)
INVERT = ("--noise", "1%", "--iterations", 3, "--uncertainty", "none")


# Inputs


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole file of every format, a run trained on it, and one of all that the commands write."""
    folder = tmp_path_factory.mktemp("originals")

    def made(*arguments: object) -> None:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code in WRITTEN, result.output

    for name, write in FORMATS.items():
        write(folder / name, WHOLE)
        made("train", folder / name, "-o", folder / f"run of {name}", *TINY)
    series, run = folder / "netcdf4.nc", folder / "run of netcdf4.nc"
    for name in ("forecast.nc", "forecast.zarr"):
        made("rollout", run, "--data", series, "-o", folder / name)
    made("evaluate", folder / "forecast.nc", "--truth", series, "--spectra", "-o", folder / "scores.nc")
    waves = ("--grid", 6, "--frames", 12, "--samples", 1, "--topography", "seamount", "--noise", "1%")
    made("simulate", "shallow-water", *waves, "-o", folder / "waves.nc")
    made("invert-topography", folder / "waves.nc", *INVERT, "-o", folder / "bed.nc")
    for file in ("netcdf4.nc", "forecast.nc", "scores.nc", "bed.nc"):
        made("info", folder / file)
        made("plot", folder / file, "-o", folder / "picture.png", "--overwrite")
    return folder


DATA = ("info", "train", "rollout", "evaluate truth", "plot")
INPUTS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(FORMATS, DATA),
    "waves.nc": ("info", "invert-topography", "invert-topography", "plot"),
    "forecast.nc": ("info", "evaluate", "plot"),
    "forecast.zarr": ("info", "evaluate", "plot"),
    "scores.nc": ("info", "plot"),
    "bed.nc": ("info", "plot"),
    "run of netcdf4.nc/metrics.csv": ("plot run",),
    "run of netcdf4.nc/config.toml": ("info run", "plot run"),
    "run of netcdf4.nc/climatology.nc": ("rollout again",),
}
"""What is damaged, and the commands that may read it."""


def arguments(name: str, kind: str, file: Path, originals: Path) -> tuple[object, ...]:
    """The command line of a kind of command for a damaged file that was made from original `name`."""
    run = originals / f"run of {name}"
    series = originals / "netcdf4.nc"
    return {
        "info": ("info", file, "--json"),
        "train": ("train", file, "-o", "out", *TINY, "--json"),
        "rollout": ("rollout", run, "--data", file, "-o", "out.nc", "--json"),
        "evaluate truth": ("evaluate", originals / "forecast.nc", "--truth", file, "-o", "out.nc", "--json"),
        "evaluate": ("evaluate", file, "--truth", series, "-o", "out.nc", "--json"),
        "plot": ("plot", file, "-o", "out.png"),
        "invert-topography": ("invert-topography", file, *INVERT, "-o", "out.nc", "--json"),
        "plot run": ("plot", file.parent, "-o", "out.png"),
        "info run": ("info", file.parent, "--json"),
        "rollout again": ("rollout", file.parent, "--data", series, "-o", "out.nc", "--json"),
    }[kind]


def copied(original: Path, folder: Path) -> Path:
    """A copy to damage; of a file of a run, within a copy of the run."""
    if original.parent.name.startswith("run of"):
        return shutil.copytree(original.parent, folder / "run") / original.name
    copy = folder / f"damaged-{original.name}"
    return shutil.copytree(original, copy) if original.is_dir() else shutil.copy(original, copy)


# What must be true of a result


def strict(text: str) -> Any:
    """JSON as its standard says: without NaN."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def check_info(stdout: str, file: Path) -> None:
    told = strict(stdout)
    if "dimensions" not in told:
        return
    sizes = [axis["size"] for axis in told["dimensions"].values() if axis]
    assert min(sizes) >= 1
    for variable in told["variables"]:
        assert 0 <= variable["missing"] <= 1
        cells = cells_of(file, variable["name"])
        assert cells in (None, math.prod(sizes)), f"{variable['name']} has {cells} values, not {sizes}"


def cells_of(file: Path, name: str) -> int | None:
    """The number of values of a variable, as the format's own library says; None if it has another name there."""
    if file.is_dir():
        store = zarr.open_group(file, mode="r")
        return math.prod(store[name].shape) if name in store else None
    if file.suffix == ".nc":
        with netCDF4.Dataset(file) as dataset:
            return int(dataset[name].size) if name in dataset.variables else None
    with h5py.File(file) as groups:
        found: list[int] = []
        groups.visititems(lambda path, item: found.append(item.size) if path.rpartition("/")[2] == name else None)
    return found[0] if len(found) == 1 else None


def check_train(stdout: str) -> None:
    saved = load_model(Path("out"))
    assert all(torch.isfinite(tensor).all() for tensor in saved.model.state_dict().values()), "weights are not finite"
    with Path("out/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == strict(stdout)["epochs"] == 1
    assert math.isfinite(float(rows[0]["training_loss"]))


def check_rollout(stdout: str) -> None:
    told, made = strict(stdout), open_forecast(Path("out.nc"))
    assert (made.dataset.sizes[made.outer], made.leads) == (told["starts"], told["steps"])
    for name in made.variables:
        assert np.isfinite(made.dataset[name].values).all(), f"{name} is not finite"


def check_evaluate(stdout: str) -> None:
    strict(stdout)
    scores = open_written(Path("out.nc"))["score"].values
    assert np.isfinite(scores).all(), "scores are not finite"
    assert (scores >= 0).all()


def check_plot(_: str) -> None:
    with Image.open("out.png") as picture:
        picture.load()
        assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 1, "an empty picture"


def check_inversion(stdout: str) -> None:
    strict(stdout)
    depth = open_written(Path("out.nc"))["depth"].values
    assert np.isfinite(depth).all()
    assert (depth > 0).all()


CHECKS: Mapping[str, Callable[[str], None]] = {
    "train": check_train,
    "rollout": check_rollout,
    "rollout again": check_rollout,
    "evaluate": check_evaluate,
    "evaluate truth": check_evaluate,
    "plot": check_plot,
    "plot run": check_plot,
    "invert-topography": check_inversion,
    "info run": lambda stdout: strict(stdout),
}


def checking(kind: str, file: Path) -> Callable[[str], str]:
    """The check of a command's result, as what is wrong with it in words."""

    def check(stdout: str) -> str:
        try:
            check_info(stdout, file) if kind == "info" else CHECKS[kind](stdout)
        except Exception as error:
            return f"exit code 0 with a wrong result: {type(error).__name__}: {error}"
        return ""

    return check


def left_under(end: End, folder: Path, output: str) -> str:
    """What a refused command left under the output's name; "" if nothing."""
    kept = output == "out"  # a run directory may hold its log and its first epochs
    return "" if end.code in WRITTEN or kept or not (folder / output).exists() else f"refused, and left {output}"


# The laws


def damaged(number: int, originals: Path, folder: Path) -> tuple[str, str, Path, str]:
    """Damage the file that a number means: the name of its original, the command to run, the file, and what was done."""
    random = np.random.default_rng([7, number])
    name = list(INPUTS)[number % len(INPUTS)]
    only_bytes = not name.endswith((".nc", ".h5", ".hdf5", ".zarr"))
    known = BYTES if only_bytes or random.random() < 0.4 else MEANINGS
    choices = [key for key in known if key != "shape" or name in FORMATS]
    mutation = choices[int(random.integers(len(choices)))]
    file = copied(originals / name, folder)
    known[mutation](file, random)
    kind = INPUTS[name][int(random.integers(len(INPUTS[name])))]
    return name, kind, file, mutation


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=pytest.mark.faults) if n % SHARE else n for n in range(FILES)]
)
def test_a_file_that_nobody_meant(number, originals, tmp_path, record_property):
    name, kind, file, mutation = damaged(number, originals, tmp_path)
    line = arguments(name, kind, file, originals)
    end = command(line, tmp_path / "here", checking(kind, file))
    record_property("end", f"{kind}, {mutation}: {end.code}")
    if end.crashed_in:
        pytest.xfail(f"{name}, {mutation}: {end.crashed_in} crashes: {end.crash.splitlines()[0]}")
    output = str(line[line.index("-o") + 1]) if "-o" in line else "out"
    complaint = end.complaint or left_under(end, tmp_path / "here", output)
    assert not complaint, f"{name}, {mutation}: forecast {' '.join(map(str, line))}\n{complaint}\n{end.stderr}"


def values_of(path: Path) -> list[Any]:
    """All that a file holds, and where and when."""
    fields = open_fields([str(path)])
    frames = [fields.read(sample, 0, fields.frames) for sample in range(fields.samples)]
    return [np.stack(frames).tobytes(), fields.times.values.tolist(), fields.domain]


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_short_is_refused_or_has_lost_nothing(name, tmp_path):
    FORMATS[name](tmp_path / name, WHOLE)
    whole, refused = values_of(tmp_path / name), 0
    for number in range(20):
        (folder := tmp_path / str(number)).mkdir()
        file = copied(tmp_path / name, folder)
        BYTES["cut short"](file, np.random.default_rng(number))
        try:
            assert values_of(file) == whole
        except DataError:
            refused += 1
    assert refused > 5


def shares(examples: int) -> list[Any]:
    """A parameter that says how many examples: a sixteenth always, all of them where faults are asked for."""
    return [examples // SHARE, pytest.param(examples, marks=pytest.mark.faults)]


def made_up(examples: int, strategy: st.SearchStrategy[Any], law: Callable[[Any], None]) -> None:
    """Assert a law for so many examples, the same ones in every run."""
    settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )(given(strategy)(law))()


@pytest.mark.parametrize("examples", shares(150))
def test_a_configuration_that_nobody_meant(examples, originals, tmp_path):
    folders = (tmp_path / str(number) for number in itertools.count())

    def law(drawn: tuple[str, dict[str, Any], bool]) -> None:
        name, content, dry = drawn
        (folder := next(folders)).mkdir()
        (folder / "made_up.toml").write_text(tomli_w.dumps(content))
        bounded = (
            "--set",
            "training.iterations=2",
            "--set",
            "training.compile=false",
            "--epochs",
            1,
            "--context",
            2,
            "--horizon",
            1,
        )
        line = (
            "train",
            originals / name,
            "--config",
            "made_up.toml",
            "-o",
            "out",
            *(("--dry-run",) if dry else bounded),
        )
        end = command((*line, "--json"), folder, (lambda out: strict(out) and "") if dry else checking("train", folder))
        assert not end.complaint, (
            f"forecast {' '.join(map(str, line))}\n{tomli_w.dumps(content)}\n{end.complaint}\n{end.stderr}"
        )

    names = st.sampled_from(["netcdf4.nc", "trajectories.nc", "waves.nc"])
    made_up(examples, st.tuples(names, configurations(), st.booleans()), law)


@pytest.mark.parametrize("examples", shares(150))
def test_a_command_line_that_nobody_meant(examples, originals, tmp_path):
    folders = (tmp_path / str(number) for number in itertools.count())
    names = ("netcdf4.nc", "waves.nc", "forecast.nc", "run of netcdf4.nc")
    series, waves, forecast, run = (str(originals / name) for name in names)
    bases = [
        ["info", series],
        ["train", series, "-o", "out", *map(str, TINY)],
        ["rollout", run, "--data", series, "-o", "out.nc", "--steps", "2"],
        ["evaluate", forecast, "--truth", series, "-o", "out.nc"],
        ["plot", forecast, "-o", "out.png"],
        ["plot", str(originals / "scores.nc"), "-o", "out.png"],
        ["invert-topography", waves, "-o", "out.nc", *map(str, INVERT)],
        ["simulate", "shallow-water", "--grid", "6", "--frames", "4", "--samples", "1", "-o", "out.nc"],
        ["simulate", "navier-stokes", "--grid", "8", "--frames", "3", "--samples", "1", "-o", "out.nc"],
        ["rollout", run, "--data", series, "-o", "out.zarr"],
        ["evaluate", forecast, "--truth", series, "--metric", "acc"],
    ]

    def law(line: list[str]) -> None:
        end = command(line, next(folders), lambda stdout: check_of(line, stdout))
        assert not end.complaint, f"forecast {line}\n{end.complaint}\n{end.stderr}"

    made_up(examples, command_lines(bases, originals), law)


def check_of(line: Sequence[str], stdout: str) -> str:
    """What is wrong after exit code 0: the file that was asked for is not there, or stdout is no JSON."""
    if {"--help", "--dry-run"} & set(line):
        return ""
    if "--json" in line:
        strict(stdout)
    outputs = [value for option, value in itertools.pairwise(line) if option in ("-o", "--output")]
    return "" if not outputs or Path(outputs[-1]).exists() else f"exit code 0, and no {outputs[-1]}"
