"""The same waves on a finer grid than they were observed on: what is between the cells of the observations moves too."""

import torch
import torch.nn.functional as F
from torch import Tensor

from forecast_cli.domain import Domain
from forecast_cli.models.base import Forecast, ForecastModel, State

ROUNDS = 4
"""Corrections after which means over a cell of the finer surface are those that were given."""


class Refined(ForecastModel):
    """A model of shallow water on cells `factor` times smaller along each axis, seen on the coarse grid.

    Going down, eta is the mean over a cell, u and v are means over its east and north face. Going up, eta and the depth are interpolated
    between centres, velocities between faces; eta such that going down again gives it back. The state is that of the fine grid.
    """

    def __init__(self, inner: ForecastModel, domain: Domain, factor: int) -> None:
        super().__init__(domain)
        self.inner, self.factor = inner, factor

    def forward(
        self,
        context: Tensor,
        steps: int,
        *,
        static: Tensor | None = None,
        forcing: Tensor | None = None,
        state: State | None = None,
    ) -> Forecast:
        self.require_inputs(static, forcing)
        assert static is not None
        fine = state[0] if state else self.finer(context[:, -1])
        depth = F.interpolate(static, scale_factor=self.factor, mode="bilinear")
        found = self.inner(fine.unsqueeze(1), steps, static=depth).fields
        fields = self.coarser(found.flatten(0, 1)).unflatten(0, found.shape[:2])
        return Forecast(context[:, :0], fields, (found[:, -1],))

    def coarser(self, fine: Tensor) -> Tensor:
        """(batch, 3, height, width) of the coarse grid."""
        r = self.factor
        eta = F.avg_pool2d(fine[:, :1], r)
        u = F.avg_pool2d(fine[:, 1:2, :, r - 1 :: r], (r, 1))
        v = F.avg_pool2d(fine[:, 2:, r - 1 :: r], (1, r))
        return torch.cat([eta, u, v], dim=1)

    def finer(self, coarse: Tensor) -> Tensor:
        """(batch, 3, height, width) of the fine grid."""
        r = self.factor
        eta, u, v = coarse[:, :1], coarse[:, 1:2], coarse[:, 2:]
        surface = torch.zeros_like(eta).repeat_interleave(r, dim=-1).repeat_interleave(r, dim=-2)
        for _ in range(ROUNDS):
            missing = eta - F.avg_pool2d(surface, r)
            surface = surface + F.interpolate(missing, scale_factor=r, mode="bicubic")
        east = _between_faces(F.interpolate(u, scale_factor=(r, 1), mode="bilinear"), r)
        north = _between_faces(F.interpolate(v, scale_factor=(1, r), mode="bilinear").transpose(-1, -2), r)
        return torch.cat([surface, east, north.transpose(-1, -2)], dim=1)


def _between_faces(velocity: Tensor, factor: int) -> Tensor:
    """Values on `factor` times as many faces along the last axis, the last of each group the given one; 0 on the wall before them."""
    before = F.pad(velocity, (1, 0))[..., :-1]
    shares = torch.arange(1, factor + 1, dtype=velocity.dtype, device=velocity.device) / factor
    return (before.unsqueeze(-1) + shares * (velocity - before).unsqueeze(-1)).flatten(-2)
