"""Starts shared among ranks: each forecasts some of a batch, the first one writes them all."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import Tensor

from forecast_cli.data.resumable import Commit, Growing
from forecast_cli.distributed import Ranks
from forecast_cli.models import State


class Elsewhere:
    """The output as a rank sees it that does not write."""

    def __init__(self, before: Commit | None) -> None:
        self.before = before

    def nothing(self, *_: Any) -> None: ...

    write = commit = finish = discard = nothing


@contextmanager
def opened(ranks: Ranks, begin: Callable[[], AbstractContextManager[Growing]]) -> Iterator[Growing | Elsewhere]:
    """The output on the first rank; on the others only from where it goes on."""
    with ExitStack() as held:
        mine: list[Growing] = []

        def open_it() -> Commit | None:
            mine.append(held.enter_context(begin()))
            return mine[0].before

        before = ranks.decided(open_it)
        yield mine[0] if mine else Elsewhere(before)


class Share(NamedTuple):
    """What a rank has of a batch: `counts` rows on each rank, one after the other."""

    ranks: Ranks
    counts: list[int]

    @classmethod
    def of(cls, batch: int, ranks: Ranks) -> "Share":
        """As equal as may be."""
        return cls(ranks, [batch // ranks.size + (rank < batch % ranks.size) for rank in range(ranks.size)])

    @property
    def rows(self) -> slice:
        """Of this rank; where there are fewer rows than ranks, one that others have too, to keep them company."""
        start = sum(self.counts[: self.ranks.rank])
        count = self.counts[self.ranks.rank]
        return slice(start, start + count) if count else slice(0, 1)

    def whole(self, tensor: Tensor) -> Tensor:
        """The rows of all ranks."""
        return self.ranks.joined(tensor[: self.counts[self.ranks.rank]], self.counts)

    def cut(self, last: Tensor | None, state: State | None) -> tuple[Tensor | None, State | None]:
        """This rank's rows of where a batch stands, laid out as if they were all."""
        if last is None or self.ranks.size == 1:
            return last, state
        return last[self.rows].clone(), tuple(tensor[self.rows].clone() for tensor in state or ())
