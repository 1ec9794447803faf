"""Where the bytes of an HDF5 array lie: in its file, in another HDF5 file that it names, or in any file at all."""

import contextlib
import glob
import re
from collections.abc import Iterator
from pathlib import Path

import h5py

from forecast_cli.data.reading import reading
from forecast_cli.errors import DataError


def refuse_external_storage(path: Path) -> None:
    """Refuse an HDF5 file of which an array takes its bytes from another file that need not be HDF5.

    Such an array turns any file that the user may read, keys and passwords included, into data. External links and virtual
    datasets, which lead to other HDF5 files, are followed and checked in the same way.

    Raises
    ------
    DataError
        Names the array and the file that it reads.
    """
    _check(path, set())


def linked_files(path: Path) -> set[Path]:
    """The HDF5 files that external links and virtual datasets of a file lead to, resolved; none where it cannot be read."""
    checked: set[Path] = set()
    with contextlib.suppress(DataError):  # its reader reports what is wrong with it
        _check(path, checked)
    return checked - {path.resolve()}


def _check(path: Path, checked: set[Path]) -> None:
    """Check a file and those that it leads to, each once."""
    resolved = path.resolve()
    if resolved in checked or not path.is_file() or not _is_hdf5(path):
        return
    checked.add(resolved)
    others: list[str] = []

    def visit_link(_: str, link: h5py.HardLink | h5py.SoftLink | h5py.ExternalLink) -> None:
        if isinstance(link, h5py.ExternalLink):
            others.append(link.filename)

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.external:
            raise DataError(
                f"{path}: the bytes of '/{name}' lie in the file {item.external[0][0]} (external storage), which is not read. "
                "Store the values in the HDF5 file itself."
            )
        if item.is_virtual:
            others.extend(_sources(path, name, item))

    with reading(f"{path}: damaged or truncated"), h5py.File(path) as file:
        file.visititems_links(visit_link)
        file.visititems(visit)
    for name in dict.fromkeys(others):
        for other in _files(path, name):
            _check(other, checked)


def _is_hdf5(path: Path) -> bool:
    """Test the signature of a file; one that may not be read is left to its reader, which reports it."""
    try:
        return bool(h5py.is_hdf5(path))
    except OSError:
        return False


def _sources(path: Path, name: str, item: h5py.Dataset) -> list[str]:
    """The files that a virtual dataset takes its values from. DataError for a missing one, which HDF5 would read as fill values."""
    sources = list(dict.fromkeys(source.file_name for source in item.virtual_sources()))
    missing = next((source for source in sources if source not in (".", "") and not any(_files(path, source))), None)
    if missing:
        raise DataError(
            f"{path}: '/{name}' takes values from the file {missing}, which does not exist. Put it beside this file."
        )
    return sources


def _files(path: Path, name: str) -> Iterator[Path]:
    """The files that HDF5 may take for `name` in `path`: beside it, or from the working directory; %b counts blocks."""
    if name in (".", ""):
        return
    pattern = re.sub(r"%\d*b", "*", glob.escape(name))
    for folder in (path.parent, path.resolve().parent, Path()):
        yield from map(Path, glob.glob(str(Path(glob.escape(str(folder))) / pattern)))  # noqa: PTH207 - may be absolute
