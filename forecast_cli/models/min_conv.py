"""Minimal convolutional RNNs: gates from the input alone, so that a sequence is trained in parallel over time.

One convolution of the layer's input gives the gates and candidates of all frames at once; what is left
is the elementwise recurrence of `forecast_cli.scan`. Source: Horuz et al. (2025), arXiv 2508.03614.
"""

import torch
from torch import Tensor

from forecast_cli.config import RunConfig
from forecast_cli.domain import Boundary
from forecast_cli.models.base import State
from forecast_cli.models.cell import Cell, Kernels
from forecast_cli.models.convolution import Convolution, initial_like, over_frames
from forecast_cli.scan import Kind, require_backend, scan_packed


class MinimalCell(Cell):
    """What the three minimal cells share; each says how many gates it has and how they become logits."""

    state_size = 1
    gate_count: int
    kind: Kind

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

    def kernels(self) -> Kernels:
        """Weight and bias of the convolution to the logits of the gates and the candidates, in this order along its outputs."""
        assert self.convolution.bias is not None
        return self.convolution.weight, self.convolution.bias

    def forward(self, sequence: Tensor, state: State | None, kernels: Kernels) -> tuple[Tensor, State]:
        """sequence: (batch, time, channel, height, width). Returns the hidden states and the last of them."""
        weight, bias = kernels
        packed = over_frames(lambda frames: self.convolution(frames, weight, bias), sequence)
        initial = (
            initial_like(packed[:, :, : self.hidden], self.initial).to(sequence.dtype) if state is None else state[0]
        )
        hidden, last = scan_packed(packed, initial, self.kind, backend=self.backend)
        return hidden, (last,)


class MinConvGRUCell(MinimalCell):
    """z = sigmoid(k);  h_t = (1 - z) h_(t-1) + z g(candidate)."""

    gate_count = 1
    kind = "update"


class MinConvLSTMCell(MinimalCell):
    """f = sigmoid(k_f), i = sigmoid(k_i);  h_t = f/(f+i) h_(t-1) + i/(f+i) g(candidate)."""

    gate_count = 2
    kind = "forget-input"


class MinConvExpLSTMCell(MinimalCell):
    """f = exp(k_f), i = exp(k_i);  h_t = f/(f+i) h_(t-1) + i/(f+i) g(candidate), so f/(f+i) = sigmoid(k_f - k_i).

    Only k_f - k_i matters: the weights of the two gates are subtracted before the convolution, not after,
    which saves a third of its work and changes neither the function nor the gradients.
    """

    gate_count = 2
    kind = "keep"

    def kernels(self) -> Kernels:
        merged = []
        for parameter in super().kernels():
            forget, input_, candidate = parameter.chunk(3)
            merged.append(torch.cat([forget - input_, candidate]))
        return tuple(merged)
