"""What a training ran on: written down once a session, so that a figure can be understood, and had again."""

import json
import os
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import netCDF4
import torch

from forecast_cli import __version__, checkpoint
from forecast_cli.data.output import write_atomically
from forecast_cli.distributed import Ranks

PACKAGES = ("torch", "numpy", "xarray", "netCDF4", "h5py", "zarr", "dask")
OF_THE_BATCH_SYSTEM = (
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_JOB_PARTITION",
    "SLURM_JOB_NODELIST",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_STEP_ID",
    "SLURM_RESTART_COUNT",
    "PBS_JOBID",
    "PBS_JOBNAME",
    "PBS_QUEUE",
    "PBS_ARRAY_INDEX",
)
"""By name, not all that begin so: SLURM_JWT is a password."""


def add_session(run: Path, device: torch.device, ranks: Ranks) -> None:
    """Append what holds now to the list in the run directory; every rank calls it, the first writes."""
    hosts = ranks.gathered({"host": socket.gethostname(), "device": str(device), "device_name": _name(device)})
    if not ranks.is_first:
        return
    path = run / checkpoint.ENVIRONMENT
    sessions = [*_before(path), _session(hosts)]
    write_atomically(path, (json.dumps(sessions, indent=2) + "\n").encode())


def _before(path: Path) -> list[Any]:
    """The sessions so far; none where the file is missing, or is no list: it is told, but nothing depends on it."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def _session(ranks: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["forecast", *sys.argv[1:]],
        "directory": str(Path.cwd()),
        "ranks": ranks,
        "system": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {
            "forecast_cli": __version__,
            "python": platform.python_version(),
            **{name: found for name in PACKAGES if (found := _version(name))},
            "netcdf-c": netCDF4.__netcdf4libversion__,
            "hdf5": netCDF4.__hdf5libversion__,
        },
        "git": revision_of(Path(__file__)),
        "batch": {name: os.environ[name] for name in OF_THE_BATCH_SYSTEM if name in os.environ},
    }


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def revision_of(file: Path) -> str | None:
    """The commit of the checkout that a file belongs to, "-dirty" where files were changed; None where it belongs to none.

    A package that is installed inside somebody else's checkout is not tracked there.
    """
    try:
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        return _git(file.parent, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
