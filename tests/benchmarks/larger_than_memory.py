"""The most memory that commands take on files larger than they may hold.

    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/larger_than_memory.py [--gib 4] [--folder /tmp] [--score] [LAYOUT ...]

For each layout of the record (contiguous; compressed, 8 frames a chunk; years, 32 files in the library's own chunks; zarr): --gib GiB in
float32 on 128 x 256 cells are made, and trained on for an epoch of some 140 windows with `--memory 512M`. With --score a forecast
half as large is made from the test part, and evaluated. Printed are seconds and the peak of resident memory of each process. Files are
removed in the end; three times --gib must be free.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr

HEIGHT, WIDTH = 128, 256
BLOCK = 256
"""Frames that are made at once: 32 MiB."""
LAYOUTS = ("contiguous", "compressed", "years", "zarr")
FILES = 32
"""Files of the layout `years`."""
EVERY = 8
"""Frames between the starts of the forecast."""


def frames(start: int, count: int) -> np.ndarray:
    """A wave around 280 over weak noise, rounded to 1/64 as packed data are: (time, y, x)."""
    y, x = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")
    phase = np.exp(2j * np.pi * (x / WIDTH + y / (2 * HEIGHT))).astype(np.complex64)
    turn = np.exp(-0.02j * np.arange(start, start + count)).astype(np.complex64)[:, None, None]
    noise = np.random.default_rng(start).normal(0, 0.1, (HEIGHT, WIDTH)).astype(np.float32)
    return np.rint(64 * (280 + 7 * (phase * turn).imag + noise)) / 64


def write_netcdf(path: Path, start: int, count: int, **storage: object) -> None:
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("time", count), ("y", HEIGHT), ("x", WIDTH)):
            file.createDimension(name, size)
        times = file.createVariable("time", "i8", ("time",))
        times.units = "hours since 1980-01-01"
        times[:] = np.arange(start, start + count)
        field = file.createVariable("t2m", "f4", ("time", "y", "x"), **storage)
        field.units = "K"
        for first in range(0, count, BLOCK):
            field[first : first + BLOCK] = frames(start + first, min(BLOCK, count - first))


def write_zarr(path: Path, count: int) -> None:
    for first in range(0, count, BLOCK):
        block = frames(first, min(BLOCK, count - first))
        hours = np.datetime64("1980-01-01", "ns") + np.arange(first, first + len(block)) * np.timedelta64(1, "h")
        dataset = xr.Dataset({"t2m": (("time", "y", "x"), block, {"units": "K"})}, {"time": hours})
        if first:
            dataset.to_zarr(path, append_dim="time")
        else:
            encoding = {"t2m": {"chunks": (8, HEIGHT, WIDTH)}, "time": {"units": "hours since 1980-01-01"}}
            dataset.to_zarr(path, encoding=encoding)


def make(layout: str, folder: Path, count: int) -> str:
    """The record in some layout; what `forecast` is given."""
    if layout == "zarr":
        write_zarr(folder / "record.zarr", count)
        return str(folder / "record.zarr")
    if layout == "years":
        for start in range(0, count, count // FILES):
            write_netcdf(folder / f"record_{start:06d}.nc", start, count // FILES, zlib=True, complevel=1)
        return str(folder / "record_*.nc")
    chunks = {"zlib": True, "complevel": 1, "chunksizes": (8, HEIGHT, WIDTH)}
    storage = {"contiguous": True} if layout == "contiguous" else chunks
    write_netcdf(folder / "record.nc", 0, count, **storage)
    return str(folder / "record.nc")


def measured(*arguments: str) -> str:
    """Seconds, and the peak of resident memory [MiB], of a command; raises where it fails."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "forecast_cli", *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(arguments)}: {told}")
    return f"{time.perf_counter() - began:.0f} s, {usage.ru_maxrss / 1024:.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("layouts", nargs="*", default=LAYOUTS)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--score", action="store_true")
    options = parser.parse_args()
    count = int(options.gib * 2**30 / (4 * HEIGHT * WIDTH))
    small = (
        "--hidden",
        "4",
        "--context",
        "4",
        "--horizon",
        "2",
        "--epochs",
        "1",
        "--set",
        f"data.stride={count // 200}",
    )
    print("| layout | train | rollout | evaluate |\n| --- | --- | --- | --- |", flush=True)
    for layout in options.layouts:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            if shutil.disk_usage(folder).free < 3 * options.gib * 2**30:
                raise SystemExit(f"{folder}: too little room.")
            data, run, forecast = make(layout, folder, count), str(folder / "run"), str(folder / "forecast.nc")
            told = [measured("train", data, "-o", run, "--memory", "512M", *small)]
            if options.score:
                # Starts in the last 15 % of the record, so many leads each that the forecast is half of it.
                leads = round(EVERY * 0.5 / 0.15)
                starts = ("--init-every", str(EVERY), "--steps", str(leads))
                scores = ("--metric", "rmse,mae,acc", "--baseline", "persistence")
                told.append(measured("rollout", run, "--data", data, *starts, "-o", forecast))
                told.append(measured("evaluate", forecast, "--truth", data, *scores))
            print(f"| {layout} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
