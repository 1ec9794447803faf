"""What every model must obey, whatever it computes."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close
from weights import randomize

from forecast_cli.errors import ConfigError
from forecast_cli.models import DIRECT, MODELS, RECURRENT, build_model
from forecast_cli.models.base import ForecastModel

# Orders of summation differ between one long and several short convolutions: a few float32 roundings.
ROUNDING = {"rtol": 1e-4, "atol": 1e-4}

VARIANTS = [
    {},
    {"model__predict": "state", "model__increments": False},
    {"model__norm": "layer", "model__norm_position": "after"},
    {"model__norm": "group", "model__boundary": "cylinder"},
    {
        "model__norm": "none",
        "model__boundary": "replicate",
        "model__dilation": 2,
        "model__kernel_size": 5,
        "model__encoder_tanh": True,
    },
    {"model__patch": 2, "model__mlp": 2, "model__position": True, "model__seasonal_lag": 3},
    {"model__seasonal_lag": 9, "model__increments": False},
    {
        "model__patch": 4,
        "model__boundary": "zeros",
        "model__mlp": 0.5,
        "model__norm_position": "after",
        "model__activation": "sugar-bsilu",
    },
]


FINN_VARIANTS = [
    {"model__solver": "rk4"},
    {"model__solver": "dopri5", "model__tolerance": 1e-7},
    {"model__solver": "heun", "model__time_step": 0.01, "model__learn": "reaction,stencil"},
    {"model__learn": "reaction,D_u,left,top", "model__boundaries": "all=dirichlet:0.3", "model__solver": "euler"},
    {"model__learn": "left", "model__boundaries": "left=robin:1:0.2,right=flux:0.1", "model__solver": "rk4"},
]
DIRECT_VARIANTS = [
    {},
    {"model__window": 1, "model__predict": "state", "model__increments": False, "model__norm": "none"},
    {"model__window": 9, "model__norm": "layer", "model__norm_position": "after", "model__boundary": "zeros"},
    {"model__window": 2, "model__norm": "group", "model__boundary": "cylinder", "model__attention_window": 4},
    {
        "model__patch": 2,
        "model__mlp": 2,
        "model__position": True,
        "model__seasonal_lag": 3,
        "model__attention_window": 2,
    },
    {
        "model__boundary": "replicate",
        "model__hidden": "5,4,3",
        "model__encoder_tanh": True,
        "model__attention_window": 3,
    },
]
LINEAR_VARIANTS = [{}, {"model__lags": "1"}, {"model__lags": "2,4", "model__seasonal_lag": 6, "model__eofs": "5,9"}]
CASES = [
    (name, i, variant)
    for names, variants in (
        (RECURRENT, VARIANTS),
        (DIRECT, DIRECT_VARIANTS),
        (("finn",), FINN_VARIANTS),
        (("var",), LINEAR_VARIANTS),
    )
    for name in names
    for i, variant in enumerate(variants)
]
LEARNED = {**RECURRENT, **DIRECT}


@pytest.fixture(params=CASES, ids=lambda p: f"{p[0]}-{p[1]}")
def model(request, tiny_model) -> ForecastModel:
    name, _, variant = request.param
    if variant.get("model__kernel_size") == 5:
        variant = variant | {"model__dilation": 1}
    return tiny_model(name, **variant)


def test_forecast_continues_where_it_stopped(model, context):
    whole = model(context, 9)
    first = model(context, 4)
    second = model(first.fields[:, -1:], 5, state=first.state)
    assert_close(torch.cat([first.fields, second.fields], dim=1), whole.fields, **ROUNDING)


def test_parallel_equals_step_by_step_from_any_carried_state(model, context):
    state = model(torch.randn_like(context), 3).state
    whole = model(context, 1, state=state)
    fitted = []
    for time in range(context.shape[1]):
        step = model(context[:, time : time + 1], 1, state=state)
        state = step.state
        fitted.append(step.fields)
    assert_close(torch.cat(fitted, dim=1), torch.cat([whole.fitted, whole.fields], dim=1), **ROUNDING)
    for stepped, parallel in zip(state, whole.state, strict=True):
        assert_close(stepped, parallel, **ROUNDING)


def test_samples_of_a_batch_do_not_see_each_other(model, context):
    assert_close(model(context, 3).fields[1:2], model(context[1:2], 3).fields, **ROUNDING)


def test_shapes_are_those_of_the_contract(model, context, domain):
    forecast = model(context, 4)
    assert forecast.fitted.shape == (3, 6, *domain.shape)
    assert forecast.fields.shape == (3, 4, *domain.shape)
    assert model(context[:, :1], 1).fitted.shape == (3, 0, *domain.shape)


def test_a_prediction_sees_no_frame_after_its_own(model, context):
    later = context.clone()
    later[:, 4:] += 1.0
    # Adaptive steps are chosen for all frames together: their results agree to the tolerance only.
    tolerance = ROUNDING if getattr(model, "solver", "") == "dopri5" else {"rtol": 0, "atol": 0}
    assert_close(model(later, 1).fitted[:, :4], model(context, 1).fitted[:, :4], **tolerance)


def test_every_parameter_and_the_context_receive_a_gradient(model, context):
    forecast = model(context.requires_grad_(), 3)
    (forecast.fields.square().mean() + forecast.fitted.square().mean()).backward()
    assert torch.isfinite(context.grad).all()
    assert (context.grad.abs().sum(dim=(2, 3, 4)) > 0).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0 or name.endswith("convolution.bias"), name


def test_nothing_is_created_on_another_device(model, context):
    forecast = model.to("meta")(context.to("meta"), 3)
    assert {tensor.device.type for tensor in (*forecast[:2], *forecast.state)} == {"meta"}


@pytest.mark.parametrize("name", LEARNED)
def test_a_change_of_units_changes_the_forecast_alike(name, tiny_model, context):
    model = tiny_model(name)
    scaled = tiny_model(name)
    scaled.set_statistics(mean=10 * model.mean + 3, scale=10 * model.scale, change=10 * model.change)
    assert_close(scaled(10 * context + 3, 4).fields, 10 * model(context, 4).fields + 3, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("name", LEARNED)
def test_an_untrained_tendency_model_is_persistence(name, tiny_config, domain, context):
    model = build_model(tiny_config(name), domain)
    assert_close(model(context, 3).fields, context[:, -1:].expand(-1, 3, -1, -1, -1), rtol=0, atol=0)


@pytest.mark.parametrize("name", LEARNED)
def test_pointwise_statistics_normalise_each_cell(name, tiny_model, context, domain):
    model = tiny_model(name, data__normalize="pointwise")
    assert model.mean.shape == domain.shape
    model.set_statistics(mean=torch.randn(domain.shape), scale=torch.rand(domain.shape) + 0.5)
    assert_close(model.denormalize(model.normalize(context)), context)


@pytest.mark.parametrize("name", MODELS)
def test_static_and_forcing_are_refused_by_models_that_have_no_use_for_them(name, tiny_model, context):
    with pytest.raises(ConfigError, match="static"):
        tiny_model(name)(context, 1, static=context[:, 0])
    with pytest.raises(ConfigError, match="forcing"):
        tiny_model(name)(context, 1, forcing=context)


@pytest.fixture(params=LEARNED)
def informed(request, tiny_config, domain) -> ForecastModel:
    """A model with a static field and two channels of forcing."""
    torch.manual_seed(1)
    model = build_model(tiny_config(request.param), replace(domain, static=("z",), forcing=("sun", "moon")))
    randomize(model)
    return model.eval()


@pytest.fixture
def static() -> torch.Tensor:
    return torch.randn(3, 1, 6, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def forcing() -> torch.Tensor:
    """Of 7 frames of context and 5 of forecast."""
    return torch.randn(3, 12, 2, 1, 1, generator=torch.Generator().manual_seed(2))


def test_forcing_continues_with_the_forecast(informed, context, static, forcing):
    whole = informed(context, 5, static=static, forcing=forcing)
    first = informed(context, 2, static=static, forcing=forcing[:, :9])
    second = informed(first.fields[:, -1:], 3, static=static, forcing=forcing[:, 8:], state=first.state)
    assert_close(torch.cat([first.fields, second.fields], dim=1), whole.fields, **ROUNDING)


def test_a_frame_is_predicted_with_its_own_forcing_and_none_later(informed, context, static, forcing):
    other = forcing.clone()
    other[:, 4] += 1.0
    before, after = (informed(context, 5, static=static, forcing=given) for given in (forcing, other))
    assert_close(after.fitted[:, :3], before.fitted[:, :3], rtol=0, atol=0)
    assert (after.fitted[:, 3] - before.fitted[:, 3]).abs().min() > 0


def test_static_fields_and_forcing_are_asked_for(informed, context, static, forcing):
    with pytest.raises(ConfigError, match="needs its static fields: z"):
        informed(context, 5, forcing=forcing)
    with pytest.raises(ConfigError, match="needs its forcing fields: sun, moon"):
        informed(context, 5, static=static)
    moved = informed(context, 5, static=static + 1, forcing=forcing).fields
    assert not torch.allclose(moved, informed(context, 5, static=static, forcing=forcing).fields, atol=1e-3)
