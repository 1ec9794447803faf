"""Coastlines, where cartopy is installed and has them on disk: a picture never waits for a download."""

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

Line = tuple[np.ndarray, np.ndarray]
"""Longitudes and latitudes."""


def coastlines(longitudes: tuple[float, float], latitudes: tuple[float, float]) -> Iterator[Line]:
    """The coastlines within some bounds, their longitudes counted as the bounds are; none without cartopy."""
    scale = "110m" if abs(longitudes[1] - longitudes[0]) > 120 else "50m"
    west, east = sorted(longitudes)
    south, north = sorted(latitudes)
    for longitude, latitude in _lines(scale):
        if latitude.max() < south or latitude.min() > north:
            continue
        for turn in (-360, 0, 360):
            if longitude.max() + turn >= west and longitude.min() + turn <= east:
                yield longitude + turn, latitude


@cache
def _lines(scale: str) -> list[Line]:
    """All coastlines of a scale, or of the nearest that is on disk."""
    file = next((found for name in (scale, "50m", "110m", "10m") if (found := _file(name))), None)
    if file is None:
        return []
    from cartopy.io.shapereader import Reader

    parts = [part for geometry in Reader(file).geometries() for part in getattr(geometry, "geoms", [geometry])]
    coordinates = [np.asarray(part.coords) for part in parts]
    return [(points[:, 0], points[:, 1]) for points in coordinates]


def _file(scale: str) -> Path | None:
    """Where cartopy keeps the coastlines of a scale, if they are there."""
    if find_spec("cartopy") is None:
        return None
    import cartopy

    name = Path("shapefiles", "natural_earth", "physical", f"ne_{scale}_coastline.shp")
    folders = [cartopy.config.get(key) for key in ("data_dir", "pre_existing_data_dir", "repo_data_dir")]
    return next((path for folder in folders if folder and (path := Path(folder, name)).exists()), None)
