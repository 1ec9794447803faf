"""Outputs that grow for hours: filled block by block, and found again as they were at the last commit.

    <name>.partial          laid out in full, its fields filled up to the last commit
    <name>.partial.state    what belongs to that commit, replaced atomically: safetensors, with JSON as their metadata

Both go when the output takes its name. A process holds a lock on the partial file while it fills it.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from forecast_cli.data.atomic import beside, claimed, remove, settle, take_name, write_atomically, writing
from forecast_cli.data.filling import Arrays, Filling, NetCDFFilling
from forecast_cli.data.forecasts import open_written
from forecast_cli.data.naming import translated
from forecast_cli.data.output import Writer, writer_of
from forecast_cli.errors import CheckpointError, DataError

FORMAT = "1"
IDENTITY = "forecast_identity"
"""Attribute of an output: the digest of all that decides its values."""
_FILE = "file."
"""Begins the names of those arrays in a state that are of the partial file, not of who fills it."""


class Commit(NamedTuple):
    """Where the work stands, as plain data for JSON, and the arrays that it goes on from."""

    position: Mapping[str, Any]
    arrays: Arrays


class Growing:
    """An output that is laid out and being filled; left without `finish`, it stays at its last commit.

    before: the commit that it goes on from; None at the beginning.
    Raises OutputError where the disk or the folder refuses.
    """

    def __init__(
        self,
        path: Path,
        file: Filling,
        *,
        names: Mapping[str, str],
        identity: Mapping[str, Any],
        before: Commit | None,
    ) -> None:
        self.path, self.before = path, before
        self._file, self._names, self._identity = file, names, identity

    def write(self, name: str, index: tuple[Any, ...], values: np.ndarray) -> None:
        """Fill `name[index]`; NaN becomes the fill value."""
        with writing(self.path):
            self._file.fill(translated(name, self._names), index, values)

    def commit(self, commit: Commit) -> None:
        """Make this what is found again, with all that was written so far."""
        with writing(self.path):
            self._keep(commit, self._file.save())

    def finish(self, commit: Commit, attributes: Mapping[str, str], fields: Sequence[str]) -> None:
        """Commit, look whether everything is there, `fields` in full, and let the output take its name."""
        with writing(self.path):
            self._keep(commit, self._file.complete(attributes))
            self._file.check([translated(name, self._names) for name in fields])
            take_name(_partial(self.path), self.path)
            _state(self.path).unlink()

    def discard(self) -> None:
        """Leave nothing to go on with."""
        _remove(self.path)

    def _keep(self, commit: Commit, changes: Arrays) -> None:
        arrays = {**commit.arrays, **{_FILE + name: array for name, array in changes.items()}}
        told = json.dumps({"identity": self._identity, "position": commit.position})
        head = {"format": FORMAT, "told": told, "sha256": _digest(told, arrays)}
        write_atomically(_state(self.path), save(arrays, head))
        self._file.keep(changes)


@contextmanager
def growing(
    path: Path,
    lay_out: Callable[[Writer], None],
    *,
    names: Mapping[str, str],
    identity: Mapping[str, Any],
    resume: str,
) -> Iterator[Growing]:
    """The output `path` while it grows: what an earlier process has left of it, or a new one.

    lay_out: writes all but the content of the fields. names: ours to those in the file, where they differ.
    identity: what decides the values, by name, as plain data. resume: "never", "auto" or "must".
    Raises CheckpointError where what is there was begun with another identity, is damaged, or is missing and must not be.
    """
    partial, state = _partial(path), _state(path)
    with ExitStack() as held:
        held.enter_context(claimed(partial))
        before, changes = None, None
        if resume != "never" and partial.exists() and state.exists():
            begun, before, changes = _read(state)
            _require_same(partial, begun, identity)
        elif resume == "must":
            raise CheckpointError(
                f"{path}: there is no {partial.name} to go on with. Start with --resume auto or never."
            )
        else:
            _remove(path)
            with writer_of(path)(partial, names=names) as writer:
                lay_out(writer)
                writer.attributes({IDENTITY: _digest(json.dumps(identity), {})})
            held.enter_context(claimed(partial))
        try:
            file = _filling(path)(partial, changes)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
            raise CheckpointError(
                f"{partial}: cannot be gone on with ({reason}). Start anew with --resume never."
            ) from error
        try:
            yield Growing(path, file, names=names, identity=identity, before=before)
        finally:
            file.close()
            if not state.exists():  # there is no commit, or no need of one any more
                remove(partial)


def is_finished(path: Path, identity: Mapping[str, Any]) -> bool:
    """Whether `path` is the complete output of this very work. What a process has left that was killed at its very end is removed."""
    with writing(path):
        settle(path)
    try:
        with open_written(path) as dataset:
            finished = bool(dataset.attrs.get(IDENTITY) == _digest(json.dumps(identity), {}))
    except DataError:
        return False
    if finished and not _partial(path).exists():
        _state(path).unlink(missing_ok=True)
    return finished


def _partial(path: Path) -> Path:
    return beside(path, ".partial")


def _state(path: Path) -> Path:
    return beside(path, ".partial.state")


def _remove(path: Path) -> None:
    """Remove what there is to go on with: first what says that there is."""
    with writing(path):
        _state(path).unlink(missing_ok=True)
        remove(_partial(path))


def _filling(path: Path) -> Callable[[Path, Arrays | None], Filling]:
    if path.suffix == ".zarr":
        from forecast_cli.data.zarr_output import ZarrFilling

        return ZarrFilling
    return NetCDFFilling


def _read(state: Path) -> tuple[Mapping[str, Any], Commit, Arrays]:
    """Identity, commit, and the changes of the file. Raises CheckpointError for what is damaged, or of another version."""
    try:
        with safe_open(state, framework="np") as file:
            head = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{state}: damaged ({str(error).splitlines()[0]}). Start anew with --resume never."
        ) from error
    if head.get("format") != FORMAT:
        raise CheckpointError(f"{state}: written by another version of forecast. Start anew with --resume never.")
    if head.get("sha256") != _digest(head["told"], arrays):
        raise CheckpointError(f"{state}: damaged (its checksum differs). Start anew with --resume never.")
    told = json.loads(head["told"])
    mine = {name: array for name, array in arrays.items() if not name.startswith(_FILE)}
    changes = {name.removeprefix(_FILE): array for name, array in arrays.items() if name.startswith(_FILE)}
    return told["identity"], Commit(told["position"], mine), changes


def _require_same(partial: Path, begun: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """CheckpointError, saying what differs, unless what was begun is what is asked for."""
    now = json.loads(json.dumps(identity))
    changes = [
        f"{name} (was {begun.get(name)}, is {now.get(name)})" if _is_short(begun.get(name), now.get(name)) else name
        for name in begun.keys() | now.keys()
        if begun.get(name) != now.get(name)
    ]
    if changes:
        raise CheckpointError(
            f"{partial}: was begun with other {', '.join(sorted(changes))}. Repeat that command, or start anew with --resume never."
        )


def _is_short(*values: Any) -> bool:
    return all(len(str(value)) <= 20 for value in values)


def _digest(text: str, arrays: Arrays) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].dtype}{arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
