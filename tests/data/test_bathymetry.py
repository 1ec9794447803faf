"""The sea bed out of files of every kind: its sign, its land, its cells, its metres."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from forecast_cli.data.bathymetry import EARTH, read_bathymetry
from forecast_cli.errors import DataError

Y, X = 1000.0 * np.arange(8), 2000.0 * np.arange(12)
DEPTHS = 50 + np.random.default_rng(3).uniform(0, 100, (8, 12))
KEEP = (8, 12)


def axis(name: str, places: np.ndarray, units: str = "m", **attributes: str) -> tuple[str, np.ndarray, dict[str, str]]:
    return name, places, {"units": units} | attributes


def written(path: Path, name: str = "bed", values: np.ndarray = DEPTHS, coords: Any = None, **attributes: str) -> str:
    """A file with one field (y, x) in metres, 8 x 12 cells of 1 km by 2 km unless others are given."""
    coords = coords or {"y": axis("y", Y), "x": axis("x", X)}
    xr.Dataset({name: (tuple(coords), values, attributes)}, coords).to_netcdf(path)
    return str(path)


def degrees(latitudes: np.ndarray, longitudes: np.ndarray) -> dict[str, Any]:
    return {"lat": axis("lat", latitudes, "degrees_north"), "lon": axis("lon", longitudes, "degrees_east")}


def plainly(tmp_path: Path, depths: np.ndarray = DEPTHS) -> np.ndarray:
    """What is read of a file that leaves no doubt."""
    return read_bathymetry(written(tmp_path / "plain.nc", values=depths, positive="down"), KEEP).depth


@pytest.mark.parametrize(
    ("name", "sign", "attributes", "said"),
    [
        ("bed", 1, {"positive": "down"}, "depth, positive down (as the file says)"),
        ("bed", -1, {"positive": "up"}, "elevation, positive up: depth is its opposite (as the file says)"),
        ("bed", -1, {"positive": "Up"}, "elevation, positive up: depth is its opposite (as the file says)"),
        ("elevation", -1, {"positive": "up", "long_name": "depth"}, "elevation, positive up"),
        ("depth", 1, {}, "depth, positive down (as the file says)"),
        ("Elevation", -1, {}, "elevation, positive up"),
        ("topo", -1, {}, "elevation, positive up: depth is its opposite (as the file says)"),
        ("z", -1, {}, "elevation, positive up"),
        ("h", 1, {"standard_name": "sea_floor_depth_below_mean_sea_level"}, "positive down (as the file says)"),
        ("h", -1, {"standard_name": "height_above_mean_sea_level"}, "elevation, positive up"),
        ("h", 1, {"long_name": "Depth of the sea"}, "depth, positive down (as the file says)"),
        ("bed", 1, {}, "depth, positive down (judged by its values)"),
        ("bed", -1, {}, "elevation, positive up: depth is its opposite (judged by its values)"),
        (
            "depth",
            -1,
            {"long_name": "elevation"},
            "elevation, positive up: depth is its opposite (judged by its values)",
        ),
    ],
)
def test_depth_is_found_by_attribute_by_name_and_by_values(name, sign, attributes, said, tmp_path):
    place = written(tmp_path / "bed.nc", name, sign * DEPTHS, **attributes)
    found = read_bathymetry(place, KEEP)
    assert found.depth.min() > 50
    assert np.array_equal(found.depth, plainly(tmp_path))
    assert said in found.notes[0]
    assert found.extent == ((0.0, 8000.0), (0.0, 24000.0))


@pytest.mark.parametrize(
    ("name", "sign", "attributes", "message"),
    [
        (
            "bed",
            -1,
            {"positive": "down"},
            r"'bed' says that it is depth, but 100 % of it are negative.*ncatted -a positive,bed,o,c,up",
        ),
        ("bed", 1, {"positive": "up"}, r"'bed' says that it is elevation, but 100 % of it are positive.*,bed,o,c,down"),
        ("depth", -1, {}, r"'depth' says that it is depth, but 100 % of it are negative"),
        ("topo", 1, {}, r"'topo' says that it is elevation, but 100 % of it are positive"),
    ],
)
def test_a_sign_that_the_values_contradict_is_refused(name, sign, attributes, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_bathymetry(written(tmp_path / "bed.nc", name, sign * DEPTHS, **attributes), KEEP)


def coast() -> np.ndarray:
    """Depths with land in the first two of twelve columns, and shallow water in the third."""
    depths = DEPTHS.copy()
    depths[:, :2], depths[:, 2] = -30.0, 1.0
    return depths


def test_land_is_refused(tmp_path):
    place = written(tmp_path / "coast.nc", values=coast(), positive="down")
    with pytest.raises(DataError, match=r"17 % of the cells are land or missing.*--min-depth 10"):
        read_bathymetry(place, KEEP)


def test_missing_values_are_land(tmp_path):
    depths = DEPTHS.copy()
    depths[3, 4] = np.nan
    place = written(tmp_path / "gap.nc", values=depths, positive="down")
    with pytest.raises(DataError, match="% of the cells are land or missing"):
        read_bathymetry(place, KEEP)
    found = read_bathymetry(place, KEEP, min_depth=5.0).depth
    expected = plainly(tmp_path).copy()
    expected[3, 4] = 5.0
    np.testing.assert_allclose(found, expected)


def test_land_and_shallow_water_are_deepened_to_the_least_depth(tmp_path):
    found = read_bathymetry(written(tmp_path / "coast.nc", values=coast(), positive="down"), KEEP, min_depth=12.0)
    assert (found.depth[:, :2] == 12.0).all()
    assert found.depth.min() == 12.0
    assert np.array_equal(found.depth[:, 4:], plainly(tmp_path)[:, 4:])
    assert any("of the cells deepened to 12 m" in note for note in found.notes)


@pytest.mark.parametrize("descending", ["lat", "lon", "both"])
def test_descending_coordinates_are_turned_round(descending, tmp_path):
    """Rows run from south to north and columns from west to east."""
    latitudes, longitudes = 40 + 0.1 * np.arange(8), -30 + 0.1 * np.arange(12)
    ascending = read_bathymetry(
        written(tmp_path / "up.nc", values=DEPTHS, coords=degrees(latitudes, longitudes), positive="down"), KEEP
    )
    values = DEPTHS
    if descending in ("lat", "both"):
        values, latitudes = values[::-1], latitudes[::-1]
    if descending in ("lon", "both"):
        values, longitudes = values[:, ::-1], longitudes[::-1]
    turned = read_bathymetry(
        written(tmp_path / "down.nc", values=values, coords=degrees(latitudes, longitudes), positive="down"), KEEP
    )
    assert np.array_equal(turned.depth, ascending.depth)
    assert np.allclose(turned.extent, ascending.extent)


@pytest.mark.parametrize("cells", [(8, 12), (4, 6), (16, 24), (13, 30)])
def test_a_plane_is_resampled_to_its_own_values(cells, tmp_path):
    """Away from the edges, whose outer half cells are constant: at the centres of cells that fill the same extent."""
    plane = 500 + 0.01 * Y[:, None] - 0.004 * X[None]
    found = read_bathymetry(written(tmp_path / "plane.nc", values=plane, positive="down"), cells)
    y, x = (
        first + (np.arange(count) + 0.5) * extent / count
        for first, count, (_, extent) in zip((-500.0, -1000.0), cells, found.extent, strict=True)
    )
    expected = 500 + 0.01 * y[:, None] - 0.004 * x[None]
    inner = tuple(slice(count // size + 1, -(count // size) - 1) for count, size in zip(cells, KEEP, strict=True))
    assert found.depth.shape == cells
    assert found.depth[inner].size >= 4
    # Fields are read as float32.
    assert np.allclose(found.depth[inner], expected[inner], rtol=1e-6)


def test_the_mean_of_a_sea_bed_stays_about_the_same_on_fewer_cells(tmp_path):
    """Means over 2 x 3 cells of the file, up to the smoothing at their rims."""
    rough = 100 + 50 * np.sin(Y[:, None] / 2000) * np.cos(X[None] / 6000)
    found = read_bathymetry(written(tmp_path / "bed.nc", values=rough, positive="down"), (4, 4)).depth
    means = rough.reshape(4, 2, 4, 3).mean(axis=(1, 3))
    assert np.abs(found - means).max() < 0.1 * (means.max() - means.min())


def test_degrees_become_metres_at_the_middle_latitude(tmp_path):
    """8 rows of 0.5 degrees around 60 degrees north, 12 columns of 1 degree, where a degree of longitude is half as long."""
    latitudes = 60 + 0.5 * (np.arange(8) - 3.5)
    place = written(tmp_path / "bed.nc", coords=degrees(latitudes, 10 + 1.0 * np.arange(12)), positive="down")
    found = read_bathymetry(place, KEEP)
    degree = 2 * np.pi * EARTH / 360
    assert np.allclose(found.extent, ((0, 4 * degree), (0, 12 * degree * 0.5)))
    assert "degrees taken as a plane of 667.2 km by 444.8 km at the middle latitude" in found.notes[1]


def test_kilometres_become_metres(tmp_path):
    coords = {"y": axis("y", Y / 1000, "km"), "x": axis("x", X / 1000, "km")}
    found = read_bathymetry(written(tmp_path / "bed.nc", coords=coords, positive="down"), KEEP)
    assert np.allclose(found.extent, ((0, 8000.0), (0, 24000.0)))
    assert not any("degrees" in note for note in found.notes)


def test_other_units_of_length_are_refused(tmp_path):
    coords = {"y": axis("y", Y), "x": axis("x", X, "ft")}
    with pytest.raises(DataError, match="'x' is in 'ft'; expected m, km or degrees"):
        read_bathymetry(written(tmp_path / "bed.nc", coords=coords, positive="down"), KEEP)


def test_an_uneven_grid_is_refused(tmp_path):
    coords = {"y": axis("y", Y**1.1), "x": axis("x", X)}
    with pytest.raises(
        DataError, match=r"'y' has no evenly spaced coordinate\. Interpolate the sea bed to an even grid"
    ):
        read_bathymetry(written(tmp_path / "bed.nc", coords=coords, positive="down"), KEEP)


def test_a_line_is_no_sea_bed(tmp_path):
    xr.Dataset({"bed": (("time", "x"), DEPTHS[:1])}, {"x": axis("x", X)}).to_netcdf(tmp_path / "line.nc")
    with pytest.raises(DataError, match="'bed' has one dimension of space; a sea bed has two"):
        read_bathymetry(str(tmp_path / "line.nc"), KEEP)


def test_of_several_variables_one_is_named(tmp_path):
    fields = {"bed": (("y", "x"), DEPTHS, {"positive": "down"}), "rock": (("y", "x"), 3 * DEPTHS, {"positive": "down"})}
    path = tmp_path / "both.nc"
    xr.Dataset(fields, {"y": axis("y", Y), "x": axis("x", X)}).to_netcdf(path)
    with pytest.raises(DataError, match=r"which of bed, rock is the sea bed\? Give --topography .*both\.nc:NAME"):
        read_bathymetry(str(path), KEEP)
    assert np.allclose(read_bathymetry(f"{path}:rock", KEEP).depth, 3 * plainly(tmp_path), rtol=1e-6)
    with pytest.raises(DataError, match="no variable 'sand'"):
        read_bathymetry(f"{path}:sand", KEEP)


def test_a_file_that_is_not_there_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"no-such\.nc"):
        read_bathymetry(str(tmp_path / "no-such.nc"), KEEP)


def test_a_depth_beside_fields_that_change_is_read(tmp_path):
    """As in every file that `forecast simulate shallow-water` writes."""
    fields = {"depth": (("y", "x"), DEPTHS), "eta": (("time", "y", "x"), np.zeros((3, 8, 12)))}
    coords = {"time": ("time", np.arange(3.0), {"units": "s"}), "y": axis("y", Y), "x": axis("x", X)}
    xr.Dataset(fields, coords).to_netcdf(tmp_path / "waves.nc")
    found = read_bathymetry(f"{tmp_path / 'waves.nc'}:depth", KEEP)
    assert np.array_equal(found.depth, plainly(tmp_path))


def test_a_real_ridge_is_wet_and_a_real_island_is_not(shared_data):
    ridge = read_bathymetry(str(shared_data / "etopo5_mid_atlantic_ridge.nc"), (32, 32))
    assert 180 < ridge.depth.min() < ridge.depth.max() < 6031
    assert "elevation, positive up" in ridge.notes[0]
    with pytest.raises(DataError, match="are land or missing"):
        read_bathymetry(str(shared_data / "etopo5_hawaii.nc"), (64, 64))
    assert read_bathymetry(str(shared_data / "etopo5_hawaii.nc"), (64, 64), min_depth=50.0).depth.min() == 50.0


@pytest.mark.parametrize("cells", [(8, 12), (5, 7), (3, 11), (1, 1)])
def test_coarser_cells_keep_the_mean_depth(cells, tmp_path):
    found = read_bathymetry(written(tmp_path / "bed.nc", positive="down"), cells)
    assert found.depth.mean() == pytest.approx(DEPTHS.mean(), rel=1e-6)


def test_cells_of_the_file_are_kept_as_they_are(tmp_path):
    found = read_bathymetry(written(tmp_path / "bed.nc", positive="down"), KEEP)
    np.testing.assert_allclose(found.depth, DEPTHS, rtol=1e-6)


def test_a_quantity_in_another_unit_is_no_sea_bed(tmp_path):
    with pytest.raises(DataError, match="is in 'K', and a sea bed is in m"):
        read_bathymetry(written(tmp_path / "air.nc", units="K"), KEEP)
