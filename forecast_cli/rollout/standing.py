"""Where a rollout stands between two blocks: all that the rest of it comes from."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from forecast_cli.data.resumable import Commit
from forecast_cli.models import State
from forecast_cli.rollout.reached import Reached


class Standing(NamedTuple):
    """first: the first start of those that are being forecast. lead: their steps so far. last, state: of their last block."""

    first: int = 0
    lead: int = 0
    last: Tensor | None = None
    state: State | None = None

    def commit(self, reached: Reached) -> Commit:
        """As plain data and arrays, with what the forecast has reached so far."""
        arrays = {"lowest": reached.lowest, "highest": reached.highest}
        if self.last is not None:
            arrays |= {"last": self.last} | {f"state.{i}": tensor for i, tensor in enumerate(self.state or ())}
        return Commit(
            {"first": self.first, "lead": self.lead}, {name: array.cpu().numpy() for name, array in arrays.items()}
        )

    @classmethod
    def found(cls, commit: Commit | None, reached: Reached, device: torch.device) -> Self:
        """The inverse of `commit`, which brings `reached` to where it was; the beginning for None."""
        if commit is None:
            return cls()
        # Copied to memory of torch's own, which is aligned as that of every other tensor: rounding may depend on it.
        arrays = {name: torch.tensor(array) for name, array in commit.arrays.items()}
        reached.lowest, reached.highest = arrays["lowest"], arrays["highest"]
        state = tuple(arrays[f"state.{i}"].to(device) for i in range(sum(name.startswith("state.") for name in arrays)))
        last = arrays["last"].to(device) if "last" in arrays else None
        return cls(commit.position["first"], commit.position["lead"], last, state)
