"""The sea bed from the waves above it: the depth that makes a forward model with frozen weights reproduce them.

observed -> physics (the model and the bounds of the depth) -> guess -> descent -> uncertainty -> verdict -> output.
Source: Horuz et al. (2024), arXiv 2408.10649.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from forecast_cli.checkpoint import files_of
from forecast_cli.data.forecasts import open_written
from forecast_cli.data.output import refuse_overwrite, require_writable
from forecast_cli.data.protection import refuse_inputs
from forecast_cli.errors import DataError
from forecast_cli.inversion.fit import Fit
from forecast_cli.inversion.judgement import judged
from forecast_cli.inversion.observed import Source
from forecast_cli.inversion.output import KIND, write
from forecast_cli.inversion.physics import DEFAULTS, Physics
from forecast_cli.inversion.plan import Earlier, Inversion, Outcome, Reporter
from forecast_cli.inversion.prepare import prepare
from forecast_cli.models.activations import true_gradient

__all__ = ["Inversion", "Outcome", "Physics", "Reporter", "Source", "invert"]


def invert(
    inversion: Inversion, output: Path, *, overwrite: bool, resume: str, reporter: Reporter, stop: Callable[[], bool]
) -> Outcome:
    """Infer the sea bed and write it to `output`, also when `stop` ends the descent early.

    resume: "auto" goes on from an `output` that has not converged, and replaces it; "never" starts anew.
    Raises ForecastErrors for what is wrong with input or options; nothing is written then.
    """
    started = time.monotonic()
    refuse_inputs(output, _inputs(inversion))
    before = _unfinished(output) if resume == "auto" else None
    if before is None:
        refuse_overwrite(output, overwrite)
    require_writable(output)
    with true_gradient():  # a run may have learned by another
        prepared = prepare(inversion, before, reporter)
        fit = Fit(prepared, inversion, reporter, stop)
        fit.run()
        result, outcome = judged(fit, time.monotonic() - started)
    for text in outcome.warnings[len(prepared.warnings) :]:
        reporter.say(f"warning: {text}")
    write(output, prepared.observed, result, overwrite=overwrite or before is not None)
    return outcome


def _inputs(inversion: Inversion) -> list[str | Path]:
    """The files that an inversion reads, as the user gives them."""
    source, run = inversion.source, inversion.physics.run
    named = (source.initial_state, inversion.truth, inversion.soundings, source.gauges)
    mask = [source.mask] if source.mask and ":" in source.mask else []
    files = {source.initial_velocity, inversion.initial} - {"auto", "rest"}
    return [*source.files, *filter(None, named), *mask, *files, *(files_of(Path(run)) if run else [])]


def _unfinished(output: Path) -> Earlier | None:
    """What an output that has not converged holds; None without one. DataError for one that has."""
    if not output.exists():
        return None
    try:
        with open_written(output) as dataset:
            if dataset.attrs.get("forecast_kind") != KIND:
                raise DataError(f"{output} exists and is no result of invert-topography. Choose another name.")
            if int(dataset.attrs["converged"]):
                raise DataError(
                    f"{output} has converged: there is nothing to go on with. Start anew with --overwrite --resume never."
                )
            numbers = {name: float(dataset.attrs[name]) for name in DEFAULTS if name in dataset.attrs}
            return Earlier(np.asarray(dataset["depth"].values, float), numbers)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise DataError(
            f"{output}: cannot be gone on with ({str(error).splitlines()[0]}). Choose another name, or --overwrite --resume never."
        ) from error
