"""The classical convolutional RNNs, whose gates see the hidden state: one frame after the other.

The convolution of [input, hidden] is a sum of two; the input's half needs no recurrence and is
computed for all frames at once. Sources: ConvLSTM, Shi et al. (2015), arXiv 1506.04214;
ConvGRU, Ballas et al. (2016), arXiv 1511.06432.
"""

import torch
from torch import Tensor

from forecast_cli.config import RunConfig
from forecast_cli.domain import Boundary
from forecast_cli.models.base import State
from forecast_cli.models.cell import Cell, Kernels
from forecast_cli.models.convolution import Convolution, initial_like, over_frames


class GateConvolution(Convolution):
    """A convolution of [input, hidden] whose two halves can be computed apart."""

    def __init__(
        self,
        channels: int,
        hidden: int,
        channels_out: int,
        *,
        size: tuple[int, int],
        config: RunConfig,
        boundary: Boundary,
    ) -> None:
        options = config.model
        super().__init__(
            channels + hidden,
            channels_out,
            size=size,
            kernel_size=options.kernel_size,
            dilation=options.dilation,
            boundary=boundary,
        )
        self.channels = channels

    def halves(self) -> Kernels:
        """The weights of the input and those of the hidden state."""
        of_input, of_hidden = self.weight.split([self.channels, self.in_channels - self.channels], dim=1)
        return of_input.contiguous(), of_hidden.contiguous()

    def of_input(self, sequence: Tensor, weight: Tensor) -> Tensor:
        """The input's half, with the bias, for (batch, time, channel, height, width)."""
        return over_frames(lambda frames: self(frames, weight, self.bias), sequence)


class ConvLSTMCell(Cell):
    """c_t = f c_(t-1) + i tanh(candidate);  h_t = o tanh(c_t), with f, i, o = sigmoid(W * [x_t, h_(t-1)] + b)."""

    state_size = 2

    def __init__(
        self, channels: int, hidden: int, *, size: tuple[int, int], config: RunConfig, boundary: Boundary
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.convolution = GateConvolution(channels, hidden, 4 * hidden, size=size, config=config, boundary=boundary)

    def kernels(self) -> Kernels:
        return self.convolution.halves()

    def forward(self, sequence: Tensor, state: State | None, kernels: Kernels) -> tuple[Tensor, State]:
        """sequence: (batch, time, channel, height, width). Returns the hidden states, and (hidden, cell) at the end."""
        to_input, to_hidden = kernels
        from_input = self.convolution.of_input(sequence, to_input)
        hidden, cell = state or (initial_like(from_input[:, :, : self.hidden], 0.0).to(sequence.dtype),) * 2
        outputs = []
        for frame in from_input.unbind(1):
            logits = (frame + self.convolution(hidden, to_hidden)).to(sequence.dtype)
            gates, candidate = logits.split([3 * self.hidden, self.hidden], dim=1)
            forget, input_, output = torch.sigmoid(gates).chunk(3, dim=1)
            cell = forget * cell + input_ * torch.tanh(candidate)
            hidden = output * torch.tanh(cell)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden, cell)


class ConvGRUCell(Cell):
    """z, r = sigmoid(W * [x_t, h_(t-1)] + b);  h_t = (1 - z) h_(t-1) + z tanh(V * [x_t, r h_(t-1)] + c)."""

    state_size = 1

    def __init__(
        self, channels: int, hidden: int, *, size: tuple[int, int], config: RunConfig, boundary: Boundary
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = GateConvolution(channels, hidden, 2 * hidden, size=size, config=config, boundary=boundary)
        self.candidate = GateConvolution(channels, hidden, hidden, size=size, config=config, boundary=boundary)

    def kernels(self) -> Kernels:
        return *self.gates.halves(), *self.candidate.halves()

    def forward(self, sequence: Tensor, state: State | None, kernels: Kernels) -> tuple[Tensor, State]:
        """sequence: (batch, time, channel, height, width). Returns the hidden states and the last of them."""
        gates_to_input, gates_to_hidden, candidate_to_input, candidate_to_hidden = kernels
        gates_of_input = self.gates.of_input(sequence, gates_to_input)
        candidates_of_input = self.candidate.of_input(sequence, candidate_to_input)
        (hidden,) = state or (initial_like(candidates_of_input, 0.0).to(sequence.dtype),)
        outputs = []
        for gates, candidate in zip(gates_of_input.unbind(1), candidates_of_input.unbind(1), strict=True):
            logits = (gates + self.gates(hidden, gates_to_hidden)).to(sequence.dtype)
            update, reset = torch.sigmoid(logits).chunk(2, dim=1)
            proposed = torch.tanh((candidate + self.candidate(reset * hidden, candidate_to_hidden)).to(sequence.dtype))
            hidden = torch.lerp(hidden, proposed, update)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden,)
