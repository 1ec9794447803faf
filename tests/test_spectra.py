"""Laws of power spectra, and values computed by hand."""

import numpy as np
import pytest
import xarray as xr

from forecast_cli import evaluation
from forecast_cli.data.fields import open_fields
from forecast_cli.data.grid import KM_PER_DEGREE
from forecast_cli.errors import DataError
from forecast_cli.evaluation.spectra import Rings


def plane(height, width, spacing=(1.0, 1.0), periodic=(True, True)):
    """Rings of a grid that is no globe."""
    return Rings((height, width), spacing, periodic, "1/cell", False, np.full(height, 1 / height))


def globe(weights, width):
    """Rings of latitudes with these weights."""
    return Rings((len(weights), width), (1.0, 1.0), (False, True), "1", True, np.array(weights))


def noise(height, width, count=20, seed=0):
    return 3 + np.random.default_rng(seed).normal(size=(count, height, width))


def written(folder, dims, coords, attributes=None):
    """Fields of zeros with these coordinates: name to (dimension, values, unit)."""
    sizes = {dimension: len(values) for dimension, values, _ in coords.values()}
    shape = [4, *(sizes.get(dim, 3) for dim in dims)]
    dataset = xr.Dataset({"u": (("time", *dims), np.zeros(shape))}, {"time": np.arange(4.0)}, attributes or {})
    for name, (dimension, values, units) in coords.items():
        dataset = dataset.assign_coords({name: (dimension, values, {"units": units} if units else {})})
    dataset.to_netcdf(folder / "fields.nc")
    return open_fields([str(folder / "fields.nc")])


SHAPES = [(8, 8), (7, 7), (8, 9), (6, 15), (32, 128), (1, 10), (1, 11)]


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (10.0, 1.0), (1.0, 0.3)])
@pytest.mark.parametrize("shape", SHAPES)
def test_power_times_step_is_the_variance_of_a_closed_grid(shape, spacing):
    fields, grid = noise(*shape), plane(*shape, spacing)
    np.testing.assert_allclose(grid.power(fields).sum(-1) * grid.step, fields.var(axis=(1, 2)), rtol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("periodic", [(False, False), (False, True), (True, False)])
def test_power_times_step_is_what_the_window_leaves_about_the_trend_of_an_open_grid(shape, periodic):
    """The trend comes from a least-squares solver here, the window from its formula."""
    fields, grid = noise(*shape), plane(*shape, periodic=periodic)
    window, shapes = np.ones(shape), [np.ones(shape)]
    for axis, place in enumerate(np.indices(shape)):
        size = shape[axis]
        if not periodic[axis] and size > 2:
            hann = np.sin(np.pi * (place + 1) / (size + 1)) ** 2
            window = window * hann / np.sqrt((hann**2).mean())
            shapes.append(place)
    columns = np.stack([part.ravel() for part in shapes], axis=1).astype(float)
    root = np.sqrt(window.ravel())
    fitted = np.linalg.lstsq(columns * root[:, None], (fields.reshape(len(fields), -1) * root).T)[0]
    left = fields - (columns @ fitted).T.reshape(fields.shape)
    expected = (left**2 * window**2).mean(axis=(1, 2))
    np.testing.assert_allclose(grid.power(fields).sum(-1) * grid.step, expected, rtol=1e-9)


def test_over_many_fields_the_window_keeps_the_variance():
    """Of 400 fields of white noise, of which a plane takes 3 of 400 degrees of freedom; the mean is sure to 0.5 %."""
    fields, grid = noise(20, 20, count=400), plane(20, 20, periodic=(False, False))
    assert grid.power(fields).sum(-1).mean() * grid.step == pytest.approx(1, abs=0.03)


def test_the_window_of_three_cells_has_mean_square_one():
    """The field 0, 3, 0: the window 1/2, 1, 1/2 has mean square 1/2, so it is divided by its root.

    Its weighted mean is 3 / 2, which leaves -3/2, 3/2, -3/2 without a slope, and under the window -3/4, 3/2, -3/4
    times the root of 2: their mean square is 2 (9/16 + 9/4 + 9/16) / 3 = 9/4.
    """
    grid = plane(1, 3, periodic=(False, False))
    assert grid.power(np.array([[[0.0, 3.0, 0.0]]])).sum() * grid.step == pytest.approx(9 / 4)


@pytest.mark.parametrize(("periodic", "shape"), [((False, True), (16, 32)), ((True, False), (32, 16))])
def test_a_wave_along_the_closed_direction_survives_the_window_across(periodic, shape):
    closed = periodic.index(True)
    place = np.indices(shape)[closed]
    wave = np.cos(2 * np.pi * 3 * place / shape[closed])[None]
    grid = plane(*shape, periodic=periodic)
    power = grid.power(wave)[0]
    assert power.sum() * grid.step == pytest.approx(0.5)
    assert grid.wavenumbers[power.argmax()] == pytest.approx(3 / 32)


@pytest.mark.parametrize("shape", [(32, 128), (128, 32)])
@pytest.mark.parametrize("cycles", [1, 2, 3, 63])
def test_a_wave_along_the_longer_side_stands_at_its_wavenumber(shape, cycles):
    longer = shape.index(128)
    wave = np.cos(2 * np.pi * cycles * np.indices(shape)[longer] / 128)[None]
    grid = plane(*shape, (0.5, 0.5))
    power = grid.power(wave)[0]
    assert grid.step == 1 / 64
    np.testing.assert_allclose(power[grid.wavenumbers == cycles / 64] * grid.step, 0.5)
    assert power.sum() * grid.step == pytest.approx(0.5)


def test_rings_of_a_four_by_eight_grid():
    """Modes by hand: wavenumbers of y are 0, 1/4, 2/4, those of x 0 to 4 eighths; the corner is the root of 32 eighths."""
    grid = plane(4, 8)
    assert grid.step == 1 / 8
    assert grid.ring[0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert grid.ring[:, 0].tolist() == [0, 2, 4, 2]
    assert grid.ring[2, 4] == 6  # 5.66
    np.testing.assert_allclose(grid.wavenumbers, np.arange(1, 7) / 8)
    assert grid.count == 6


def test_a_wavenumber_halfway_between_two_rings_belongs_to_the_upper():
    """Four cells of spacing 1 beside six: one wave along y is 1.5 steps, two are 3."""
    assert plane(4, 6).ring[:, 0].tolist() == [0, 2, 3, 2]


def test_rings_without_a_mode_are_left_out():
    """In hundredths: 0 and 1 along y, of two cells 50 apart; 0, 25 and 50 along x, of four cells 1 apart."""
    grid = plane(2, 4, (50.0, 1.0))
    np.testing.assert_allclose(grid.wavenumbers, np.array([1, 25, 50]) / 100)
    assert grid.power(noise(2, 4, 3)).shape == (3, 3)


def test_white_noise_on_a_line_is_flat():
    """Each mode holds 1/n of the variance, each pair 2/n; the last of an even number of cells is alone."""
    for size in (10, 11):
        grid = plane(1, size)
        power = grid.power(noise(1, size, 20_000))
        expected = np.full(size // 2, 2.0)
        if size == 10:
            expected[-1] = 1
        np.testing.assert_allclose(power.mean(0) * grid.step * size, expected, rtol=0.05)


@pytest.mark.parametrize("width", [8, 9])
def test_zonal_power_is_the_variance_of_each_latitude_by_its_weight(width):
    fields = noise(3, width)
    grid = globe([0.25, 0.5, 0.25], width)
    assert grid.wavenumbers.tolist() == [1, 2, 3, 4]
    expected = fields.var(axis=-1) @ [0.25, 0.5, 0.25]
    np.testing.assert_allclose(grid.power(fields).sum(-1) * grid.step, expected, rtol=1e-10)


def test_the_shortest_zonal_wave_counts_once():
    """+1 and -1 in turn: variance 1, all of it at wavenumber 2 of four cells."""
    wave = np.array([[[1.0, -1.0, 1.0, -1.0]]])
    np.testing.assert_allclose(globe([1.0], 4).power(wave), [[0, 1]], atol=1e-15)


@pytest.mark.parametrize("grid", [plane(4, 4), plane(4, 4, periodic=(False, False)), globe([0.5, 0, 0.25, 0.25], 4)])
def test_a_field_with_a_gap_has_no_spectrum(grid):
    fields = noise(4, 4, 2)
    fields[1, 2, 3] = np.nan
    power = grid.power(fields)
    assert np.isfinite(power[0]).all()
    assert np.isnan(power[1]).all()


def test_a_region_is_as_narrow_as_the_cosine_of_its_latitude(tmp_path):
    """From 55 to 65 degrees, in the mean 60: a degree along x is half as long as along y."""
    latitudes, longitudes = np.arange(55.0, 66.0), np.arange(10.0, 22.0)
    for lat, lon in (("lat", "lon"), ("y", "x")):
        coords = {"lat": (lat, latitudes, "degrees_north"), "lon": (lon, longitudes, "degrees_east")}
        grid = evaluation.rings(written(tmp_path, (lat, lon), coords))
        np.testing.assert_allclose(grid.spacing, (KM_PER_DEGREE, KM_PER_DEGREE / 2))
        assert (grid.units, grid.zonal, grid.periodic) == ("1/km", False, (False, False))


def test_uneven_latitudes_of_a_region_have_their_median_spacing(tmp_path):
    coords = {
        "lat": ("lat", np.array([-2.1, -1.0, 0.0, 1.0, 2.1]), "degrees_north"),
        "lon": ("lon", np.arange(0.0, 10.0, 0.5), "degrees_east"),
    }
    grid = evaluation.rings(written(tmp_path, ("lat", "lon"), coords))
    np.testing.assert_allclose(grid.spacing, (1.05 * KM_PER_DEGREE, 0.5 * KM_PER_DEGREE))


@pytest.mark.parametrize(
    ("y", "x", "spacing", "units"),
    [
        ((np.arange(3.0), "m"), (np.arange(4.0) / 2, "m"), (1, 0.5), "1/m"),
        ((np.arange(3.0), ""), (np.arange(4.0) / 2, ""), (1, 0.5), "1"),
        ((np.arange(3.0), "km"), (np.arange(4.0) / 2, "m"), (1000, 0.5), "1/m"),
        ((np.arange(3.0), "K"), (np.arange(4.0) / 2, "m"), (1, 1), "1/cell"),
        ((np.array([0.0, 1.0, 5.0]), "m"), (np.arange(4.0) / 2, "m"), (1, 1), "1/cell"),
        (None, None, (1, 1), "1/cell"),
    ],
)
def test_wavenumbers_are_per_unit_of_coordinates_that_share_one_and_else_per_cell(tmp_path, y, x, spacing, units):
    coords = {name: (name, *axis) for name, axis in (("y", y), ("x", x)) if axis}
    grid = evaluation.rings(written(tmp_path, ("y", "x"), coords))
    assert (grid.spacing, grid.units) == (spacing, units)


def test_a_single_cell_has_no_spectrum(tmp_path):
    coords = {"y": ("y", np.zeros(1), "m"), "x": ("x", np.zeros(1), "m")}
    with pytest.raises(DataError, match="single cell"):
        evaluation.rings(written(tmp_path, ("y", "x"), coords))
