"""Where the computation runs."""

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
