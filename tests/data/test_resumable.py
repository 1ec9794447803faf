"""An output that grows is found again as it was at its last commit, or refused in one line."""

import netCDF4
import numpy as np
import pytest

from forecast_cli.data.forecasts import open_written
from forecast_cli.data.resumable import Commit, growing, is_finished
from forecast_cli.errors import CheckpointError, DataError, OutputError

KINDS = ["fc.nc", "fc.zarr"]
IDENTITY = {"weights": "w" * 64, "steps": 6}
VALUES = np.random.default_rng(0).random((6, 5)).astype(np.float32)
VALUES[4, 2] = np.nan


def laid_out(file):
    file.field("u", {"time": 6, "x": 5}, {"units": "K"}, chunks=(2, 5))


def grow(path, *, rows=3, until=3, resume="auto", identity=IDENTITY, names=None):
    """Write pairs of frames from where the last commit was; `rows` pairs make it whole."""
    with growing(path, laid_out, names=names or {}, identity=identity, resume=resume) as file:
        first = file.before.position["pairs"] if file.before else 0
        for pair in range(first, min(rows, until)):
            file.write("u", (slice(2 * pair, 2 * pair + 2),), VALUES[2 * pair : 2 * pair + 2])
            file.commit(Commit({"pairs": pair + 1}, {"last": VALUES[2 * pair + 1]}))
        if until >= 3:
            file.finish(Commit({"pairs": 3}, {}), {"comment": "é, done"}, ["u"])
    return first


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("names", [{}, {"u": "wind", "time": "prediction_timedelta"}])
def test_what_is_cut_and_gone_on_with_is_what_was_to_be_written(tmp_path, name, names):
    path = tmp_path / name
    grow(path, until=1, names=names)
    grow(path, until=2, names=names)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [f"{name}.partial", f"{name}.partial.state"]
    assert grow(path, names=names) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    with open_written(path) as dataset:
        np.testing.assert_array_equal(dataset[names.get("u", "u")].values, VALUES)
        assert dataset.attrs["comment"] == "é, done"
        assert dataset[names.get("u", "u")].attrs == {"units": "K"}
    assert is_finished(path, IDENTITY)
    assert not is_finished(path, IDENTITY | {"steps": 7})


def test_a_file_that_was_filled_in_pieces_looks_as_netcdf_does(tmp_path):
    grow(tmp_path / "fc.nc", until=1)
    grow(tmp_path / "fc.nc")
    with netCDF4.Dataset(tmp_path / "fc.nc") as file:
        assert file["u"][4, 2] is np.ma.masked
        assert file["u"].filters()["complevel"] == 1
        assert isinstance(file.comment, str)


@pytest.mark.parametrize("name", KINDS)
def test_what_differs_is_named(tmp_path, name):
    grow(tmp_path / name, until=1)
    with pytest.raises(CheckpointError, match=r"other steps \(was 6, is 7\), weights\. Repeat"):
        grow(tmp_path / name, identity={"weights": "v" * 64, "steps": 7})
    assert grow(tmp_path / name) == 1, "and what is there is left as it was"


@pytest.mark.parametrize("name", KINDS)
def test_never_begins_anew_and_must_does_not(tmp_path, name):
    with pytest.raises(CheckpointError, match=f"no {name}.partial to go on with"):
        grow(tmp_path / name, resume="must")
    grow(tmp_path / name, until=1)
    assert grow(tmp_path / name, until=1, resume="must") == 1
    assert grow(tmp_path / name, until=2, resume="never") == 0


@pytest.mark.parametrize("name", KINDS)
def test_a_failure_before_the_first_commit_leaves_nothing(tmp_path, name):
    grow(tmp_path / name, until=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", KINDS)
def test_two_processes_do_not_write_the_same(tmp_path, name):
    with (
        growing(tmp_path / name, laid_out, names={}, identity=IDENTITY, resume="never"),
        pytest.raises(OutputError, match="another process is writing it"),
    ):
        grow(tmp_path / name, resume="auto")


@pytest.mark.parametrize("name", KINDS)
def test_a_field_that_is_not_filled_does_not_take_its_name(tmp_path, name):
    with pytest.raises(OutputError, match=r"2 of 3 chunks of 'u' are on the disk"):
        grow(tmp_path / name, rows=2)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", KINDS)
def test_a_partial_file_is_no_forecast(tmp_path, name):
    grow(tmp_path / name, until=1)
    with pytest.raises(DataError, match="not complete"):
        open_written(tmp_path / f"{name}.partial")


def test_a_state_of_another_version_is_refused(tmp_path, monkeypatch):
    grow(tmp_path / "fc.nc", until=1)
    monkeypatch.setattr("forecast_cli.data.resumable.FORMAT", "2")
    with pytest.raises(CheckpointError, match="another version"):
        grow(tmp_path / "fc.nc")
