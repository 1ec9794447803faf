import torch
from torch.testing import assert_close

from forecast_cli.models.conv_rnn import ConvGRUCell, ConvLSTMCell


def test_convlstm_is_the_published_cell(tiny_config):
    """One convolution of [input, hidden], gates and states written out."""
    cell = ConvLSTMCell(3, 4, size=(6, 8), config=tiny_config(), boundary="circular").double()
    frames = torch.randn(2, 3, 3, 6, 8, dtype=torch.float64)
    hidden = memory = torch.zeros(2, 4, 6, 8, dtype=torch.float64)
    for time in range(3):
        joined = cell.convolution(torch.cat([frames[:, time], hidden], dim=1))
        forget, input_, output, candidate = joined.chunk(4, dim=1)
        memory = torch.sigmoid(forget) * memory + torch.sigmoid(input_) * torch.tanh(candidate)
        hidden = torch.sigmoid(output) * torch.tanh(memory)
    sequence, state = cell(frames, None, cell.kernels())
    assert_close(sequence[:, -1], hidden)
    assert_close(state, (hidden, memory))


def test_convgru_is_the_published_cell(tiny_config):
    cell = ConvGRUCell(3, 4, size=(6, 8), config=tiny_config(), boundary="zeros").double()
    frames = torch.randn(2, 3, 3, 6, 8, dtype=torch.float64)
    hidden = torch.zeros(2, 4, 6, 8, dtype=torch.float64)
    for time in range(3):
        update, reset = torch.sigmoid(cell.gates(torch.cat([frames[:, time], hidden], dim=1))).chunk(2, dim=1)
        proposed = torch.tanh(cell.candidate(torch.cat([frames[:, time], reset * hidden], dim=1)))
        hidden = (1 - update) * hidden + update * proposed
    assert_close(cell(frames, None, cell.kernels())[0][:, -1], hidden)
