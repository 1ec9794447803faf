"""A file that others see at its last commit, and its writer as it will be."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast_cli.data.committed import PAGE, CommittedFile

EDGE = 2 * PAGE + 700
"""Length of the file in the tests: it ends within a page."""
PLACES = st.integers(0, EDGE + 2 * PAGE)
WRITES = st.lists(st.tuples(PLACES, st.binary(min_size=1, max_size=2 * PAGE)), max_size=6)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("committed") / "file"


def begin(path):
    content = np.random.default_rng(0).bytes(EDGE)
    path.write_bytes(content)
    return content


def put(content, at, part):
    """What a file is after a write."""
    content = content.ljust(at, b"\0")
    return content[:at] + part + content[at + len(part) :]


@settings(max_examples=60, deadline=None)
@given(writes=WRITES, later=WRITES)
def test_what_is_committed_stays_until_the_next_commit(path, writes, later):
    committed = begin(path)
    file, expected = CommittedFile(path), committed
    for at, part in writes:
        file.seek(at)
        assert file.write(part) == len(part)
        expected = put(expected, at, part)
        file.seek(0)
        assert file.read(file.seek(0, os.SEEK_END) or 0) == b""
        file.seek(0)
        assert file.read(len(expected)) == expected
        assert path.read_bytes()[:EDGE] == committed
    changes = file.changes()
    file.apply(changes)
    assert path.read_bytes() == expected
    for at, part in later:
        file.seek(at)
        file.write(part)
        assert path.read_bytes()[: len(expected)] == expected
    file.close()
    again = CommittedFile(path, changes)
    again.close()
    assert path.read_bytes() == expected, "what came after the commit is gone"


def test_pages_that_were_put_in_by_half_are_put_in_again(path):
    begin(path)
    file = CommittedFile(path)
    file.write(b"n" * 2 * PAGE)
    changes = file.changes()
    half = {name: values[:1] for name, values in changes.items()}
    file.apply(half)
    file.close()
    CommittedFile(path, changes).close()
    assert path.read_bytes()[: 2 * PAGE] == b"n" * 2 * PAGE


def test_a_file_that_has_lost_its_end_is_refused(path):
    begin(path)
    file = CommittedFile(path)
    changes = file.changes()
    file.close()
    os.truncate(path, EDGE - 1)
    with pytest.raises(OSError, match="bytes are left"):
        CommittedFile(path, changes)


def test_a_write_that_fails_is_told_at_the_commit(path, monkeypatch):
    """h5py would print what is raised in the middle of it, and go on."""
    begin(path)
    file = CommittedFile(path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    file.seek(0, os.SEEK_END)
    assert file.write(b"n" * 2 * PAGE) == 2 * PAGE
    with pytest.raises(OSError, match="No space left"):
        file.changes()
    file.close()
