"""DISTANA: one small recurrent network at every cell of the grid, the same everywhere, which talks to those beside it.

Only what the neighbours say crosses from cell to cell. Source: Karlbauer et al. (2019), arXiv 1912.11141.
"""

import torch
from torch import Tensor, nn

from forecast_cli.config import RunConfig
from forecast_cli.domain import Boundary
from forecast_cli.models.base import State
from forecast_cli.models.cell import Cell, Kernels
from forecast_cli.models.convolution import Convolution


class PredictionKernel(Cell):
    """Prediction kernels (PK), and the transition kernels (TK) between them.

        lateral   l_i = tanh(Q h_i)
        TK        s_i = sum over neighbours j of T_(j - i) l_j + b
        PK        p_i = tanh(P x_i + s_i)
                  f, i, o = sigmoid(W [p_i, h_i] + b);  c_i = f c_i + i tanh(candidate);  h_i = o tanh(c_i)

    with x the input of cell i, and h, c on the right those of the step before. h = 0 has nothing to say. A transition kernel is
    linear, and one with the share of the PK's first layer that reads it: there is a T for each direction, a convolution.
    """

    state_size = 2

    def __init__(
        self, channels: int, hidden: int, *, size: tuple[int, int], config: RunConfig, boundary: Boundary
    ) -> None:
        super().__init__()
        options, self.hidden = config.model, hidden
        self.lateral = nn.Linear(hidden, hidden, bias=False)
        self.transition = Convolution(
            hidden,
            hidden,
            size=size,
            kernel_size=options.kernel_size,
            dilation=options.dilation,
            boundary=boundary,
        )
        self.first = nn.Linear(channels, hidden, bias=False)
        self.gates = nn.Linear(2 * hidden, 4 * hidden)

    def kernels(self) -> Kernels:
        return ()

    def forward(
        self,
        sequence: Tensor,
        state: State | None,
        kernels: Kernels,  # noqa: ARG002 - every cell is called alike
    ) -> tuple[Tensor, State]:
        """sequence: (batch, time, channel, height, width). Returns the hidden states, and (hidden, cell) at the end."""
        from_input = self.first(sequence.movedim(2, -1))
        # A PK sees no space: channels come last, and every cell is one more sample.
        if state is None:
            hidden = memory = torch.zeros_like(from_input[:, 0], dtype=sequence.dtype)
        else:
            hidden, memory = (part.movedim(1, -1) for part in state)
        outputs = []
        for frame in from_input.unbind(1):
            lateral = torch.tanh(self.lateral(hidden).to(sequence.dtype))
            told = self.transition(lateral.movedim(-1, 1)).movedim(1, -1)
            first = torch.tanh((frame + told).to(sequence.dtype))
            logits = self.gates(torch.cat([first, hidden], dim=-1)).to(sequence.dtype)
            gates, candidate = logits.split([3 * self.hidden, self.hidden], dim=-1)
            forget, input_, output = torch.sigmoid(gates).chunk(3, dim=-1)
            memory = forget * memory + input_ * torch.tanh(candidate)
            hidden = output * torch.tanh(memory)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1).movedim(-1, 2), (hidden.movedim(-1, 1), memory.movedim(-1, 1))
