import pytest
import torch
from torch.testing import assert_close

from forecast_cli.config import load_config
from forecast_cli.domain import Axis, Domain, TimeStep, Variable
from forecast_cli.errors import ConfigError
from forecast_cli.models import RECURRENT, build_model


def scalar_domain(height: int, width: int) -> Domain:
    return Domain((Variable("z"),), Axis("y", height), Axis("x", width), TimeStep(1.0, "frame"), "index", "zeros")


def parameters(preset: str, name: str, size: tuple[int, int]) -> int:
    model = build_model(load_config(preset=preset, options={"model.name": name}), scalar_domain(*size))
    return sum(parameter.numel() for parameter in model.parameters())


NAVIER_STOKES = {
    "convgru": 171_813,
    "convlstm": 182_524,
    "minconvgru": 175_460,
    "minconvlstm": 175_449,
    "minconvexplstm": 175_449,
}


@pytest.mark.parametrize("preset", ["navier-stokes-s15", "navier-stokes-s25"])
@pytest.mark.parametrize("name", NAVIER_STOKES)
def test_reference_presets_have_the_published_number_of_parameters(preset, name):
    assert parameters(preset, name, (16, 16)) == NAVIER_STOKES[name]


def counted(name: str, layers: int, channels: int, cells: int) -> int:
    """Encoder, cells, norms over the grid, decoder: counted by hand."""
    gates = {"minconvgru": 2, "minconvlstm": 3, "minconvexplstm": 3}
    if name in gates:
        cell = gates[name] * channels * (9 * channels + 1)
    else:
        outputs = 4 * channels if name == "convlstm" else 3 * channels
        cell = outputs * (9 * 2 * channels + 1)
    return 2 * channels + layers * (cell + 2 * cells) + channels + 1


@pytest.mark.parametrize(
    ("name", "channels"),
    [("convgru", 14), ("convlstm", 12), ("minconvgru", 24), ("minconvlstm", 20), ("minconvexplstm", 20)],
)
def test_the_geopotential_preset_has_the_published_layers(name, channels):
    assert parameters("geopotential", name, (16, 32)) == counted(name, 3, channels, 16 * 32)


@pytest.mark.parametrize("name", RECURRENT)
def test_our_own_preset_keeps_the_published_budget(name):
    assert parameters("navier-stokes", name, (16, 16)) == pytest.approx(175_000, rel=0.05)


@pytest.mark.parametrize("name", RECURRENT)
def test_layers_may_differ_in_width(name, tiny_model, context):
    assert tiny_model(name, model__hidden="3,6,2")(context, 2).fields.shape[1] == 2


@pytest.mark.parametrize("name", RECURRENT)
def test_fields_in_one_dimension_are_convolved_along_the_width_alone(name, tiny_config):
    torch.manual_seed(0)
    model = build_model(tiny_config(name, model__kernel_size=5, model__boundary="circular"), scalar_domain(1, 9))
    assert model.blocks[0].cell.state_dict().popitem()[1].numel()
    convolutions = [
        module for module in model.modules() if isinstance(module, torch.nn.Conv2d) and module.kernel_size != (1, 1)
    ]
    assert {module.kernel_size for module in convolutions} == {(1, 5)}
    assert model(torch.randn(2, 4, 1, 1, 9), 3).fields.shape == (2, 3, 1, 1, 9)


def test_what_came_one_season_before_the_frame_to_be_forecast_is_an_input(tiny_model, context):
    """Of the last frame: x(t+1-lag) - x(t) in units of the spread, x(t+1-lag) - x(t-lag) in units of the change."""
    model = tiny_model("minconvlstm", model__seasonal_lag=4)
    inputs, _ = model._inputs(context, None, None, None)
    assert_close(inputs[:, -1, 4:6], (context[:, 3] - context[:, 6]) / model.scale)
    assert_close(inputs[:, -1, 6:8], (context[:, 3] - context[:, 2]) / model.change)
    assert_close(inputs[:, 0, 4:8], torch.zeros_like(inputs[:, 0, 4:8]))


@pytest.mark.parametrize("name", RECURRENT)
def test_a_circular_model_commutes_with_shifts(name, tiny_model, context):
    """True for every norm without a weight per cell; the weights of `layer` belong to cells."""
    model = tiny_model(name, model__norm="channel", model__boundary="circular")
    shifted = model(context.roll((2, 3), dims=(-2, -1)), 3).fields
    assert_close(shifted, model(context, 3).fields.roll((2, 3), dims=(-2, -1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", RECURRENT)
def test_a_cylinder_commutes_with_shifts_in_longitude_only(name, tiny_model, context):
    model = tiny_model(name, model__norm="none", model__boundary="cylinder")
    expected = model(context, 3).fields
    assert_close(model(context.roll(3, dims=-1), 3).fields, expected.roll(3, dims=-1), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model(context.roll(1, dims=-2), 3).fields, expected.roll(1, dims=-2), atol=1e-2)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model__kernel_size": 4}, "odd"),
        ({"model__kernel_size": 7, "model__dilation": 4}, "beyond the grid"),
        ({"name": "minconvlstn"}, "minconvlstm"),
        ({"model__scan": "fast"}, "sequential, log_space, fused"),
    ],
)
def test_a_network_that_cannot_be_is_refused(options, named, tiny_config, domain):
    with pytest.raises(ConfigError, match=named):
        build_model(tiny_config(**options), domain)
