"""SUGAR: a ReLU that learns through the derivative of a smooth function.

Forward max(0, x), bit for bit. Backward the derivative f' of a surrogate, which is not zero below 0: a unit that is
never above 0 still hears from the loss, and may come back. Source: Horuz et al. (2025), arXiv 2505.22074.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from forecast_cli.errors import ConfigError

FAR = 1e8
"""Where every surrogate has long reached its limits, to 1e-23: beyond it formulas would be infinity times zero."""
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

_aten = torch.ops.aten


class Surrogate(NamedTuple):
    """backward: (grad, x, alpha) to grad f'(x). alpha: its default; None where f has no such number.

    Kernels of torch do it in few passes over memory. Where they have no derivative of their own, elementary operations
    stand in when one may be wanted, that is, while autograd records.
    """

    backward: Callable[[Tensor, Tensor, float], Tensor]
    alpha: float | None = None


def _b_silu(grad: Tensor, x: Tensor, alpha: float) -> Tensor:
    """f = (x + alpha) s(x) - alpha / 2, f' = s + (x + alpha) s (1 - s), with the logistic function s."""
    x = x.clamp(-FAR, FAR)
    if torch.is_grad_enabled():
        s = torch.sigmoid(x)
        return grad * s * (1 + (x + alpha) * (1 - s))
    found: Tensor = _aten.silu_backward(grad, x)
    return found.add_(_aten.sigmoid_backward(grad, x.sigmoid_()), alpha=alpha)


def _nelu(grad: Tensor, x: Tensor, alpha: float) -> Tensor:
    """f' = 1 above 0, 2 alpha x / (1 + x^2)^2 up to it: negative, at most 0.65 alpha in size, at -0.577."""
    below = x.clamp(-FAR, 0)
    if torch.is_grad_enabled():
        return torch.where(x > 0, grad, grad * (2 * alpha) * below / (1 + below.square()).square())
    product = grad * below
    found: Tensor = _aten.threshold_backward(grad, x, 0)
    return found.addcdiv_(product, below.square_().add_(1).square_(), value=2 * alpha)


def _leaky_relu(grad: Tensor, x: Tensor, alpha: float) -> Tensor:
    found: Tensor = _aten.leaky_relu_backward(grad, x, alpha, False)
    return found


def _elu(grad: Tensor, x: Tensor, alpha: float) -> Tensor:
    found: Tensor = _aten.elu_backward(grad, alpha, 1.0, 1.0, False, x)
    return found


def _selu(grad: Tensor, x: Tensor, _: float) -> Tensor:
    found: Tensor = _aten.elu_backward(grad, SELU_ALPHA, SELU_SCALE, 1.0, False, x)
    return found


def _gelu(grad: Tensor, x: Tensor, _: float) -> Tensor:
    found: Tensor = _aten.gelu_backward(grad, x.clamp(-FAR, FAR))
    return found


def _silu(grad: Tensor, x: Tensor, _: float) -> Tensor:
    if torch.is_grad_enabled():
        return _b_silu(grad, x, 0.0)
    found: Tensor = _aten.silu_backward(grad, x.clamp(-FAR, FAR))
    return found


def _mish(grad: Tensor, x: Tensor, _: float) -> Tensor:
    """f = x t, f' = t + x s (1 - t^2), with t = tanh(log(1 + exp(x)))."""
    x = x.clamp(-FAR, FAR)
    if torch.is_grad_enabled():
        t = torch.tanh(nn.functional.softplus(x))
        return grad * (t + x * torch.sigmoid(x) * (1 - t.square()))
    found: Tensor = _aten.mish_backward(grad, x)
    return found


SURROGATES = {
    "bsilu": Surrogate(_b_silu, 1.67),
    "nelu": Surrogate(_nelu, 0.05),
    "leaky_relu": Surrogate(_leaky_relu, 0.01),
    "selu": Surrogate(_selu),
    "elu": Surrogate(_elu, 1.0),
    "gelu": Surrogate(_gelu),
    "silu": Surrogate(_silu),
    "mish": Surrogate(_mish),
}
"""Functions whose derivative may stand in for ReLU's."""


class _Sugar(torch.autograd.Function):
    """Keeps nothing but its input."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, _surrogate: str, _alpha: float, _negative_only: bool) -> Tensor:
        return torch.relu(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, str, float, bool], _output: Tensor) -> None:
        x, *ctx.options = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        return _times_derivative(grad, x, *ctx.options), None, None, None


class _ForwardModeToo(_Sugar):
    """The same with a derivative in forward mode, which torch.compile does not take."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (x,) = ctx.saved_tensors
        return _times_derivative(tangent, x, *ctx.options)


def _times_derivative(grad: Tensor, x: Tensor, surrogate: str, alpha: float, negative_only: bool) -> Tensor:
    """grad f'(x), in float32 at least: half precision has not the range for the squares."""
    wide = torch.promote_types(x.dtype, torch.float32)
    grad, x, narrow = grad.to(wide), x.to(wide), x.dtype
    found = SURROGATES[surrogate].backward(grad, x, alpha)
    return (torch.where(x > 0, grad, found) if negative_only else found).to(narrow)


class _Mode(threading.local):
    """Of each thread; torch.compile compiles anew where it has changed (but sees the values of an instance only, not its class's)."""

    def __init__(self) -> None:
        self.is_true = False


_mode = _Mode()


@contextmanager
def true_gradient() -> Iterator[None]:
    """ReLU's own gradient in what is computed forward within.

    For sensitivities to the inputs and inversions: a surrogate's gradient teaches, but it is not the model's derivative.
    """
    before, _mode.is_true = _mode.is_true, True
    try:
        yield
    finally:
        _mode.is_true = before


@torch.fx.wrap
def sugar(x: Tensor, surrogate: str = "nelu", *, alpha: float | None = None, negative_only: bool = False) -> Tensor:
    """max(0, x), whose gradient is that of a surrogate.

    surrogate: one of SURROGATES. alpha: its number, where it has one; None takes its default.
    negative_only: the surrogate's derivative up to 0, and 1 above.
    Traced, exported or in inference mode it is a plain ReLU.
    Raises ConfigError for an unknown surrogate, or a number that it does not have.
    """
    number = _number(surrogate, alpha)
    if torch.compiler.is_compiling():
        is_plain, function = torch.compiler.is_exporting(), _Sugar
    else:
        is_plain, function = torch.is_inference_mode_enabled() or torch.jit.is_tracing(), _ForwardModeToo
    if is_plain or _mode.is_true:
        return torch.relu(x)
    found: Tensor = function.apply(x, surrogate, number, negative_only)
    return found


def _number(surrogate: str, alpha: float | None) -> float:
    if surrogate not in SURROGATES:
        raise ConfigError(f"no surrogate '{surrogate}'; known are {', '.join(SURROGATES)}.")
    default = SURROGATES[surrogate].alpha
    if alpha is not None and default is None:
        raise ConfigError(f"the surrogate {surrogate} has no alpha.")
    return (default or 0.0) if alpha is None else alpha


class SUGAR(nn.Module):
    """`sugar` as a module. It has no parameters: the weights of a model are those of the same model with ReLU.

    inplace: the input holds the result afterwards, as with nn.ReLU(inplace=True); a copy of it is kept for the gradient.
    """

    def __init__(
        self, surrogate: str = "nelu", *, alpha: float | None = None, negative_only: bool = False, inplace: bool = False
    ) -> None:
        super().__init__()
        _number(surrogate, alpha)  # refused here rather than at the first call
        self.surrogate, self.alpha = surrogate, alpha
        self.negative_only, self.inplace = negative_only, inplace

    def forward(self, x: Tensor) -> Tensor:
        given = x.clone() if self.inplace else x
        found = sugar(given, self.surrogate, alpha=self.alpha, negative_only=self.negative_only)
        return x.copy_(found) if self.inplace else found

    def extra_repr(self) -> str:
        options = ("alpha", self.alpha is not None), ("negative_only", self.negative_only), ("inplace", self.inplace)
        return ", ".join([self.surrogate, *(f"{name}={getattr(self, name)}" for name, is_told in options if is_told)])
