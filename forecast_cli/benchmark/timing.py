"""Times and memory of functions, measured in turns so that a busy machine hurts all alike."""

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

Key = TypeVar("Key", bound=Hashable)
WARM_UP = 2
_PEAK, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def in_turns(
    cases: Mapping[Key, Callable[[], object]], *, repetitions: int, device: torch.device | str = "cpu"
) -> dict[Key, np.ndarray]:
    """Milliseconds of wall clock of each case in each of `repetitions` rounds; every round runs every case once."""
    found: dict[Key, list[float]] = {key: [] for key in cases}
    with _without_collector():
        for turn in range(WARM_UP + repetitions):
            for key, case in cases.items():
                _wait(device)
                started = time.perf_counter()
                case()
                _wait(device)
                if turn >= WARM_UP:
                    found[key].append(1000 * (time.perf_counter() - started))
    return {key: np.array(times) for key, times in found.items()}


def peak_mib(case: Callable[[], object], device: torch.device | str = "cpu") -> float | None:
    """Memory that a case takes at its most, above what stands before it [MiB]; None where the system does not say."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        case()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what the last case gave back to the allocator goes back to the system
    try:
        _RESET.write_text("5")
        before = _kilobytes("VmRSS")
        case()
        return (_kilobytes("VmHWM") - before) / 1024
    except (OSError, StopIteration):
        return None


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for torch and for our own loops."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _kilobytes(name: str) -> int:
    lines = _PEAK.read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def _wait(device: torch.device | str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
