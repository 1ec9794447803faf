"""The networks of tests/benchmarks/digits.py are what docs/activations.md says of them."""

import pytest
import torch
from benchmarks import digits
from torch import nn
from torch.testing import assert_close

from forecast_cli.models.activations import SUGAR, sugar

IMAGES = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", digits.NETWORKS)
@pytest.mark.parametrize("name", ["sugar-bsilu", "sugar-nelu"])
def test_every_relu_is_replaced_and_the_same_is_computed(kind, name):
    plain, replaced = (seeded(kind, each) for each in ("relu", name))
    count = [sum(isinstance(module, each) for module in replaced.modules()) for each in (nn.ReLU, SUGAR)]
    assert count == [0, sum(isinstance(module, nn.ReLU) for module in plain.modules())]
    assert count[1] == 7
    assert torch.equal(replaced(IMAGES), plain(IMAGES))


@pytest.mark.parametrize("kind", digits.NETWORKS)
def test_a_smooth_function_leaves_no_relu_either(kind):
    for name in ("gelu", "elu", "B-SiLU forward"):
        assert not any(isinstance(module, nn.ReLU | SUGAR) for module in seeded(kind, name).modules())


def test_b_silu_has_forward_the_derivative_that_sugar_gives_to_relu():
    x = torch.linspace(-6, 6, 41, dtype=torch.float64, requires_grad=True)
    of_itself, lent = (torch.autograd.grad(found.sum(), x)[0] for found in (digits.BSiLU()(x), sugar(x, "bsilu")))
    assert_close(lent, of_itself, rtol=0, atol=1e-12)


def test_a_missing_scikit_learn_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit, match=r"^digits\.py needs scikit-learn: pip install scikit-learn$"):
        digits.digits()


def seeded(kind: str, name: str) -> nn.Module:
    torch.manual_seed(0)
    return digits.network(kind, name)
