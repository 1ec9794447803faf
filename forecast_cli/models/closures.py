"""Networks that stand in for the closures of an equation.

A network sees its inputs as they are normalised by the data, and what it gives is made into the closure by its form:

    free         size * mlp, size being the typical size of the closure in the data (starts near 0)
    share        10^p sigmoid(mlp), p learned: between 0 and a learned bound
    correction   known * (1 + mlp): a departure from the equation's own closure (starts near 0)
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from forecast_cli.physics.terms import Closure


class Perceptron(nn.Module):
    """Fully connected layers with tanh between them, over the channels of every cell."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, *, start_small: bool) -> None:
        super().__init__()
        widths = [inputs, *hidden, outputs]
        self.layers = nn.ModuleList(itertools.starmap(nn.Linear, itertools.pairwise(widths)))
        if start_small:
            # Small rather than zero, so that every weight has a gradient from the first step.
            with torch.no_grad():
                for parameter in self.layers[-1].parameters():
                    parameter.mul_(0.01)

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height, width)."""
        features = inputs.movedim(1, -1)
        for layer in self.layers[:-1]:
            features = torch.tanh(layer(features))
        found: Tensor = self.layers[-1](features).movedim(-1, 1)
        return found


class LearnedClosure(nn.Module):
    """A network with what makes its output a closure. `bind` gives the function that an equation takes."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, form: str) -> None:
        super().__init__()
        self.form = form
        self.network = Perceptron(inputs, hidden, outputs, start_small=form != "share")
        self.exponent = nn.Parameter(torch.zeros(())) if form == "share" else None

    def bind(self, *, mean: Tensor, scale: Tensor, size: Tensor, known: Closure) -> Callable[[Tensor], Tensor]:
        """The closure in physical units.

        mean, scale: of the inputs, (inputs, 1, 1). size: typical size of the outputs, (outputs, 1, 1).
        known: the equation's own closure.
        """

        def closure(inputs: Tensor) -> Tensor:
            raw = self.network((inputs - mean) / scale)
            if self.exponent is not None:
                return 10**self.exponent * torch.sigmoid(raw)
            return known(inputs) * (1 + raw) if self.form == "correction" else size * raw

        return closure
