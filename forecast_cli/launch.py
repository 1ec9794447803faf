"""What `torchrun` or `srun` says of this process: its place among those that were started with it. Imports no torch."""

import os
import re
from typing import NamedTuple

from forecast_cli.errors import ConfigError

SPECIAL_STEPS = 0xFFFFFFF0
"""SLURM numbers from here the steps that hold one shell: an interactive one (salloc), a batch script."""
FIRST_PORT, PORTS = 12000, 20000
"""Below the ports that Linux gives to whoever asks for any (32768 and up)."""


class Place(NamedTuple):
    """Rank among `size`; `local` counts the ranks of this machine. All meet at `address`, `port`."""

    rank: int
    size: int
    local: int
    address: str
    port: int


def placed() -> Place | None:
    """From the environment of torchrun or of a step of SLURM; None for a process that is alone. Raises ConfigError."""
    told = os.environ
    try:
        if "RANK" in told and "WORLD_SIZE" in told:
            rank, size, local = int(told["RANK"]), int(told["WORLD_SIZE"]), int(told.get("LOCAL_RANK", 0))
            usual = 29500
        else:
            size, step = int(told.get("SLURM_STEP_NUM_TASKS", 1)), int(told.get("SLURM_STEP_ID", 0))
            if size == 1 or step >= SPECIAL_STEPS:
                return None
            rank, local = int(told["SLURM_PROCID"]), int(told.get("SLURM_LOCALID", 0))
            # Steps that run side by side in a job, or jobs on a machine, must not meet each other.
            usual = FIRST_PORT + (31 * int(told.get("SLURM_JOB_ID", 0)) + step) % PORTS
        address = told.get("MASTER_ADDR") or first_host(told.get("SLURM_STEP_NODELIST", "localhost"))
        return Place(rank, size, local, address, int(told.get("MASTER_PORT") or usual))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"the environment does not say which rank this is ({error}): RANK, WORLD_SIZE and LOCAL_RANK of torchrun, or "
            "SLURM_PROCID, SLURM_STEP_NUM_TASKS and SLURM_LOCALID of srun."
        ) from error


def first_host(hosts: str) -> str:
    """The first machine of a list as SLURM writes it: node[03-05,09],login is node03."""
    return re.sub(r"\[([^],-]*)[^]]*]", r"\1", hosts).split(",")[0]
