"""The papers' arrangement of a minimal cell, to measure against: three gates, cells of a channel beside each other, nothing in one pass.

The same parameters, outputs and gradients as the model that it is made from.
"""

import copy

import torch.nn.functional as F
from torch import Tensor, nn

from forecast_cli.models.base import ForecastModel, State
from forecast_cli.models.cell import Cell, Kernels
from forecast_cli.models.convolution import initial_like
from forecast_cli.models.min_conv import MinConvExpLSTMCell, MinConvGRUCell, MinimalCell
from forecast_cli.scan import scan


def as_published(model: ForecastModel) -> ForecastModel:
    """A copy of a recurrent model with minimal cells, computed as the papers' code does."""
    found = copy.deepcopy(model)
    found.encoder = _Encoder(found.encoder)  # type: ignore[arg-type]
    for block in found.blocks:  # type: ignore[union-attr]
        block.cell = _Cell(block.cell)
        block.norm = _Norm(block.norm)
    return found


class _Encoder(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.convolution, self.activation = encoder.convolution, encoder.activation

    def forward(self, frames: Tensor) -> Tensor:
        encoded: Tensor = self.activation(self.convolution(frames))  # type: ignore[operator]
        return encoded.contiguous()


class _Norm(nn.Module):
    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, frames: Tensor) -> Tensor:
        return F.layer_norm(frames, self.norm.normalized_shape, self.norm.weight, self.norm.bias, self.norm.eps)


class _Cell(Cell):
    def __init__(self, cell: MinimalCell) -> None:
        super().__init__()
        self.convolution, self.initial, self.kind = cell.convolution, cell.initial, type(cell)

    def kernels(self) -> Kernels:
        return tuple(self.convolution.parameters())

    def forward(self, sequence: Tensor, state: State | None, kernels: Kernels) -> tuple[Tensor, State]:
        rows, columns = self.convolution.margin
        padded = F.pad(sequence.flatten(0, 1), (columns, columns, rows, rows), mode="circular")
        weight, bias = kernels
        packed = F.conv2d(padded, weight, bias)
        *gates, candidate = packed.unflatten(0, sequence.shape[:2]).chunk(
            2 if self.kind is MinConvGRUCell else 3, dim=2
        )
        if self.kind is MinConvGRUCell:
            gates = [-gates[0]]
        elif self.kind is MinConvExpLSTMCell:
            gates = [gates[0] - gates[1]]
        initial = initial_like(candidate, self.initial) if state is None else state[0]
        hidden, last = scan(tuple(gates), candidate, initial, backend="log_space")
        return hidden, (last,)
