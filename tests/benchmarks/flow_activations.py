"""ConvNeXt and Swin blocks with one activation or another on Navier-Stokes flows: a table of docs/activations.md.

    python tests/benchmarks/flow_activations.py FOLDER

The flows, the split and the window of comparison.py; equal epochs for all, about a minute of processor time. One run after the other,
each on one thread. Printed of three seeds: RMSE of vorticity over all leads, and what is dead in the best model on the validation
windows, as `forecast train --report-activations` tells it. What is there is not made again.
"""

import json
import sys
from pathlib import Path

import torch
import xarray as xr
from comparison import forecast

from forecast_cli.activity import activity
from forecast_cli.checkpoint import load_model
from forecast_cli.data.fields import open_fields

MODELS = ("convnext", "swin")
NAMES = ("gelu", "relu", "sugar-nelu")
SEEDS = (0, 1, 2)
EPOCHS = 8
SIMULATE = ("simulate", "navier-stokes", "--samples", 80, "--frames", 50, "--seed", 77)
TRAIN = ("--preset", "navier-stokes", "--split", "50,10,20")
ROLLOUT = ("--select", "sample=60:80", "--context", 20, "--steps", 30)


def measured(flows: Path, run: Path, model: str, name: str, seed: int) -> dict[str, float]:
    """Train, forecast and score one model; made once."""
    told = run.with_suffix(".json")
    if told.exists():
        return dict(json.loads(told.read_text()))
    chosen = ("--model", model, "--set", f"model.activation={name}", "--seed", seed)
    seconds, _ = forecast("train", flows, *TRAIN, *chosen, "--epochs", EPOCHS, "-o", run, "--overwrite")
    output, scores = run.with_suffix(".nc"), run.with_suffix(".scores.nc")
    forecast("rollout", run, "--data", flows, *ROLLOUT, "-o", output, "--overwrite")
    forecast("evaluate", output, "--truth", flows, "-o", scores, "--overwrite")
    with xr.open_dataset(scores, decode_timedelta=False) as dataset:
        rmse = dataset["score"].squeeze().values
    rows = activity(run, load_model(run).config, open_fields([str(flows)]), torch.device("cpu"))
    found = {
        "rmse": float((rmse**2).mean() ** 0.5),
        "first": float(rmse[0]),
        "processor_seconds": seconds,
        "dead_channels": sum(row.dead_channels for row in rows),
        "channels": sum(row.channels for row in rows),
        "dead_units": sum(row.dead_units for row in rows),
        "units": sum(row.units for row in rows),
        "zeros": sum(row.units * row.zeros for row in rows) / sum(row.units for row in rows),
    }
    told.write_text(json.dumps(found))
    return found


def spread(values: list[float]) -> str:
    return f"{min(values):,.0f}" if min(values) == max(values) else f"{min(values):,.0f} to {max(values):,.0f}"


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    flows = folder / "flows.nc"
    if not flows.exists():
        forecast(*SIMULATE, "-o", flows)
    columns = ("model", "activation", "RMSE of vorticity, leads 1 to 30, seeds 0, 1, 2", "mean", "lead 1")
    columns += ("dead units", "dead channels", "zeros %", "processor seconds")
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for model in MODELS:
        for name in NAMES:
            seeds = [measured(flows, folder / f"{model}-{name}-{seed}", model, name, seed) for seed in SEEDS]
            column = {key: [found[key] for found in seeds] for key in seeds[0]}
            mean = {key: sum(values) / len(values) for key, values in column.items()}
            dead = (f"{spread(column[f'dead_{kind}'])} of {seeds[0][kind]:,}" for kind in ("units", "channels"))
            errors = ", ".join(f"{value:.3f}" for value in column["rmse"])
            print(
                f"| `{model}` | `{name}` | {errors} | {mean['rmse']:.3f} | {mean['first']:.4f} | {' | '.join(dead)} | "
                f"{100 * mean['zeros']:.0f} | {mean['processor_seconds']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
