"""Copies of input files on a disk that is near, such as a node's own: made once, for all processes that ask."""

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from forecast_cli.data.files import split_place
from forecast_cli.data.output import writing
from forecast_cli.errors import DataError, OutputError
from forecast_cli.private import private_folder


class _Part(NamedTuple):
    """A file, or one of those that make a Zarr store: its name inside, its size, and when it was changed."""

    name: str
    size: int
    changed: int


def stage(places: Iterable[str], folder: Path, tell: Callable[[str], None] = lambda _: None) -> dict[str, str]:
    """Copy files and Zarr stores into `folder`; each place with that of its copy, as `files.open_place` takes both.

    Copies lie in the folder `forecast-UID` in `folder`, which only this user can enter, and have the modes of the originals.
    A copy stands under a key made of the original's path, sizes and times, once it is whole: what is there already is not
    copied again, and a changed file is. Processes that ask at once wait for the first. tell: is given a line before copying.
    Raises DataError for what cannot be read, and OutputError where the room is too little or `forecast-UID` is not this user's,
    before anything is copied.
    """
    inside = {place: split_place(place) for place in places}
    parts = {path: _parts(path) for path, _ in inside.values()}
    with writing(folder):
        own = private_folder(folder)
    copies = {path: own / _key(path, found) / path.name for path, found in parts.items()}
    with _alone_in(own):
        missing = [path for path in parts if not _is_whole(copies[path], parts[path])]
        needed = sum(part.size for path in missing for part in parts[path])
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise OutputError(
                f"{folder}: --stage-to needs {needed / 2**30:.3g} GiB here, and {free / 2**30:.3g} are free. "
                "Nothing was copied. Choose another folder, or read the files where they lie."
            )
        if missing:
            tell(f"copying {len(missing)} of {len(parts)} files to {folder}, {needed / 2**30:.3g} GiB")
        for path in missing:
            _copy(path, copies[path])
    return {
        place: f"{copies[path]}:/{group}" if group else str(copies[path]) for place, (path, group) in inside.items()
    }


def require_apart(folder: Path, run: Path) -> None:
    """Raise OutputError if the copies would lie in the run directory, which a training makes anew."""
    if folder.resolve().is_relative_to(run.resolve()):
        raise OutputError(f"--stage-to {folder}: lies in the run directory {run}. Choose a folder outside of it.")


def _parts(path: Path) -> list[_Part]:
    try:
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        found = [(str(file.relative_to(path)), file.stat()) for file in files]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    return [_Part(name, status.st_size, status.st_mtime_ns) for name, status in found]


def _key(path: Path, parts: list[_Part]) -> str:
    return hashlib.sha256(repr((str(path.absolute()), [tuple(part) for part in parts])).encode()).hexdigest()[:16]


def _is_whole(copy: Path, parts: list[_Part]) -> bool:
    """Whether a copy is there, and nobody who cleans up has taken a part of it."""
    return copy.exists() and [part[:2] for part in _parts(copy)] == [part[:2] for part in parts]


def _copy(path: Path, copy: Path) -> None:
    """Copy a file or a store so that it has its name only when it is on the disk as a whole."""
    partial = copy.parent.with_suffix(".partial")
    with writing(copy):
        for remains in (partial, copy.parent):
            shutil.rmtree(remains, ignore_errors=True)
        try:
            partial.mkdir(mode=0o700)
            if path.is_dir():
                shutil.copytree(path, partial / path.name, copy_function=_copy_to_disk)
                _let_owner_write(partial / path.name)
            else:
                _copy_to_disk(path, partial / path.name)
            partial.rename(copy.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _copy_to_disk(path: str | Path, copy: str | Path) -> None:
    """Copy with the permissions of the original, which its owner may always read."""
    shutil.copyfile(path, copy)
    with Path(copy).open("rb") as file:
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), stat.S_IMODE(Path(path).stat().st_mode) & 0o777 | stat.S_IRUSR)


def _let_owner_write(store: Path) -> None:
    """Give the owner access to the folders of a store whose original is read-only: the copy could not be removed later."""
    for folder in (store, *(path for path in store.rglob("*") if path.is_dir())):
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) & 0o777 | stat.S_IRWXU)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let one process of this user in at a time: others cannot open the folder. The lock ends with its holder, however that ends."""
    with writing(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        with writing(folder):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
