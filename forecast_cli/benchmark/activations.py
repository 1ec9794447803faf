"""Activations forward and backward, beside ReLU, with the memory that autograd keeps for each."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from forecast_cli.benchmark.row import Row, Settings, spread
from forecast_cli.benchmark.timing import in_turns, peak_mib, threads
from forecast_cli.errors import ConfigError
from forecast_cli.models.activations import ACTIVATIONS, activation

CHANNELS = 40


def activations(settings: Settings) -> list[Row]:
    """Every frame of `lengths` at once, (batch * context, channel, grid, grid), as a layer of a trained model sees them.

    The floor is ReLU in the same rounds, `kept_mib` what autograd holds between forward and backward: of ReLU its result,
    which the next layer holds as well, of SUGAR its input.
    """
    names = ACTIVATIONS if settings.models == Settings.models else settings.models
    if unknown := [name for name in names if name.partition(":")[0] not in ACTIVATIONS]:
        raise ConfigError(f"--model {', '.join(unknown)}: expected {', '.join(ACTIVATIONS)}.")
    modules = {"relu": nn.ReLU()} | {name: activation(name) for name in names}
    contexts = sorted({context for context, _ in settings.lengths})
    cases, kept = {}, {}
    for length in contexts:
        x, grad = _inputs(settings, length)
        for name, module in modules.items():
            cases[name, length] = _both_ways(module, x, grad)
            kept[name, length] = _kept_mib(module, x)
    rows = []
    for count in settings.threads:
        with threads(count):
            times = in_turns(cases, repetitions=settings.repetitions, device=settings.device)
            for name in names:
                for length in contexts:
                    mine = times[name, length]
                    rows.append(
                        Row(
                            "activations",
                            name,
                            "-",
                            length,
                            0,
                            settings.batch,
                            count,
                            "32",
                            str(settings.device),
                            *spread(mine),
                            peak_mib(cases[name, length], settings.device),
                            floor_ms=float(np.median(times["relu", length])),
                            kept_mib=kept[name, length],
                        )
                    )
    return rows


def _inputs(settings: Settings, length: int) -> tuple[Tensor, Tensor]:
    """Frames, and a gradient of their shape."""
    generator = torch.Generator().manual_seed(3)
    channels = settings.hidden[0] if settings.hidden else CHANNELS
    shape = (settings.batch * length, channels, settings.grid, settings.grid)
    x, grad = (torch.randn(shape, generator=generator).to(settings.device) for _ in range(2))
    return x.requires_grad_(), grad


def _both_ways(module: nn.Module, x: Tensor, grad: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(module(x), x, grad)


def _kept_mib(module: nn.Module, x: Tensor) -> float:
    """Bytes of what autograd saves, each piece of memory once [MiB]."""
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        module(x)
    return sum(saved.values()) / 2**20
