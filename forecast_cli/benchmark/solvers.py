"""Simulators: flows against the published first-order scheme, and the finite volumes of every equation, forward and back."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from forecast_cli.benchmark.first_order import first_order_frames
from forecast_cli.benchmark.row import Row, Settings, spread
from forecast_cli.benchmark.timing import in_turns, peak_mib, threads
from forecast_cli.equations import PROBLEMS
from forecast_cli.equations.navier_stokes import NavierStokes, random_vorticity
from forecast_cli.physics.integrate import frames
from forecast_cli.simulate.finite_volumes import Plan, SeaBed, prepare
from forecast_cli.simulate.navier_stokes import BATCH

FLOW_GRID, UNITS, FINE = 64, 20, 0.0125
"""The published grid of flows; time units that are integrated; the step of the reference that errors are told from."""
STEPS = 10
"""Frames of a finite volume trajectory."""


def simulate(settings: Settings) -> list[Row]:
    """Random flows by our scheme and by the published one: milliseconds for each flow and time unit, and relative L2 errors."""
    starts = torch.stack([random_vorticity(sample, seed=0, grid=FLOW_GRID) for sample in range(BATCH)])
    fine = _last(NavierStokes(FLOW_GRID).frames(starts, interval=1.0, count=UNITS, time_step=FINE))
    start = starts.float()
    flow = NavierStokes(FLOW_GRID, dtype=torch.float32)
    cases: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: _last(flow.frames(start, interval=1.0, count=UNITS)),
        "first-order": lambda: _last(first_order_frames(start, interval=1.0, count=UNITS)),
    }
    rows = []
    for count in settings.threads:
        with threads(count):
            times = in_turns(cases, repetitions=settings.repetitions)
            for name, case in cases.items():
                error = float((case() - fine).norm() / fine.norm())
                row = _row("simulate", f"navier-stokes {name}", UNITS, BATCH, count, times[name] / BATCH / UNITS, case)
                rows.append(replace(row, error=error))
    return rows


def finn(settings: Settings) -> list[Row]:
    """A trajectory of each equation, forward and its gradient with respect to the first frame: milliseconds for each frame."""
    cases = {}
    for name, problem in PROBLEMS.items():
        bed = SeaBed("seamount") if problem.equation.STATIC else SeaBed()
        made = prepare(Plan(name, samples=settings.batch, frames=STEPS + 1, sea_bed=bed))
        start = made.states.requires_grad_()

        def both_ways(made: "object" = made, start: Tensor = start) -> None:
            later = frames(made.equation, start, made.interval, made.count, made.solver)  # type: ignore[attr-defined]
            torch.autograd.grad(later.sum(), start)

        cases[name] = both_ways
    rows = []
    for count in settings.threads:
        with threads(count):
            times = in_turns(cases, repetitions=settings.repetitions)
            for name, case in cases.items():
                rows.append(_row("finn", name, STEPS, settings.batch, count, times[name] / STEPS, case))
    return rows


def _last(frames: Iterator[Tensor]) -> Tensor:
    *_, final = frames
    return final


def _row(
    benchmark: str, model: str, horizon: int, batch: int, count: int, times: np.ndarray, case: Callable[[], object]
) -> Row:
    precision = "32" if benchmark == "simulate" else "64"
    return Row(benchmark, model, "-", 1, horizon, batch, count, precision, "cpu", *spread(times), peak_mib(case))
