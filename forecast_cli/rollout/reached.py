"""Whether a forecast stays where the model has learned anything."""

import torch
from torch import Tensor

from forecast_cli.models import ForecastModel
from forecast_cli.models.base import filled

SLACK = 0.02
"""How far beyond the training part's range, in units of it, is still within it."""
FAR = 100.0
"""Standard deviations from the mean that no record comes to, heavy rain among them: a forecast that does has grown without bound."""


class Reached:
    """Watches the blocks of a forecast: the range of each variable, over cells that ever have a value."""

    def __init__(self, model: ForecastModel) -> None:
        self.names = [variable.name for variable in model.domain.variables]
        self.seen = model.learned_range()
        self.mean, self.spread = (edge.cpu().flatten(1) for edge in (model.mean, model.scale))
        self.lowest, self.highest = (torch.full((len(self.names),), sign * torch.inf) for sign in (1, -1))

    def look(self, fields: Tensor) -> None:
        """Take a block (batch, time, channel, height, width) into account."""
        lowest = filled(fields, torch.inf).amin(dim=(0, 1, 3, 4))
        highest = filled(fields, -torch.inf).amax(dim=(0, 1, 3, 4))
        self.lowest = torch.minimum(self.lowest, lowest.cpu())
        self.highest = torch.maximum(self.highest, highest.cpu())

    def notes(self) -> list[str]:
        """A line for each variable that has left the range in which learned functions hold, or all bounds."""
        return self._beyond_learned() if self.seen is not None else self._far_away()

    def _beyond_learned(self) -> list[str]:
        assert self.seen is not None
        lower, upper = (edge.flatten().cpu() for edge in self.seen)
        slack = SLACK * (upper - lower)
        left = (self.lowest < lower - slack) | (self.highest > upper + slack)
        return [
            f"'{self.names[i]}' reaches {self.lowest[i]:.3g} to {self.highest[i]:.3g}, but what was learned holds from "
            f"{lower[i]:.3g} to {upper[i]:.3g}, where the training part was: beyond, the forecast rests on nothing."
            for i in left.nonzero().flatten().tolist()
        ]

    def _far_away(self) -> list[str]:
        """Where cells have means of their own, the distance is that from all of them."""
        above, below = self.highest - self.mean.amax(dim=1), self.mean.amin(dim=1) - self.lowest
        times = torch.maximum(above, below) / self.spread.amax(dim=1)
        return [
            f"'{self.names[i]}' reaches {self.lowest[i]:.3g} to {self.highest[i]:.3g}, {times[i]:.3g} standard deviations from "
            "the mean of the training part: the forecast grows without bound. Forecast fewer --steps, or train further."
            for i in (times > FAR).nonzero().flatten().tolist()
        ]
