"""Activations by name; a surrogate gradient for any model's ReLUs; what a model's activations do.

names = replace_activations(model, "bsilu")     every nn.ReLU of any nn.Module
rows = activation_report(model, batch)          dead channels, dead units, zeros
with true_gradient(): ...                       derivatives of the model itself, for sensitivities
"""

import ast
import inspect
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecast_cli.errors import ConfigError
from forecast_cli.models.sugar import SUGAR, SURROGATES, sugar, true_gradient

__all__ = [
    "ACTIVATIONS",
    "SUGAR",
    "SURROGATES",
    "Activity",
    "activation",
    "activation_report",
    "replace_activations",
    "sugar",
    "true_gradient",
    "watch",
]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "mish": nn.Mish,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    **{f"sugar-{name}": partial(SUGAR, name) for name in SURROGATES},
}
_FUNCTIONAL = (F.relu, F.relu_, torch.relu, torch.relu_)


def activation(name: str, usual: str = "gelu") -> nn.Module:
    """The activation that `model.activation` names: one of ACTIVATIONS, or `usual` for auto.

    A SUGAR may be given its number, as in sugar-nelu:0.1. Raises ConfigError for a name that is not known.
    """
    name = usual if name == "auto" else name
    kind, colon, number = name.partition(":")
    if kind not in ACTIVATIONS or (colon and not kind.startswith("sugar-")):
        raise ConfigError(f"model.activation = {name}: expected auto, {', '.join(ACTIVATIONS)}.")
    if not colon:
        return ACTIVATIONS[kind]()
    try:
        alpha = float(number)
    except ValueError:
        alpha = math.nan
    if not math.isfinite(alpha):
        raise ConfigError(f"model.activation = {name}: expected a number after the colon.")
    return SUGAR(kind.removeprefix("sugar-"), alpha=alpha)


def replace_activations(
    model: nn.Module, surrogate: str = "nelu", *, alpha: float | None = None, negative_only: bool = False
) -> list[str]:
    """Let every nn.ReLU within a model learn through a surrogate (see `sugar`); returns the names of those replaced.

    The model is changed, what it computes is not: an instance that stands in several places stays shared, and one that
    works in place still does. Warns of ReLUs that are called as functions, which stay as they are.
    """
    if type(model) is nn.ReLU:
        raise ConfigError("replace_activations: the model is itself a ReLU. Take SUGAR() in its place.")
    made: dict[nn.ReLU, SUGAR] = {}
    names = []
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if type(module) is nn.ReLU:
            if module not in made:
                made[module] = SUGAR(surrogate, alpha=alpha, negative_only=negative_only, inplace=module.inplace)
                made[module].train(module.training)
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, made[module])
            names.append(name)
    if left := list(_functional_relus(model)):
        warnings.warn(f"ReLUs that are called as functions stay as they are: {'; '.join(left)}.", stacklevel=2)
    return names


def _functional_relus(model: nn.Module) -> Iterator[str]:
    """Where a model's own classes use a ReLU that is no module, as far as their source tells, and functions kept as attributes."""
    seen = set()
    for name, module in model.named_modules():
        own = [kind for kind in type(module).__mro__ if not kind.__module__.startswith(("torch.nn.", "builtins"))]
        methods = [method for kind in own for method in vars(kind).values() if isinstance(method, FunctionType)]
        for method in map(inspect.unwrap, methods):
            if method not in seen:
                seen.add(method)
                yield from (f"{method.__qualname__}, line {line}" for line in _lines_with_relu(method))
        for key, value in vars(module).items():
            if any(value is function for function in _FUNCTIONAL):
                yield f"{name}.{key}".lstrip(".")


def _lines_with_relu(method: FunctionType) -> list[int]:
    """Lines of the file in which a method names torch.relu or its likes, or calls x.relu()."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    except (OSError, TypeError, SyntaxError):
        return []
    found = set()
    for node in ast.walk(tree):
        if _is_method_of_tensor(node) or any(_meant(node, method) is function for function in _FUNCTIONAL):
            found.add(method.__code__.co_firstlineno + node.lineno - 1)  # type: ignore[attr-defined]
    return sorted(found)


def _is_method_of_tensor(node: ast.AST) -> bool:
    """Whether it reads x.relu(); a module that is called relu takes an argument."""
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args
    return is_method and node.func.attr in ("relu", "relu_")  # type: ignore[attr-defined]


def _meant(node: ast.AST, method: FunctionType) -> Any:
    """What a name such as F.relu stands for in a method's module; None where it is no such name."""
    if isinstance(node, ast.Name):
        return method.__globals__.get(node.id)
    return getattr(_meant(node.value, method), node.attr, None) if isinstance(node, ast.Attribute) else None


@dataclass(frozen=True)
class Activity:
    """What one activation has given.

    units: numbers that it gives for each sample. dead: of them those that were 0 for every sample; a dead channel has no
    other units. zeros: share of all numbers that were 0. An instance that a model calls in several places counts as one for
    each shape.
    """

    name: str
    kind: str
    channels: int
    dead_channels: int
    units: int
    dead_units: int
    zeros: float


class _Counts:
    """Of one activation, over as many calls as there are."""

    def __init__(self, found: Tensor, channel: int) -> None:
        self.channel = channel - 1  # axes without the batch's
        self.alive = torch.zeros(found.shape[1:], dtype=torch.bool, device=found.device)
        self.zeros, self.numbers = torch.zeros((), dtype=torch.int64, device=found.device), 0

    def add(self, found: Tensor) -> None:
        not_zero = found != 0
        self.alive |= not_zero.any(dim=0)
        self.zeros += found.numel() - not_zero.sum()
        self.numbers += found.numel()

    def activity(self, name: str, kind: str) -> Activity:
        channels = self.alive.movedim(self.channel, 0).unsqueeze(-1).flatten(1).any(dim=1)
        return Activity(
            name,
            kind,
            len(channels),
            int((~channels).sum()),
            self.alive.numel(),
            int((~self.alive).sum()),
            int(self.zeros) / max(self.numbers, 1),
        )


class Watch:
    """Hooks on a model's activations; see `watch`."""

    def __init__(self, model: nn.Module) -> None:
        self.counts: dict[tuple[str, str, torch.Size], _Counts] = {}
        self.last: Any = None
        kinds = (*{type(make()) for make in ACTIVATIONS.values()},)
        self.hooks = []
        for name, module in model.named_modules():
            if isinstance(module, kinds):
                self.hooks.append(module.register_forward_hook(partial(self._count, name)))
            elif type(module) in (nn.Linear, nn.LayerNorm):
                self.hooks.append(module.register_forward_hook(self._remember))

    def _remember(self, _module: nn.Module, _inputs: Any, found: Tensor) -> None:
        self.last = found

    @torch.no_grad()
    def _count(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], found: Tensor) -> None:
        found = found.unsqueeze(1) if found.dim() == 1 else found
        # Channels lie along the last axis behind a linear layer or its norm, else along the second, as of images.
        channel = found.dim() - 1 if inputs[0] is self.last else 1
        key = name, type(module).__name__, found.shape[1:]
        self.counts.setdefault(key, _Counts(found, channel)).add(found)

    def activities(self) -> list[Activity]:
        """A row for each activation that was called, in the order of the first calls."""
        return [counts.activity(name, kind) for (name, kind, _), counts in self.counts.items()]


@contextmanager
def watch(model: nn.Module) -> Iterator[Watch]:
    """Count what the activations of a model give while it is called, over as many batches as wanted.

    Activations are those modules of ACTIVATIONS' classes; their first axis is the batch's.
    """
    watching = Watch(model)
    try:
        yield watching
    finally:
        for hook in watching.hooks:
            hook.remove()


@torch.no_grad()
def activation_report(model: nn.Module, batch: Tensor | Sequence[Any]) -> list[Activity]:
    """What each activation of a model gives on a batch (its input, or all its arguments) in evaluation mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()  # norms would learn from the batch
    try:
        with watch(model) as watching:
            model(*([batch] if isinstance(batch, Tensor) else batch))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return watching.activities()
