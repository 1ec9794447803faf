"""Laws of copies on a near disk: whole or not there, made once, never in the way of what is recorded."""

import fcntl
import multiprocessing
import os
import shutil
import threading
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


def copies_in(near):
    """What lies in the folder of this user."""
    return list((near / f"forecast-{os.getuid()}").iterdir())


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
    assert copies_in(near) == []
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
        assert copies_in(near) == []
    copy = Path(stage([str(record)], near)[str(record)])
    copy.parent.rename(copy.parent.with_suffix(".partial"))
    assert Path(stage([str(record)], near)[str(record)]).read_bytes() == record.read_bytes()
    assert [path.name for path in copies_in(near)] == [copy.parent.name]


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
    assert len(copies_in(near)) == 2
    resumed = forecast(*common, "-o", tmp_path / "staged", "--epochs", "2", "--resume", "must")
    assert resumed.exit_code == 0, resumed.output
    plain, staged = ((tmp_path / run / "config.toml").read_text() for run in ("plain", "staged"))
    assert plain == staged
    assert str(record) in staged


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_a_copy_has_the_mode_of_the_original_in_a_folder_that_others_cannot_enter(mode, record, near):
    record.chmod(mode)
    copy = Path(stage([str(record)], near)[str(record)])
    assert copy.stat().st_mode & 0o777 == mode
    assert copy.parent.stat().st_mode & 0o077 == 0
    assert copy.parent.parent.stat().st_mode & 0o777 == 0o700


def test_a_copy_of_a_store_has_the_modes_of_its_files_and_can_be_replaced(record, near, tmp_path):
    store = tmp_path / "far" / "series.zarr"
    xr.open_dataset(record).to_zarr(store)
    for path in [*store.rglob("*"), store]:
        path.chmod(0o555 if path.is_dir() else 0o400)
    copy = Path(stage([str(store)], near)[str(store)])
    assert {path.stat().st_mode & 0o777 for path in copy.rglob("*") if path.is_file()} == {0o400}
    assert {path.stat().st_mode & 0o777 for path in copy.rglob("*") if path.is_dir()} == {0o755}
    os.truncate(next(path for path in copy.rglob("*") if path.is_file() and path.stat().st_size), 0)
    assert (
        open_fields([stage([str(store)], near)[str(store)]]).read(0, 0, 60) == open_fields([str(record)]).read(0, 0, 60)
    ).all()


@pytest.fixture
def shared(near):
    """A folder that all users write to, as /tmp is."""
    near.mkdir(parents=True)
    near.chmod(0o1777)
    return near


def test_what_another_user_puts_into_the_folder_of_all_is_not_read(record, shared, tmp_path):
    elsewhere = Path(stage([str(record)], tmp_path / "elsewhere")[str(record)])
    planted = shared / elsewhere.parent.name
    planted.mkdir()
    (planted / record.name).write_bytes(b"x" * record.stat().st_size)
    assert Path(stage([str(record)], shared)[str(record)]).read_bytes() == record.read_bytes()


def test_another_users_lock_on_the_folder_of_all_delays_nothing(record, shared):
    descriptor = os.open(shared, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        staging_ = threading.Thread(target=stage, args=([str(record)], shared), daemon=True)
        staging_.start()
        staging_.join(30)
        assert not staging_.is_alive()
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("mode", "has the mode 0755 instead of 0700"),
        ("owner", "belongs to the user"),
        ("link", "is no folder"),
        ("file", "is no folder"),
    ],
)
def test_a_folder_under_the_own_name_that_is_not_the_users_is_refused(
    fault, message, record, shared, monkeypatch, forecast
):
    own = shared / f"forecast-{os.getuid()}"
    if fault == "file":
        own.write_text("")
    elif fault == "link":
        own.symlink_to(shared)
    elif fault == "owner":
        real = os.getuid()
        (shared / f"forecast-{real + 1}").mkdir(mode=0o700)
        monkeypatch.setattr(os, "getuid", lambda: real + 1)
    else:
        own.mkdir()
        own.chmod(0o755)
    result = forecast(
        "train", record, "--hidden", "4", "--context", "4", "--horizon", "2", "-o", shared / "run", "--stage-to", shared
    )
    assert result.exit_code == 7
    assert message in " ".join(result.output.split())
    assert not (shared / "run").exists()
