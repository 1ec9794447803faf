"""The adjoint of waves at the edges of what it may be given: thin grids, single steps, parts of segments, half of the gradients."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from forecast_cli import native
from forecast_cli.equations import wave_adjoint
from forecast_cli.equations.wave_adjoint import Steps, waves

SOURCE = Path(wave_adjoint.__file__).with_name("waves.c")
GRAVITY = 9.81


@pytest.fixture(params=["C", "torch"])
def backend(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(native, "load", lambda _: None)
    elif native.load(SOURCE) is None:
        pytest.skip("no C compiler")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def steps(
    cells: tuple[int, int], *, per_frame: int = 2, frames: int = 3, scheme: str = "upwind", still: bool = False
) -> Steps:
    """Oblong cells of 50 km by 70 km, steps of 600 s: some 0.7 of what is stable in 80 m of water without friction."""
    rows = 1e-4 + 2e-11 * 5e4 * torch.arange(cells[0], dtype=torch.float64).view(-1, 1)
    rotation = None if still else (rows, (rows[:-1] + rows[1:]) / 2)
    return Steps((5e4, 7e4), 600.0, per_frame, frames, scheme, 2e-5, rotation)


def given(cells: tuple[int, int], batch: int = 1, depths: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    gravity = torch.tensor(GRAVITY, dtype=torch.float64)
    return draw(batch, 3, *cells), 80 + 5 * draw(depths, 1, *cells, seed=1), gravity


def naive(state: Tensor, depth: Tensor, gravity: Tensor, plan: Steps) -> Tensor:
    """The formulas of the docstring written down once more with padding, out of place: an oracle independent of the equation's."""
    (dy, dx), dt = plan.spacing, plan.time_step
    eta, u, v = state.unbind(1)
    h = depth[:, 0]
    along, up = (0, 1), (0, 0, 0, 1)
    pad = torch.nn.functional.pad
    u, v = pad(u[..., :-1], along), pad(v[..., :-1, :], up)
    found = []
    for step in range(plan.frames * plan.per_frame):
        keep = 1 - dt * plan.friction / 2
        uh = pad(keep * u[..., :-1] - gravity * dt / (2 * dx) * (eta[..., 1:] - eta[..., :-1]), along)
        vh = pad(keep * v[..., :-1, :] - gravity * dt / (2 * dy) * (eta[..., 1:, :] - eta[..., :-1, :]), up)
        below, west = pad(vh, (0, 0, 1, 0))[..., :-1, :], pad(uh, (1, 0))[..., :-1]
        v4 = (vh + below)[..., :-1] + (vh + below)[..., 1:]
        u4 = (uh + west)[..., :-1, :] + (uh + west)[..., 1:, :]
        a, b = (dt / 2 * f for f in plan.rotation) if plan.rotation else (0.0, 0.0)
        u = pad(2 * (uh[..., :-1] + a * v4 / 4) / (1 + a**2) - u[..., :-1], along)
        v = pad(2 * (vh[..., :-1, :] - b * u4 / 4) / (1 + b**2) - v[..., :-1, :], up)
        water = eta + h
        if plan.scheme == "upwind":
            east = torch.where(u[..., :-1] > 0, water[..., :-1], water[..., 1:])
            north = torch.where(v[..., :-1, :] > 0, water[..., :-1, :], water[..., 1:, :])
        else:
            east = (water[..., :-1] + water[..., 1:]) / 2
            north = (water[..., :-1, :] + water[..., 1:, :]) / 2
        through_x, through_y = pad(u[..., :-1] * east, (1, 1)), pad(v[..., :-1, :] * north, (0, 0, 1, 1))
        eta = eta - dt / dx * through_x.diff(dim=-1) - dt / dy * through_y.diff(dim=-2)
        if (step + 1) % plan.per_frame == 0:
            found.append(torch.stack([eta, u, v], dim=1))
    return torch.stack(found, dim=1)


def gradients(forward, inputs: tuple[Tensor, ...], plan: Steps) -> list[Tensor]:
    leaves = [each.clone().requires_grad_() for each in inputs]
    found = forward(*leaves, plan)
    return [found.detach(), *torch.autograd.grad((found * draw(*found.shape, seed=2)).sum(), leaves)]


def assert_same(mine: list[Tensor], oracle: list[Tensor]) -> None:
    """To rounding: a relative 1e-12 of the largest value."""
    for found, expected in zip(mine, oracle, strict=True):
        assert_close(found, expected, rtol=0, atol=1e-12 * expected.abs().max().item())


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("still", [False, True], ids=["rotating", "still"])
@pytest.mark.parametrize("scheme", ["upwind", "centred"])
@pytest.mark.parametrize("cells", [(2, 2), (2, 9), (9, 2), (4, 13)], ids=str)
def test_thin_and_oblong_grids_are_stepped_like_others(cells, scheme, still):
    plan, inputs = steps(cells, scheme=scheme, still=still), given(cells, batch=2, depths=2)
    assert_same(gradients(waves, inputs, plan), gradients(naive, inputs, plan))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(("per_frame", "frames"), [(1, 1), (1, 7), (5, 1), (3, 7), (2, 11)])
@pytest.mark.parametrize("stored", [2**24, 1], ids=["whole", "in segments"])
def test_frames_need_not_fill_their_segments(stored, per_frame, frames, monkeypatch):
    """Segments of about the square root of frames / steps to a frame: the last one of 7 or of 11 is a part."""
    monkeypatch.setattr(wave_adjoint, "STORED_BYTES", stored)
    plan, inputs = steps((5, 6), per_frame=per_frame, frames=frames), given((5, 6))
    assert_same(gradients(waves, inputs, plan), gradients(naive, inputs, plan))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("scheme", ["upwind", "centred"])
def test_gradients_are_those_of_differences(scheme):
    """gradcheck; no velocity here is so near 0 that a difference of 1e-6 would turn the upwind side."""
    state, depth, gravity = given((3, 4), batch=2)
    leaves = [each.requires_grad_() for each in (state, depth, gravity)]
    assert gradcheck(lambda *each: waves(*each, steps((3, 4), scheme=scheme)), leaves, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_one_gradient_alone_is_the_same(wanted):
    inputs, plan = given((5, 6), batch=2), steps((5, 6))
    expected = gradients(waves, inputs, plan)[1 + wanted]
    leaves = [each.clone() for each in inputs]
    leaf = leaves[wanted].requires_grad_()
    found = waves(*leaves, plan)
    assert torch.equal(torch.autograd.grad((found * draw(*found.shape, seed=2)).sum(), leaf)[0], expected)


@pytest.mark.usefixtures("backend")
def test_frames_without_a_gradient_are_the_same():
    inputs, plan = given((5, 6), batch=2), steps((5, 6), frames=7)
    with torch.no_grad():
        found = waves(*inputs, plan)
    assert not found.requires_grad
    assert torch.equal(found, gradients(waves, inputs, plan)[0])


@pytest.mark.usefixtures("backend")
def test_a_frame_that_is_not_looked_at_pulls_at_nothing():
    """The gradient of the first frame alone is that of a record of one frame, though the record goes on."""
    inputs = given((5, 6))

    def pulled(frames: int) -> list[Tensor]:
        leaves = [each.clone().requires_grad_() for each in inputs]
        return list(torch.autograd.grad(waves(*leaves, steps((5, 6), frames=frames))[:, 0].square().sum(), leaves))

    for short, long in zip(pulled(1), pulled(5), strict=True):
        assert torch.equal(short, long)


@pytest.mark.usefixtures("backend")
def test_inputs_in_another_order_of_memory_are_read_rightly_and_left_alone():
    state, depth, gravity = given((5, 6), batch=2, depths=2)
    expected = waves(state, depth, gravity, steps((5, 6)))
    strange = [each.transpose(-1, -2).contiguous().transpose(-1, -2) for each in (state, depth)]
    before = [each.clone() for each in strange]
    assert not strange[0].is_contiguous()
    assert torch.equal(waves(*strange, gravity, steps((5, 6))), expected)
    for each, kept in zip(strange, before, strict=True):
        assert torch.equal(each, kept)


@pytest.mark.usefixtures("backend")
def test_a_depth_shared_by_samples_gathers_what_each_would():
    state, depth, gravity = given((5, 6), batch=3)
    shared = gradients(waves, (state, depth, gravity), steps((5, 6)))
    own = gradients(waves, (state, depth.expand(3, -1, -1, -1), gravity), steps((5, 6)))
    assert torch.equal(own[0], shared[0])
    assert_close(own[2].sum(dim=0, keepdim=True), shared[2], rtol=1e-12, atol=0)


@pytest.mark.usefixtures("backend")
def test_not_a_number_in_one_sample_stays_there():
    state, depth, gravity = given((5, 6), batch=2)
    clean = waves(state, depth, gravity, steps((5, 6)))
    state[0, 0, 2, 2] = torch.nan
    found = waves(state, depth, gravity, steps((5, 6)))
    assert found[0, -1, 0].isnan().any()
    assert torch.equal(found[1], clean[1])


def test_tiny_numbers_mean_afterwards_what_they_meant_before():
    """C takes numbers below 1e-308 for 0 while it runs, and must not leave the processor so."""
    if native.load(SOURCE) is None:
        pytest.skip("no C compiler")
    tiny = torch.full((4,), 1e-310, dtype=torch.float64)
    before = (tiny * 2).tolist()
    leaves = [each.requires_grad_() for each in given((5, 6))]
    torch.autograd.grad(waves(*leaves, steps((5, 6))).square().sum(), leaves)
    assert (tiny * 2).tolist() == before
