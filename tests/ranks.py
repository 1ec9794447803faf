"""Commands run as several ranks, as torchrun starts them, on one machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

FORECAST = ("-m", "forecast_cli")


def start(
    command: list[object], size: int, folder: Path, program: tuple[str, ...] = FORECAST
) -> list[subprocess.Popen[str]]:
    """`forecast`, or another program, with these arguments once for each rank; what each says lies in rank<N>.txt in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(size):
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = os.environ | {key: str(value) for key, value in told.items()} | {"OMP_NUM_THREADS": "1"}
        started.append(
            subprocess.Popen(
                [sys.executable, *program, *map(str, command)],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=(folder / f"rank{rank}.txt").open("w"),
                text=True,
            )
        )
    return started


def run(
    command: list[object], size: int, folder: Path, program: tuple[str, ...] = FORECAST
) -> tuple[list[int], list[str]]:
    """Exit codes and what was said on stderr, by rank."""
    started = start(command, size, folder, program)
    codes = [process.wait(timeout=240) for process in started]
    return codes, [(folder / f"rank{rank}.txt").read_text() for rank in range(size)]
