"""What tells data files apart without reading them through."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from forecast_cli.data.files import path_of

END = 2**16
"""Bytes that are looked at on either side of a file: headers, times, and the last frame."""


def fingerprints(places: Iterable[str]) -> dict[str, str]:
    """Size and digest of the ends of each file; of a Zarr store, sizes and names of what lies in it."""
    return {place: _fingerprint(path_of(place)) for place in places}


def _fingerprint(path: Path) -> str:
    digest = hashlib.sha256()
    if path.is_dir():
        parts = sorted(part for part in path.rglob("*") if part.is_file())
        size = 0
        for part in parts:
            size += part.stat().st_size
            digest.update(f"{part.relative_to(path)} {part.stat().st_size}\n".encode())
    else:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest.update(file.read(END))
            file.seek(max(0, size - END))
            digest.update(file.read(END))
    return f"{size} bytes, {digest.hexdigest()[:12]}"
