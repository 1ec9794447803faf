"""Two grids are the same where their cells lie in the same places, however files write these down."""

import numpy as np
import pytest
import xarray as xr

from forecast_cli.data.coordinates import axes_of, coordinates_of, first_difference
from forecast_cli.data.roles import Roles
from forecast_cli.domain import Axis, Domain, TimeStep
from forecast_cli.units import same_time_unit, same_unit, scale

ROLES = Roles("time", "y", "x", None)
EVEN, GAUSSIAN = np.array([60.0, 40.0, 20.0]), np.array([61.0, 40.0, 11.0])
LONGITUDES = np.array([350.0, 355.0, 0.0, 5.0])
NORTH, EAST = {"units": "degrees_north"}, {"units": "degrees_east"}


def grid(latitudes=EVEN, longitudes=LONGITUDES, **scalars):
    coords = {"y": ("y", latitudes, NORTH), "x": ("x", longitudes, EAST)} | scalars
    return xr.Dataset({"u": (("y", "x"), np.zeros((3, 4)))}, coords)


def curved(latitudes=EVEN, longitudes=LONGITUDES, dims=("y", "x")):
    """The same places as lat(y, x) and lon(y, x)."""
    lat, lon = np.meshgrid(latitudes, longitudes, indexing="ij")
    places = {"lat": (("y", "x"), lat, NORTH), "lon": (("y", "x"), lon, EAST)}
    dataset = xr.Dataset({"u": (("y", "x"), np.zeros((3, 4)))}, places)
    return dataset.transpose(*dims)


def difference(expected, actual, roles=ROLES):
    return first_difference(coordinates_of(expected, roles), coordinates_of(actual, roles))


SAME = {
    "float32": (grid(), grid(EVEN.astype(np.float32), LONGITUDES.astype(np.float32))),
    "a ten-thousandth of a cell": (grid(), grid(EVEN + 0.0019)),
    "longitudes from -180": (grid(), grid(longitudes=np.array([-10.0, -5.0, 0.0, 5.0]))),
    "no coordinates": (grid(), xr.Dataset({"u": (("y", "x"), np.zeros((3, 4)))})),
    "other order of dimensions": (curved(), curved(dims=("x", "y"))),
    "lat(y) and lat(y, x)": (grid(GAUSSIAN), curved(GAUSSIAN)),
    "km and m": (
        grid().assign_coords(x=("x", np.arange(4.0), {"units": "km"})),
        grid().assign_coords(x=("x", 1000 * np.arange(4.0), {"units": "m"})),
    ),
    "hPa and Pa": (
        grid(level=((), 500.0, {"units": "hPa"})),
        grid(level=((), 50000.0, {"units": "Pa"})),
    ),
    "a level on one side": (grid(), grid(level=500)),
    "times": (grid(step=((), 3.0, {"units": "hours"})), grid(step=((), 6.0, {"units": "hours"}))),
    "a projection": (grid(crs=0), grid(crs=1)),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_cells_are_the_same_however_they_are_written(case):
    assert difference(*SAME[case]) is None


OTHER = {
    "uneven, turned": (grid(GAUSSIAN), grid(GAUSSIAN[::-1]), ("'y'", "61 at cell 0", "11 at cell 0")),
    "one uneven cell": (
        grid(GAUSSIAN),
        grid([61.0, 41.0, 11.0]),
        ("'y'", "40 at cell 1", "41 at cell 1"),
    ),
    "even, turned": (grid(), grid(EVEN[::-1]), ("'y'", "60 on in steps of -20", "20 on in steps of 20")),
    "two-dimensional, turned": (curved(), curved(EVEN[::-1]), ("'lat'", "60 at cell (0, 0)", "20 at cell (0, 0)")),
    "two-dimensional, mirrored": (
        curved(),
        curved(longitudes=LONGITUDES[::-1]),
        ("'lon'", "350 at cell (0, 0)", "5 at cell (0, 0)"),
    ),
    "lat(y) and a turned lat(y, x)": (grid(), curved(EVEN[::-1]), ("'lat'", "60 at cell (0, 0)", "20 at cell (0, 0)")),
    "the same longitudes from another one on": (
        grid(),
        grid(longitudes=np.roll(LONGITUDES, 2)),
        ("'x'", "350 at cell 0", "0 at cell 0"),
    ),
    "metres and degrees": (
        grid().assign_coords(x=("x", np.arange(4.0), {"units": "m"})),
        grid().assign_coords(x=("x", np.arange(4.0), {"units": "degrees"})),
        ("'x'", "in 'm'", "in 'degrees'"),
    ),
    "a level": (grid(level=500), grid(level=850), ("'level'", "500", "850")),
    "a height": (grid(height=2.0), grid(height=10.0), ("'height'", "2", "10")),
    "a member": (grid(number=0), grid(number=3), ("'number'", "0", "3")),
    "a depth by its attribute": (
        grid(sheet=((), 1.0, {"positive": "down"})),
        grid(sheet=((), 5.0, {"positive": "down"})),
        ("'sheet'", "1", "5"),
    ),
}


@pytest.mark.parametrize("case", OTHER)
def test_other_cells_are_named_with_both_values(case):
    expected, actual, text = OTHER[case]
    assert difference(expected, actual) == text


def test_fields_in_one_dimension_compare_along_it():
    roles = Roles("time", None, "x", None)
    first = xr.Dataset({"u": ("x", np.zeros(4))}, {"x": np.array([0.0, 1.0, 3.0, 7.0])})
    assert difference(first, first, roles) is None
    assert difference(first, first.isel(x=slice(None, None, -1)), roles) == ("'x'", "0 at cell 0", "7 at cell 0")


def test_rounding_of_float32_is_the_same_cell_and_a_fifth_of_a_narrow_cell_is_not():
    """Rounding of float32 at 180 is 2e-5, more than a hundredth of a cell of 1e-3."""
    fine = 179.99 + 1e-3 * np.arange(4)
    assert difference(grid(longitudes=fine), grid(longitudes=fine.astype(np.float32))) is None
    assert difference(grid(longitudes=fine), grid(longitudes=fine + 2e-4)) is not None


def test_a_domain_holds_the_first_cells_of_its_even_axes():
    def domain(first, spacing):
        axes = Axis("lat", 6, "", first, spacing), Axis("lon", 8)
        return Domain((), *axes, TimeStep(1.0, "second"), "cartesian", "zeros")

    assert first_difference(axes_of(domain(50.0, -2.0)), axes_of(domain(50.0, -2.0))) is None
    assert first_difference(axes_of(domain(50.0, -2.0)), axes_of(domain(40.0, 2.0))) == (
        "'lat'",
        "50 on in steps of -2",
        "40 on in steps of 2",
    )
    assert first_difference(axes_of(domain(50.0, -2.0)), axes_of(domain(None, None))) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("m s-1", "m/s"),
        ("m s-1", "m s**-1"),
        ("m s-1", "m s^-1"),
        ("m.s-1", "m s-1"),
        ("kg m-2 s-1", "kg/m2/s"),
        ("1/s", "s-1"),
        ("K", "Kelvin"),
        ("degC", "celsius"),
        ("hours", "h"),
        ("hPa", "millibars"),
    ],
)
def test_spellings_of_one_unit_are_the_same(first, second):
    assert same_unit(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("K", "degC"),
        ("m s-1", "m s"),
        ("m", "mm"),
        ("Pa", "hPa"),
        ("K", ""),
        ("m2 s-2", "m s-1"),
        ("1", ""),
        ("s", "min"),
    ],
)
def test_different_units_are_not_the_same(first, second):
    assert not same_unit(first, second)


def test_plain_times_may_do_without_a_unit():
    assert same_time_unit("", "1")
    assert same_time_unit("sec", "seconds")
    assert not same_time_unit("s", "")


def test_lengths_pressures_and_times_have_factors_to_a_base_unit():
    assert scale("km") == ("m", 1000)
    assert scale("millibar") == ("Pa", 100)
    assert scale("minutes") == ("s", 60)
    assert scale("degrees_north") == scale("deg")
    assert scale("K") is None
