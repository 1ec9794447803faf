"""Protection of inputs: no command writes over a file that it reads, whatever its options say."""

import os
from collections.abc import Iterable
from pathlib import Path

from forecast_cli.data.atomic import beside
from forecast_cli.data.files import expand
from forecast_cli.data.storage import linked_files
from forecast_cli.errors import DataError, OutputError

_BESIDE = (".replaced", ".partial", ".partial.state")
"""Endings of the names that writing an output may replace or remove (`data.atomic`, `data.resumable`)."""


def refuse_inputs(output: Path, places: Iterable[str | Path]) -> None:
    """Refuse an output that would replace, contain or lie inside an input of the same command.

    Symbolic links, hard links, `..`, and the external links and virtual datasets of HDF5 files are followed. An input that
    does not exist is left to its reader.

    Parameters
    ----------
    output : Path
        File, Zarr store or run directory to be written.
    places : iterable of str or Path
        Inputs as the user gives them: paths, globs, ``FILE:/group``, ``FILE:variable`` and ``FILE:variable=VALUE``.

    Raises
    ------
    OutputError
        If writing `output` could destroy one of the inputs.
    """
    whole = Path(os.path.abspath(output))  # noqa: PTH100 - a name such as `.` has no names beside it
    targets = {name for path in (output, *(beside(whole, ending) for ending in _BESIDE)) for name in _names(path)}
    identities = set(filter(None, map(_identity, targets)))
    for file in dict.fromkeys(file for place in places for named in _files(str(place)) for file in _with_linked(named)):
        sources, is_folder = _names(Path(file)), os.path.isdir(file)  # noqa: PTH112 - False for a name that is too long
        if identities & set(filter(None, map(_identity, sources))) or not sources.isdisjoint(targets):
            relation = "is an input of this command, and would be replaced"
        elif any(source.is_relative_to(target) for source in sources for target in targets):
            relation = f"contains {file}, an input of this command, which would be replaced"
        elif is_folder and any(target.is_relative_to(source) for source in sources for target in targets):
            relation = f"lies inside {file}, an input of this command, which would be changed"
        else:
            continue
        raise OutputError(f"{output}: {relation}. Choose another name.")


def _files(place: str) -> list[str]:
    """Paths of the files that a place names: the place itself, or the longest part before a colon or `=` that exists."""
    parts = [place, *(place[:end] for end in range(len(place) - 1, 0, -1) if place[end] in ":=")]
    return next(filter(None, map(_existing, parts)), [place])


def _with_linked(file: str) -> list[str]:
    """A file, and those that its links and virtual datasets lead to."""
    return [file, *map(str, linked_files(Path(file)))] if os.path.isfile(file) else [file]  # noqa: PTH113 - as above


def _existing(text: str) -> list[str]:
    """The path `text`, or what it matches as a pattern."""
    try:
        return [path for path in expand([text]) if os.path.lexists(path)]
    except DataError:
        return []


def _names(path: Path) -> set[Path]:
    """The directory entry of a path, and the file that the entry leads to through symbolic links."""
    target = Path(os.path.realpath(path))  # Path.resolve raises at a loop of links
    return {target} if path.name in ("", "..") else {target, Path(os.path.realpath(path.parent)) / path.name}


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of a file, which hard links share; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
