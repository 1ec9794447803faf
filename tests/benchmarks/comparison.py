"""Every model at an equal budget of parameters and of training: the tables and pictures of docs/comparison.md.

    python tests/benchmarks/comparison.py FOLDER

Flows of another seed than those that settings were tuned on, and a month of hourly temperature where ../shared/data is there. Each model
trains for so many epochs as take BUDGET seconds of processor time; two run side by side, a thread each. What is there is not made again:
FOLDER/{flows,uk}/table.md, scores.png and all runs.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

BUDGET = float(os.environ.get("BUDGET", 60))
RECURRENT = ("minconvlstm", "minconvgru", "minconvexplstm", "convlstm", "convgru", "distana", "phydnet")
OTHERS = ("cnn", "resnet", "unet", "convnext", "swin", "var")
UK = Path(__file__).parents[3] / "shared" / "data" / "era5_uk_t2m_hourly_201903.nc"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "FORECAST_PROGRESS_EVERY": "600"}


class Case(NamedTuple):
    """One task. runs: model and seed. extra: options of one model. leads: numbers of the lead times in the table."""

    data: Path
    runs: list[tuple[str, int]]
    train: tuple[str, ...]
    rollout: tuple[str, ...]
    baselines: str
    leads: tuple[int, ...]
    extra: dict[str, tuple[str, ...]]


def cases(folder: Path) -> dict[str, Case]:
    """Hidden sizes are the presets', chosen for each model to have as many parameters, but for the three given here."""
    once, again = (
        [(model, 0) for model in RECURRENT + OTHERS],
        [(model, seed) for seed in (1, 2) for model in RECURRENT],
    )
    flows = Case(
        folder / "flows.nc",
        once + again,
        ("--preset", "navier-stokes", "--split", "50,10,20"),
        ("--select", "sample=60:80", "--context", "20", "--steps", "30"),
        "persistence,climatology",
        (1, 5, 10, 20, 30),
        {"var": ("--set", "model.eofs=20,40,80")},
    )
    untold = ("--set", "data.calendar_features=[]", "--set", "data.climatology_features=[]")  # var takes no forcing
    uk = Case(
        UK,
        [("minconvlstm", 0), ("convlstm", 0), ("unet", 0), ("var", 0)],
        ("--preset", "series", "--split", "0.6,0.2,0.2", "--context", "25", "--horizon", "6"),
        ("--steps", "24", "--init-every", "6"),
        "persistence,persistence:24,climatology,climatology:hour",
        (1, 3, 6, 12, 24),
        {
            "var": (*untold, "--set", "model.seasonal_lag=24", "--set", "model.eofs=5,10,20,40"),
            "convlstm": ("--hidden", "3x21"),
            "unet": ("--hidden", "22,30,36"),
        },
    )
    return {"flows": flows, **({"uk": uk} if UK.exists() else {})}


def forecast(*arguments: object) -> tuple[float, float]:
    """Run the tool; processor seconds and peak memory [MiB] of the process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "forecast_cli", *map(str, arguments)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"forecast {' '.join(map(str, arguments))}\n{said}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def trained(case: Case, run: Path, model: str, seed: int) -> dict[str, float]:
    """Train within the budget; what it took. The linear model takes what it takes."""
    told = run.with_suffix(".json")
    if told.exists():
        return dict(json.loads(told.read_text()))
    options = (*case.train, *case.extra.get(model, ()))
    command = ["train", case.data, *options, "--model", model, "--seed", seed, "--overwrite"]
    if model == "var":
        processor, memory = forecast(*command, "-o", run)
        epochs = seconds = 0.0
    else:
        once, twice = (forecast(*command, "--epochs", n, "-o", run.with_name(f"{run.name}-probe"))[0] for n in (1, 2))
        epochs = max(1, round(BUDGET / (twice - once)))
        processor, memory = forecast(*command, "--epochs", epochs, "-o", run)
        seconds = (processor - once) / (epochs - 1) / steps_of(run) if epochs > 1 else (twice - once) / steps_of(run)
    found = {
        "parameters": json.loads((run / "model.json").read_text())["parameters"],
        "epochs": epochs,
        "processor_seconds": processor,
        "seconds_a_step": seconds,
        "peak_mib": memory,
    }
    told.write_text(json.dumps(found))
    return found


def steps_of(run: Path) -> int:
    """Steps of an epoch, from the log."""
    line = next(line for line in (run / "train.log").read_text().splitlines() if "steps_an_epoch=" in line)
    return int(line.split("steps_an_epoch=")[1].split()[0])


def compared(folder: Path, case: Case) -> None:
    """Train, forecast, score and draw."""
    folder.mkdir(exist_ok=True)

    def one(run: tuple[str, int]) -> dict[str, float]:
        model, seed = run
        output = folder / f"{model}-{seed}.nc"
        found = trained(case, folder / f"{model}-{seed}", model, seed)
        if not output.exists():
            forecast("rollout", folder / f"{model}-{seed}", "--data", case.data, *case.rollout, "-o", output)
        return found

    def scored(runs: list[tuple[str, int]], names: list[str], output: Path) -> None:
        forecasts = [folder / f"{model}-{seed}.nc" for model, seed in runs]
        against = ("--truth", case.data, "--baseline", case.baselines)
        forecast("evaluate", *forecasts, "--label", ",".join(names), *against, "-o", output, "--overwrite")

    with ThreadPoolExecutor(2) as pool:
        took = dict(zip(case.runs, pool.map(one, case.runs), strict=True))
    scored(case.runs, [f"{model}-{seed}" for model, seed in case.runs], folder / "scores.nc")
    with xr.open_dataset(folder / "scores.nc", decode_timedelta=False) as dataset:
        rows = table(dataset["score"].isel(metric=0, variable=0), case.leads, took)
    (folder / "table.md").write_text("\n".join(rows) + "\n", "utf-8")
    print("\n".join(rows), flush=True)
    first = [(model, seed) for model, seed in case.runs if seed == 0]
    scored(first, [model for model, _ in first], folder / "drawn.nc")
    forecast("plot", folder / "drawn.nc", "--log", "-o", folder / "scores.png", "--overwrite")


def table(scores: xr.DataArray, leads: tuple[int, ...], took: dict[tuple[str, int], dict[str, float]]) -> list[str]:
    """Means over the seeds, best first; the range of the last column."""
    names = [str(label).rsplit("-", 1)[0] for label in scores["model"].values]
    values = scores.transpose("model", "lead_time", ...).values.reshape(len(names), -1)
    whole = np.sqrt(np.square(values).mean(axis=1))
    lines = [
        f"| | parameters | epochs | s | ms a step | peak MiB | {' | '.join(map(str, leads))} | all leads |",
        "| --- |" + " --- |" * (6 + len(leads)),
    ]
    rows = []
    for name in dict.fromkeys(names):
        alike = [index for index, other in enumerate(names) if other == name]
        mine = [used for (model, _), used in took.items() if model == name]
        told = [""] * 5
        if mine:
            mean = {key: float(np.mean([used[key] for used in mine])) for key in mine[0]}
            told = [f"{mean['parameters']:,.0f}", "", f"{mean['processor_seconds']:.0f}", "", f"{mean['peak_mib']:.0f}"]
            if mean["epochs"]:
                told[1], told[3] = f"{mean['epochs']:.0f}", f"{1000 * mean['seconds_a_step']:.0f}"
        at = [f"{values[alike, lead - 1].mean():.3g}" for lead in leads]
        spread = f" ({whole[alike].min():.3g} to {whole[alike].max():.3g})" if len(alike) > 1 else ""
        row = [f"`{name}`" if mine else name, *told, *at, f"{whole[alike].mean():.3g}{spread}"]
        rows.append((whole[alike].mean(), f"| {' | '.join(row)} |"))
    return lines + [row for _, row in sorted(rows)]


def main(folder: Path) -> None:
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "flows.nc").exists():
        flows = ("--samples", 80, "--frames", 50, "--seed", 77)
        forecast("simulate", "navier-stokes", *flows, "-o", folder / "flows.nc")
    for name, case in cases(folder).items():
        compared(folder / name, case)
    print(f"{(time.monotonic() - started) / 60:.0f} minutes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
