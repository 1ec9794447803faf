"""PhyDNet: a linear partial differential equation that is learned, beside a ConvLSTM for what it does not explain.

    frames -> encoder -> PhyCell            -> + -> decoder -> next frames
                      -> stack of ConvLSTMs ->

Source: Le Guen and Thome (2020), arXiv 2003.01460.
"""

import math

import torch
from torch import Tensor, nn

from forecast_cli.config import RunConfig
from forecast_cli.domain import Boundary, Domain
from forecast_cli.errors import ConfigError
from forecast_cli.models.base import State
from forecast_cli.models.cell import Cell, Kernels
from forecast_cli.models.conv_rnn import ConvLSTMCell, GateConvolution
from forecast_cli.models.convolution import Convolution, initial_like, over_frames
from forecast_cli.models.recurrent import RecurrentForecaster

ORDER = 2
"""Of the highest derivatives: the shortest waves of a grid feel each further order up to pi times as strongly."""


def moment_matrix(rows: int, columns: int) -> Tensor:
    """What takes a kernel to its moments, (derivative, rows * columns), in float64.

    The moment of d^(a + b) / dy^a dx^b is the sum over offsets (v, u) of v^a u^b / (a! b!) k(v, u): by Taylor, the share of that
    derivative, in units of cells, in the kernel's convolution with a smooth field. Derivatives are those up to `ORDER` that the
    kernel can tell apart.
    """
    v = torch.arange(rows, dtype=torch.float64)[:, None] - rows // 2
    u = torch.arange(columns, dtype=torch.float64) - columns // 2
    orders = [(a, b) for a in range(min(rows, ORDER + 1)) for b in range(min(columns, ORDER + 1 - a))]
    return torch.stack([v**a * u**b / (math.factorial(a) * math.factorial(b)) for a, b in orders]).flatten(1)


class LinearPDE(Convolution):
    """The right-hand side of a linear equation, Phi(h) = sum over a + b <= 2 of c_ab * d^(a + b) h / dy^a dx^b, as one convolution.

    c_ab mixes the channels. Each channel has a kernel for each derivative, whose moments up to second order are exactly those of the
    derivative, 1 for its own and 0 for all others, whatever is learned:

        k_ab = stencil_ab + sum over n of free_abn * null_n

    with the smallest kernel that has these moments, and an orthonormal basis of all kernels that have none.
    """

    stencils: Tensor
    null: Tensor

    def __init__(
        self,
        channels: int,
        *,
        size: tuple[int, int],
        kernel_size: int = 3,
        dilation: int = 1,
        boundary: Boundary = "zeros",
    ) -> None:
        super().__init__(channels, channels, size=size, kernel_size=kernel_size, dilation=dilation, boundary=boundary)
        # They are made of what follows; a derivative has no bias.
        del self.weight
        self.bias = None
        rows, columns = self.kernel_size
        moments = moment_matrix(rows, columns)
        # Saved with the weights: which basis it is, another machine's LAPACK may choose otherwise.
        self.register_buffer("null", torch.linalg.svd(moments).Vh[len(moments) :].float())
        self.register_buffer("stencils", torch.linalg.pinv(moments).mT.float())
        self.coefficients = nn.Parameter(torch.zeros(channels, channels, len(moments)))
        self.free = nn.Parameter(torch.zeros(channels, len(moments), len(self.null)))

    def derivatives(self) -> Tensor:
        """The kernels (channel, derivative, rows, columns)."""
        return (self.stencils + self.free @ self.null).unflatten(-1, self.kernel_size)

    def assembled(self) -> Tensor:
        """The weight of the convolution, (channel, channel, rows, columns)."""
        return torch.einsum("oid,idyx->oiyx", self.coefficients, self.derivatives())


class PhyCell(Cell):
    """Prediction by the equation, correction by what is seen.

        h'_t = h_(t-1) + Phi(h_(t-1));  K_t = sigmoid(W * [e_t, h'_t] + b);  h_t = h'_t + K_t (e_t - h'_t)

    with e_t the encoded frame, and K the share of it that is believed, as in a Kalman filter: between 0, the equation alone, and 1.
    """

    state_size = 1

    def __init__(
        self, channels: int, hidden: int, *, size: tuple[int, int], config: RunConfig, boundary: Boundary
    ) -> None:
        super().__init__()
        options = config.model
        self.encoder = nn.Conv2d(channels, hidden, 1)
        self.equation = LinearPDE(
            hidden, size=size, kernel_size=options.kernel_size, dilation=options.dilation, boundary=boundary
        )
        self.gain = GateConvolution(hidden, hidden, hidden, size=size, config=config, boundary=boundary)

    def kernels(self) -> Kernels:
        return self.equation.assembled(), *self.gain.halves()

    def forward(self, sequence: Tensor, state: State | None, kernels: Kernels) -> tuple[Tensor, State]:
        """sequence: (batch, time, channel, height, width). Returns the hidden states and the last of them."""
        equation, to_encoded, to_predicted = kernels
        encoded = over_frames(self.encoder, sequence).to(sequence.dtype)
        gains = self.gain.of_input(encoded, to_encoded)
        (hidden,) = state or (initial_like(encoded, 0.0),)
        outputs = []
        for seen, gain in zip(encoded.unbind(1), gains.unbind(1), strict=True):
            predicted = hidden + self.equation(hidden, equation)
            hidden = torch.lerp(
                predicted, seen, torch.sigmoid((gain + self.gain(predicted, to_predicted)).to(seen.dtype))
            )
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden,)


class PhyDNet(RecurrentForecaster):
    """The stack of `convlstm` and, beside it, one PhyCell as wide as the last layer; their sum is decoded.

    A PhyCell forecasts as it has filtered, with its own last frame as what is seen, so that a forecast continues where it stopped.
    """

    def __init__(self, config: RunConfig, domain: Domain) -> None:
        if config.model.kernel_size < 3:
            raise ConfigError("model.kernel_size = 1: phydnet takes second derivatives, which need 3 or more.")
        super().__init__(config, domain, ConvLSTMCell)
        widths = config.model.hidden
        self.physical = PhyCell(widths[0], widths[-1], size=self.encoder.size, config=config, boundary=self.boundary)

    def kernels(self) -> tuple[Kernels, ...]:
        return self.physical.kernels(), *super().kernels()

    def recur(self, features: Tensor, state: State | None, kernels: tuple[Kernels, ...]) -> tuple[Tensor, State]:
        before, of_blocks = (None, None) if state is None else (state[:1], state[1:])
        physical, hidden = self.physical(features, before, kernels[0])
        residual, last = super().recur(features, of_blocks, kernels[1:])
        return physical + residual, hidden + last
