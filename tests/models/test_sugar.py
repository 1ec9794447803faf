"""SUGAR: ReLU forward, a surrogate's derivative backward, in every way that torch differentiates."""

import copy
import pickle
import threading
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.testing import assert_close

from forecast_cli.errors import ConfigError
from forecast_cli.models.activations import SUGAR, SURROGATES, sugar, true_gradient

ALPHA = 0.3
FUNCTIONS = {
    "bsilu": lambda x, a: (x + a) * torch.sigmoid(x) - a / 2,
    # The negative half integrated: d/dx (-a / (1 + x^2)) = 2 a x / (1 + x^2)^2.
    "nelu": lambda x, a: torch.where(x > 0, x, -a / (1 + x**2)),
    "leaky_relu": F.leaky_relu,
    "selu": lambda x, _: F.selu(x),
    "elu": F.elu,
    "gelu": lambda x, _: F.gelu(x),
    "silu": lambda x, _: F.silu(x),
    "mish": lambda x, _: F.mish(x),
}
CASES = [(name, ALPHA if surrogate.alpha else None) for name, surrogate in SURROGATES.items()]
EXACT = {"rtol": 0, "atol": 1e-12}
AWKWARD = [0.0, -0.0, 1.0, -1.0, torch.inf, -torch.inf, torch.nan, 1e-40, -1e-40, 6e4, -6e4]


def points() -> torch.Tensor:
    """On both sides of 0 and far out, none at 0, where some surrogates have a kink."""
    near = 3 * torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.cat([near, torch.tensor([-90.0, -20.0, -2.74, -0.577, 1.49, 20.0, 90.0], dtype=torch.float64)])


def injected(x: torch.Tensor, function) -> torch.Tensor:
    """Forward gradient injection: the gradient of a function under the values of ReLU. Source: Otte (2024), arXiv 2406.00177."""
    known = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(function(known).sum(), known)
    multiplied = x * slope
    return multiplied - multiplied.detach() + torch.relu(x).detach()


def slopes(function, x: torch.Tensor) -> torch.Tensor:
    x = x.detach().requires_grad_()
    (found,) = torch.autograd.grad(function(x).sum(), x)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", SURROGATES)
def test_the_values_are_those_of_relu_bit_for_bit(name, dtype):
    x = torch.cat([torch.tensor(AWKWARD), 5 * torch.randn(500, generator=torch.Generator().manual_seed(0))]).to(dtype)
    bits = {8: torch.int64, 4: torch.int32, 2: torch.int16}[x.element_size()]
    expected = torch.relu(x).view(bits)
    for module in (SUGAR(name), SUGAR(name, inplace=True)):
        assert torch.equal(module(x.clone()).view(bits), expected)
        assert torch.equal(module(x.clone().requires_grad_().clone()).detach().view(bits), expected)


@pytest.mark.parametrize(("name", "alpha"), CASES)
def test_the_gradient_is_that_of_the_surrogate(name, alpha):
    def own(x):
        return FUNCTIONS[name](x, alpha)

    found = slopes(lambda x: sugar(x, name, alpha=alpha), points())
    assert_close(found, slopes(own, points()), **EXACT)
    assert_close(found, slopes(lambda x: injected(x, own), points()), **EXACT)


@pytest.mark.parametrize(("name", "alpha"), CASES)
def test_only_below_zero_if_asked_for(name, alpha):
    x = points()
    found = slopes(lambda x: sugar(x, name, alpha=alpha, negative_only=True), x)
    own = slopes(lambda x: sugar(x, name, alpha=alpha), x)
    assert_close(found, torch.where(x > 0, 1.0, own), rtol=0, atol=0)


def test_what_the_paper_says_of_its_surrogates():
    x = torch.arange(-100_000, 100_001, dtype=torch.float64) / 10_000
    b_silu, nelu = (slopes(lambda x, name=name: sugar(x, name), x) for name in ("bsilu", "nelu"))
    assert_close(b_silu[100_000].item(), 0.9175, rtol=0, atol=1e-4)
    assert_close((b_silu.max().item(), x[b_silu.argmax()].item()), (1.290, 1.49), rtol=0, atol=1e-2)
    assert x[b_silu > 0].min().item() == pytest.approx(-2.74, abs=0.01)
    assert_close((nelu.min().item(), x[nelu.argmin()].item()), (-0.650 * 0.05, -0.577), rtol=0, atol=1e-3)
    assert nelu[100_000] == 0
    assert torch.equal(nelu[x > 0], torch.ones(100_000, dtype=torch.float64))


@pytest.mark.parametrize("name", SURROGATES)
def test_gradients_are_finite_at_infinity(name):
    """And where they have come to by then: forward gradient injection gives NaN there."""
    found = slopes(lambda x: sugar(x, name), torch.tensor([-torch.inf, torch.inf]))
    expected = {"leaky_relu": [0.01, 1.0], "selu": [0.0, 1.0507009873554805]}.get(name, [0.0, 1.0])
    assert_close(found, torch.tensor(expected), rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SURROGATES)
def test_half_precision_rounds_the_gradient_once(name, dtype):
    x = points().to(dtype)
    found = slopes(lambda x: sugar(x, name), x)
    assert torch.equal(found, slopes(lambda x: sugar(x, name), x.float()).to(dtype))


@pytest.mark.parametrize(("name", "alpha"), CASES)
def test_the_second_derivative_is_that_of_the_surrogate(name, alpha):
    def second(function):
        return slopes(lambda x: grad(lambda x: function(x).sum())(x), points())

    def twice(function):
        x = points().requires_grad_()
        (first,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.sum(), x)[0]

    own = second(lambda x: FUNCTIONS[name](x, alpha))
    assert_close(second(lambda x: sugar(x, name, alpha=alpha)), own, **EXACT)
    # Through y^2 the first derivative enters as well: 2 f'^2 + 2 relu f''.
    first = slopes(lambda x: FUNCTIONS[name](x, alpha), points())
    expected = 2 * first.square() + 2 * torch.relu(points()) * own
    assert_close(twice(lambda x: sugar(x, name, alpha=alpha)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(("name", "alpha"), CASES)
def test_every_transform_of_torch_sees_the_same_derivatives(name, alpha):
    x = points()[:12]

    def function(x):
        return sugar(x, name, alpha=alpha)

    first = slopes(function, x)
    tangent = torch.linspace(-1, 1, len(x), dtype=x.dtype)
    assert_close(jvp(function, (x,), (tangent,))[1], first * tangent, **EXACT)
    for jacobian in (jacrev, jacfwd):
        assert_close(jacobian(function)(x), torch.diag(first), **EXACT)
    assert_close(vmap(grad(function))(x), first, **EXACT)
    assert_close(vmap(lambda x, t: jvp(function, (x,), (t,))[1])(x, tangent), first * tangent, **EXACT)
    batched = torch.autograd.grad(
        function(y := x.clone().requires_grad_()), y, torch.eye(len(x)).double(), is_grads_batched=True
    )
    assert_close(batched[0], torch.diag(first), **EXACT)

    def energy(x):
        return function(x).square().sum() / 2

    curvature = grad(lambda x: FUNCTIONS[name](x, alpha).sum())
    second = vmap(grad(lambda x: curvature(x)))(x)
    expected = torch.diag(first.square() + torch.relu(x) * second)
    assert_close(hessian(energy)(x), expected, **EXACT)
    assert_close(jacrev(jacrev(energy))(x), expected, **EXACT)


@pytest.mark.parametrize("negative_only", [False, True])
@pytest.mark.parametrize("name", SURROGATES)
def test_compiled_it_is_one_graph_with_the_same_gradient(name, negative_only):
    """And another one within `true_gradient`."""
    torch._dynamo.reset()
    module = SUGAR(name, negative_only=negative_only)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    assert_close(slopes(compiled, points()), slopes(module, points()), **EXACT)
    with true_gradient():
        assert torch.equal(slopes(compiled, points()), (points() > 0).double())
    assert_close(slopes(compiled, points()), slopes(module, points()), **EXACT)


def test_exported_and_traced_it_is_a_plain_relu():
    """An ONNX file then holds Relu alone; the operators are looked at here, so that no onnx is needed."""
    model = nn.Sequential(nn.Linear(3, 4), SUGAR(), nn.Linear(4, 2), SUGAR("bsilu"))
    x = torch.randn(2, 3)
    exported = torch.export.export(model, (x,))
    called = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert called == ["aten.linear.default", "aten.relu.default"] * 2
    traced = str(torch.jit.trace(model, x).inlined_graph)
    assert (traced.count("aten::relu"), traced.count("PythonOp"), traced.count("^")) == (2, 0, 0)


def test_onnx_holds_only_relu(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    torch.onnx.export(SUGAR(), (torch.randn(2, 3),), tmp_path / "model.onnx", dynamo=True)
    assert [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node] == ["Relu"]


def test_fx_traces_it_as_one_call():
    model = nn.Sequential(nn.Linear(3, 4), SUGAR("bsilu", negative_only=True))
    traced = torch.fx.symbolic_trace(model)
    x = torch.randn(5, 3)
    assert_close(slopes(traced, x), slopes(model, x))


@pytest.mark.parametrize("name", SURROGATES)
def test_nothing_is_kept_but_the_input(name):
    x = torch.randn(4, 5, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.data_ptr()) or tensor, lambda t: t):
        sugar(x, name)
    assert kept == [x.data_ptr()]


@pytest.mark.parametrize("name", SURROGATES)
def test_channels_that_lie_beside_each_other_stay_so(name):
    """Convolutions on a CPU are faster there, in both directions."""
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    (found,) = torch.autograd.grad(
        sugar(x, name), x, torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    )
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert sugar(x, name).is_contiguous(memory_format=torch.channels_last)


def test_nothing_is_kept_where_no_gradient_is_wanted():
    found = []
    with torch.autograd.graph.saved_tensors_hooks(found.append, lambda t: t):
        sugar(torch.randn(3))
        for without in (torch.no_grad(), torch.inference_mode()):
            with without:
                assert not sugar(torch.randn(3, requires_grad=True)).requires_grad
    assert found == []


def test_the_true_gradient_is_that_of_relu_until_the_context_ends():
    x = points()
    taught = slopes(sugar, x)
    with true_gradient():
        with true_gradient():
            pass
        assert torch.equal(slopes(sugar, x), (x > 0).double())
        assert torch.equal(jvp(sugar, (x,), (torch.ones_like(x),))[1], (x > 0).double())
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(slopes(sugar, x)))
        thread.start()
        thread.join()
    assert torch.equal(elsewhere[0], taught)  # another thread may be training
    with pytest.raises(ZeroDivisionError), true_gradient():
        1 / 0  # noqa: B018
    assert torch.equal(slopes(sugar, x), taught)


@pytest.mark.parametrize("name", SURROGATES)
def test_in_place_the_input_holds_the_result_and_the_gradient_is_the_same(name):
    x = points()

    def aliased(module):
        def function(x):
            y = x * 1.0
            found = module(y)
            return found + y  # with nn.ReLU(inplace=True), twice relu(x)

        return function

    assert torch.equal(aliased(SUGAR(name, inplace=True))(x), aliased(nn.ReLU(inplace=True))(x))
    assert_close(slopes(aliased(SUGAR(name, inplace=True)), x), 2 * slopes(SUGAR(name), x), **EXACT)


def test_a_module_has_nothing_to_save_and_can_be_copied():
    module = SUGAR("nelu", alpha=0.1, negative_only=True)
    assert list(module.state_dict()) == []
    assert repr(module) == repr(copy.deepcopy(module)) == repr(pickle.loads(pickle.dumps(module)))
    assert repr(module) == "SUGAR(nelu, alpha=0.1, negative_only=True)"


@pytest.mark.parametrize(("name", "alpha", "named"), [("nelo", None, "bsilu, nelu"), ("gelu", 0.1, "no alpha")])
def test_a_surrogate_that_cannot_be_is_refused(name, alpha, named):
    for made in (lambda: SUGAR(name, alpha=alpha), lambda: sugar(torch.ones(1), name, alpha=alpha)):
        with pytest.raises(ConfigError, match=named):
            made()


def test_no_way_of_differentiating_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = points().requires_grad_()
        sugar(x).sum().backward()
        hessian(lambda x: sugar(x).sum())(points()[:3])
