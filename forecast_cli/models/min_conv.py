"""Minimal convolutional RNNs: gates from the input alone, so that a sequence is trained in parallel over time.

One convolution of the layer's input gives the gates and candidates of all frames at once; what is left
is the elementwise recurrence of `forecast_cli.scan`. Source: Horuz et al. (2025), arXiv 2508.03614.
"""

import torch
from torch import Tensor, nn

from forecast_cli.config import RunConfig
from forecast_cli.domain import Boundary
from forecast_cli.models.base import State
from forecast_cli.models.convolution import Convolution, initial_like
from forecast_cli.scan import Gates, require_backend, scan


class MinimalCell(nn.Module):
    """What the three minimal cells share; each says how many gates it has and how they become logits."""

    state_size = 1
    gate_count: int

    def __init__(
        self, channels: int, hidden: int, *, size: tuple[int, int], config: RunConfig, boundary: Boundary
    ) -> None:
        super().__init__()
        options = config.model
        require_backend(options.scan)
        self.hidden, self.backend, self.initial = hidden, options.scan, options.initial_hidden
        self.convolution = Convolution(
            channels,
            (self.gate_count + 1) * hidden,
            size=size,
            kernel_size=options.kernel_size,
            dilation=options.dilation,
            boundary=boundary,
        )

    def logits(self, frames: Tensor) -> tuple[Gates, Tensor]:
        """Gates as `scan` takes them, and the candidate, of frames (n, channel, height, width)."""
        raise NotImplementedError

    def forward(self, sequence: Tensor, state: State | None) -> tuple[Tensor, State]:
        """sequence: (batch, time, channel, height, width). Returns the hidden states and the last of them."""
        gates, candidate = self.logits(sequence.flatten(0, 1))
        time_axis = sequence.shape[:2]
        candidate = candidate.unflatten(0, time_axis)
        initial = initial_like(candidate, self.initial) if state is None else state[0]
        unfolded = tuple(gate.unflatten(0, time_axis) for gate in gates)
        hidden, last = scan(unfolded, candidate, initial, backend=self.backend)
        return hidden, (last,)


class MinConvGRUCell(MinimalCell):
    """z = sigmoid(k);  h_t = (1 - z) h_(t-1) + z g(candidate)."""

    gate_count = 1

    def logits(self, frames: Tensor) -> tuple[Gates, Tensor]:
        update, candidate = self.convolution(frames).chunk(2, dim=1)
        return (-update,), candidate


class MinConvLSTMCell(MinimalCell):
    """f = sigmoid(k_f), i = sigmoid(k_i);  h_t = f/(f+i) h_(t-1) + i/(f+i) g(candidate)."""

    gate_count = 2

    def logits(self, frames: Tensor) -> tuple[Gates, Tensor]:
        forget, input_, candidate = self.convolution(frames).chunk(3, dim=1)
        return (forget, input_), candidate


class MinConvExpLSTMCell(MinimalCell):
    """f = exp(k_f), i = exp(k_i);  h_t = f/(f+i) h_(t-1) + i/(f+i) g(candidate), so f/(f+i) = sigmoid(k_f - k_i).

    Only k_f - k_i matters: the weights of the two gates are subtracted before the convolution, not after,
    which saves a third of its work and changes neither the function nor the gradients.
    """

    gate_count = 2

    def logits(self, frames: Tensor) -> tuple[Gates, Tensor]:
        bias = self.convolution.bias
        assert bias is not None
        merged = []
        for parameter in (self.convolution.weight, bias):
            forget, input_, candidate = parameter.chunk(3)
            merged.append(torch.cat([forget - input_, candidate]))
        keep, candidate = self.convolution(frames, *merged).chunk(2, dim=1)
        return (keep,), candidate
