"""Several processes that work on one thing: who this one is among them, and what they tell each other.

`torchrun` and `srun` start the same command once for each rank. Ranks meet in a gloo group for what is small and lies in main
memory (flags, sums, counts), and gradients go through torch's DistributedDataParallel: NCCL between GPUs, gloo between CPUs.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from forecast_cli.errors import ForecastError, PeerError
from forecast_cli.launch import placed

Value = TypeVar("Value")


@dataclass
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

    def joined(self, tensor: Tensor, counts: Sequence[int]) -> Tensor:
        """What all ranks have of a batch, one after the other: rank r has the first `counts[r]` rows of its own; on every rank."""
        if self.size == 1:
            return tensor
        mine = tensor.new_zeros((max(counts), *tensor.shape[1:]), device="cpu")
        mine[: len(tensor)] = tensor
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        with together():
            dist.all_gather(parts, mine, group=self.group)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).to(tensor.device)

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
            raise PeerError("ended, for the reason that rank 0 gives.")
        return cast(Value, found[0])


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """This process among those that `torchrun` or `srun` has started with it; alone where neither has."""
    place = placed()
    if place is None:
        yield ALONE
        return
    on_gpu = torch.cuda.is_available() and dist.is_nccl_available()
    if on_gpu:
        torch.cuda.set_device(place.local % torch.cuda.device_count())
    os.environ |= {"MASTER_ADDR": place.address, "MASTER_PORT": str(place.port)}
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", rank=place.rank, world_size=place.size)
        ranks = Ranks(place.rank, place.size, place.local, dist.new_group(backend="gloo"))
    except (RuntimeError, ValueError) as error:
        raise PeerError(
            f"the {place.size} ranks did not meet at {place.address}:{place.port} ({str(error).splitlines()[0]}). "
            "Were all started? MASTER_ADDR and MASTER_PORT choose another place."
        ) from error
    try:
        yield ranks
    finally:
        dist.destroy_process_group()
        # Its threads end with its last reference: left over, they now and then abort a process that has done its work and is exiting.
        ranks.group = None


@contextmanager
def together() -> Iterator[None]:
    """What torch says when another rank has gone, as a failure that has its reason elsewhere."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if not re.search("gloo|nccl|connect|peer|timed? ?out|socket|store", str(error), re.IGNORECASE):
            raise
        raise PeerError("lost another rank, which may have said why; the last state stays.") from error
