"""What a layer remembers: the contract of a recurrent cell."""

from torch import Tensor, nn

from forecast_cli.models.base import State

Kernels = tuple[Tensor, ...]
"""Weights of a cell as its steps take them: what has to be cut or added up is, once for a whole rollout."""


class Cell(nn.Module):
    """A recurrent cell; `state_size` tensors are its state."""

    state_size: int

    def kernels(self) -> Kernels:
        """What `forward` takes, from the present weights."""
        raise NotImplementedError

    def forward(self, sequence: Tensor, state: State | None, kernels: Kernels) -> tuple[Tensor, State]:
        """sequence: (batch, time, channel, height, width). Returns the hidden state of every frame, and the state after the last."""
        raise NotImplementedError
