"""Small data files that tests make for themselves."""

from pathlib import Path

import numpy as np
import xarray as xr


def describe_weights(run: Path, description: str) -> None:
    """Write other words into the header of a run's weights, whole and consistent: as another version of forecast would."""
    from safetensors.torch import load_file, save_file

    from forecast_cli.checkpoint import _digest

    path = run / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors, path, {"forecast": description, "sha256": _digest(description, tensors)})


def travelling_wave(frames: int, height: int, width: int, *, seed: int = 0, speed: float = 0.2) -> np.ndarray:
    """A wave that moves along x over weak noise: (time, y, x), around 280 with a spread of about 5."""
    time, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    phase = 2 * np.pi * (x / width + y / (2 * height)) - speed * time + seed
    noise = np.random.default_rng(seed).normal(0, 0.1, (frames, height, width))
    return (280 + 7 * np.sin(phase) + noise).astype(np.float32)


def write_series(
    path: Path,
    *,
    frames: int = 60,
    height: int = 6,
    width: int = 8,
    start: str = "2000-01-01",
    freq: str = "6h",
    calendar: str = "standard",
    name: str = "t2m",
    seed: int = 0,
) -> Path:
    """One long series on a regional latitude-longitude grid, latitudes descending."""
    times = xr.date_range(start, periods=frames, freq=freq, calendar=calendar, use_cftime=calendar != "standard")
    dataset = xr.Dataset(
        {
            name: (
                ("time", "lat", "lon"),
                travelling_wave(frames, height, width, seed=seed),
                {"units": "K", "long_name": "temperature"},
            )
        },
        coords={
            "time": times,
            "lat": ("lat", 50 - 2.0 * np.arange(height), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", 10 + 2.0 * np.arange(width), {"units": "degrees_east", "standard_name": "longitude"}),
        },
    )
    dataset.to_netcdf(path)
    return path


def write_trajectories(path: Path, *, samples: int = 6, frames: int = 20, height: int = 6, width: int = 8) -> Path:
    """Trajectories u(sample, time, y, x) on a periodic grid with plain numbers as times."""
    values = np.stack([travelling_wave(frames, height, width, seed=sample) for sample in range(samples)]) - 280
    dataset = xr.Dataset(
        {"u": (("sample", "time", "y", "x"), values, {"units": "m s-1"})},
        coords={
            "time": ("time", 0.5 * np.arange(frames), {"units": "1"}),
            "y": np.arange(height) / height,
            "x": np.arange(width) / width,
        },
        attrs={"boundary_conditions": "periodic"},
    )
    dataset.to_netcdf(path)
    return path
