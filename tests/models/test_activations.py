"""Activations by name, any model's ReLUs replaced, and what a model's activations do."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import relu as rectify
from torch.testing import assert_close

from forecast_cli.errors import ConfigError
from forecast_cli.models import build_model
from forecast_cli.models.activations import (
    ACTIVATIONS,
    SUGAR,
    SURROGATES,
    activation,
    activation_report,
    replace_activations,
    sugar,
)


class Bottleneck(nn.Module):
    """One ReLU in two places, in place, and its input read again afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.relu = nn.ReLU(inplace=True)
        self.again = self.relu

    def forward(self, x):
        y = self.first(x)
        return self.again(self.second(self.relu(y)) + y)


class Functional(nn.Module):
    """Every way of calling a ReLU that is no module, and one that is."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.inner, self.kept = nn.ReLU(), nn.ModuleDict({"relu": nn.ReLU()}), F.relu

    @torch.enable_grad()
    def forward(self, x):
        x = self.relu(x) + self.inner.relu(x) + self.kept(x)
        x = F.relu(x)
        x = torch.relu(x)
        x = rectify(x)
        x = x.relu()
        return torch.nn.functional.relu(x)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_name_makes_an_activation(name):
    assert activation(name)(torch.randn(2, 3)).shape == (2, 3)


def test_auto_is_what_the_model_usually_has():
    assert isinstance(activation("auto"), nn.GELU)
    assert isinstance(activation("auto", usual="relu"), nn.ReLU)
    assert isinstance(activation("silu", usual="relu"), nn.SiLU)


def test_a_number_belongs_to_its_surrogate():
    x = torch.tensor([-1.0], requires_grad=True)
    (found,) = torch.autograd.grad(activation("sugar-nelu:0.1")(x), x)
    assert_close(found.item(), -2 * 0.1 / 4)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("rleu", "relu, gelu"),
        ("sugar-rleu", "sugar-nelu"),
        ("relu:2", "expected"),
        ("sugar-nelu:big", "number"),
        ("sugar-nelu:nan", "number"),
        ("sugar-gelu:1", "no alpha"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(name, named):
    with pytest.raises(ConfigError, match=named):
        activation(name)


@pytest.mark.parametrize("name", SURROGATES)
def test_a_model_computes_the_same_after_its_relus_are_replaced(name):
    model, x = Bottleneck(), torch.randn(2, 3, 5, 5)
    replaced = copy.deepcopy(model).eval()
    assert replace_activations(replaced, name) == ["relu", "again"]
    assert replaced.relu is replaced.again
    assert not replaced.relu.training
    assert torch.equal(replaced(x), model(x))
    assert replaced.state_dict().keys() == model.state_dict().keys()
    replaced.load_state_dict(model.state_dict())


def test_gradients_after_it_are_the_surrogates():
    """Nothing but nn.ReLU itself is replaced: ReLU6 is another function."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 1)), nn.ReLU6())
    nn.init.constant_(model[0].bias, -9.0)
    nn.init.constant_(model[1][1].bias, 1.0)
    assert replace_activations(model, "bsilu", alpha=2.0, negative_only=True) == ["1.0"]
    assert repr(model[1][0]) == "SUGAR(bsilu, alpha=2.0, negative_only=True)"
    model(torch.randn(5, 3)).sum().backward()
    assert model[0].weight.grad.abs().sum() > 0


def test_relus_that_are_called_as_functions_are_warned_of():
    with pytest.warns(UserWarning, match="stay as they are") as caught:
        assert replace_activations(nn.Sequential(Functional(), Functional())) == [
            "0.relu",
            "0.inner.relu",
            "1.relu",
            "1.inner.relu",
        ]
    (message,) = [str(warning.message) for warning in caught]
    first = Functional.forward.__wrapped__.__code__.co_firstlineno
    lines = [f"Functional.forward, line {first + 3 + number}" for number in range(5)]
    assert all(line in message for line in lines)
    assert (message.count("Functional.forward"), message.count("kept")) == (5, 2)


def test_a_model_without_such_calls_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert replace_activations(nn.Sequential(Bottleneck(), nn.GELU())) == ["0.relu", "0.again"]
        assert replace_activations(nn.GELU()) == []


def test_a_functional_relu_of_torchs_own_modules_is_found():
    with pytest.warns(UserWarning, match=r"0\.activation"):
        replace_activations(nn.Sequential(nn.TransformerEncoderLayer(4, 1, 8)))


def test_a_relu_alone_cannot_be_replaced_in_place():
    with pytest.raises(ConfigError, match="itself"):
        replace_activations(nn.ReLU())


def test_the_report_counts_what_is_dead():
    """Channel 0 dead everywhere, channel 1 above one place only, channel 2 alive; (2, 3, 1, 2) numbers."""
    numbers = torch.tensor(
        [[[[-1.0, -2.0]], [[3.0, -1.0]], [[1.0, 1.0]]], [[[-1.0, 0.0]], [[-1.0, -1.0]], [[-1.0, 2.0]]]]
    )
    (row,) = activation_report(nn.Sequential(nn.Identity(), nn.ReLU()), numbers)
    assert (row.name, row.kind) == ("1", "ReLU")
    assert (row.channels, row.dead_channels, row.units, row.dead_units) == (3, 1, 6, 3)
    assert row.zeros == pytest.approx(8 / 12)


def test_channels_behind_a_linear_layer_are_its_features():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 5), nn.LayerNorm(5), SUGAR())
    nn.init.constant_(model[0].bias, -9.0)
    first, second = activation_report(model, torch.randn(4, 7, 7, 2))
    assert (first.channels, first.dead_channels, first.units, first.dead_units) == (3, 3, 147, 147)
    assert (second.channels, second.units) == (5, 245)


def test_the_report_takes_several_arguments_and_leaves_no_hooks(tiny_model, context):
    model = tiny_model("minconvgru", model__mlp=2, model__activation="sugar-nelu")
    before = model(context, 2).fields
    rows = activation_report(model, (context, 2))
    assert [row.name for row in rows] == ["blocks.0.mlp.1", "blocks.1.mlp.1"]
    assert [(row.channels, row.units) for row in rows] == [(10, 10 * 48), (8, 8 * 48)]
    assert all(0 < row.zeros < 1 for row in rows)
    assert torch.equal(model(context, 2).fields, before)
    assert not any(module._forward_hooks for module in model.modules())


def test_the_report_leaves_a_model_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU(), nn.Dropout().eval())
    before = copy.deepcopy(model.state_dict())
    activation_report(model, 5 + torch.randn(8, 3))
    assert [module.training for module in model] == [True, True, False]
    assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_number_for_each_sample_is_one_channel():
    (row,) = activation_report(nn.ReLU(), torch.tensor([-1.0, -2.0, 3.0]))
    assert (row.channels, row.dead_channels, row.units, row.zeros) == (1, 0, 1, pytest.approx(2 / 3))


def test_an_instance_in_several_places_is_a_row_for_each_shape():
    shared = nn.ReLU()
    model = nn.Sequential(nn.Linear(2, 3), shared, nn.Linear(3, 5), shared)
    assert [(row.name, row.channels) for row in activation_report(model, torch.randn(4, 2))] == [("1", 3), ("1", 5)]


@pytest.mark.parametrize("name", ["relu", "sugar-bsilu", "gelu"])
def test_a_model_has_the_activation_that_is_set(name, tiny_config, domain):
    model = build_model(tiny_config("minconvlstm", model__mlp=2, model__activation=name), domain)
    assert isinstance(model.blocks[0].mlp[1], type(activation(name)))


def test_the_weights_of_a_model_do_not_depend_on_its_activation(tiny_model):
    usual, other = (
        tiny_model("minconvlstm", model__mlp=2),
        tiny_model("minconvlstm", model__mlp=2, model__activation="sugar-nelu"),
    )
    assert isinstance(usual.blocks[0].mlp[1], nn.GELU)
    assert usual.state_dict().keys() == other.state_dict().keys()


@pytest.mark.parametrize("name", ["convlstm", "finn"])
def test_an_activation_without_a_place_is_refused(name, tiny_config, domain):
    with pytest.raises(ConfigError, match="model.mlp" if name == "convlstm" else "no activation to choose"):
        build_model(tiny_config(name, model__activation="relu"), domain)


@pytest.mark.parametrize("name", ["minconvlstm", "finn"])
def test_an_unknown_activation_is_refused_by_every_model(name, tiny_config, domain):
    with pytest.raises(ConfigError, match="rleu: expected auto, relu"):
        build_model(tiny_config(name, model__activation="rleu", model__mlp=0), domain)


def test_a_sugared_model_is_trained_as_one_with_relu_where_nothing_is_below_zero():
    """The gradients differ only where a unit is below zero, with the derivative 1 above."""
    x = torch.rand(4, 3) + 0.1
    taught = torch.autograd.functional.jacobian(lambda x: sugar(x, "nelu"), x)
    assert torch.equal(taught, torch.autograd.functional.jacobian(torch.relu, x))
