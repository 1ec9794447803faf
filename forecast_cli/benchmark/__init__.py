"""How fast the parts are on this machine: several ways of doing the same, measured in turns, with what cannot be undercut beside them."""

from forecast_cli.benchmark.activations import activations
from forecast_cli.benchmark.epochs import epoch
from forecast_cli.benchmark.row import Row, Settings
from forecast_cli.benchmark.scans import scans
from forecast_cli.benchmark.solvers import finn, simulate
from forecast_cli.benchmark.steps import rollout, train_step

__all__ = ["BENCHMARKS", "Row", "Settings"]

BENCHMARKS = {
    "train-step": train_step,
    "epoch": epoch,
    "rollout": rollout,
    "scan": scans,
    "simulate": simulate,
    "finn": finn,
    "activations": activations,
}
