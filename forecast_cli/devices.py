"""Where the computation runs."""

from contextlib import AbstractContextManager
from pathlib import Path

import torch

from forecast_cli.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """The device called auto, cpu, cuda, cuda:n or mps; auto takes the fastest present.

    Raises ConfigError for one that does not exist here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name}: expected auto, cpu, cuda, cuda:N or mps.") from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= counts.get(device.type, 0):
        present = ", ".join(kind for kind, count in counts.items() if count)
        raise ConfigError(f"--device {name}: not present on this machine (present: {present}).")
    return device


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free for a computation; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def computing_in(precision: str, device: torch.device | str) -> AbstractContextManager[object]:
    """Where convolutions run in bfloat16 for precision "bf16", everything as it comes for "32".

    Weights, the recurrence, norms and the loss stay in float32.
    """
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16")
