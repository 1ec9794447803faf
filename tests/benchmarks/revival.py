"""Do dead units come back? The table of docs/activations.md.

    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/revival.py

One hidden layer of 64 units learns a function on the square [-1, 1]^2 (or on a line) from 256 points; Adam, 1e-2, 400 steps,
the whole set at once. At the start 48 of the units are dead: their biases lie so low that no input there is reaches zero.
Printed for each activation: the share of these that somewhere in the square are above zero at the end (lowest to highest of
five seeds), and the RMSE on 2,000 other points (mean, lowest to highest). The standard deviation of each function is about 0.5 to 0.7.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from forecast_cli.models.activations import ACTIVATIONS, activation

UNITS, DEAD, MARGIN = 64, 48, 0.05
POINTS, TEST_POINTS = 256, 2000
SEEDS = range(5)


class Task(NamedTuple):
    """A function of (..., dimensions) to learn."""

    dimensions: int
    function: Callable[[Tensor], Tensor]


TASKS = {
    "sin(pi x) cos(pi y)": Task(2, lambda x: torch.sin(math.pi * x[..., :1]) * torch.cos(math.pi * x[..., 1:])),
    "sin(3 x) cos(2 y), smoother": Task(2, lambda x: torch.sin(3 * x[..., :1]) * torch.cos(2 * x[..., 1:])),
    "sin(3 pi x), on a line": Task(1, lambda x: torch.sin(3 * math.pi * x)),
}
MAIN = next(iter(TASKS))


class Outcome(NamedTuple):
    """Of each seed: the share of dead units that came back, and the RMSE on points that were not seen."""

    revived: Tensor
    error: Tensor


class Layer(NamedTuple):
    """y = last(activation(first(x))) for several seeds at once: every tensor starts with their axis."""

    weight: Tensor
    bias: Tensor
    last_weight: Tensor
    last_bias: Tensor

    def highest(self) -> Tensor:
        """The most that each unit's input comes to in the square, (seed, unit)."""
        return (self.bias + self.weight.abs().sum(dim=1, keepdim=True)).squeeze(1)

    def __call__(self, x: Tensor, activate: Callable[[Tensor], Tensor]) -> Tensor:
        """x: (seed, point, dimension)."""
        hidden = activate(torch.baddbmm(self.bias, x, self.weight))
        return torch.baddbmm(self.last_bias, hidden, self.last_weight)


def with_dead_units(dimensions: int, seeds: range = SEEDS) -> Layer:
    """Weights as of nn.Linear, a set a seed; the first units are dead, by a margin."""

    def drawn(bound: float, *shape: int) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return torch.stack([bound * (2 * torch.rand(shape, generator=generator) - 1) for generator in generators])

    inner, outer = dimensions**-0.5, UNITS**-0.5
    both = drawn(inner, dimensions + 1, UNITS), drawn(outer, UNITS + 1, 1)
    layer = Layer(both[0][:, 1:], both[0][:, :1], both[1][:, 1:], both[1][:, :1])
    layer.bias[..., :DEAD] -= layer.highest()[:, None, :DEAD] + MARGIN
    return Layer(*(tensor.clone().requires_grad_() for tensor in layer))


def revival(name: str, task: Task, *, steps: int = 400) -> Outcome:
    """Train a layer with the activation called `name`, every seed by itself: Adam treats each number alone."""
    activate, layer = activation(name), with_dead_units(task.dimensions)
    generator = torch.Generator().manual_seed(99)
    x = 2 * torch.rand(len(SEEDS), POINTS + TEST_POINTS, task.dimensions, generator=generator) - 1
    known, unseen = x.split([POINTS, TEST_POINTS], dim=1)
    optimizer = torch.optim.Adam(layer, lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        (layer(known, activate) - task.function(known)).square().mean(dim=(1, 2)).sum().backward()
        optimizer.step()
    with torch.no_grad():
        error = (layer(unseen, activate) - task.function(unseen)).square().mean(dim=(1, 2)).sqrt()
        return Outcome((layer.highest()[:, :DEAD] > 0).float().mean(dim=1), error)


def spread(values: Tensor, form: str) -> str:
    return f"{values.min():{form}} to {values.max():{form}}"


def main() -> None:
    torch.set_num_threads(1)
    print("| function | activation | revived % | test RMSE |\n| --- | --- | --- | --- |")
    for told, task in TASKS.items():
        for name in ("relu", *(name for name in ACTIVATIONS if name.startswith("sugar-")), "gelu", "silu"):
            revived, error = revival(name, task)
            share = spread(100 * revived, ".0f")
            print(f"| {told} | `{name}` | {share} | {error.mean():.3f} ({spread(error, '.3f')}) |", flush=True)


if __name__ == "__main__":
    main()
