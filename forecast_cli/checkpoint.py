"""The run directory: what training leaves, and how it is read back.

    config.toml         the resolved configuration
    model.safetensors   weights and statistics of the best epoch, and coordinates of the grid; its header says what they belong to:
                        configuration, domain, parts, epoch, versions
    model.json          the same description, to be read by people and other programs
    last.ckpt           the training state, to resume from
    climatology.nc      mean cycles of the training part
    closures.nc         what a finite volume network has learned: functions and numbers
    metrics.csv         one row an epoch
    train.log           what happened when, one line an event
    environment.json    what each session of the training ran on
    tensorboard         a folder with the curves once more, where they were asked for

Every file but the log and the curves is replaced atomically, so that a run directory is whole at any instant.
"""

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from forecast_cli import __version__
from forecast_cli.config import RunConfig, config_toml
from forecast_cli.data.climatology import load_cycles
from forecast_cli.data.coordinates import Coordinate
from forecast_cli.data.cycles import Cycles
from forecast_cli.data.output import write_atomically
from forecast_cli.domain import Domain
from forecast_cli.errors import CheckpointError, ConfigError, ForecastError
from forecast_cli.models import ForecastModel, build_model

FORMAT = 3
LARGEST_HEADER = 10**8
"""Bytes; safetensors takes no larger one either."""
WEIGHTS, DESCRIPTION, STATE, CONFIG, METRICS, LOG, ENVIRONMENT, TENSORBOARD, CLIMATOLOGY, CLOSURES = (
    "model.safetensors",
    "model.json",
    "last.ckpt",
    "config.toml",
    "metrics.csv",
    "train.log",
    "environment.json",
    "tensorboard",
    "climatology.nc",
    "closures.nc",
)
_COORDINATE = "coordinates."
"""Begins the names of tensors that hold coordinates of the grid, not weights."""


@dataclass(frozen=True)
class SavedModel:
    """A trained model and what it says of itself.

    parts: for "training", "validation" and "test" the first and last time (as text) and the samples.
    sha256: of the weights file. cycles: mean cycles of the training part. coordinates: of the fields, none in older runs.
    """

    model: ForecastModel
    config: RunConfig
    domain: Domain
    parts: Mapping[str, Any]
    epoch: int
    sha256: str
    cycles: Cycles = field(default_factory=dict)
    coordinates: tuple[Coordinate, ...] = ()


def save_config(run: Path, config: RunConfig) -> None:
    write_atomically(run / CONFIG, config_toml(config).encode())


def save_model(
    run: Path,
    model: ForecastModel,
    config: RunConfig,
    *,
    parts: Mapping[str, Any],
    epoch: int,
    coordinates: Sequence[Coordinate] = (),
) -> None:
    """Write weights and description as one file, so that neither is ever there without the other."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    tensors |= {f"{_COORDINATE}{i}": torch.tensor(one.values) for i, one in enumerate(coordinates)}
    description = {
        "format": FORMAT,
        "forecast_cli": __version__,
        "torch": torch.__version__,
        "epoch": epoch,
        "parts": parts,
        "domain": model.domain.to_json(),
        "coordinates": [{k: v for k, v in vars(one).items() if k != "values"} for one in coordinates],
        "config": config.model_dump(mode="json"),
        "parameters": model.parameter_count,
        "learned": {name: value for name, (value, _) in model.learned_numbers().items()},
    }
    said = json.dumps(description)
    # One entry: safetensors writes several in any order.
    write_atomically(run / WEIGHTS, save_tensors(tensors, {"forecast": f"{_digest(said, tensors)}\n{said}"}))
    write_atomically(run / DESCRIPTION, (json.dumps(description, indent=2) + "\n").encode())


def _digest(description: str, tensors: Mapping[str, Tensor]) -> str:
    """Of all that a weights file holds: a flipped bit anywhere shows."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_model(
    run: Path, device: torch.device | str = "cpu", *, others: Mapping[str, Mapping[str, Any]] | None = None
) -> SavedModel:
    """The best model of a run directory.

    others: known "parameters" and "boundaries" of an equation in the place of those of the training.
    Raises CheckpointError, naming the file, if the run is missing, damaged, or of another version or architecture;
    ConfigError where `others` do not belong to the model.
    """
    if not os.path.isdir(run):  # noqa: PTH112 - False for a name that is too long
        kind = "a file, and no run directory" if os.path.exists(run) else "no such run directory"  # noqa: PTH110
        raise CheckpointError(f"{run}: {kind}.")
    description = describe_run(run)
    try:
        config = _with_others(RunConfig.model_validate(description["config"]), others or {})
        domain = Domain.from_json(description["domain"])
        parts, epoch = description["parts"], int(description["epoch"])
        model = build_model(config, domain)
    except ForecastError as error:
        if others:
            raise
        raise CheckpointError(f"{run / WEIGHTS}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{run / WEIGHTS}: written by another version of forecast, or damaged ({reason})."
        ) from error
    digest = load_weights(run, model)
    coordinates = _coordinates(run / WEIGHTS, description.get("coordinates", ()))
    cycles = load_cycles(run / CLIMATOLOGY)
    return SavedModel(model.to(device).eval(), config, domain, parts, epoch, digest, cycles, coordinates)


def _coordinates(path: Path, described: Sequence[Mapping[str, Any]]) -> tuple[Coordinate, ...]:
    """Read the coordinates that a weights file holds beside the weights. Raises CheckpointError where one is missing."""
    try:
        with safe_open(path, "pt") as file:
            values = [file.get_tensor(f"{_COORDINATE}{i}").numpy() for i in range(len(described))]
        return tuple(Coordinate(**text, values=one) for text, one in zip(described, values, strict=True))
    except (SafetensorError, OSError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged: a coordinate of the grid cannot be read ({error}).") from error


def _with_others(config: RunConfig, others: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """The configuration with other known parts of its equation. Raises ConfigError for what was learned, or without equation."""
    if not others:
        return config
    given = [name for table in others.values() for name in table]
    if config.model.name != "finn":
        raise ConfigError(f"{', '.join(given)}: the run holds {config.model.name}, which has no equation to change.")
    if learned := next((name for name in given if name in config.model.learn), None):
        raise ConfigError(f"{learned} was learned in training: it cannot be given another value.")
    tables = {key: {**getattr(config.model, key), **table} for key, table in others.items()}
    return config.model_copy(update={"model": config.model.model_copy(update=tables)})


def load_weights(run: Path, model: ForecastModel) -> str:
    """Copy the weights and statistics of a run into a model of the same architecture; returns their sha256."""
    path = run / WEIGHTS
    try:
        content = path.read_bytes()
        tensors = load_tensors(content)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or truncated ({error}).") from error
    digest, said = _header(path)
    if _digest(said, tensors) != digest:
        raise CheckpointError(f"{path}: damaged: what it holds is not what was written.")
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            there = f"{tuple(tensors[name].shape)}" if name in tensors else "missing"
            raise CheckpointError(
                f"{path}: '{name}' is {there}, the model needs {tuple(tensor.shape)}. The run holds another model or other data."
            )
    weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(_COORDINATE)}
    if extra := sorted(weights.keys() - expected.keys()):
        raise CheckpointError(
            f"{path}: holds '{extra[0]}', which the model does not have. The run holds another model."
        )
    model.load_state_dict(weights)
    return hashlib.sha256(content).hexdigest()


def describe_run(run: Path) -> dict[str, Any]:
    """What the header of the weights says. Raises CheckpointError where they are missing or damaged."""
    path = run / WEIGHTS
    try:
        description = json.loads(_header(path)[1])
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}). Is {run} a run directory, and has an epoch finished?"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged ({error}).") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CheckpointError(f"{path}: written by another version of forecast (format {FORMAT} is understood).")
    return description


def _header(path: Path) -> tuple[str, str]:
    """The digest and the description in the header of a weights file, whose tensors are left alone.

    Raises OSError and CheckpointError.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(LARGEST_HEADER, path.stat().st_size):
            raise CheckpointError(f"{path}: damaged or truncated (a header of {length} bytes).")
        content = file.read(length)
    try:
        digest, said = json.loads(content)["__metadata__"]["forecast"].split("\n", 1)
        return digest, said
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged, or not written by forecast.") from error


def learned_numbers(run: Path) -> dict[str, float]:
    """The numbers with a meaning that the best model of a run has learned, by name."""
    return dict(describe_run(run).get("learned", {}))


def save_state(run: Path, state: Mapping[str, Any]) -> None:
    """Write the training state."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(run / STATE, buffer.getvalue())


def load_state(run: Path, device: torch.device | str) -> dict[str, Any]:
    """The training state of a run, loaded without executing anything in it. Raises CheckpointError."""
    path = run / STATE
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums that it writes
            if damaged := archive.testzip():
                raise CheckpointError(f"{path}: damaged ({damaged} is not what was written).")
        state = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}). There is nothing to resume in {run}."
        ) from error
    except (pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path}: damaged, or not a training state; nothing in it was run. Put a copy back, or start anew."
        ) from error
    except (RuntimeError, EOFError, NotImplementedError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: damaged ({str(error).splitlines()[0][:120]}). Put a copy back, or start anew."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path}: written by another version of forecast (format {FORMAT} is understood).")
    return state


def files_of(run: Path) -> list[Path]:
    """The files that a run directory may have, each of which a later command may read."""
    names = (WEIGHTS, DESCRIPTION, STATE, CONFIG, METRICS, LOG, ENVIRONMENT, TENSORBOARD, CLIMATOLOGY, CLOSURES)
    return [run / name for name in names]


def is_run(run: Path) -> bool:
    """Whether a folder is of a training, if only its first file."""
    first = (CONFIG, LOG, ENVIRONMENT, TENSORBOARD)
    return run.is_dir() and ((run / CONFIG).exists() or all(path.name.startswith(first) for path in run.iterdir()))


def has_state(run: Path) -> bool:
    return (run / STATE).exists()


_FREE = ("training.epochs", "data.memory", "data.workers")


def changed_keys(before: Mapping[str, Any], now: RunConfig) -> list[str]:
    """'section.key: old -> new' for what differs between a stored configuration and this one.

    Longer training, the size of memory and who reads are no change. A stored configuration that is not valid is a ConfigError.
    """
    try:
        stored = RunConfig.model_validate(before)
    except ValueError as error:
        raise ConfigError(f"the stored configuration is not valid: {str(error).splitlines()[0]}.") from error
    changes = []
    for section in RunConfig.model_fields:
        old, new = getattr(stored, section), getattr(now, section)
        for key in type(old).model_fields:
            if getattr(old, key) != getattr(new, key) and f"{section}.{key}" not in _FREE:
                changes.append(f"{section}.{key}: {getattr(old, key)} -> {getattr(new, key)}")
    return changes
