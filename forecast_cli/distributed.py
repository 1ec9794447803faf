"""Several processes that work on one thing: who this one is among them, and what they tell each other.

`torchrun` and `srun` start the same command once for each rank. Ranks meet in a gloo group for what is small and lies in main
memory (flags, sums, counts), and gradients go through torch's DistributedDataParallel: NCCL between GPUs, gloo between CPUs.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from forecast_cli.errors import ForecastError, PeerError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """This process among `size` that work together; `local` counts those of its machine."""

    rank: int = 0
    size: int = 1
    local: int = 0
    group: Any = field(default=None, repr=False)

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and talks."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """What this rank has to do of a list of things: every `size`-th, none twice."""
        return slice(self.rank, None, self.size)

    def total(self, values: Tensor) -> Tensor:
        """Sum over all ranks of a tensor in main memory, added up in the order of the ranks: the same on each, bit for bit."""
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        with together():
            dist.all_gather(parts, values.contiguous(), group=self.group)
        return torch.stack(parts).sum(dim=0)

    def gathered(self, value: Value) -> list[Value]:
        """What each rank has to say, in their order; on every rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with together():
            dist.all_gather_object(found, value, group=self.group)
        return found

    def any(self, *flags: bool) -> list[bool]:
        """Which of the flags any rank has raised."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.uint8)
        with together():
            dist.all_reduce(raised, dist.ReduceOp.MAX, group=self.group)
        return [bool(flag) for flag in raised.tolist()]

    def decided(self, decide: Callable[[], Value]) -> Value:
        """What the first rank decides, on every rank. Its ForecastError ends them all, and only it is told."""
        if self.size == 1:
            return decide()
        found: list[Any] = [None, False]
        error: ForecastError | None = None
        if self.is_first:
            try:
                found[0] = decide()
            except ForecastError as raised:
                error, found[1] = raised, True
        with together():
            dist.broadcast_object_list(found, src=0, group=self.group)
        if error:
            raise error
        if found[1]:
            raise PeerError(f"rank {self.rank}: ended, for the reason that rank 0 gives.")
        return cast(Value, found[0])

    def wait(self) -> None:
        """Until every rank has come here."""
        self.any(False)


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """This process among those that `torchrun` or `srun` has started with it; alone where neither has."""
    placed = _placed()
    if placed is None:
        yield ALONE
        return
    rank, size, local = placed
    on_gpu = torch.cuda.is_available() and dist.is_nccl_available()
    if on_gpu:
        torch.cuda.set_device(local % torch.cuda.device_count())
    with together():
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", rank=rank, world_size=size)
        group = dist.new_group(backend="gloo")
    try:
        yield Ranks(rank, size, local, group)
    finally:
        dist.destroy_process_group()


@contextmanager
def together() -> Iterator[None]:
    """What torch says when another rank has gone, as a failure that has its reason elsewhere."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if not re.search("gloo|nccl|connect|peer|timed? ?out|socket|store", str(error), re.IGNORECASE):
            raise
        raise PeerError(
            f"rank {os.environ.get('RANK', '?')}: lost another rank ({str(error).splitlines()[0]})."
        ) from error


def _placed() -> tuple[int, int, int] | None:
    """Rank, number of ranks and rank on this machine, from the environment of torchrun or of a step of SLURM."""
    told = os.environ
    if "RANK" in told and "WORLD_SIZE" in told:
        return int(told["RANK"]), int(told["WORLD_SIZE"]), int(told.get("LOCAL_RANK", 0))
    size = int(told.get("SLURM_STEP_NUM_TASKS", 1))
    if size == 1:
        return None
    told.setdefault("MASTER_ADDR", first_host(told.get("SLURM_STEP_NODELIST", "localhost")))
    told.setdefault("MASTER_PORT", str(20000 + int(told.get("SLURM_JOB_ID", 0)) % 20000))
    told["RANK"] = told["SLURM_PROCID"]
    return int(told["SLURM_PROCID"]), size, int(told.get("SLURM_LOCALID", 0))


def first_host(hosts: str) -> str:
    """The first machine of a list as SLURM writes it: node[03-05,09],login is node03."""
    match = re.match(r"([^,\[]*)(?:\[([^\]]*)\]([^,]*))?", hosts)
    assert match is not None
    before, numbers, after = match.groups(default="")
    return before + re.split("[-,]", numbers)[0] + after
