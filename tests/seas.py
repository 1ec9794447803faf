"""A sea of thirty cells: its grid, model, bed and waves, and the objective of an inversion over it."""

import numpy as np
import torch

from forecast_cli.config import ModelConfig, RunConfig
from forecast_cli.domain import Domain, TimeStep
from forecast_cli.equations.shallow_water import ShallowWater
from forecast_cli.inversion.depths import Depths, white
from forecast_cli.inversion.misfit import NONE, Misfit, Objective
from forecast_cli.models import build_model
from forecast_cli.physics.grid import Grid

CELLS, SIDES, BOUNDS, NOISE = (5, 6), (5e4, 6e4), (5.0, 120.0), 1e-3
INTERVAL = 200.0
"""One step, at 10 km cells and 120 m: 0.97 of what is stable."""


def grid(cells=CELLS):
    return Grid.uniform(cells, ((0.0, SIDES[0]), (0.0, SIDES[1])), units="m")


def model(cells=CELLS, *, learn=(), scheme="upwind", per_frame=1, coriolis=1e-4):
    y, x = grid(cells).axes
    step = TimeStep(INTERVAL * per_frame, "s")
    domain = Domain(ShallowWater.VARIABLES, y, x, step, "cartesian", "zeros", static=("depth",))
    numbers = {"gravity": 9.81, "coriolis": coriolis, "beta": 2e-11, "friction": 1e-5}
    options = ModelConfig(
        name="finn", equation="shallow-water", learn=learn, time_step=INTERVAL, parameters=numbers, scheme=scheme
    )
    found = build_model(RunConfig(model=options), domain).double().eval().requires_grad_(False)
    for parameter in found.parameters():
        parameter.requires_grad_()
    return found


def bed(cells=CELLS):
    y, x = grid(cells).centres()
    return 60 - 25 * np.exp(-((y - 2e4) ** 2 + (x - 3e4) ** 2) / 2e8)


def hill(cells=CELLS, samples=1):
    y, x = grid(cells).centres()
    places = [(3e4, 2e4), (1e4, 5e4)][:samples]
    eta = [np.exp(-((y - a) ** 2 + (x - b) ** 2) / 2e8) for a, b in places]
    return torch.as_tensor(np.stack([[e, 0 * e, 0 * e] for e in eta]))[:, None]


def objective(*, dtype=torch.float64, prior=None, soundings=NONE, learn=(), frames=20, samples=1):
    forward = model(learn=learn, per_frame=2)
    with torch.no_grad():
        depth = torch.as_tensor(bed())[None, None].expand(samples, -1, -1, -1)
        truth = forward(hill(samples=samples), frames, static=depth).fields
    noise = NOISE * torch.randn(truth.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kind = {"dtype": dtype}
    misfit = Misfit(
        forward.to(dtype),
        hill(samples=samples).to(dtype),
        (truth + noise).to(dtype),
        torch.full((3,), NOISE, **kind),
        (0, 1, 2),
    )
    depths = Depths.around(np.full(CELLS, 55.0), *BOUNDS, white() if prior is None else prior)
    return Objective(misfit, depths, soundings, tuple(p for p in forward.parameters() if p.requires_grad))
