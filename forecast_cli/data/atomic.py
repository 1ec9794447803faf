"""Files that are whole under their name at any instant, whatever ends the process that writes them.

What is written goes beside its name first, as `<name>.<host>.<process>.partial`, and takes the name when it is on
disk. What a killed process has left there is removed by the next one that writes the same name on the same host.
"""

import errno
import fcntl
import glob
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from forecast_cli.errors import OutputError, reason

UNSYNCABLE = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""What some network disks say of an fsync of a folder, which they do not need."""
LONGEST_NAME = 255
"""Bytes of a file's name, where the disk does not say."""
ROOM = 100
"""Bytes for a host of 64 characters, its space of processes, a process and `.partial`."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a full disk or a forbidden folder raises into one line."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"{path}: cannot be written ({reason(error)}). Is the disk full or the folder read-only?"
        ) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, or leave it as it was. Raises OutputError."""
    partial = temporary(path)
    with writing(path):
        remove_stale(path)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if (size := partial.stat().st_size) != len(content):
                raise OutputError(f"{path}: {size} of {len(content)} bytes arrived on the disk. The old file is kept.")
            take_name(partial, path)
        except BaseException:
            with suppress(OSError):  # a read-only disk refuses this, too
                partial.unlink(missing_ok=True)
            raise


def take_name(partial: Path, path: Path) -> None:
    """Give what is whole and on disk its name, in the place of what had it.

    A folder cannot replace another at once: the old one steps aside for an instant, and comes back if need be (`settle`).
    """
    if path.is_dir() or partial.is_dir():
        aside = _aside(path)
        if path.exists():
            path.rename(aside)
        try:
            partial.rename(path)
        except OSError:
            settle(path)
            raise
        sync_folder(path.parent)
        remove(aside)
    else:
        partial.replace(path)
        sync_folder(path.parent)


def settle(path: Path) -> None:
    """End what a process has begun that was killed while a folder took the place of another: the old one goes, or comes back."""
    aside = _aside(path)
    if aside.exists() and path.exists():
        remove(aside)
    elif aside.exists():
        aside.rename(path)


def _aside(path: Path) -> Path:
    return beside(path, ".replaced")


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold a lock on a file, where there is one and the disk knows locks; OutputError if another process holds it."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:  # nothing to lock; whoever writes there says why it cannot be written
        yield
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise OutputError(
            f"{path}: another process is writing it. Wait for it, end it, or choose another name."
        ) from error
    except OSError:
        pass  # a network disk without locks
    try:
        yield
    finally:
        os.close(file)


def temporary(path: Path) -> Path:
    """Where this process writes what shall be `path`."""
    return path.with_name(f"{_stem(path, ROOM)}.{_host()}.{os.getpid()}.partial")


def beside(path: Path, suffix: str) -> Path:
    """The name of `path` with a suffix; a name that is then too long for the disk is cut and ends in its digest."""
    return path.with_name(_stem(path, len(suffix)) + suffix)


def _stem(path: Path, room: int) -> str:
    """The name of `path`; cut, with a digest of the whole, where it leaves less than `room` bytes for a suffix."""
    name, longest = os.fsencode(path.name), _longest_name(path.parent)
    if len(name) + room <= longest:
        return path.name
    digest = f"~{hashlib.sha256(name).hexdigest()[:16]}"
    return name[: max(0, longest - room - len(digest))].decode(errors="ignore") + digest


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return LONGEST_NAME


def remove_stale(path: Path) -> None:
    """Remove what processes of this host that are dead have left of earlier attempts to write `path`."""
    for entry in path.parent.glob(f"{glob.escape(_stem(path, ROOM))}.{glob.escape(_host())}.*.partial"):
        process = entry.name.removesuffix(".partial").rpartition(".")[2]
        if process.isdigit() and not _is_alive(int(process)):
            remove(entry)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; nothing where there is none."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Return when the content of a file is on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Return when the names in a folder are on disk, where the disk can say so."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in UNSYNCABLE:
            raise
    finally:
        os.close(folder)


def _host() -> str:
    """This host, with the space in which its processes are numbered: containers may share a name, but not the numbers."""
    try:
        return f"{socket.gethostname()}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # of somebody else
    return True
