"""Whether a forecast stays where the model has learned anything."""

import torch
from torch import Tensor

from forecast_cli.models import ForecastModel

SLACK = 0.02
"""How far beyond the training part's range, in units of it, is still within it."""


class Reached:
    """Watches the blocks of a forecast by a model whose learned functions hold within the range of the training part only."""

    def __init__(self, model: ForecastModel) -> None:
        self.names = [variable.name for variable in model.domain.variables]
        self.seen = model.learned_range()
        self.lowest, self.highest = (torch.full((len(self.names),), sign * torch.inf) for sign in (1, -1))

    def look(self, fields: Tensor) -> None:
        """Take a block (batch, time, channel, height, width) into account."""
        if self.seen is not None:
            self.lowest = torch.minimum(self.lowest, fields.amin(dim=(0, 1, 3, 4)).cpu())
            self.highest = torch.maximum(self.highest, fields.amax(dim=(0, 1, 3, 4)).cpu())

    def notes(self) -> list[str]:
        """A line for each variable that has left the range."""
        if self.seen is None:
            return []
        lower, upper = (edge.flatten().cpu() for edge in self.seen)
        slack = SLACK * (upper - lower)
        found = []
        for i, name in enumerate(self.names):
            if self.lowest[i] < lower[i] - slack[i] or self.highest[i] > upper[i] + slack[i]:
                found.append(
                    f"'{name}' reaches {self.lowest[i]:.3g} to {self.highest[i]:.3g}, but what was learned holds from "
                    f"{lower[i]:.3g} to {upper[i]:.3g}, where the training part was: beyond, the forecast rests on nothing."
                )
        return found
