"""Laws of longitudes and units: a turn of 360 degrees changes nothing, and a unit is read before a distance is computed."""

import numpy as np
import pytest
import xarray as xr

from forecast_cli.config import DataConfig, ModelConfig
from forecast_cli.data.fields import Fields, open_fields
from forecast_cli.data.grid import cell_size, map_places, places, unwrapped
from forecast_cli.data.inputs import mask_of, open_inputs
from forecast_cli.domain import Axis, Domain, TimeStep, Variable
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.evaluation.regions import cells_of
from forecast_cli.inversion.places import cells_of as cells_of_places
from forecast_cli.metrics import cell_weights
from forecast_cli.models import require_units
from forecast_cli.plots.maps import of_fields

LATITUDES = np.array([50.0, 40.0, 30.0])
NORTH, EAST = {"units": "degrees_north"}, {"units": "degrees_east"}


def fields_on(path, x, y=LATITUDES, *, names=("lat", "lon"), attributes=(NORTH, EAST), form="nc", dtype="f8") -> Fields:
    """Fields of two frames on coordinates, read back from a file; `y` None for fields in one dimension."""
    x = np.asarray(x, dtype)
    coords = {names[1]: (names[1], x, attributes[1])}
    dims = ["time", names[1]]
    if y is not None:
        coords[names[0]] = (names[0], np.asarray(y, dtype), attributes[0])
        dims.insert(1, names[0])
    sizes = {"time": 2} | {dim: len(coords[dim][1]) for dim in dims[1:]}
    values = np.arange(np.prod(list(sizes.values())), dtype="f4").reshape(list(sizes.values()))
    dataset = xr.Dataset({"u": (dims, values)}, coords)
    if form == "zarr":
        pytest.importorskip("zarr")
    place = path / f"u.{form}"
    dataset.to_zarr(place) if form == "zarr" else dataset.to_netcdf(place)
    return open_fields([str(place)])


def turned(longitudes, start):
    """Longitudes counted from `start` to `start + 360`."""
    return (np.asarray(longitudes, float) - start) % 360 + start


WAYS = [-180, 0, -170.125, 90.5]


@pytest.mark.parametrize("start", WAYS)
@pytest.mark.parametrize("west", [-5, 170, 85])
@pytest.mark.parametrize("step", [0.25, -0.25, 1.0])
@pytest.mark.parametrize("form", ["nc", "zarr"])
def test_a_region_is_a_region_wherever_its_longitudes_jump(tmp_path, start, west, step, form):
    longitudes = turned((west + abs(step) * np.arange(41))[:: int(np.sign(step))], start)
    fields = fields_on(tmp_path, longitudes, form=form)
    assert (fields.domain.boundary, fields.domain.grid) == ("zeros", "latitude-longitude")
    assert fields.domain.x.spacing == step
    assert fields.domain.x.first == longitudes[0]
    np.testing.assert_array_equal(fields.dataset["lon"], longitudes)  # the file's own, for outputs


@pytest.mark.parametrize("first", [-180, 0, 20, 180, 0.125, 359])
@pytest.mark.parametrize("start", WAYS)
@pytest.mark.parametrize("step", [10.0, -10.0, 0.25])
def test_a_globe_is_closed_wherever_it_starts(tmp_path, first, start, step):
    fields = fields_on(tmp_path, turned(first + step * np.arange(round(360 / abs(step))), start))
    assert fields.domain.boundary == "cylinder"
    assert fields.domain.x.spacing == step


def test_a_globe_of_float32_longitudes_has_its_step(tmp_path):
    fields = fields_on(tmp_path, turned(180 + 0.1 * np.arange(3600), 0), dtype="f4")
    assert fields.domain.boundary == "cylinder"
    assert fields.domain.x.spacing == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize(
    ("longitudes", "boundary"),
    [
        (np.arange(0, 350, 10.0), "zeros"),
        (np.arange(10, 360, 10.0), "zeros"),
        ([0.0, 90, 180, 270], "cylinder"),
        ([0.0, 120, 240], "cylinder"),
        ([0.0, 180], "cylinder"),
        ([350.0, 10], "zeros"),
        (np.r_[0:10:1.0, 180:190:1.0], "zeros"),
    ],
)
def test_a_globe_lacks_one_step_between_its_ends(tmp_path, longitudes, boundary):
    assert fields_on(tmp_path, longitudes).domain.boundary == boundary


@pytest.mark.parametrize("start", WAYS)
def test_longitudes_alone_close_on_a_circle(tmp_path, start):
    globe = fields_on(tmp_path, turned(np.arange(0, 360, 10.0), start), None)
    assert (globe.domain.boundary, globe.domain.grid, globe.domain.y) == ("circular", "cartesian", None)


def test_longitudes_alone_of_a_region_do_not_close(tmp_path):
    fields = fields_on(tmp_path, turned(np.arange(355, 376, 1.0), 0), None)
    assert (fields.domain.boundary, fields.domain.x.spacing) == ("zeros", 1.0)


@pytest.mark.parametrize("start", [-180, 0, 20])
def test_a_longitude_that_repeats_the_first_one_is_left_out_wherever_it_is_counted(tmp_path, start):
    longitudes = np.r_[turned(np.arange(180, 540, 30.0), start), turned([180.0], start)]
    fields = fields_on(tmp_path, longitudes)
    assert (fields.domain.x.size, fields.domain.boundary) == (12, "cylinder")
    assert any("repeats" in note for note in fields.notes)


def test_steps_are_taken_modulo_360():
    np.testing.assert_array_equal(unwrapped(np.array([358.0, 359, 0, 1])), [358, 359, 360, 361])
    np.testing.assert_array_equal(unwrapped(np.array([-179.0, 180, 179])), [-179, -180, -181])
    np.testing.assert_array_equal(unwrapped(np.array([0.0, 180])), [0, 180])
    # Three times around is no circle of latitude.
    np.testing.assert_array_equal(unwrapped(np.array([0.0, 170, 340, 150, 320])), [0, 170, 340, 150, 320])


@pytest.mark.parametrize(
    ("longitudes", "drawn"),
    [
        ([358, 359, 0, 1], [-2, -1, 0, 1]),
        ([178, 179, -180, -179], [178, 179, 180, 181]),
        ([-179, -180, 179], [181, 180, 179]),
        ([20, 200, 378], [20, 200, 378]),
    ],
)
def test_maps_count_longitudes_between_minus_180_and_360(longitudes, drawn):
    np.testing.assert_array_equal(map_places(xr.DataArray(np.array(longitudes, float), dims="lon", name="lon")), drawn)


@pytest.mark.parametrize("start", [-180, 0])
@pytest.mark.parametrize(
    ("text", "west", "east"),
    [
        ("a=:,-2:3", 3, 9),
        ("a=:,358:363", 3, 9),
        ("a=:,358:3", 3, 9),
        ("a=:,-5:5", 0, 11),
        ("a=:,0:0", 5, 6),
        ("a=:,4:", 9, 11),
        ("a=:,:-4", 0, 2),
        ("a=:,:", 0, 11),
        ("a=:,0:360", 0, 11),
    ],
)
def test_a_region_includes_its_western_and_its_eastern_bound(tmp_path, start, text, west, east):
    """Of the longitudes -5, -4, ..., 5, numbered from 0: those from the first bound to the last, both included."""
    fields = fields_on(tmp_path, turned(np.arange(-5, 6), start))
    expected = np.zeros((3, 11), bool)
    expected[:, west:east] = True
    np.testing.assert_array_equal(cells_of(text, fields)[1].reshape(3, 11), expected)


@pytest.mark.parametrize(
    ("text", "west", "east"),
    [
        ("a=:,178:182", 8, 13),
        ("a=:,178:-178", 8, 13),
        ("a=:,-182:-178", 8, 13),
        ("a=:,185:", 15, 21),
        ("a=:,-175:", 15, 21),
    ],
)
def test_a_region_may_cross_the_dateline(tmp_path, text, west, east):
    fields = fields_on(tmp_path, turned(np.arange(170, 191), -180))
    cells = cells_of(text, fields)[1].reshape(3, 21)
    assert np.flatnonzero(cells[0]).tolist() == list(range(west, east))


def test_the_bounds_of_a_region_include_cells_that_float32_has_moved(tmp_path):
    fields = fields_on(tmp_path, 10 + 0.1 * np.arange(11), 50 - 0.1 * np.arange(6), dtype="f4")
    cells = cells_of("a=49.6:49.9,10.2:10.7", fields)[1].reshape(6, 11)
    assert np.flatnonzero(cells.any(axis=1)).tolist() == [1, 2, 3, 4]
    assert np.flatnonzero(cells.any(axis=0)).tolist() == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("start", [-180, 0, 300])
def test_a_mask_is_laid_on_the_cells_modulo_360(tmp_path, start):
    fields = fields_on(tmp_path, turned(np.arange(350, 370, 2.0), 0))
    longitudes = np.sort(turned(np.arange(0, 360, 2.0), start))
    mask = xr.DataArray(
        (longitudes % 360 == 4.0) * np.ones((3, 1)), {"lat": LATITUDES, "lon": longitudes}, ("lat", "lon")
    )
    mask.to_dataset(name="sea").to_netcdf(tmp_path / "m.nc")
    used = mask_of(f"{tmp_path}/m.nc:sea", fields, "--mask ")
    assert np.flatnonzero(used[0]).tolist() == [7]  # 350, 352, ..., 364 = 4


def test_a_mask_of_another_region_is_refused(tmp_path):
    fields = fields_on(tmp_path, turned(np.arange(350, 370, 2.0), 0))
    mask = xr.DataArray(np.ones((3, 9)), {"lat": LATITUDES, "lon": np.arange(-10, 8, 2.0)}, ("lat", "lon"))
    mask.to_dataset(name="sea").to_netcdf(tmp_path / "m.nc")
    with pytest.raises(DataError, match="does not cover the cells of the data along 'lon'"):
        mask_of(f"{tmp_path}/m.nc:sea", fields, "--mask ")


def test_a_single_longitude_is_selected_modulo_360(tmp_path):
    fields_on(tmp_path, np.arange(350, 360))
    fields = open_fields([str(tmp_path / "u.nc")], select={"lon": "-3"}, dims={"x": "lat", "time": "time"})
    assert fields.read(0, 0, 1)[0, 0, 0].tolist() == [7, 17, 27]


@pytest.mark.parametrize("right", [-179.0, 181.0])
def test_a_gauge_lies_in_its_cell_whatever_turn_its_longitude_is_counted_in(right):
    axes = Axis("y", 3, "", 0.0, 1.0), Axis("x", 5, "", 178.0, 1.0)
    columns = {"lon": np.array([right]), "lat": np.array([2.0])}
    assert cells_of_places(columns, ("lon", "lat"), axes, degrees=True) == [(2, 3)]
    assert cells_of_places(columns, ("lon", "lat"), axes, degrees=False) == [(2, 3) if right > 0 else None]


def test_a_gauge_half_a_cell_west_of_the_first_centre_lies_in_the_first_cell():
    axes = Axis("y", 1, "", 0.0, 1.0), Axis("x", 5, "", 0.0, 1.0)
    places_ = {"lon": np.array([359.6, 359.4, 4.4, 4.6]), "lat": np.zeros(4)}
    assert cells_of_places(places_, ("lon", "lat"), axes, degrees=True) == [(0, 0), None, (0, 4), None]


RADIANS = ({"units": "radian", "standard_name": "latitude"}, {"units": "rad", "standard_name": "longitude"})


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_latitudes_and_longitudes_in_radians_are_those_in_degrees(tmp_path, dtype):
    longitudes = np.arange(0, 360, 10.0)
    fields = fields_on(tmp_path, np.deg2rad(longitudes), np.deg2rad(LATITUDES), attributes=RADIANS, dtype=dtype)
    assert (fields.domain.grid, fields.domain.boundary) == ("latitude-longitude", "cylinder")
    assert (fields.domain.y.units, fields.domain.x.units) == ("degrees_north", "degrees_east")
    assert fields.domain.x.spacing == pytest.approx(10, rel=1e-5)
    assert sum("converted to degrees" in note for note in fields.notes) == 2
    bands = np.sin(np.deg2rad(LATITUDES + 5)) - np.sin(np.deg2rad(LATITUDES - 5))
    np.testing.assert_allclose(cell_weights(fields)[:, 0], bands / bands.mean(), rtol=1e-5)
    inputs = open_inputs(DataConfig(coordinates=("y",)), fields)
    np.testing.assert_allclose(inputs.static_fields(0)[0, :, 0], np.sin(np.deg2rad(LATITUDES)), rtol=1e-5)


@pytest.mark.parametrize(
    ("names", "attributes"),
    [
        (("rlat", "rlon"), ({"units": "degrees"}, {"units": "degrees"})),
        (("rlat", "rlon"), ({"units": "degrees_north"}, {"units": "degrees_east"})),
        (
            ("y", "x"),
            (
                {"units": "degrees_north", "standard_name": "grid_latitude"},
                {"units": "degrees_east", "standard_name": "grid_longitude"},
            ),
        ),
        (("lat", "lon"), ({"units": "m"}, {"units": "m"})),
        (("lat", "lon"), ({"units": "km"}, {"units": "km"})),
    ],
)
def test_coordinates_from_another_pole_or_in_metres_are_not_on_the_globe(tmp_path, names, attributes):
    fields = fields_on(tmp_path, np.arange(0, 360, 10.0), names=names, attributes=attributes)
    assert (fields.domain.grid, fields.domain.boundary) == ("cartesian", "zeros")
    assert (cell_weights(fields) == 1).all()


def test_numbers_that_latitudes_cannot_have_are_no_latitudes(tmp_path):
    fields = fields_on(tmp_path, 1000.0 * np.arange(5), 1000.0 * np.arange(3), attributes=({}, {}))
    assert fields.domain.grid == "cartesian"


def size_of(fields: Fields) -> tuple[float, float, str]:
    return cell_size(fields.dataset, fields.roles, fields.domain.grid)


@pytest.mark.parametrize(
    ("units", "size"),
    [
        (("km", "km"), (2.0, 4.0, "km")),
        (("km", "m"), (2000.0, 4.0, "m")),
        (("m", "km"), (0.002, 4.0, "km")),
        (("metre", "m"), (2.0, 4.0, "m")),
        (("hPa", "km"), (1.0, 1.0, "cell")),
        (("degrees", "degrees"), (2.0, 4.0, "degrees")),
    ],
)
def test_the_size_of_a_cell_is_in_one_unit(tmp_path, units, size):
    attributes = tuple({"units": unit} for unit in units)
    fields = fields_on(tmp_path, 4.0 * np.arange(5), 2.0 * np.arange(3), names=("y", "x"), attributes=attributes)
    assert size_of(fields) == pytest.approx(size)


def test_the_size_of_a_cell_over_greenwich_is_that_of_its_degrees(tmp_path):
    dy, dx, unit = size_of(fields_on(tmp_path, turned(np.arange(350, 370, 2.0), 0)))
    assert (dy, dx, unit) == (pytest.approx(1111.95), pytest.approx(2 * 111.195 * np.cos(np.deg2rad(40))), "km")


def test_cells_of_uneven_size_are_counted(tmp_path):
    assert size_of(fields_on(tmp_path, [0, 1, 2, 3, 5.0], names=("y", "x"), attributes=({}, {}))) == (1.0, 1.0, "cell")


def plane(units, *, equation, time="s"):
    axes = [Axis(name, 4, unit, 0.0, 1.0) for name, unit in zip("yx", units, strict=True)]
    domain = Domain((Variable("u"),), *axes, TimeStep(1.0, time), "cartesian", "zeros")
    require_units(ModelConfig(name="finn", equation=equation), domain, "file.nc")


@pytest.mark.parametrize(
    ("units", "equation", "time", "message"),
    [
        (("km", "m"), "burgers", "s", "one unit along both axes; the data have 'y' in 'km' and 'x' in 'm'"),
        (("", "m"), "burgers", "s", "one unit along both axes"),
        (("degrees", "degrees"), "burgers", "s", "'y' is in 'degrees'. Project the data first"),
        (("km", "km"), "shallow-water", "s", "shallow-water needs metres; 'y' is in 'km'"),
        (("fathoms", "fathoms"), "shallow-water", "s", "shallow-water needs metres"),
        (("m", "m"), "shallow-water", "hours", "times in seconds, or dates; those of the data are in 'hours'"),
    ],
)
def test_an_equation_refuses_units_that_it_cannot_be_in(units, equation, time, message):
    with pytest.raises(DataError, match=message):
        plane(units, equation=equation, time=time)


@pytest.mark.parametrize(
    ("units", "equation", "time"),
    [
        (("m", "metres"), "shallow-water", "second"),
        (("", "1"), "shallow-water", "1"),
        (("km", "km"), "burgers", "days"),
        (("rad", "rad"), "burgers", "1"),
    ],
)
def test_an_equation_takes_any_one_unit_that_its_constants_allow(units, equation, time):
    plane(units, equation=equation, time=time)


def test_places_are_the_values_where_they_are_no_longitudes():
    x = xr.DataArray([0.0, 359.0, 1.0], dims="x", name="x", attrs={"units": "km"})
    np.testing.assert_array_equal(places(x), [0, 359, 1])


@pytest.mark.parametrize(("units", "aspect"), [(("km", "m"), 1000.0), (("m", "m"), 1.0), (("1", "1"), 1.0)])
def test_a_map_draws_equal_lengths_equally_long(tmp_path, units, aspect):
    attributes = tuple({"units": unit} for unit in units)
    fields = fields_on(tmp_path, np.arange(5), np.arange(3), names=("y", "x"), attributes=attributes)
    assert of_fields(fields, variable="u", sample=0, frames=[0]).aspect == aspect


def test_a_map_of_a_region_over_greenwich_is_drawn_in_one_piece(tmp_path):
    fields = fields_on(tmp_path, turned(np.arange(-5, 6), 0))
    picture = of_fields(fields, variable="u", sample=0, frames=[0])
    assert picture.geographical
    assert picture.dims == ["latitude [°N]", "longitude [°E]"]
    np.testing.assert_array_equal(picture.places[1], np.arange(-5, 6))
    np.testing.assert_array_equal(picture.rows[""][0, 0], np.arange(11))


def test_a_region_without_cells_is_refused_over_greenwich_too(tmp_path):
    fields = fields_on(tmp_path, turned(np.arange(-5, 6), 0))
    with pytest.raises(ConfigError, match="there is no cell in it"):
        cells_of("a=:,10:350", fields)


@pytest.mark.parametrize(
    ("y", "x", "message"),
    [
        ([-100, 0, 100], [0, 1, 2], "latitude 'lat' reaches from -100 to 100; expected -90 to 90"),
        ([60, 50, 55, 40], [0, 1, 2], "'lat' neither rises nor falls all the way"),
        ([50, 40, 30], [0, 10, 20, 15, 40], "'lon' neither rises nor falls all the way"),
    ],
)
def test_latitudes_and_longitudes_of_no_grid_are_refused(tmp_path, y, x, message):
    with pytest.raises(DataError, match=message):
        fields_on(tmp_path, x, y)
