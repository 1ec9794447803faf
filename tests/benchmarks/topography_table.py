"""The tables of docs/topography.md: how well `forecast invert-topography` finds sea beds, with three seeds of the noise.

    .venv/bin/python tests/benchmarks/topography_table.py FOLDER [ROW ...]

Everything is made and measured by `forecast` commands, which are printed as they run, in FOLDER, on one thread; each row
is printed when its seeds are done. The real relief lies in shared/data; rows that need it are left out without it.
"""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

SEEDS = (1, 2, 3)
RELIEF = Path(__file__).parents[3] / "shared/data/etopo5_mid_atlantic_ridge.nc"
SIDE = 1e6
BEDS = {"seamount": "--topography seamount --depth 110", "relief": "--topography relief.nc"}


@dataclass(frozen=True)
class Row:
    """simulate, invert: arguments beside the obvious ones. bed: one of BEDS. gauges: along each side, 0 for whole fields. finer: cells of
    the truth to one of the waves. skip: frames to leave out, so that the first one left is noisy. most: the error that is asked for, in
    per cent, and that of the inner basin where it is another.
    """

    title: str
    bed: str
    noise: str
    invert: str = ""
    simulate: str = ""
    cells: int = 32
    gauges: int = 0
    finer: int = 1
    skip: int = 0
    most: tuple[float, ...] = ()
    seeds: tuple[int, ...] = SEEDS


def rows() -> dict[str, Row]:
    found: dict[str, Row] = {}
    for bed in BEDS:
        for name, noise, more, most in (
            ("euv-0", "0.001%", "--iterations 250", 0.01),
            ("euv-1", "1%", "", 0.15),
            ("euv-5", "5%", "", 0.7),
            ("eta-0", "0.001%", "--variable eta", 0.1),
            ("eta-1", "1%", "--variable eta", 0.35),
            ("eta-5", "5%", "--variable eta", 1.5),
        ):
            seen = "eta alone" if "eta" in more else "eta, u, v"
            found[f"{name}-{bed}"] = Row(f"{seen}, {noise}", bed, noise, more, "--samples 1", most=(most,))
        found[f"eta-5-four-{bed}"] = Row(
            "eta alone, 5 %, four sequences", bed, "5%", "--variable eta", "--samples 4", most=(0.7,)
        )
        found[f"unsaid-{bed}"] = Row("eta, u, v, 1 %, noise not said", bed, "1%", "unsaid", "--samples 1")
        found[f"unsaid-25-{bed}"] = Row(
            "25 gauges, 1 %, noise not said", bed, "1%", "unsaid --variable eta", "--samples 4", gauges=5
        )
        found[f"late-{bed}"] = Row("eta, u, v, 1 %, the first frame noisy too", bed, "1%", "", "--samples 1", skip=3)
    found["25-seamount"] = Row(
        "25 gauges, 1 %", "seamount", "1%", "--variable eta", "--samples 1", gauges=5, most=(0.5,)
    )
    found["9-seamount"] = Row("9 gauges, 1 %", "seamount", "1%", "--variable eta", "--samples 1", gauges=3, most=(1.0,))
    found["25-relief"] = Row(
        "25 gauges, 1 %, four sequences", "relief", "1%", "--variable eta", "--samples 4", gauges=5, most=(2.5,)
    )
    found["25-relief-one"] = Row(
        "25 gauges, 1 %, one sequence", "relief", "1%", "--variable eta", "--samples 1", gauges=5
    )
    for crossings in (0.5, 1, 2, 4):
        duration = crossings * 33000
        found[f"record-{crossings:g}"] = Row(
            f"eta alone, 1 %, {crossings:g} crossings",
            "relief",
            "1%",
            "--variable eta",
            f"--duration {duration:g} --frames {round(duration / 545) // 4 * 4 + 1}",
        )
    found["128"] = Row(
        "128 x 128, 60 iterations", "relief", "1%", "--iterations 60 --uncertainty none", cells=128, most=(0.6, 0.15)
    )
    found["finer"] = Row("truth on a grid twice as fine, 1 %", "relief", "1%", finer=2, most=(5.0,))
    found["finer-seamount"] = Row("truth on a grid twice as fine, 1 %", "seamount", "1%", finer=2, most=(5.0,))
    for bed in BEDS:
        for times, finer in (("twice", 2), ("four times", 4)):
            found[f"finer-{finer}-refined-{bed}"] = Row(
                f"truth on a grid {times} as fine, --refine 2", bed, "1%", "--refine 2", finer=finer, most=(5.0,)
            )
    found["still"] = Row("Coriolis left out, 1 %", "relief", "1%", "--coriolis 0 --beta 0")
    found["still-unsaid"] = Row("Coriolis left out, noise not said", "relief", "1%", "unsaid --coriolis 0 --beta 0")
    for cells in (64, 128, 256):
        found[f"time-{cells}"] = Row(
            f"{cells} x {cells}, 60 iterations",
            "relief",
            "1%",
            "--iterations 60 --uncertainty none",
            cells=cells,
            seeds=(1,),
        )
        found[f"time-{cells}-32"] = Row(
            f"{cells} x {cells}, float32",
            "relief",
            "1%",
            "--iterations 60 --uncertainty none --dtype float32",
            cells=cells,
            seeds=(1,),
        )
    found["sampled-64"] = Row("64 x 64, sampled uncertainty", "relief", "1%", cells=64, seeds=(1,))
    found["ensemble"] = Row("eta, u, v, 1 %, ensemble", "relief", "1%", "--uncertainty ensemble", seeds=(1,))
    return found


def run(command: str, *, may_fail: bool = False) -> tuple[dict, int, float]:
    """The JSON of a command, its exit code, and the most memory it had [GiB]."""
    print(f"  forecast {command}", flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.Popen(
        [sys.executable, "-m", "forecast_cli", *shlex.split(command), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    text, errors = done.stdout.read(), done.stderr.read()
    _, status, used = os.wait4(done.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in ((0, 6) if may_fail else (0,)):
        raise SystemExit(errors)
    return json.loads(text), code, used.ru_maxrss / 2**20


def relief() -> None:
    """The real relief in a square of SIDE, rescaled to depths of 40 to 120 m."""
    depth = -xr.open_dataset(RELIEF)["topo"].values.astype(float)[:240, :240]
    depth = 40 + 80 * (depth - depth.min()) / (depth.max() - depth.min())
    places = (np.arange(240) + 0.5) * SIDE / 240
    said = {"units": "m", "positive": "down"}
    axes = {name: (name, places, {"units": "m"}) for name in ("y", "x")}
    xr.Dataset({"depth": (("y", "x"), depth, said)}, coords=axes).to_netcdf("relief.nc")


def gauges(count: int) -> str:
    """count x count gauges, evenly spread."""
    name, places = f"gauges_{count}.csv", (np.arange(count) + 0.5) / count * SIDE
    lines = [f"{x:g},{y:g}" for y in places for x in places]
    Path(name).write_text("x,y\n" + "\n".join(lines) + "\n", "utf-8")
    return name


def coarsened(fine: str, coarse: str, factor: int, noise: str, seed: int) -> None:
    """Means over factor x factor cells, velocities on the faces that stay; with noise, which the fine waves do not have."""
    found = xr.open_dataset(fine)
    made = xr.Dataset(attrs=found.attrs)
    made["eta"] = found["eta"].coarsen({"y": factor, "x": factor}).mean()
    stay = slice(factor - 1, None, factor)
    made["u"] = found["u"].isel(x=stay).coarsen(y=factor).mean().drop_vars("x").assign_coords(x=made["x"])
    made["v"] = found["v"].isel(y=stay).coarsen(x=factor).mean().drop_vars("y").assign_coords(y=made["y"])
    made["depth"] = found["depth"].coarsen({"y": factor, "x": factor}).mean()
    generator = np.random.default_rng(seed)
    for name in ("eta", "u", "v"):
        made[name].attrs = found[name].attrs
        size = float(noise.rstrip("%")) / 100 * float(made[name].std())
        made[name][:, 1:] += size * generator.standard_normal(made[name][:, 1:].shape)
    for name in ("y", "x", "depth"):
        made[name].attrs = found[name].attrs
    made.attrs["time_step"] = factor * found.attrs["time_step"]
    made.to_netcdf(coarse)


def later(waves: str, skip: int, noise: str) -> str:
    """Leave out the first frames; gives the noise of the others as an option, for the spread is another now."""
    found = xr.load_dataset(waves)
    found.isel(time=slice(skip, None)).to_netcdf(waves)
    share = float(noise.rstrip("%")) / 100
    return "--noise " + ",".join(f"{name}={share * float(found[name].std()):.4g}" for name in ("eta", "u", "v"))


def measured(name: str, row: Row) -> str:
    """One line of the table: mean and range over the seeds."""
    found: dict[str, list[float]] = {
        key: []
        for key in ("relative_l2", "relative_l2_inner", "coverage_95", "chi2", "seconds", "memory", "iterations")
    }
    codes = set()
    for seed in row.seeds:
        waves = f"{name}_{seed}.nc"
        cells = row.cells * row.finer
        noise = "" if row.finer > 1 or row.noise == "0.001%" else f"--noise {row.noise}"
        every = 4 * row.finer
        steps = 120 * row.finer * row.cells // 32
        frames = "" if "--frames" in row.simulate else f"--frames {steps // every * every + 1}"
        made = f"fine_{waves}" if row.finer > 1 else waves
        run(
            f"simulate shallow-water --grid {cells}x{cells} {BEDS[row.bed]} {frames} {row.simulate} --every {every} {noise} "
            f"--seed {seed} --dtype float64 --overwrite -o {made}"
        )
        if row.finer > 1:
            coarsened(made, waves, row.finer, row.noise, seed)
        said = "" if row.invert.startswith("unsaid") else f"--noise {row.noise}"
        if row.skip:
            said = later(waves, row.skip, row.noise)
        more = row.invert.removeprefix("unsaid").strip()
        more += f" --gauges {gauges(row.gauges)}" if row.gauges else ""
        scores, code, memory = run(
            f"invert-topography {waves} {said} {more} --truth {waves}:depth --seed {seed} --overwrite -o bed_{waves}",
            may_fail=True,
        )
        codes.add(code)
        for key in found:
            if key in scores:
                found[key].append(scores[key])
        found["memory"].append(memory)

    def told(key: str, scale: float = 1.0) -> str:
        values = scale * np.array(found[key])
        if not len(values):
            return "-"
        spread = (
            ""
            if len(values) == 1 or np.ptp(values) < 5e-3 * values.mean()
            else f" ({values.min():.3g}-{values.max():.3g})"
        )
        return f"{values.mean():.3g}{spread}"

    asked = " / ".join(f"{most:g}" for most in row.most) or "-"
    cellsof = (
        row.title,
        row.bed,
        asked,
        told("relative_l2", 100),
        told("relative_l2_inner", 100),
        told("coverage_95", 100),
        told("chi2"),
    )
    return (
        "| "
        + " | ".join((*cellsof, told("iterations"), told("seconds"), told("memory"), " ".join(map(str, sorted(codes)))))
        + " |"
    )


def main() -> None:
    folder, *wanted = sys.argv[1:] or ["topography_table"]
    Path(folder).mkdir(exist_ok=True)
    os.chdir(folder)
    table = {name: row for name, row in rows().items() if not wanted or name in wanted}
    if RELIEF.exists():
        relief()
    else:
        table = {name: row for name, row in table.items() if row.bed != "relief"}
    lines = [
        "| case | sea bed | at most % | error % | inner % | coverage % | chi2 | iterations | seconds | GiB | exit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in table.items():
        lines.append(measured(name, row))
        print(lines[-1], flush=True)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
