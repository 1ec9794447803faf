"""Laws of replacing a file: the old one or the new one is there, whatever happens in between."""

import os
from pathlib import Path

import pytest
from faults.harness import dying_at, in_child

from forecast_cli.data.atomic import remove_stale, settle, take_name, temporary, write_atomically
from forecast_cli.errors import OutputError


def dead_process() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def of_process(path: Path, process: int) -> Path:
    own = temporary(path)
    return own.with_name(own.name.replace(f".{os.getpid()}.", f".{process}."))


def test_a_death_at_any_call_leaves_the_old_content_or_the_new(tmp_path):
    path = tmp_path / "file"
    for call in range(1, 99):
        path.write_bytes(b"old")

        def run(call: int = call) -> None:
            with dying_at(call):
                write_atomically(path, b"new")

        code = in_child(run, tmp_path / "log").code
        assert path.read_bytes() in (b"old", b"new")
        if code == 0:
            break
    assert call > 3
    write_atomically(path, b"newer")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "log"], "what the dead have left is removed"


def test_only_what_is_surely_stale_is_removed(tmp_path):
    path = tmp_path / "fc.nc"
    stale, folder = of_process(path, dead_process()), of_process(path, dead_process())
    kept = [
        of_process(path, os.getppid()),
        of_process(tmp_path / "other.nc", dead_process()),
        path.with_name(f"fc.nc.elsewhere.{dead_process()}.partial"),
        path.with_name("fc.nc.partial"),
        path.with_name("fc.nc.partial.state"),
    ]
    for file in (stale, *kept):
        file.touch()
    folder.mkdir()
    (folder / "chunk").touch()
    remove_stale(path)
    assert set(tmp_path.iterdir()) == set(kept)


def test_content_that_does_not_arrive_in_full_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", lambda file: os.ftruncate(file, 2))
    with pytest.raises(OutputError, match="2 of 3 bytes arrived"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_the_name_is_on_disk_too(tmp_path, monkeypatch):
    synced = []
    sync = os.fsync
    monkeypatch.setattr("os.fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink()) or sync(file))
    write_atomically(tmp_path / "file", b"new")
    assert synced == [temporary(tmp_path / "file"), tmp_path]


def test_a_folder_that_stepped_aside_comes_back(tmp_path):
    path, aside = tmp_path / "fc.zarr", tmp_path / "fc.zarr.replaced"
    aside.mkdir()
    settle(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["fc.zarr"]


def test_a_folder_that_stepped_aside_goes_when_the_new_one_is_there(tmp_path):
    for name in ("fc.zarr", "fc.zarr.replaced"):
        (tmp_path / name).mkdir()
    settle(tmp_path / "fc.zarr")
    assert [entry.name for entry in tmp_path.iterdir()] == ["fc.zarr"]


def test_a_folder_takes_the_place_of_a_folder_or_a_file(tmp_path):
    for old in (Path.mkdir, Path.touch):
        path, new = tmp_path / "fc.zarr", tmp_path / "new"
        old(path)
        new.mkdir()
        (new / "chunk").touch()
        take_name(new, path)
        assert [entry.name for entry in path.iterdir()] == ["chunk"]
        assert list(tmp_path.iterdir()) == [path]
        (path / "chunk").unlink()
        path.rmdir()
