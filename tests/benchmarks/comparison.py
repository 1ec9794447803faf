"""Every model at an equal budget of parameters and of training: docs/comparison.md.

    python tests/benchmarks/comparison.py FOLDER

Flows of another seed than those that settings were tuned on, and a month of hourly temperature where ../shared/data is there. Each model
trains for so many epochs as take BUDGET seconds of processor time; two run side by side, a thread each. What is there is not made again.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import xarray as xr

BUDGET = float(os.environ.get("BUDGET", 60))
RECURRENT = ("minconvlstm", "minconvgru", "minconvexplstm", "convlstm", "convgru", "distana", "phydnet")
OTHERS = ("cnn", "resnet", "unet", "convnext", "swin", "var")
FLOWS = ("--preset", "navier-stokes", "--split", "50,10,20")
WEATHER = ("--preset", "series", "--split", "0.6,0.2,0.2", "--context", "25", "--horizon", "6")
UK = Path(__file__).parents[3] / "shared" / "data" / "era5_uk_t2m_hourly_201903.nc"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "FORECAST_PROGRESS_EVERY": "600"}


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


def trained(data: Path, run: Path, model: str, seed: int, options: tuple[str, ...]) -> dict[str, float]:
    """Train within the budget; what it took. A linear model takes what it takes."""
    told = run.with_suffix(".json")
    if told.exists():
        return dict(json.loads(told.read_text()))
    command = ["train", data, *options, "--model", model, "--seed", seed, "--overwrite"]
    if model == "var":
        processor, memory = forecast(*command, "-o", run)
        epochs = seconds = 0.0
    else:
        once, twice = (forecast(*command, "--epochs", n, "-o", run.with_name(f"{run.name}-probe"))[0] for n in (1, 2))
        epochs = max(1, round(BUDGET / (twice - once)))
        processor, memory = forecast(*command, "--epochs", epochs, "-o", run)
        seconds = (twice - once) / steps_of(run)
    made = json.loads((run / "model.json").read_text())
    found = {
        "parameters": made["parameters"],
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


def compared(
    folder: Path,
    data: Path,
    runs: list[tuple[str, int]],
    options: tuple[str, ...],
    rollout: tuple[str, ...],
    extra: dict[str, tuple[str, ...]],
) -> None:
    """Train, forecast, score and draw; the table on stdout."""
    folder.mkdir(parents=True, exist_ok=True)

    def one(case: tuple[str, int]) -> dict[str, float]:
        model, seed = case
        run, output = folder / f"{model}-{seed}", folder / f"{model}-{seed}.nc"
        found = trained(data, run, model, seed, (*options, *extra.get(model, ())))
        if not output.exists():
            forecast("rollout", run, "--data", data, *rollout, "-o", output)
        return found

    with ThreadPoolExecutor(2) as pool:
        took = dict(zip(runs, pool.map(one, runs), strict=True))
    forecasts = [folder / f"{model}-{seed}.nc" for model, seed in runs]
    labels = [word for model, seed in runs for word in ("--label", f"{model}-{seed}")]
    scores = folder / "scores.nc"
    forecast(
        "evaluate",
        *forecasts,
        *labels,
        "--truth",
        data,
        "--baseline",
        "persistence,climatology",
        "-o",
        scores,
        "--overwrite",
    )
    with xr.open_dataset(scores, decode_timedelta=False) as dataset:
        table(dataset["score"].isel(metric=0, variable=0), took)
    first = [path for path, (_, seed) in zip(forecasts, runs, strict=True) if seed == 0]
    names = [word for model, seed in runs if seed == 0 for word in ("--label", model)]
    drawn = folder / "drawn.nc"
    forecast(
        "evaluate", *first, *names, "--truth", data, "--baseline", "persistence,climatology", "-o", drawn, "--overwrite"
    )
    forecast("plot", drawn, "-o", folder / "scores.png", "--overwrite")


def table(scores: xr.DataArray, took: dict[tuple[str, int], dict[str, float]]) -> None:
    """Mean over seeds, and the range."""
    leads = scores.sizes["lead_time"]
    shown = sorted({0, leads // 6 - 1, leads // 3 - 1, leads // 2 - 1, leads - 1} - {-1})
    lead = [float(scores["lead_time"][i]) for i in shown]
    print(
        "| | parameters | epochs | ms a step | peak MiB |",
        " | ".join(f"{value:g}" for value in lead),
        "| all leads (range over seeds) |",
    )
    print("| --- |" + " --- |" * (5 + len(shown)))
    rows = []
    for name in dict.fromkeys(str(label).rsplit("-", 1)[0] for label in scores["model"].values):
        alike = [str(label) for label in scores["model"].values if str(label).rsplit("-", 1)[0] == name]
        values = scores.sel(model=alike).values.reshape(len(alike), leads)
        whole = np.sqrt((values**2).mean(axis=1))
        cells = [f"{value:.3g}" for value in values.mean(axis=0)[shown]]
        spread = f" ({whole.min():.3g} to {whole.max():.3g})" if len(alike) > 1 else ""
        mine = next((used for (model, _), used in took.items() if model == name), None)
        told = ["", "", "", ""]
        if mine:
            step = f"{1000 * mine['seconds_a_step']:.3g}" if mine["seconds_a_step"] else "closed form"
            told = [
                f"{mine['parameters']:,.0f}",
                f"{mine['epochs']:g}" if mine["epochs"] else "",
                step,
                f"{mine['peak_mib']:.0f}",
            ]
        rows.append(
            (whole.mean(), f"| {name} | {' | '.join(told)} | {' | '.join(cells)} | {whole.mean():.3g}{spread} |")
        )
    for _, row in sorted(rows):
        print(row)


def main(folder: Path) -> None:
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    flows = folder / "flows.nc"
    if not flows.exists():
        forecast("simulate", "navier-stokes", "--samples", 80, "--frames", 50, "--seed", 77, "-o", flows)
    runs = [(model, 0) for model in RECURRENT + OTHERS] + [(model, seed) for seed in (1, 2) for model in RECURRENT]
    window = ("--select", "sample=60:80", "--context", "20", "--steps", "30")
    compared(folder / "flows", flows, runs, FLOWS, window, {"var": ("--set", "model.eofs=20,40,80")})
    if UK.exists():
        weather = [("minconvlstm", 0), ("convlstm", 0), ("unet", 0), ("var", 0)]
        bare = ("--set", "data.calendar_features=[]", "--set", "data.climatology_features=[]")  # var takes no forcing
        extra = {"var": (*bare, "--set", "model.seasonal_lag=24", "--set", "model.eofs=5,10,20,40")}
        compared(folder / "uk", UK, weather, WEATHER, ("--steps", "24", "--init-every", "6"), extra)
    print(f"{(time.monotonic() - started) / 60:.0f} minutes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
