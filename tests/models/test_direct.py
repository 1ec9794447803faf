"""The direct forecasters: what they see, on which grids, and with which symmetries."""

import pytest
import torch
from torch.testing import assert_close

from forecast_cli.config import load_config
from forecast_cli.domain import Axis, Domain, TimeStep, Variable
from forecast_cli.errors import ConfigError
from forecast_cli.models import DIRECT, build_model
from forecast_cli.models.conv_nets import UNet
from forecast_cli.models.swin import WindowAttention

LOCAL = [name for name in DIRECT if name not in ("unet", "swin")]
"""Models that treat every cell alike; U-Net and Swin do so for cells as far apart as their coarsest cells and their windows."""
STEPS = {**dict.fromkeys(LOCAL, 1), "unet": 4, "swin": 4}


def grid(height: int, width: int, boundary: str = "circular") -> Domain:
    return Domain((Variable("z"),), Axis("y", height), Axis("x", width), TimeStep(1.0, "frame"), "index", boundary)


def random_model(name, domain, **options):
    options = {"hidden": "5,4,6", "attention_window": 4, **options}
    given = {f"model.{key}": value for key, value in options.items()}
    torch.manual_seed(0)
    model = build_model(load_config(options={"model.name": name, **given}), domain)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return model.double()


def frames(domain, count=6, batch=2):
    return torch.randn(batch, count, *domain.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", DIRECT)
def test_a_circular_model_commutes_with_shifts(name):
    domain = grid(8, 12)
    model, context = random_model(name, domain), frames(domain)
    step = STEPS[name]
    expected = model(context, 3).fields
    for shift in ((step, 0), (0, step), (-step, 2 * step)):
        assert_close(model(context.roll(shift, (-2, -1)), 3).fields, expected.roll(shift, (-2, -1)))


@pytest.mark.parametrize("name", DIRECT)
def test_a_cylinder_commutes_with_shifts_in_longitude_only(name):
    domain = grid(8, 12, "cylinder")
    model, context, step = random_model(name, domain), frames(domain), STEPS[name]
    expected = model(context, 3).fields
    assert_close(model(context.roll(step, -1), 3).fields, expected.roll(step, -1))
    assert (model(context.roll(step, -2), 3).fields - expected.roll(step, -2)).abs().max() > 0.01


@pytest.mark.parametrize("boundary", ["zeros", "replicate", "circular", "cylinder"])
@pytest.mark.parametrize("size", [(7, 9), (5, 14), (1, 9), (1, 16), (13, 6)], ids=str)
@pytest.mark.parametrize("name", DIRECT)
def test_any_size_of_grid_will_do(name, size, boundary):
    domain = grid(*size, boundary)
    forecast = random_model(name, domain)(frames(domain), 2)
    assert forecast.fields.shape == (2, 2, *domain.shape)
    assert torch.isfinite(forecast.fields).all()


@pytest.mark.parametrize("name", DIRECT)
def test_fields_in_one_dimension_have_kernels_of_height_one(name):
    model = random_model(name, grid(1, 16))
    assert {module.weight.shape[2] for module in model.modules() if isinstance(module, torch.nn.Conv2d)} == {1}


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("name", DIRECT)
def test_a_forecast_depends_on_the_frames_of_its_window_and_no_earlier_ones(name, window):
    domain = grid(6, 8)
    context = frames(domain, count=7).requires_grad_()
    forecast = random_model(name, domain, window=window, increments=False)(context, 1)
    (gradient,) = torch.autograd.grad(forecast.fields.square().sum(), context)
    seen = gradient.abs().amax(dim=(0, 2, 3, 4)) > 0
    assert seen.tolist() == [False] * (7 - window) + [True] * window


def test_before_the_first_frame_there_was_that_frame_all_along():
    domain = grid(6, 8)
    model, context = random_model("cnn", domain, window=4), frames(domain)
    earlier = context[:, :1].expand(-1, 5, -1, -1, -1)
    assert_close(model(torch.cat([earlier, context], dim=1), 2).fields, model(context, 2).fields)


@pytest.mark.parametrize("boundary", ["zeros", "circular", "cylinder"])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(8, 12), (7, 9), (1, 10), (3, 5)], ids=str)
def test_window_attention_is_attention_among_the_cells_of_a_window(size, shifted, boundary):
    """Cell by cell: those of the same window, counted from the shift on, around a closed axis, with the bias of their distance."""
    torch.manual_seed(0)
    module = WindowAttention(6, 32, size=size, window=4, shifted=shifted, boundary=boundary).double()
    with torch.no_grad():
        module.bias.normal_()
    features = torch.randn(1, 6, *size, dtype=torch.float64)
    sides = [min(4, cells) for cells in size]
    closed = [boundary == "circular", boundary in ("circular", "cylinder")]

    def place(cell: tuple[int, int]) -> list[tuple[int, int]]:
        """Of each axis the number of the window, and the place in it."""
        found = []
        for position, cells, side, is_closed in zip(cell, size, sides, closed, strict=True):
            moved = position - (side // 2 if shifted and cells > side else 0)
            found.append(divmod(moved % cells if is_closed else moved, side))
        return found

    cells = [(row, column) for row in range(size[0]) for column in range(size[1])]
    heads, table = module.heads, module.bias.view(module.heads, 2 * sides[0] - 1, 2 * sides[1] - 1)
    projected = module.qkv(features[0].permute(1, 2, 0)).unflatten(-1, (3, heads, -1))
    found = module(features)
    for cell in cells:
        mine = place(cell)
        others = [other for other in cells if all(a[0] == b[0] for a, b in zip(place(other), mine, strict=True))]
        apart = [[a[1] - b[1] + side - 1 for a, b, side in zip(mine, place(o), sides, strict=True)] for o in others]
        mixed = []
        for head in range(heads):
            query = projected[(*cell, 0, head)]
            keys, values = (torch.stack([projected[(*other, kind, head)] for other in others]) for kind in (1, 2))
            bias = torch.stack([table[(head, *by)] for by in apart])
            mixed.append(torch.softmax(keys @ query * len(query) ** -0.5 + bias, dim=0) @ values)
        assert_close(found[(0, slice(None), *cell)], module.output(torch.cat(mixed)))


def test_a_level_of_a_unet_sees_means_of_two_by_two_cells_and_gives_each_its_own():
    """With layers that only pass on: the features beside the means of their patches, which the edges continue."""
    options = load_config(options={"model.norm": "none"}).model
    net = UNet(1, (1, 1), size=(3, 4), options=options, boundary="zeros")
    seen = []
    net.inner.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    net.up.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    net.down, net.inner.down = torch.nn.Identity(), torch.nn.Identity()
    net(torch.arange(12.0).view(1, 1, 3, 4))
    assert_close(seen[0], torch.tensor([[[[2.5, 4.5], [8.5, 10.5]]]]))
    assert_close(seen[1][0, 1], torch.tensor([[2.5, 2.5, 4.5, 4.5], [2.5, 2.5, 4.5, 4.5], [8.5, 8.5, 10.5, 10.5]]))


@pytest.mark.parametrize("preset", ["navier-stokes", "navier-stokes-s15", "navier-stokes-s25", "geopotential"])
@pytest.mark.parametrize("name", DIRECT)
def test_presets_give_as_many_parameters_as_the_recurrent_models_have(preset, name):
    """Whose layers are whole numbers of channels, and here of heads and levels too."""
    domain = grid(32, 64) if preset == "geopotential" else grid(16, 16)

    def parameters(name: str) -> int:
        model = build_model(load_config(preset=preset, options={"model.name": name}), domain)
        return sum(parameter.numel() for parameter in model.parameters())

    assert parameters(name) == pytest.approx(parameters("minconvlstm"), rel=0.06)


@pytest.mark.parametrize(
    ("name", "size", "options", "named"),
    [
        ("unet", (4, 4), {"hidden": "4x4"}, "a level of 4 channels has 1 x 1 cells"),
        ("unet", (8, 8), {"hidden": "4,5,6", "kernel_size": 7}, "too few to halve for a convolution that reaches 3"),
        ("convnext", (5, 4), {"kernel_size": 11}, "beyond the grid of 5 x 4"),
        ("cnn", (5, 9), {"patch": 2}, "does not divide the 9 cells along x"),
    ],
)
def test_a_network_that_cannot_be_is_refused_in_one_line(name, size, options, named):
    with pytest.raises(ConfigError, match=named) as caught:
        random_model(name, grid(*size), **options)
    assert "\n" not in str(caught.value)
