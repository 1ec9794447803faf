"""Paths with signs that mean something elsewhere: = [ ] * ? : , ~ and names as long as the disk allows."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from forecast_cli.cli import with_home
from forecast_cli.data.atomic import beside, remove_stale, temporary, write_atomically
from forecast_cli.data.files import expand, split_variable
from forecast_cli.data.inputs import split_value
from forecast_cli.errors import DataError

TINY = ("--hidden", 4, "--context", 4, "--horizon", 2, "--epochs", 1, "-q")
DATA, RUN, OUTPUT = 3, 4, 7
LONG = 240 * "n"


# ruff: noqa: ARG001 - many tests need only that they run in a folder of their own


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


@pytest.mark.parametrize("name", ["a[1].nc", "a*.nc", "a?.nc", "exp[1]/a.nc", "**/a.nc", "~/a.nc"])
def test_a_path_that_exists_is_no_pattern(name, folder):
    files(name, "a1.nc", "ab.nc", "exp1/a.nc")
    assert expand([name]) == [name]


def test_a_folder_that_exists_is_no_part_of_a_pattern(folder):
    files("exp[1]/a.nc", "exp[1]/b.nc", "exp1/c.nc", "run[2]_a.nc")
    assert expand(["exp[1]/*.nc"]) == ["exp[1]/a.nc", "exp[1]/b.nc"]
    assert expand([f"{folder}/exp[1]/*.nc"]) == [f"{folder}/exp[1]/a.nc", f"{folder}/exp[1]/b.nc"]
    assert expand(["exp[1]/[a]*"]) == ["exp[1]/a.nc"]
    assert expand(["run[2]_*.nc"]) == ["run[2]_a.nc"]
    assert expand(["exp[0-9]/c.nc"]) == ["exp1/c.nc"]
    with pytest.raises(DataError, match="no file matches"):
        expand(["exp[1]/*.h5"])


def test_the_home_directory_is_written_out(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    files("home.nc")
    assert expand(["~/home.nc", "~/h*.nc"]) == [f"{folder}/home.nc"] * 2
    assert with_home("~/home.nc") == f"{folder}/home.nc"
    assert with_home("--data=~/home.nc") == f"--data={folder}/home.nc"
    assert with_home("data.mask=~/home.nc:lsm=1") == f"data.mask={folder}/home.nc:lsm=1"
    for kept in ("~", "a~/b", "x=1", "a/b=~/c", "~nobody-of-that-name/x", ""):
        assert with_home(kept) == kept


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("year=2019/mask.nc:lsm", ("year=2019/mask.nc:lsm", None)),
        ("year=2019/mask.nc:lsm=1", ("year=2019/mask.nc:lsm", "1")),
        ("lsm=2", ("lsm", "2")),
        ("lsm", ("lsm", None)),
        ("a:b=c/m.nc:lsm=-1.5", ("a:b=c/m.nc:lsm", "-1.5")),
    ],
)
def test_an_equals_sign_counts_behind_the_last_colon_alone(reference, parts):
    assert split_value(reference) == parts


def test_a_file_with_a_colon_in_its_name_is_taken_whole(folder):
    files("wrf_00:00.nc", "bed.nc")
    assert split_variable("wrf_00:00.nc") == ("wrf_00:00.nc", "")
    assert split_variable("wrf_00:00.nc:depth") == ("wrf_00:00.nc", "depth")
    assert split_variable("bed.nc:depth") == ("bed.nc", "depth")
    assert split_variable("none.nc:depth") == ("none.nc:depth", "")


@pytest.mark.parametrize("name", ["year=2019", "exp[1]", "a:b", "a,b", "with 'quotes' and\nbreaks"])
def test_inputs_lie_in_folders_of_any_name(name, forecast, series, folder):
    Path(name).mkdir()
    data, mask = f"{name}/t.nc", f"{name}/mask.nc"
    shutil.copy(series, data)
    with xr.open_dataset(series) as dataset:
        sea = np.arange(48).reshape(6, 8) % 8 > 1
        maps = {"lsm": (("lat", "lon"), sea * 1.0), "height": (("lat", "lon"), np.arange(48.0).reshape(6, 8))}
        xr.Dataset(maps, {key: dataset[key] for key in ("lat", "lon")}).to_netcdf(mask)
    inputs = ("--mask", f"{mask}:lsm=1", "--static", f"{mask}:height")
    for line in (
        ("info", data),
        ("train", data, "-o", f"{name}/run", *TINY, *inputs),
        ("rollout", f"{name}/run", "--data", data, "-o", f"{name}/f.nc"),
        ("evaluate", f"{name}/f.nc", "--truth", data, "--region", f"sea={mask}:lsm", "-o", f"{name}/s.nc"),
        ("plot", f"{name}/f.nc", "--truth", data, "-o", f"{name}/p.png"),
    ):
        result = forecast(*line)
        assert result.exit_code == 0, result.output
    with xr.open_dataset(f"{name}/f.nc", decode_timedelta=False) as made:
        first = made["t2m"].isel(init_time=0, lead_time=0).values
        assert "\n" not in made.attrs["history"]
    assert (np.isfinite(first) == sea).all(), "the mask holds"


def test_a_name_with_a_leading_dash_stands_behind_two_dashes(forecast, series, folder):
    shutil.copy(series, "-t.nc")
    assert forecast("info", "--", "-t.nc").exit_code == 0
    assert forecast("plot", "-o", "-p.gif", "--lead", "1,2", "--", "-t.nc").exit_code == 0
    assert Path("-p.gif").exists()


@pytest.mark.parametrize("ending", [".nc", ".zarr"])
def test_names_as_long_as_the_disk_allows(ending, forecast, series, folder):
    assert forecast("train", series, "-o", LONG, *TINY).exit_code == 0
    made, scores = f"{LONG}{ending}", f"{LONG}s.nc"
    for more in ((), ("--overwrite",), ("--overwrite", "--resume", "auto")):
        assert forecast("rollout", LONG, "--data", series, "-o", made, *more).exit_code == 0
    assert forecast("evaluate", made, "--truth", series, "-o", scores).exit_code == 0
    assert forecast("plot", scores, "-o", f"{LONG}.png").exit_code == 0
    assert {entry.name for entry in folder.iterdir()} == {LONG, made, scores, f"{LONG}.png"}, "nothing is left beside"


def test_temporary_names_are_as_before_where_there_is_room(folder):
    path = folder / "f.nc"
    assert temporary(path).name.startswith("f.nc.")
    assert beside(path, ".partial") == folder / "f.nc.partial"
    assert beside(folder / (247 * "n"), ".partial").name == f"{247 * 'n'}.partial"


def test_long_names_that_share_their_beginning_share_no_temporary_name(folder):
    one, other = folder / f"{LONG}1.nc", folder / f"{LONG}2.nc"
    assert beside(one, ".partial.state") != beside(other, ".partial.state")
    assert temporary(one) != temporary(other)
    stale = temporary(one).with_name(temporary(one).name.replace(f".{os.getpid()}.", ".999999999."))
    stale.touch()
    remove_stale(other)
    assert stale.exists()
    write_atomically(one, b"content")
    assert [entry.name for entry in folder.iterdir()] == [one.name], "what a dead process left is removed"


@pytest.mark.parametrize("name", [300 * "n", "/".join(30 * [200 * "n"]), "größe" * 45])
def test_a_name_too_long_for_the_disk_is_one_line(name, forecast, series, series_run, folder):
    for code, line in (
        (DATA, ("info", name)),
        (DATA, ("train", name, "-o", "run", *TINY)),
        (OUTPUT, ("train", series, "-o", name, *TINY)),
        (RUN, ("rollout", name, "--data", series, "-o", "f.nc")),
        (OUTPUT, ("rollout", series_run, "--data", series, "-o", name)),
        (DATA, ("evaluate", name, "--truth", series)),
        (DATA, ("plot", name, "-o", "p.png")),
        (OUTPUT, ("plot", series, "-o", f"{name}.png")),
        (OUTPUT, ("simulate", "burgers", "--grid", 12, "--frames", 3, "-o", name)),
        (DATA, ("train", series, "-o", "run", *TINY, "--mask", f"{name}:lsm")),
        (2, ("simulate", "shallow-water", "--topography", name, "-o", "x.nc")),
        (2, ("train", series, "-o", "run", "--config", name)),
    ):
        result = forecast(*line)
        assert (result.exit_code, result.stderr.count("\n")) == (code, 1), (line[0], result.output)


def test_a_name_that_is_not_utf_8_is_one_line(forecast, series, series_run, folder):
    name = os.fsdecode(b"caf\xe9.nc")
    shutil.copy(series, name)
    for code, line in (
        (DATA, ("info", name)),
        (DATA, ("rollout", series_run, "--data", name, "-o", "f.nc")),
        (DATA, ("evaluate", name, "--truth", series)),
        (OUTPUT, ("rollout", series_run, "--data", series, "-o", name, "--overwrite")),
        (OUTPUT, ("train", series, "-o", name, *TINY)),
    ):
        result = forecast(*line)
        assert (result.exit_code, result.stderr.count("\n")) == (code, 1), (line[0], result.output)
        assert "UTF-8" in result.stderr or "exists" in result.stderr


def test_bytes_that_are_not_utf_8_are_escaped_in_the_history(monkeypatch, folder):
    from forecast_cli.data.output import write_dataset

    monkeypatch.setattr("sys.argv", ["forecast", "info", os.fsdecode(b"caf\xe9"), "a b", "two\nlines"])
    write_dataset(xr.Dataset({"a": 1.0}, attrs={"title": os.fsdecode(b"\xe9")}), Path("x.nc"))
    with xr.open_dataset("x.nc") as made:
        assert made.attrs["history"].split(" ", 1)[1] == r"forecast info 'caf\udce9' 'a b' 'two\nlines'"
        assert made.attrs["title"] == r"\udce9"


def test_a_file_is_no_run(forecast, series, folder):
    result = forecast("rollout", series, "--data", series, "-o", "f.nc")
    assert (result.exit_code, result.stderr) == (RUN, f"forecast: {series}: a file, and no run directory.\n")
