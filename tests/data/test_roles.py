"""Laws of dimension roles: attributes before names, the user before both, and no guess where two would do."""

import numpy as np
import pytest
import xarray as xr

from forecast_cli.data.roles import Roles, coordinate_of, find_roles, nearest
from forecast_cli.errors import DataError


def field(*dimensions: str, **coordinates: dict[str, str]) -> xr.Dataset:
    """u on dimensions of length 3, 4, 5, ..., with coordinates of the given attributes."""
    sizes = {dimension: 3 + i for i, dimension in enumerate(dimensions)}
    coords = {name: (name, np.arange(sizes[name]), attributes) for name, attributes in coordinates.items()}
    return xr.Dataset({"u": (dimensions, np.zeros(tuple(sizes.values())))}, coords=coords)


def roles_of(dataset: xr.Dataset, selected=(), **given: str) -> Roles:
    return find_roles(dataset, ["u"], given, "file.nc", selected=selected)[0]


@pytest.mark.parametrize(
    ("dimensions", "expected"),
    [
        (("time", "lat", "lon"), Roles("time", "lat", "lon", None)),
        (("Time", "Latitude", "Longitude"), Roles("Time", "Latitude", "Longitude", None)),
        (("lon", "lat", "t"), Roles("t", "lat", "lon", None)),
        (("sample", "time", "height", "width"), Roles("time", "height", "width", "sample")),
        (("trajectory", "frame", "row", "col"), Roles("frame", "row", "col", "trajectory")),
        (("valid_time", "south_north", "west_east"), Roles("valid_time", "south_north", "west_east", None)),
        (("time", "x"), Roles("time", None, "x", None)),
        (("time", "y"), Roles("time", None, "y", None)),
        (("sample", "t", "lat"), Roles("t", None, "lat", "sample")),
    ],
)
def test_customary_names_tell_the_roles(dimensions, expected):
    assert roles_of(field(*dimensions)) == expected


def test_height_is_a_level_where_latitude_is_there():
    assert roles_of(field("time", "height", "lat", "lon"), selected=["height"]).y == "lat"


@pytest.mark.parametrize(
    "attributes",
    [
        ({"axis": "T"}, {"axis": "Y"}, {"axis": "X"}),
        (
            {"standard_name": "time"},
            {"standard_name": "projection_y_coordinate"},
            {"standard_name": "projection_x_coordinate"},
        ),
        ({"standard_name": "time"}, {"units": "degrees_north"}, {"units": "degrees_east"}),
        ({"axis": "t"}, {"units": "degreesN"}, {"units": "degree_E"}),
    ],
)
def test_attributes_tell_the_roles_of_dimensions_with_any_name(attributes):
    a, b, c = attributes
    assert roles_of(field("a", "b", "c", a=a, b=b, c=c)) == Roles("a", "b", "c", None)


def test_attributes_are_believed_before_names():
    assert roles_of(field("time", "x", "y", x={"axis": "Y"}, y={"axis": "X"})) == Roles("time", "x", "y", None)


def test_dates_are_time_under_any_name():
    dataset = field("a", "lat", "lon").assign_coords(
        a=xr.date_range("2000", periods=3, calendar="360_day", use_cftime=True)
    )
    assert roles_of(dataset).time == "a"


def test_a_coordinate_under_another_name_describes_its_dimension():
    dataset = field("a", "b", "c")
    dataset["t"] = ("a", np.arange(3.0), {"axis": "T"})
    dataset["north"] = ("b", np.arange(4.0), {"units": "degrees_north"})
    dataset["east"] = ("c", np.arange(5.0), {"units": "degrees_east"})
    assert roles_of(dataset) == Roles("a", "b", "c", None)
    assert coordinate_of(dataset, "b", "y").name == "north"
    assert coordinate_of(dataset, "a", "time").name == "t"


def test_two_coordinates_that_could_be_meant_are_none():
    dataset = field("time", "b", "c")
    dataset["t"] = dataset["date"] = ("time", np.arange(3.0))
    assert coordinate_of(dataset, "time", "time") is None


def test_the_user_is_believed_before_all():
    dataset = field("time", "lat", "lon", lat={"axis": "Y"}, lon={"axis": "X"})
    assert roles_of(dataset, x="lat", y="lon") == Roles("time", "lon", "lat", None)
    assert roles_of(field("n", "a", "b", "c"), sample="n", time="a", y="b", x="c") == Roles("a", "b", "c", "n")


@pytest.mark.parametrize(
    ("dimensions", "given", "said"),
    [
        (("time", "lat", "latitude", "lon"), {}, "y could be any of lat, latitude.*--dims y=lat"),
        (("time", "t", "y", "x"), {}, "time could be any of time, t"),
        (("a", "lat", "lon"), {}, r"u' \(a=3, lat=4, lon=5\): cannot tell which dimension is time"),
        (("time", "a", "b"), {}, "cannot tell which dimension is x"),
        (("time", "lat", "lon"), {"time": "hour"}, "--dims time=hour: 'u' has the dimensions time, lat, lon"),
        (("time", "lat", "lon"), {"z": "lat"}, "--dims z=lat: no such role. Roles: time, y, x, sample"),
        (("time", "level", "lat", "lon"), {}, r"'level'.*\(0 to 3\): --select level=VALUE"),
    ],
)
def test_what_cannot_be_told_is_asked_in_one_line(dimensions, given, said):
    with pytest.raises(DataError, match=said) as error:
        roles_of(field(*dimensions), **given)
    assert "\n" not in str(error.value)


def test_a_further_dimension_lists_its_values():
    dataset = field("time", "level", "lat", "lon").assign_coords(level=[250, 500, 700, 850])
    with pytest.raises(DataError, match="250, 500, 700, 850"):
        roles_of(dataset)
    assert roles_of(dataset, selected=["level"]) == Roles("time", "lat", "lon", None)


def test_many_values_are_listed_in_short():
    dataset = xr.Dataset(
        {"u": (("time", "level", "lat", "lon"), np.zeros((2, 60, 2, 2)))}, coords={"level": np.arange(60) * 10}
    )
    with pytest.raises(DataError, match=r"\(0, 10, .*, 100, \.\.\., 590\)"):
        roles_of(dataset)


def test_dimensions_of_length_one_without_a_role_are_left_over():
    dataset = field("sample", "time", "dim", "height", "width").isel(dim=[0], sample=[0])
    roles, rest = find_roles(dataset, ["u"], {}, "file.nc")
    assert roles == Roles("time", "height", "width", "sample")
    assert rest == ("dim",)


def test_an_empty_axis_of_objects_is_no_crash():
    dataset = xr.Dataset({"u": (("time", "y", "x"), np.zeros((0, 2, 2)))}, coords={"time": np.array([], object)})
    assert roles_of(dataset).time == "time"


@pytest.mark.parametrize(("word", "expected"), [("t2", " (did you mean t2m?)"), ("quite different", "")])
def test_the_nearest_name_is_offered_if_it_is_near(word, expected):
    assert nearest(word, ["t2m", "z500"]) == expected
