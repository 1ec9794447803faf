"""DISTANA against its equations written out cell by cell."""

import numpy as np
import pytest
import torch

from forecast_cli.config import load_config
from forecast_cli.domain import Axis, Domain, TimeStep, Variable
from forecast_cli.models import build_model
from forecast_cli.models.distana import PredictionKernel


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("boundary", ["zeros", "circular"])
@pytest.mark.parametrize(("height", "width"), [(3, 4), (1, 5)])
def test_steps_are_those_of_the_equations_at_every_cell(height, width, boundary, tiny_config):
    """Two channels in, three hidden, three frames of two samples; the lateral sum over neighbours as a loop."""
    torch.manual_seed(0)
    kernel = PredictionKernel(2, 3, size=(height, width), config=tiny_config(), boundary=boundary).double()
    frames = torch.randn(2, 3, 2, height, width, dtype=torch.float64)
    weights = {name: parameter.detach().numpy() for name, parameter in kernel.named_parameters()}
    transition, reach = weights["transition.weight"], 0 if height == 1 else 1

    hidden, memory = np.zeros((2, 2, height, width, 3))
    for frame in frames.numpy().transpose(1, 0, 3, 4, 2):
        lateral = np.tanh(hidden @ weights["lateral.weight"].T)
        after, kept = np.empty_like(hidden), np.empty_like(memory)
        for sample, row, column in np.ndindex(hidden.shape[:3]):
            told = weights["transition.bias"].copy()
            for down in range(-reach, reach + 1):
                for right in (-1, 0, 1):
                    other = row + down, column + right
                    if boundary == "circular":
                        other = other[0] % height, other[1] % width
                    if 0 <= other[0] < height and 0 <= other[1] < width:
                        told += transition[:, :, down + reach, right + 1] @ lateral[(sample, *other)]
            cell = sample, row, column
            first = np.tanh(weights["first.weight"] @ frame[cell] + told)
            logits = weights["gates.weight"] @ np.concatenate([first, hidden[cell]]) + weights["gates.bias"]
            forget, input_, output, candidate = np.split(logits, 4)
            kept[cell] = sigmoid(forget) * memory[cell] + sigmoid(input_) * np.tanh(candidate)
            after[cell] = sigmoid(output) * np.tanh(kept[cell])
        hidden, memory = after, kept

    sequence, state = kernel(frames, None, kernel.kernels())
    for found, wanted in ((sequence[:, -1], hidden), (state[0], hidden), (state[1], memory)):
        np.testing.assert_allclose(found.detach(), wanted.transpose(0, 3, 1, 2), rtol=0, atol=1e-14)


def test_news_travels_one_cell_a_step(tiny_config):
    """A change of one cell is known to that cell at once, and to those within `n` cells after n more frames."""
    torch.manual_seed(0)
    kernel = PredictionKernel(1, 3, size=(9, 9), config=tiny_config(), boundary="zeros").double()
    frames = torch.zeros(1, 4, 1, 9, 9, dtype=torch.float64)
    other = frames.clone()
    other[0, 0, 0, 4, 4] = 1.0
    changed = (kernel(frames, None, ())[0] - kernel(other, None, ())[0]).abs().amax(2)[0] > 0
    for time in range(4):
        expected = torch.zeros(9, 9, dtype=torch.bool)
        expected[4 - time : 5 + time, 4 - time : 5 + time] = True
        assert torch.equal(changed[time], expected)


@pytest.mark.parametrize("layers", [1, 3])
def test_parameters_are_those_of_the_formula(layers):
    """Encoder 2h; of each layer Q h^2, T 9h^2 + h, P h^2, LSTM 8h^2 + 4h; decoder h + 1."""
    width = 7
    domain = Domain((Variable("z"),), Axis("y", 5), Axis("x", 9), TimeStep(1.0, "frame"), "index", "zeros")
    options = {"model.name": "distana", "model.hidden": f"{layers}x{width}", "model.norm": "none"}
    model = build_model(load_config(options=options | {"model.increments": False}), domain)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == 2 * width + layers * (19 * width**2 + 5 * width) + width + 1
