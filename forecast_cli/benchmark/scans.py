"""The recurrence alone, forward and backward, by each backend, with its error against the float64 oracle."""

from collections.abc import Callable

import torch
from torch import Tensor

from forecast_cli.benchmark.row import Row, Settings, spread
from forecast_cli.benchmark.steps import SIZES
from forecast_cli.benchmark.timing import in_turns, peak_mib, threads
from forecast_cli.errors import ConfigError
from forecast_cli.scan import Kind, require_backend, scan_packed

KINDS: dict[str, Kind] = {"minconvlstm": "forget-input", "minconvgru": "update", "minconvexplstm": "keep"}


def scans(settings: Settings) -> list[Row]:
    """One layer's gates and recurrence over a whole sequence; channels beside each other where a backend likes it so."""
    models = [name for name in settings.models if name in KINDS]
    if not models:
        raise ConfigError(f"--model {', '.join(settings.models)}: a scan is of {', '.join(KINDS)}.")
    cases, errors, contexts = {}, {}, sorted({context for context, _ in settings.lengths})
    for name in settings.scans:
        require_backend(name)
    for model in models:
        for length in contexts:
            for backend in settings.scans:
                case = (model, backend, length)
                packed, initial = _inputs(settings, model, length, last=backend in ("auto", "native"))
                cases[case] = _both_ways(packed, initial, KINDS[model], backend)
                errors[case] = _error(packed, initial, KINDS[model], backend)
    rows = []
    for count in settings.threads:
        with threads(count):
            times = in_turns(cases, repetitions=settings.repetitions, device=settings.device)
            for (model, backend, length), mine in times.items():
                rows.append(
                    Row(
                        "scan",
                        model,
                        backend,
                        length,
                        0,
                        settings.batch,
                        count,
                        "32",
                        str(settings.device),
                        *spread(mine),
                        peak_mib(cases[model, backend, length], settings.device),
                        error=errors[model, backend, length],
                    )
                )
    return rows


def _inputs(settings: Settings, model: str, length: int, *, last: bool) -> tuple[Tensor, Tensor]:
    """Gates and candidates (batch, time, parts * channel, height, width), and the state before."""
    generator = torch.Generator().manual_seed(2)
    channels = (settings.hidden or SIZES[model])[0]
    parts = 3 if model == "minconvlstm" else 2
    packed = torch.randn(settings.batch, length, settings.grid, settings.grid, parts * channels, generator=generator)
    packed = packed.movedim(-1, 2)
    packed = packed if last else packed.contiguous()
    initial = torch.full((settings.batch, channels, settings.grid, settings.grid), 0.5)
    return packed.to(settings.device).requires_grad_(), initial.to(settings.device)


def _both_ways(packed: Tensor, initial: Tensor, kind: Kind, backend: str) -> Callable[[], object]:
    hidden, _ = scan_packed(packed, initial, kind, backend=backend)
    grad = torch.ones_like(hidden)

    def run() -> None:
        torch.autograd.grad(scan_packed(packed, initial, kind, backend=backend)[0], packed, grad)

    return run


def _error(packed: Tensor, initial: Tensor, kind: Kind, backend: str) -> float:
    """The largest difference of a hidden state from the oracle's."""
    with torch.no_grad():
        oracle, _ = scan_packed(packed.double(), initial.double(), kind, backend="sequential")
        found, _ = scan_packed(packed, initial, kind, backend=backend)
        return float((found - oracle).abs().max())
