"""Sea beds by the equation, and by FINN, DISTANA and PhyDNet that have learned it: a table and a picture of docs/topography.md.

    .venv/bin/python tests/benchmarks/topography_comparators.py FOLDER

Networks learn from waves over random beds and are then inverted over two beds that are not of their kind. All but the waves to learn from
and the least squares is made by `forecast` commands, one thread each, two side by side; seconds are of the processor. What is there is not
made again.
"""

import json
import os
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from scipy.fft import idctn

from forecast_cli.inversion.checks import scored
from forecast_cli.inversion.depths import smooth
from forecast_cli.inversion.guess import of_continuity
from forecast_cli.inversion.observed import Source
from forecast_cli.inversion.reading import read_waves
from forecast_cli.physics.grid import Grid
from forecast_cli.plots.style import PAPER, save, styled
from forecast_cli.simulate.finite_volumes import Plan, SeaBed, simulate

SEEDS = (0, 1, 2)
"""Of the weights, and of the noise of the waves."""
CELLS, SIDE, STEP, FRAMES = 24, 1e6, 800.0, 41
"""Each step is a frame: waves move two thirds of a cell in between, within reach of a 3 x 3 kernel. 41 of them are one crossing."""
GRID = Grid.uniform((CELLS, CELLS), ((0.0, SIDE), (0.0, SIDE)))
BEDS, WAVES = 120, 2
"""Random beds, and waves over each of them."""
TRAINING, VALIDATION, TEST = 200, 20, 20
"""Of the 240 trajectories; no bed is in two parts."""
RELIEF = Path(__file__).parents[2] / "sample_data/relief.py"
VARIABLES = ("eta", "u", "v")
TESTED = {"seamount": "--topography seamount --depth 110", "relief": "--topography relief.nc"}
NETWORK = (
    f"--split {TRAINING},{VALIDATION},{TEST} --batch-size 2 --learning-rate 4e-3 --set model.norm=none "
    "--set training.input_noise=0.01"
)
TRAIN = {
    "distana": f"--model distana --hidden 2x32 --context 10 --horizon 15 --epochs 20 {NETWORK}",
    "phydnet": f"--model phydnet --hidden 24 --context 3 --horizon 22 --epochs 20 {NETWORK}",
    "finn": "--model finn --set model.equation=shallow-water --set 'model.learn=[\"transport\"]' --select sample=0:4 --split 4,0,0",
}
LEARNED = "--prior smooth --min-depth 35 --max-depth 125 --dtype float32 --iterations 100"
INVERT = {
    "equation": "--noise 1%",
    "finn": "--noise 1%",
    "distana": f"--noise 12% {LEARNED}",
    "phydnet": f"--noise 8% {LEARNED}",
}
"""To a network its own error is noise, too: how large was seen over a random bed, and that a smooth prior finds it a quarter better."""
METHODS = {
    "equation": "the equation",
    "finn": "FINN, flux learned",
    "distana": "DISTANA",
    "phydnet": "PhyDNet",
    "squares": "least squares of continuity",
}
UNMOVED = 80.0
"""The depth [m] where no water moves, to least squares: of all tested beds the middle one."""
ERROR = 20.0
"""To which errors are drawn [m]."""


def forecast(folder: Path, line: str, *, may_fail: bool = False) -> tuple[dict, float]:
    """The JSON of `forecast LINE`, run in a folder, and the processor seconds that it took."""
    print(f"  forecast {line}", flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "forecast_cli", *shlex.split(line), "--json"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "FORECAST_PROGRESS_EVERY": "600"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    text, errors = process.stdout.read(), process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in ((0, 6) if may_fail else (0,)):
        raise SystemExit(f"forecast {line}\n{errors}")
    return json.loads(text), used.ru_utime + used.ru_stime


def kept(path: Path, make: Callable[[], dict]) -> dict:
    """What `make` gives, or has given before."""
    if not path.exists():
        path.write_text(json.dumps(make()), "utf-8")
    return dict(json.loads(path.read_text("utf-8")))


def random_bed(number: int) -> np.ndarray:
    """A depth (CELLS, CELLS) [m] with shapes of 30 to 250 km; its shallowest cell lies at 40 to 70 m, its deepest at 90 to 120 m."""
    generator = np.random.default_rng([7, number])
    length = SIDE * np.exp(generator.uniform(np.log(1 / 32), np.log(1 / 4)))
    modes = smooth(GRID, length) * generator.standard_normal((CELLS, CELLS))
    modes[0, 0] = 0
    shape = idctn(modes, norm="ortho")
    low, high = generator.uniform(40, 70), generator.uniform(90, 120)
    return low + (high - low) * (shape - shape.min()) / np.ptp(shape)


def known_waves(path: Path) -> None:
    """Waves over random beds, (sample, time, y, x), and the depths (sample, y, x)."""
    bed, waves, found = path.with_name("random_bed.nc"), path.with_name("random_waves.nc"), []
    places = {name: (name, (np.arange(CELLS) + 0.5) * SIDE / CELLS, {"units": "m"}) for name in ("y", "x")}
    for number in range(BEDS):
        depth = ("y", "x"), random_bed(number), {"units": "m", "positive": "down"}
        xr.Dataset({"depth": depth}, places).to_netcdf(bed)
        plan = Plan(
            "shallow-water",
            samples=WAVES,
            grid=(CELLS, CELLS),
            frames=FRAMES,
            duration=STEP * (FRAMES - 1),
            time_step=STEP,
            seed=number,
            sea_bed=SeaBed(str(bed)),
        )
        simulate(plan, waves, overwrite=True)
        made = xr.load_dataset(waves, decode_times=False)
        found.append(made.assign(depth=made["depth"].expand_dims(sample=WAVES)))
    joined = xr.concat(found, "sample", combine_attrs="override")
    for variable in joined.variables.values():
        # Without this, chunks of half of the samples, which each window would be read out of.
        variable.encoding = {}
    joined.to_netcdf(path)


def trained(folder: Path, name: str, seed: int) -> dict:
    """Train a model: its processor seconds and parameters."""
    run = f"{name}_{seed}"

    def make() -> dict:
        _, seconds = forecast(folder, f"train known.nc --static depth {TRAIN[name]} --seed {seed} -o {run} --overwrite")
        return {"seconds": seconds, "parameters": json.loads((folder / run / "model.json").read_text())["parameters"]}

    return kept(folder / f"{run}_trained.json", make)


def inverted(folder: Path, name: str, bed: str, seed: int) -> dict:
    """Infer a bed: relative errors, whole and inner, processor seconds, iterations, chi2."""
    waves, output = f"{bed}_{seed}.nc", f"{name}_{bed}_{seed}.nc"

    def make() -> dict:
        if name == "squares":
            return least_squares(folder / waves, folder / output)
        line = (
            f"invert-topography {waves} {INVERT[name]} --uncertainty none --truth {waves}:depth -o {output} --overwrite"
        )
        run = "" if name == "equation" else f" --run {name}_{seed}"
        told, seconds = forecast(folder, line + run, may_fail=True)
        return told | {"seconds": seconds}

    return kept(folder / f"{name}_{bed}_{seed}.json", make)


def least_squares(waves: Path, output: Path) -> dict:
    """Least squares of continuity."""
    started = time.process_time()
    depth = of_continuity(read_waves(Source((str(waves),))), UNMOVED, upwind=True)
    seconds = time.process_time() - started
    truth = xr.open_dataset(waves)["depth"]
    truth.copy(data=depth).to_netcdf(output)
    return scored(depth, None, truth.values) | {"seconds": seconds}


def forecast_errors(folder: Path, name: str, seed: int) -> dict:
    """Relative L2 error of a model's forecasts from as many true frames as it was trained with, all variables in units of their spread.

    random: over the random beds of the test part. Over each tested bed: with the true depth (bed), with its mean everywhere
    (bed, flat), and with the depth that the model itself has inferred (bed, inferred).
    """
    data, output = f"judged_{name}_{seed}.nc", f"forecast_{name}_{seed}.nc"

    def make() -> dict:
        parts = {"random": xr.load_dataset(folder / "known.nc", decode_times=False).isel(sample=slice(-TEST, None))}
        for bed in TESTED:
            waves = xr.load_dataset(folder / f"{bed}_{seed}.nc", decode_times=False)
            truth = waves["depth"]
            inferred = truth.copy(
                data=xr.load_dataset(folder / f"{name}_{bed}_{seed}.nc", decode_times=False)["depth"].values
            )
            for suffix, depth in (
                ("", truth),
                (" flat", truth.copy(data=np.full_like(truth, truth.mean()))),
                (" inferred", inferred),
            ):
                parts[bed + suffix] = waves.assign(depth=depth.expand_dims(sample=1))
        joined = xr.concat(parts.values(), "sample", join="override", combine_attrs="override")
        for variable in joined.variables.values():
            variable.encoding = {}
        joined.to_netcdf(folder / data)
        context = tomllib.loads((folder / f"{name}_{seed}" / "config.toml").read_text("utf-8"))["data"]["context"]
        cut = f"--select sample=0:{joined.sizes['sample']} --context {context} --steps {FRAMES - context}"
        forecast(folder, f"rollout {name}_{seed} --data {data} {cut} -o {output} --overwrite")
        made = xr.load_dataset(folder / output, decode_timedelta=False)
        record = np.stack([joined[variable].values for variable in VARIABLES], axis=2)
        predicted = np.stack([made[variable].values for variable in VARIABLES], axis=2)
        found, first = {}, 0
        for part, dataset in parts.items():
            samples = slice(first, first := first + dataset.sizes["sample"])
            found[part] = relative_l2(predicted[samples], record[samples, context:])
        found["persistence"] = relative_l2(record[:TEST, context - 1 : context], record[:TEST, context:])
        return found

    return kept(folder / f"forecast_{name}_{seed}.json", make)


def relative_l2(forecasts: np.ndarray, truth: np.ndarray) -> float:
    """Of (sample, time, variable, y, x)."""
    scale = truth.std(axis=(0, 1, 3, 4), keepdims=True)
    return float(np.linalg.norm((forecasts - truth) / scale) / np.linalg.norm(truth / scale))


def told(values: list[float]) -> str:
    """Mean and range."""
    spread = "" if np.ptp(values) < 5e-3 * np.mean(values) else f" ({min(values):.3g}-{max(values):.3g})"
    return f"{np.mean(values):.3g}{spread}"


def table(folder: Path, training: dict, beds: dict, errors: dict) -> None:
    """Mean and range over the seeds."""
    print(
        "| method | parameters | training, s | forecast error over random beds % | sea bed | error % | inner % | inversion, s "
        "| forecast error over this bed: true | its mean | as inferred |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, title in METHODS.items():
        learned = ["", "", ""]
        if name in TRAIN:
            numbers = [training[name, seed] for seed in SEEDS]
            learned = [f"{numbers[0]['parameters']:,}", told([number["seconds"] for number in numbers])]
            learned.append(told([100 * errors[name, seed]["random"] for seed in SEEDS]))
        for bed in TESTED:
            scores = [beds[name, bed, seed] for seed in SEEDS]
            cells = [
                bed,
                *(told([100 * score[key] for score in scores]) for key in ("relative_l2", "relative_l2_inner")),
            ]
            cells.append(told([score["seconds"] for score in scores]))
            kinds = (bed, f"{bed} flat", f"{bed} inferred")
            cells += [
                told([100 * errors[name, seed][kind] for seed in SEEDS]) if name in TRAIN else "" for kind in kinds
            ]
            print("| " + " | ".join([title, *learned, *cells]) + " |")
    print(f"persistence: {told([100 * errors['finn', seed]['persistence'] for seed in SEEDS])} %")
    for bed in TESTED:
        depth = xr.load_dataset(folder / f"{bed}_{SEEDS[0]}.nc", decode_times=False)["depth"].values
        print(f"the mean depth of the {bed}: {100 * depth.std() / np.sqrt((depth**2).mean()):.3g} %")


def picture(folder: Path) -> None:
    """The beds of the first seed and their errors beside each other."""
    with styled():
        figure, axes = plt.subplots(2 * len(TESTED), 1 + len(METHODS), figsize=(PAPER, 5.2), layout="constrained")
        for axis in axes.flat:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_aspect("equal")
        for number, bed in enumerate(TESTED):
            above, below = axes[2 * number], axes[2 * number + 1]
            truth = xr.load_dataset(folder / f"{bed}_{SEEDS[0]}.nc", decode_times=False)["depth"].values
            found = {
                title: xr.load_dataset(folder / f"{name}_{bed}_{SEEDS[0]}.nc", decode_times=False)["depth"].values
                for name, title in METHODS.items()
            }
            for axis, (title, depth) in zip(above, {"true": truth, **found}.items(), strict=True):
                maps = axis.pcolormesh(depth, cmap="viridis_r", vmin=truth.min(), vmax=truth.max(), rasterized=True)
                axis.set_title(title.replace(", ", ",\n").replace(" of ", "\nof "), fontsize=7)
            for axis, depth in zip(below[1:], found.values(), strict=True):
                wrong = axis.pcolormesh(depth - truth, cmap="RdBu_r", vmin=-ERROR, vmax=ERROR, rasterized=True)
                axis.set_title(f"{100 * scored(depth, None, truth)['relative_l2']:.2g} %", fontsize=7)
            below[0].axis("off")
            above[0].set_ylabel(bed)
            figure.colorbar(maps, ax=above, label="depth [m]", pad=0.01)
            figure.colorbar(wrong, ax=below, label="error [m]", pad=0.01, extend="both")
        save(figure, folder / "bed_comparators.png", overwrite=True)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "known.nc").exists():
        known_waves(folder / "known.nc")
    if not (folder / "relief.nc").exists():
        subprocess.run([sys.executable, RELIEF, folder / "relief.nc"], check=True)
    for bed, chosen in TESTED.items():
        for seed in SEEDS:
            if not (folder / f"{bed}_{seed}.nc").exists():
                waves = f"--grid {CELLS}x{CELLS} --frames {FRAMES} --duration {STEP * (FRAMES - 1):g} --time-step {STEP:g} --noise 1%"
                forecast(
                    folder, f"simulate shallow-water {chosen} {waves} --seed {seed} --dtype float64 -o {bed}_{seed}.nc"
                )
    runs = [(name, seed) for name in TRAIN for seed in SEEDS]
    cases = [(name, bed, seed) for name in METHODS for bed in TESTED for seed in SEEDS]
    with ThreadPoolExecutor(2) as pool:
        training = dict(zip(runs, pool.map(lambda run: trained(folder, *run), runs), strict=True))
        beds = dict(zip(cases, pool.map(lambda case: inverted(folder, *case), cases), strict=True))
        errors = dict(zip(runs, pool.map(lambda run: forecast_errors(folder, *run), runs), strict=True))
    table(folder, training, beds, errors)
    picture(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
