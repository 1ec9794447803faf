"""Laws of reading ahead: who reads, and how far ahead, changes nothing but the time it takes."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from files import write_series, write_trajectories
from torch.testing import assert_close

from forecast_cli.config import load_config
from forecast_cli.data import loading
from forecast_cli.data.fields import open_fields
from forecast_cli.data.files import expand
from forecast_cli.data.loading import batches, together
from forecast_cli.data.windows import HeldFrames, Part, ReadFrames, Windows, order
from forecast_cli.errors import DataError
from forecast_cli.planning import prepare


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A series of two files, and trajectories."""
    folder = tmp_path_factory.mktemp("loading")
    write_series(folder / "a.nc", frames=40)
    write_series(folder / "b.nc", frames=40, start="2000-01-11", seed=1)
    write_trajectories(folder / "trajectories.nc")
    return {"series": str(folder / "[ab].nc"), "trajectories": str(folder / "trajectories.nc")}


def prepared(place, memory, **options):
    given = {
        "data.files": tuple(expand([place])),
        "data.memory": memory,
        "data.context": 4,
        "data.horizon": 2,
        "model.hidden": "4",
    }
    return prepare(load_config(options=given | options), open_fields([place]))


def some_choices(windows):
    visits = order(len(windows), seed=3, epoch=1)
    return [visits[start : start + 3] for start in range(0, len(visits), 3)]


@pytest.mark.parametrize(("ahead", "workers"), [(0, 0), (1, 0), (100, 0), (1, 1), (4, 2)])
@pytest.mark.parametrize("kind", ["series", "trajectories"])
def test_whoever_reads_ahead_the_batches_are_those_of_held_frames(files, kind, ahead, workers):
    further = {"data.calendar_features": "hour"} if kind == "series" else {}
    held, read = (prepared(files[kind], memory, **further).training for memory in ("1M", "1K"))
    choices = some_choices(held)
    assert read.reads
    assert not held.reads
    expected = list(batches(held, choices, 7, ahead=ahead, workers=workers))
    found = list(batches(read, choices, 7, ahead=ahead, workers=workers))
    assert len(found) == len(choices)
    for one, other, indices in zip(expected, found, choices, strict=True):
        assert_close(one, held.batch(indices, 7), rtol=0, atol=0)
        assert_close(one, other, rtol=0, atol=0)


def numbered(sample, start, stop):
    return np.stack([np.full((1, 1, 1), 100 * sample + frame, np.float32) for frame in range(start, stop)])


def test_frames_that_windows_share_are_read_once():
    seen = []

    def read(sample, start, stop):
        seen.append((sample, start, stop))
        return numbered(sample, start, stop)

    places = [(0, 5), (1, 2), (0, 3), (0, 20), (0, 5), (0, 9)]
    (found,) = together([read], places, 4)
    assert seen == [(0, 3, 13), (0, 20, 24), (1, 2, 6)]
    assert found[:, :, 0, 0, 0].tolist() == [[100 * s + i + k for k in range(4)] for s, i in places]


def windows_of(read, count=20):
    return Windows(ReadFrames(read), Part(range(1), range(2 * count)), length=2, stride=2)


def readers():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_no_more_is_read_than_was_asked_for_and_what_lies_ahead():
    seen = []

    def read(_, start, stop):
        seen.append(start)
        return numbered(0, start, stop)

    ahead = batches(windows_of(read), [[i] for i in range(20)], ahead=3)
    assert not seen
    for asked in range(1, 4):
        next(ahead)
        limit = time.monotonic() + 5
        while len(seen) < asked + 3 and time.monotonic() < limit:
            time.sleep(0.001)
        time.sleep(0.02)
        assert seen == [2 * i for i in range(asked + 3)]
    ahead.close()
    assert not readers()
    assert len(seen) == 6


@pytest.mark.parametrize("ahead", [1, 10])
def test_an_error_of_the_reader_arrives_as_itself_at_its_batch(ahead):
    def read(_, start, stop):
        if start == 10:
            raise DataError("damaged from frame 10 on")
        return numbered(0, start, stop)

    got = []
    with pytest.raises(DataError, match="damaged from frame 10 on"):
        got.extend(batches(windows_of(read), [[i] for i in range(20)], ahead=ahead))
    first = [int(batch.frames[0, 0]) for batch in _until_error(windows_of(read), ahead)]
    assert first == [0, 2, 4, 6, 8]
    assert not readers()


def _until_error(windows, ahead):
    try:
        yield from batches(windows, [[i] for i in range(20)], ahead=ahead)
    except DataError:
        return


def test_an_error_in_a_process_that_reads_arrives_as_itself(tmp_path):
    write_series(tmp_path / "a.nc", frames=60)
    read = prepared(str(tmp_path / "a.nc"), "1K").training
    (tmp_path / "a.nc").write_bytes(b"no longer a file of fields")
    with pytest.raises(DataError, match=r"a\.nc"):
        list(batches(read, some_choices(read), ahead=2, workers=1))


def test_signals_for_the_training_do_not_end_its_readers_and_their_death_is_told(files):
    read = prepared(files["series"], "1K").training
    choices = some_choices(read)
    ahead = batches(read, choices, ahead=0, workers=1)
    next(ahead)
    idle = loading._processes(read.reads, 1)
    process = idle.get()
    idle.put(process)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(process.process.pid, number)
    assert_close(next(ahead), read.batch(choices[1]), rtol=0, atol=0)
    process.process.kill()
    with pytest.raises(DataError, match=r"has died.*data\.workers"):
        next(ahead)
    loading._processes.cache_clear()


def test_processes_that_read_end_when_nobody_holds_their_pipe(files):
    read = prepared(files["series"], "1K").training
    next(batches(read, some_choices(read), ahead=0, workers=1))
    idle = loading._processes(read.reads, 1)
    process = idle.get()
    process.orders.close()
    assert process.process.wait(timeout=10) == 0
    loading._processes.cache_clear()


def test_fields_and_forcing_are_held_together_or_not_at_all(files):
    """40 + 29 frames of 6 x 8 cells: 13 KB of fields, and half a KB of forcing more."""
    size = 69 * 6 * 8 * 4
    forced = {"data.calendar_features": "hour", "data.split": "0.7,0.1625,0.1375"}
    for memory, held in ((size + 69 * 8, True), (size + 69 * 8 - 1, False)):
        found = prepared(files["series"], str(memory), **forced).training
        assert isinstance(found.frames, HeldFrames) is held
        assert isinstance(found.forcing, HeldFrames) is held


def test_a_record_is_held_as_it_is_read_whatever_the_blocks(monkeypatch):
    monkeypatch.setattr("forecast_cli.data.windows.BLOCK_BYTES", 12)
    held = HeldFrames(numbered, [Part(range(2), range(3, 20))])
    assert held.window(1, 3, 17).flatten().tolist() == [100 + frame for frame in range(3, 20)]
    assert held.window(0, 4, 2).dtype == torch.float32
