"""Laws of copies on a near disk: whole or not there, made once, never in the way of what is recorded."""

import multiprocessing
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import xarray as xr
from files import write_series

from forecast_cli.data import staging
from forecast_cli.data.fields import open_fields
from forecast_cli.data.staging import stage
from forecast_cli.errors import DataError, OutputError


@pytest.fixture
def record(tmp_path):
    (tmp_path / "far").mkdir()
    return write_series(tmp_path / "far" / "series.nc")


@pytest.fixture
def near(tmp_path):
    return tmp_path / "near" / "disk"


def test_a_copy_reads_as_the_original_and_is_told_as_the_original(record, near):
    copies = stage([str(record)], near)
    fields = open_fields([str(record)], copies=copies)
    expected = open_fields([str(record)]).read(0, 0, 60)
    record.unlink()
    assert (fields.read(0, 0, 60) == expected).all()
    assert fields.source == str(record)
    assert fields.places == (str(record),)
    assert Path(copies[str(record)]).is_relative_to(near)


def test_places_inside_files_and_zarr_stores_are_copied_whole(record, near, tmp_path):
    store = tmp_path / "far" / "series.zarr"
    xr.open_dataset(record).to_zarr(store)
    copies = stage([f"{record}:/t2m", str(record), str(store)], near)
    assert copies[f"{record}:/t2m"] == f"{copies[str(record)]}:/t2m"
    for place, copy in copies.items():
        assert (open_fields([copy]).read(0, 0, 60) == open_fields([place]).read(0, 0, 60)).all()


def test_what_is_there_is_not_copied_again_and_what_has_changed_is(record, near, monkeypatch):
    copied, plain = [], staging._copy
    monkeypatch.setattr(staging, "_copy", lambda path, copy: (copied.append(path), plain(path, copy)))
    first = stage([str(record)], near)
    assert stage([str(record)], near) == first
    assert len(copied) == 1
    write_series(record, seed=5)
    second = stage([str(record)], near)[str(record)]
    assert second != first[str(record)]
    assert Path(second).read_bytes() == record.read_bytes()
    os.truncate(second, 1000)  # as one who cleans up may leave it
    assert Path(stage([str(record)], near)[str(record)]).read_bytes() == record.read_bytes()
    assert len(copied) == 3


def test_with_too_little_room_nothing_is_copied(record, near, monkeypatch):
    room = namedtuple("room", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room(record.stat().st_size - 1))
    with pytest.raises(OutputError, match=r"needs .* GiB here, .* Nothing was copied"):
        stage([str(record)], near)
    assert not any(near.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room(record.stat().st_size))
    stage([str(record)], near)


def test_a_copy_that_fails_leaves_nothing_and_the_remains_of_a_killed_one_are_cleared(record, near, monkeypatch):
    def breaks_off(_, copy):
        Path(copy).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(staging, "_copy_to_disk", breaks_off)
        with pytest.raises(OutputError, match="No space left"):
            stage([str(record)], near)
        assert not any(near.iterdir())
    copy = Path(stage([str(record)], near)[str(record)])
    copy.parent.rename(copy.parent.with_suffix(".partial"))
    assert Path(stage([str(record)], near)[str(record)]).read_bytes() == record.read_bytes()
    assert [path.name for path in near.iterdir()] == [copy.parent.name]


def test_a_file_that_is_not_there_is_told(near):
    with pytest.raises(DataError, match=r"none\.nc: cannot be read"):
        stage(["none.nc"], near)


def _stage_and_count(record, near, queue):
    copied, plain = [], staging._copy
    staging._copy = lambda path, copy: (copied.append(path), plain(path, copy))
    queue.put((stage([record], near)[record], len(copied)))


def test_processes_that_ask_at_once_share_one_copy(record, near):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_stage_and_count, args=(str(record), near, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert len({copy for copy, _ in found}) == 1
    assert sum(count for _, count in found) == 1


def test_a_run_on_copies_is_the_run_on_the_originals(record, near, tmp_path, forecast):
    """Also the names that it records, so that it is resumed with or without copies."""
    tiny = ("--hidden", "4", "--context", "4", "--horizon", "2", "--memory", "1K")
    tall = tmp_path / "far" / "mask.nc"
    xr.Dataset({"land": (("lat", "lon"), (xr.open_dataset(record)["t2m"][0] > 0).values)}).to_netcdf(tall)
    common = ("train", record, *tiny, "--static", f"{tall}:land")
    assert forecast(*common, "-o", tmp_path / "plain", "--epochs", "2").exit_code == 0
    assert forecast(*common, "-o", tmp_path / "staged", "--epochs", "1", "--stage-to", near).exit_code == 0
    assert len(list(near.iterdir())) == 2
    resumed = forecast(*common, "-o", tmp_path / "staged", "--epochs", "2", "--resume", "must")
    assert resumed.exit_code == 0, resumed.output
    plain, staged = ((tmp_path / run / "config.toml").read_text() for run in ("plain", "staged"))
    assert plain == staged
    assert str(record) in staged
