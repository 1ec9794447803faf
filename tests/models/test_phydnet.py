"""PhyDNet: moments, derivatives, and a step written out."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from weights import randomize

from forecast_cli.config import load_config
from forecast_cli.domain import Axis, Domain, TimeStep, Variable
from forecast_cli.errors import ConfigError
from forecast_cli.models import build_model
from forecast_cli.models.phydnet import LinearPDE, PhyCell

DERIVATIVES = {1: [(0, 0), (0, 1), (0, 2)], 5: [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]}
"""Orders along y and x that a grid of so many rows can have."""


def moment(kernel: torch.Tensor, a: int, b: int) -> float:
    """The sum of v^a u^b / (a! b!) k(v, u) over the offsets from the middle of a kernel."""
    rows, columns = kernel.shape
    total = 0.0
    for row, column in itertools.product(range(rows), range(columns)):
        total += (row - rows // 2) ** a * (column - columns // 2) ** b * float(kernel[row, column])
    return total / (math.factorial(a) * math.factorial(b))


def equation(height: int, width: int, *, channels: int = 2, kernel_size: int = 3) -> LinearPDE:
    torch.manual_seed(0)
    model = LinearPDE(channels, size=(height, width), kernel_size=kernel_size, boundary="circular")
    with torch.no_grad():
        model.free.normal_(std=0.1)
        model.coefficients.normal_()
    return model


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("height", [5, 1])
def test_moments_are_those_of_the_derivatives_whatever_is_learned(height, kernel_size):
    """After steps of an optimiser that pulls the kernels elsewhere; 1e-6 is the rounding of sums over 49 offsets up to 3 cells away."""
    model = equation(height, 9, kernel_size=kernel_size)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(20):
        optimizer.zero_grad()
        (model.assembled() - 0.5).square().sum().backward()
        optimizer.step()
    wanted = DERIVATIVES[height]
    kernels = model.derivatives().detach()
    assert kernels.shape[:2] == (2, len(wanted))
    for channel, own in itertools.product(kernels, range(len(wanted))):
        for number, orders in enumerate(wanted):
            assert moment(channel[own], *orders) == pytest.approx(float(own == number), abs=1e-6)


def test_the_free_part_of_a_kernel_is_saved_with_its_basis():
    """Its numbers mean nothing in another basis, which another LAPACK may choose."""
    saved, other = equation(5, 5), equation(5, 5)
    other.null.neg_()
    assert not torch.equal(other.assembled(), saved.assembled())
    other.load_state_dict(saved.state_dict())
    assert torch.equal(other.assembled(), saved.assembled())


def test_before_training_the_kernels_are_the_smallest_with_these_moments():
    """Central differences, averaged over the three rows."""
    kernels = LinearPDE(1, size=(5, 5)).derivatives()[0]
    assert_close(kernels[1], torch.tensor([[-1.0, 0.0, 1.0]]).expand(3, 3) / 6)
    assert_close(kernels[2], torch.tensor([[1.0, -2.0, 1.0]]).expand(3, 3) / 3)
    assert_close(kernels[4], torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 1.0]]) / 4)


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_the_equation_of_a_quadratic_is_exact(kernel_size):
    """Taylor has no more terms: the convolution of 1, x, y, x^2, xy, y^2 is c times their derivatives, away from the edge."""
    model = equation(13, 13, channels=1, kernel_size=kernel_size).double()
    y, x = torch.meshgrid(*[torch.arange(13.0, dtype=torch.float64) - 6] * 2, indexing="ij")
    a, b, c, d, e, f = 0.7, -1.3, 0.4, 0.9, -0.2, 0.6
    field = a + b * x + c * y + d * x**2 + e * x * y + f * y**2
    # In the order of DERIVATIVES: h, h_x, h_xx, h_y, h_xy, h_yy.
    constant = torch.ones_like(x)
    derivatives = [
        field,
        b + 2 * d * x + e * y,
        2 * d * constant,
        c + e * x + 2 * f * y,
        e * constant,
        2 * f * constant,
    ]
    wanted = sum(weight * part for weight, part in zip(model.coefficients[0, 0], derivatives, strict=True))
    inner = slice(2, -2), slice(2, -2)
    # The basis of the kernels is kept in float32.
    assert_close(model(field[None, None], model.assembled())[0, 0][inner], wanted[inner], rtol=1e-5, atol=1e-5)


def test_a_step_predicts_by_the_equation_and_corrects_by_the_gain():
    """One channel on three cells that close on themselves, everything set by hand."""
    config = load_config(options={"model.name": "phydnet", "model.hidden": "1"})
    cell = PhyCell(1, 1, size=(1, 3), config=config, boundary="circular").double()
    diffusivity, speed = 0.1, 0.3
    with torch.no_grad():
        cell.encoder.weight.fill_(2.0)
        cell.encoder.bias.fill_(0.5)
        cell.equation.coefficients.copy_(torch.tensor([0.0, -speed, diffusivity]))
        cell.gain.weight.copy_(torch.tensor([[[[0.1, 0.2, 0.3]], [[-0.4, 0.5, 0.6]]]]))
        cell.gain.bias.fill_(-0.2)
    frames = np.array([[1.0, -2.0, 0.5], [0.3, 0.7, -1.1]])

    def beside(field: np.ndarray, weights: tuple[float, float, float]) -> np.ndarray:
        west, middle, east = weights
        return west * np.roll(field, 1) + middle * field + east * np.roll(field, -1)

    hidden = np.zeros(3)
    for frame in frames:
        encoded = 2.0 * frame + 0.5
        slope, curvature = beside(hidden, (-0.5, 0.0, 0.5)), beside(hidden, (1.0, -2.0, 1.0))
        predicted = hidden - speed * slope + diffusivity * curvature
        logits = beside(encoded, (0.1, 0.2, 0.3)) + beside(predicted, (-0.4, 0.5, 0.6)) - 0.2
        hidden = predicted + (encoded - predicted) / (1 + np.exp(-logits))

    sequence, (last,) = cell(torch.from_numpy(frames)[None, :, None, None], None, cell.kernels())
    # The stencils are kept in float32.
    np.testing.assert_allclose(sequence[0, -1, 0, 0].detach(), hidden, rtol=0, atol=1e-6)
    assert torch.equal(last, sequence[:, -1])


def test_both_branches_are_decoded_from_their_sum(tiny_model, context):
    """Without the encoded physics, PhyDNet is the ConvLSTM of the same weights; with them it is another model."""
    model, plain = tiny_model("phydnet"), tiny_model("convlstm")
    plain.load_state_dict(model.state_dict(), strict=False)
    assert not torch.allclose(model(context, 3).fields, plain(context, 3).fields, atol=0.1)
    for parameter in model.physical.encoder.parameters():
        torch.nn.init.zeros_(parameter)
    assert_close(model(context, 3).fields, plain(context, 3).fields)


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_parameters_are_those_of_the_formula(kernel_size):
    """Those of ConvLSTM, and E_p h^2 + h, six coefficients for each pair of channels, the free moments, a gain of 2h to h."""
    width, area = 6, kernel_size**2
    domain = Domain((Variable("z"),), Axis("y", 7), Axis("x", 9), TimeStep(1.0, "frame"), "index", "zeros")

    def counted(name: str) -> int:
        options = {"model.hidden": f"2x{width}", "model.kernel_size": kernel_size}
        model = build_model(load_config(options=options | {"model.name": name}), domain)
        return sum(parameter.numel() for parameter in model.parameters())

    physical = width**2 + width + 6 * width**2 + 6 * width * (area - 6) + 2 * area * width**2 + width
    assert counted("phydnet") == counted("convlstm") + physical


def test_a_kernel_without_second_derivatives_is_refused(tiny_model):
    with pytest.raises(ConfigError, match=r"model\.kernel_size = 1: phydnet"):
        tiny_model("phydnet", model__kernel_size=1)


@pytest.mark.parametrize("name", ["distana", "phydnet"])
@pytest.mark.parametrize("size", [(7, 5), (1, 9), (5, 12)])
def test_grids_of_any_shape_have_a_bed_to_learn(name, size):
    """A forecast can be differentiated in its static field, as an inversion for the topography does."""
    domain = Domain(
        (Variable("eta"),), Axis("y", size[0]), Axis("x", size[1]), TimeStep(1.0, "s"), "index", "zeros", ("depth",)
    )
    torch.manual_seed(0)
    model = build_model(load_config(options={"model.name": name, "model.hidden": "4,3"}), domain).double()
    randomize(model)
    context = torch.randn(2, 3, *domain.shape, dtype=torch.float64)
    depth = torch.randn(1, 1, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda bed: model(context, 3, static=bed).fields, depth)
