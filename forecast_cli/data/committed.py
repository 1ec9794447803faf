"""A file whose bytes stay as they were at the last commit, whatever ends the process that goes on writing it.

HDF5 changes its index of chunks in place: of 60 NetCDF files that were synced after each block and whose writer was
killed at a random instant, 32 could not be read again. Here, only what is appended goes to the file at once. Changes
to earlier bytes wait in memory, in pages; they are few, as fields are written a whole chunk at a time. A commit is
then in three steps: what was appended is synced; the pages and the new length are written elsewhere, atomically
(`data.resumable`); the pages go into the file. Whatever comes after the committed length is of no account, and the
pages can be put in again.
"""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

PAGE = 4096


class CommittedFile:
    """What h5py needs of a file (its driver `fileobj`), with changes to what is committed kept back in memory."""

    def __init__(self, path: Path, changes: Mapping[str, np.ndarray] | None = None) -> None:
        """changes: of the commit that the file shall be at; without, it is at one. Raises OSError where it was cut since."""
        self._file = os.open(path, os.O_RDWR)
        self._committed = self._length = os.fstat(self._file).st_size
        self._pages: dict[int, bytearray] = {}
        self._position = 0
        self._failure: OSError | None = None
        self._frozen = False
        if changes is not None:
            if self._length < changes["length"][0]:
                raise OSError(errno.EIO, f"{self._length} bytes are left of {changes['length'][0]}")
            self.apply(changes)

    def require_sound(self) -> None:
        """Raise the OSError that h5py was spared: it would print it, and go on."""
        if self._failure:
            raise self._failure

    def changes(self) -> dict[str, np.ndarray]:
        """What `apply` needs to bring the file from the last commit to here. What was appended is then on disk."""
        self.require_sound()
        if os.fstat(self._file).st_size < self._length:
            os.ftruncate(self._file, self._length)
        os.fsync(self._file)
        pages = [np.frombuffer(page, np.uint8) for page in self._pages.values()]
        return {
            "length": np.array([self._length]),
            "numbers": np.array(list(self._pages), np.int64),
            "pages": np.stack(pages) if pages else np.empty((0, PAGE), np.uint8),
        }

    def apply(self, changes: Mapping[str, np.ndarray]) -> None:
        """Bring the file to where `changes` were taken; also again, after this was cut short."""
        for number, page in zip(changes["numbers"].tolist(), changes["pages"], strict=True):
            self._put(page.tobytes(), number * PAGE)
        self._committed = self._length = int(changes["length"][0])
        os.ftruncate(self._file, self._length)
        os.fsync(self._file)
        self._pages.clear()

    def freeze(self) -> None:
        """Take no more: what h5py still writes when it is closed is of no account, and must not fail on a full disk."""
        self._frozen = True

    def close(self) -> None:
        os.close(self._file)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        found = bytearray(size)
        return bytes(found[: self.readinto(found)])

    def readinto(self, target: Any) -> int:
        """Fill a buffer from here on, as the file will be after the next commit."""
        start = self._position
        view = memoryview(target).cast("B")[: max(0, self._length - start)]
        stop = start + len(view)
        there = 0
        try:
            there = os.preadv(self._file, [view], start)
        except OSError as error:
            self._failure = self._failure or error
        view[there:] = bytes(len(view) - there)
        for number in self._pages.keys() & range(start // PAGE, -(-stop // PAGE)):
            first, last = max(start, number * PAGE), min(stop, (number + 1) * PAGE)
            view[first - start : last - start] = self._pages[number][first - number * PAGE : last - number * PAGE]
        self._position = stop
        return len(view)

    def write(self, content: Any) -> int:
        """Write from here on: what lies in a page of the committed part to memory, the rest to the file."""
        view = memoryview(content).cast("B")
        if self._frozen or self._failure:
            return len(view)
        done, edge = 0, -(-self._committed // PAGE) * PAGE
        while done < len(view) and (at := self._position + done) < edge:
            number, offset = divmod(at, PAGE)
            count = min(PAGE - offset, len(view) - done)
            self._page(number)[offset : offset + count] = view[done : done + count]
            done += count
        try:
            self._put(view[done:], self._position + done)
        except OSError as error:
            self._failure = error
        self._position += len(view)
        self._length = max(self._length, self._position)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        self._length = self._position if size is None else size
        return self._length

    def flush(self) -> None:
        """Nothing waits but what must."""

    def _page(self, number: int) -> bytearray:
        if number not in self._pages:
            self._pages[number] = bytearray(os.pread(self._file, PAGE, number * PAGE).ljust(PAGE, b"\0"))
        return self._pages[number]

    def _put(self, content: bytes | memoryview, at: int) -> None:
        view = memoryview(content)
        while view:
            written = os.pwrite(self._file, view, at)
            view, at = view[written:], at + written
