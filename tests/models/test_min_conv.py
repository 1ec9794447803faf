import pytest
import torch
from torch.testing import assert_close

from forecast_cli.models.min_conv import MinConvExpLSTMCell, MinConvLSTMCell


def cell_of(kind, config, *, hidden=4):
    torch.manual_seed(0)
    return kind(3, hidden, size=(6, 8), config=config, boundary="circular").double()


def test_exponential_gates_need_only_their_difference(tiny_config):
    """Convolving with W_f - W_i is the same function, with the same gradients, as three convolutions."""
    cell = cell_of(MinConvExpLSTMCell, tiny_config())
    frames = torch.randn(2, 5, 3, 6, 8, dtype=torch.float64)
    hidden, _ = cell(frames, None, cell.kernels())
    hidden.square().sum().backward()
    gradient = cell.convolution.weight.grad.clone()
    cell.zero_grad()

    forget, input_, candidate = cell.convolution(frames.flatten(0, 1)).unflatten(0, (2, 5)).chunk(3, dim=2)
    last, reference = torch.full_like(candidate[:, 0], 0.5), []
    for time in range(5):
        f, i = torch.exp(forget[:, time]), torch.exp(input_[:, time])
        g = torch.where(candidate[:, time] >= 0, candidate[:, time] + 0.5, torch.sigmoid(candidate[:, time]))
        last = (f * last + i * g) / (f + i)
        reference.append(last)
    stacked = torch.stack(reference, dim=1)
    assert_close(hidden, stacked)
    stacked.square().sum().backward()
    assert_close(cell.convolution.weight.grad, gradient)


@pytest.mark.parametrize("initial", [0.5, 0.1, 2.0])
def test_the_hidden_state_starts_where_the_configuration_says(initial, tiny_config):
    cell = cell_of(MinConvLSTMCell, tiny_config(model__initial_hidden=initial))
    frames = torch.randn(1, 4, 3, 6, 8, dtype=torch.float64)
    explicit = (torch.full((1, 4, 6, 8), initial, dtype=torch.float64),)
    assert_close(cell(frames, None, cell.kernels())[0], cell(frames, explicit, cell.kernels())[0], rtol=0, atol=0)
