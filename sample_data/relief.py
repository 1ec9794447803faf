"""A real relief to invert: the land and sea floor around Vancouver Island that matplotlib carries, sunk below the sea.

    python sample_data/relief.py relief.nc

Its heights, -1437 to 2205 m, become depths of 120 to 40 m, in a basin of 1000 km by 1000 km.
"""

import sys

import numpy as np
import xarray as xr
from matplotlib.cbook import get_sample_data

heights = get_sample_data("topobathy.npz")["topo"].astype(float)
depth = 40 + 80 * (heights.max() - heights) / np.ptp(heights)
axes = {
    name: (name, (np.arange(size) + 0.5) * 1e6 / size, {"units": "m", "axis": name.upper()})
    for name, size in zip("yx", depth.shape, strict=True)
}
said = {
    "standard_name": "sea_floor_depth_below_mean_sea_level",
    "units": "m",
    "positive": "down",
}
xr.Dataset({"depth": (("y", "x"), depth, said)}, axes).to_netcdf(sys.argv[1])
