"""What a finite volume network has learned, as a file: closures over the range that the training part spans, and numbers."""

from pathlib import Path

import numpy as np
import xarray as xr
from torch import Tensor

from forecast_cli.data.output import write_dataset
from forecast_cli.models import ForecastModel, LearnedFunction
from forecast_cli.planning import Prepared

SEEN_FRAMES = 300
"""Frames of the training part that are looked at for where it was."""


def save_closures(path: Path, model: ForecastModel, prepared: Prepared) -> None:
    """Write `closures_of` a model; nothing for models that learn neither functions nor numbers with a meaning."""
    found = closures_of(model, prepared)
    if found is not None:
        write_dataset(found, path, overwrite=True)


def closures_of(model: ForecastModel, prepared: Prepared) -> xr.Dataset | None:
    """Every learned function beside the one that the equation knows, and how often the training part was there.

    Variables NAME and NAME_known on the inputs as coordinates; NAME_seen, the share of the training part in each
    interval around them. Learned numbers are variables without dimensions.
    """
    functions, numbers = model.learned_functions(), model.learned_numbers()
    if not functions and not numbers:
        return None
    dataset = xr.Dataset(attrs={"title": f"What {prepared.config.model.equation} learned", "forecast_kind": "closures"})
    for name, (value, units) in numbers.items():
        dataset[name] = ((), value, {"long_name": f"learned {name}", "units": units or "1"})
    for function in functions:
        dataset = dataset.merge(_tabulated(function, prepared))
    return dataset


def _tabulated(function: LearnedFunction, prepared: Prepared) -> xr.Dataset:
    dims = [name for name, _, _ in function.inputs]
    table = xr.Dataset()
    for dim, (name, unit, values) in zip(dims, function.inputs, strict=True):
        table[dim] = (dim, _array(values), {"long_name": name, "units": unit or "1"})
    for index, (name, unit) in enumerate(function.outputs):
        attributes = {"long_name": function.meaning, "units": unit, "closure": function.name}
        table[name] = (dims, _array(function.learned[index]), attributes | {"ancillary_variables": f"{name}_known"})
        known = attributes | {"long_name": f"{function.meaning}, as the equation has it"}
        table[f"{name}_known"] = (dims, _array(function.known[index]), known)
    seen = _seen(function, prepared)
    if seen is not None:
        said = {"long_name": "share of the training part that was here", "units": "1"}
        table[f"{function.name}_seen"] = (dims, seen, said)
    return table


def _seen(function: LearnedFunction, prepared: Prepared) -> np.ndarray | None:
    """The share of the training part's states in the interval around each tabulated point; None where inputs are not variables.

    Of up to SEEN_FRAMES frames, spread evenly.
    """
    channels = function.channels
    if channels is None:
        return None
    edges = [_edges(_array(values)) for _, _, values in function.inputs]
    counts = np.zeros([len(edge) - 1 for edge in edges])
    part = prepared.parts.training
    places = [(sample, frame) for sample in part.samples for frame in part.frames]
    for sample, frame in places[:: -(-len(places) // SEEN_FRAMES)]:
        state = prepared.training.frames.window(sample, frame, 1)[0].numpy()
        counts += np.histogramdd([state[channel].ravel() for channel in channels], edges)[0]
    return counts / counts.sum()


def _edges(values: np.ndarray) -> np.ndarray:
    middles = (values[1:] + values[:-1]) / 2
    step = values[1] - values[0]
    return np.concatenate([[values[0] - step / 2], middles, [values[-1] + step / 2]])


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
