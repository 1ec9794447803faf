"""The table of docs/equations.md: what FINN learns of each equation, with three seeds.

    .venv/bin/python tests/benchmarks/finn_table.py FOLDER [PROBLEM ...]

Everything is made and measured by `forecast` commands, which are printed as they run, in FOLDER, on one thread; each row
is printed when its seeds are done. Rows of files that lie in shared/data need these files.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

SEEDS = (0, 1, 2)
SHARED = Path(__file__).parents[3] / "shared/data/pde"


@dataclass(frozen=True)
class Row:
    """data: the `simulate` arguments, or a file of others. train, rollout: arguments beside the obvious ones.

    known: frames of the training part. tests: name to (data, rollout arguments) of further forecasts.
    """

    title: str
    data: str
    train: str
    known: int
    rollout: str = ""
    select: str = "--select sample=0:1"
    tests: dict[str, tuple[str, str]] = field(default_factory=dict)


def finn(equation: str, learn: str, split: str, more: str = "") -> str:
    return f"--model finn --set model.equation={equation} --set 'model.learn=[{learn}]' --split-along time --split {split} {more}"


BURGERS = "burgers --samples 3 --duration 1 --frames 201"
ROWS = {
    "burgers": Row(
        "Burgers, D known",
        BURGERS,
        finn("burgers", '"advection"', "151,0,50"),
        151,
        tests={"sin": (BURGERS, "--select sample=1:2"), "drawn": (BURGERS, "--select sample=2:3")},
    ),
    "burgers-D": Row(
        "Burgers, D learned",
        BURGERS,
        finn("burgers", '"advection", "D"', "151,0,50"),
        151,
        tests={"sin": (BURGERS, "--select sample=1:2"), "drawn": (BURGERS, "--select sample=2:3")},
    ),
    "burgers-stencil": Row("Burgers, stencil learned", BURGERS, finn("burgers", '"stencil"', "151,0,50"), 151),
    "allen-cahn": Row(
        "Allen-Cahn",
        "allen-cahn --samples 3",
        finn("allen-cahn", '"reaction"', "401,0,0"),
        401,
        tests={
            "sin": ("allen-cahn --samples 3", "--select sample=1:2"),
            "drawn": ("allen-cahn --samples 3", "--select sample=2:3"),
        },
    ),
    "diffusion-sorption": Row(
        "Diffusion-sorption",
        "diffusion-sorption",
        finn("diffusion-sorption", '"retardation"', "501,0,1500"),
        501,
        tests={"left 0.7": ("diffusion-sorption --boundary left=dirichlet:0.7", "--boundary left=dirichlet:0.7")},
    ),
    "diffusion-sorption-left": Row(
        "Diffusion-sorption, boundary value learned",
        "diffusion-sorption --frames 101 --duration 500",
        finn("diffusion-sorption", '"left"', "101,0,0"),
        101,
    ),
    "diffusion-sorption-both": Row(
        "Diffusion-sorption, both learned",
        "diffusion-sorption",
        finn("diffusion-sorption", '"retardation", "left"', "501,0,1500"),
        501,
    ),
    "diffusion-reaction": Row(
        "Diffusion-reaction",
        "diffusion-reaction --samples 2 --frames 201 --duration 20",
        finn("diffusion-reaction", '"reaction"', "101,0,100"),
        101,
        tests={
            "shifted": ("diffusion-reaction --samples 2 --frames 201 --duration 20", "--select sample=1:2 --steps 75")
        },
    ),
    "burgers-2d": Row(
        "Burgers in the plane",
        "burgers-2d --samples 2 --duration 1 --frames 201",
        finn("burgers", '"advection"', "151,0,50"),
        151,
        tests={"x - y": ("burgers-2d --samples 2 --duration 1 --frames 201", "--select sample=1:2")},
    ),
    "shock": Row(
        "burgers_shock.mat, D known",
        f"{SHARED}/burgers_shock.mat",
        finn(
            "burgers",
            '"advection"',
            "50,0,50",
            "--set model.parameters.D=0.0031831 --set model.boundaries=all=dirichlet-ghost:0",
        ),
        50,
        rollout="--init-time 0.49 --steps 50",
        select="--select x=-0.995:0.995",
    ),
    "shock-D": Row(
        "burgers_shock.mat, D learned",
        f"{SHARED}/burgers_shock.mat",
        finn("burgers", '"advection", "D"', "50,0,50", "--set model.boundaries=all=dirichlet-ghost:0"),
        50,
        rollout="--init-time 0.49 --steps 50",
        select="--select x=-0.995:0.995",
    ),
    "ac-mat": Row(
        "AC.mat",
        f"{SHARED}/AC.mat",
        finn("allen-cahn", '"reaction"', "101,0,100", "--set model.parameters.D=1e-4"),
        101,
        rollout="--init-time 0.5 --steps 100",
        select="",
    ),
    "shock-limited": Row(
        "burgers_shock.mat, D learned, scheme limited",
        f"{SHARED}/burgers_shock.mat",
        finn(
            "burgers",
            '"advection", "D"',
            "50,0,50",
            "--set model.scheme=limited --set model.boundaries=all=dirichlet-ghost:0",
        ),
        50,
        rollout="--init-time 0.49 --steps 50",
        select="--select x=-0.995:0.995",
    ),
    "minconvlstm": Row(
        "MinConvLSTM, same data",
        BURGERS,
        "--model minconvlstm --hidden 3x16 --set model.kernel_size=5 --context 10 --horizon 20 --split-along time "
        "--split 151,0,50 --epochs 2000",
        151,
        rollout="--init-time 0.045 --steps 191",
        select="--select sample=0:1",
        tests={
            "sin": (BURGERS, "--select sample=1 --init-time 0.045 --steps 191"),
            "drawn": (BURGERS, "--select sample=2 --init-time 0.045 --steps 191"),
        },
    ),
}


def run(folder: Path, line: str) -> str:
    """Run `forecast LINE` in a folder; returns what it prints on stdout."""
    print(f"$ forecast {line}", file=sys.stderr, flush=True)
    command = [str(Path(sys.executable).with_name("forecast")), *shlex.split(line)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def data_of(folder: Path, text: str) -> str:
    """The file that simulate arguments make, made once; files of others as they are."""
    if text.endswith(".mat"):
        return text
    name = re.sub(r"[^\w.=-]+", "_", text) + ".nc"
    if not (folder / name).exists():
        run(folder, f"simulate {text} -o {name}")
    return name


def errors(folder: Path, forecast: str, data: str, arguments: str, until: int) -> list[float]:
    """Relative L2 [%] of all variables, in units of their spread: over frames up to `until`, and over those after."""
    from forecast_cli.data.fields import open_fields

    select = dict(part.split("=", 1) for part in re.findall(r"--select (\S+)", arguments))
    with xr.open_dataset(folder / forecast, decode_timedelta=False) as made:
        truth = open_fields([str(folder / data)], select=select)
        record = truth.read(0, 0, truth.frames)
        first = int(np.argmin(np.abs(truth.times.values - float(made["init_time"].values.ravel()[0])))) + 1
        steps = made.sizes["lead_time"]
        predicted = np.stack([made[name].values[0].reshape(steps, *record.shape[2:]) for name in truth.names], axis=1)
    record = record[first : first + steps]
    scale = record.std(axis=(0, 2, 3), keepdims=True)
    squares, sizes = (((a / scale) ** 2).sum(axis=(1, 2, 3)) for a in (predicted - record, record))
    cut = max(0, until - first)
    parts = (slice(None, cut), slice(cut, None))
    return [100 * float(np.sqrt(squares[p].sum() / sizes[p].sum())) if len(squares[p]) else np.nan for p in parts]


def closure_errors(run_folder: Path) -> list[float]:
    """Relative L2 [%] of each learned function over the part of its table that training has seen."""
    path, found = run_folder / "closures.nc", []
    if path.exists():
        with xr.open_dataset(path) as table:
            for name in (str(n) for n in table.data_vars if f"{n}_known" in table):
                seen = table[f"{table[name].attrs['closure']}_seen"].values > 0
                known = table[f"{name}_known"].values[seen]
                found.append(100 * float(np.sqrt(((table[name].values[seen] - known) ** 2).sum() / (known**2).sum())))
    return found


def measure(folder: Path, key: str, row: Row, seed: int) -> dict[str, Any]:
    name, data = f"{key}_{seed}", data_of(folder, row.data)
    training = f"train {data} {row.train} {row.select} --seed {seed} -o {name} --overwrite --json"
    told = json.loads(run(folder, training))
    run(folder, f"rollout {name} --data {data} {row.select} {row.rollout} -o {name}.nc --overwrite")
    numbers = json.loads((folder / name / "model.json").read_text())
    found = {"seconds": told["seconds"], "parameters": numbers["parameters"], "learned": told["learned"]}
    found["within"], found["beyond"] = errors(folder, f"{name}.nc", data, row.select, row.known)
    found["closures"] = closure_errors(folder / name)
    for test, (text, arguments) in row.tests.items():
        other = data_of(folder, text)
        run(folder, f"rollout {name} --data {other} {arguments} -o {name}_test.nc --overwrite")
        found[test] = errors(folder, f"{name}_test.nc", other, arguments, 10**9)[0]
    return found


def spread(values: list[float]) -> str:
    """Median (lowest to highest)."""
    if not values or np.isnan(values).all():
        return ""
    return f"{np.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for key in sys.argv[2:] or ROWS:
        row = ROWS[key]
        if row.data.endswith(".mat") and not Path(row.data).exists():
            print(f"{row.title}: {row.data} is not here", file=sys.stderr)
            continue
        seeds = [measure(folder, key, row, seed) for seed in SEEDS]
        cells = [row.title, str(seeds[0]["parameters"]), spread([s["seconds"] for s in seeds])]
        cells += [spread([s[part] for s in seeds]) for part in ("within", "beyond")]
        cells.append("; ".join(f"{test}: {spread([s[test] for s in seeds])}" for test in row.tests))
        cells.append("; ".join(spread(list(values)) for values in zip(*(s["closures"] for s in seeds), strict=True)))
        names = seeds[0]["learned"]
        cells.append("; ".join(f"{n} = {spread([s['learned'][n] for s in seeds])}" for n in names))
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
