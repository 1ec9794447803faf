"""The forward model of an inversion: numbers from options, the file or defaults, and the bounds within which it is stable."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from forecast_cli.checkpoint import load_model
from forecast_cli.config import ModelConfig, RunConfig
from forecast_cli.domain import Axis, Domain, TimeStep
from forecast_cli.equations.shallow_water import ShallowWater
from forecast_cli.errors import CheckpointError, ConfigError, DataError
from forecast_cli.inversion.metric import ROTATION
from forecast_cli.inversion.observed import Observed
from forecast_cli.inversion.refined import Refined
from forecast_cli.models import ForecastModel, build_model
from forecast_cli.physics.integrate import steps_of

DEFAULTS = {"gravity": 9.81, "coriolis": 0.0, "beta": 0.0, "friction": 0.0}
BELOW = 0.98
"""The deepest water allowed, as a share of that at which a step is at its limit of stability."""
FINEST = 8
"""Cells of the model to one of the waves, at most."""
MOST_TURN = 1.0
"""What beta y may add to Coriolis, as a share of it, before a user is asked whether y is counted from where it should."""
OVER_WAVES, SHALLOWEST = 2.0, 0.002
"""The shallowest water allowed: in units of the highest wave, and as a share of the deepest."""


@dataclass(frozen=True)
class Physics:
    """What the waves obey, and what a user may say of it; None leaves it to the file, then to the default.

    time_step [s]. numbers: of gravity [m s-2], coriolis [s-1], beta [m-1 s-1], friction [s-1]. free: infer gravity too.
    min_depth, max_depth [m]: bounds of the depth. refine: cells of the model to one of the waves along each axis, with as much shorter
    steps. run: a trained model to take in the place of the equation.
    """

    time_step: float | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    free: tuple[str, ...] = ()
    scheme: str = ""
    min_depth: float | None = None
    max_depth: float | None = None
    run: str | None = None
    refine: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.refine <= FINEST:
            raise ConfigError(f"--refine {self.refine}: expected 1 to {FINEST}.")


@dataclass(frozen=True, eq=False)
class Forward:
    """A model with frozen weights, the bounds of the depth [m] that it may be asked for, and how it was settled, a line each.

    context: frames that the model sees before it forecasts. settled: what went in, for the attributes of the output.
    """

    model: ForecastModel
    lower: float
    upper: float
    context: int
    settled: Mapping[str, float | int | str]
    free: tuple[torch.nn.Parameter, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def settle(physics: Physics, observed: Observed, dtype: torch.dtype, device: torch.device) -> Forward:
    """The forward model for waves. Raises ConfigError, DataError or CheckpointError."""
    made = _of_run(physics, observed) if physics.run else _of_equation(physics, observed)
    model = made.model.to(device=device, dtype=dtype).eval().requires_grad_(False)
    prefix = "inner." if isinstance(model, Refined) else ""
    free = tuple(model.get_parameter(f"{prefix}numbers.{name}") for name in physics.free)
    for parameter in free:
        parameter.requires_grad_()
    lower, upper = made.lower, made.upper
    highest = float(np.abs(observed.start[:, 0]).max())
    if not math.isfinite(lower):
        lower = max(OVER_WAVES * highest, SHALLOWEST * upper)
    if not 0 < lower < upper:
        if physics.min_depth is not None or physics.max_depth is not None:
            raise ConfigError(f"--min-depth {lower:g}, --max-depth {upper:g}: expected 0 < smallest < largest.")
        raise DataError(
            f"{observed.source}: waves of {highest:.3g} m, in water of {upper:.3g} m at most, the deepest that the time step is stable in. "
            "Is eta in metres, and are missing values declared? Is the time step right?"
        )
    if lower <= highest:
        raise ConfigError(
            f"--min-depth {lower:g}: waves of {highest:.3g} m would fall dry there. Give more than their height."
        )
    return replace(made, model=model, free=free, lower=lower, upper=upper)


def _of_equation(physics: Physics, observed: Observed) -> Forward:
    """The shallow-water finite volume network with nothing to learn, or gravity alone."""
    numbers, notes, doubts = _numbers(physics, observed)
    steps_per_frame, upper, step_notes, warnings = _steps(physics, observed, numbers)
    warnings = (*doubts, *warnings)
    scheme = physics.scheme or str(observed.attributes.get("scheme", ""))
    y, x = observed.grid.axes
    options = ModelConfig(
        name="finn",
        equation="shallow-water",
        parameters=numbers,
        scheme=scheme,
        learn=physics.free,
        time_step=observed.interval / (steps_per_frame * physics.refine),
    )
    step = TimeStep(observed.interval, "s")
    domain = Domain(ShallowWater.VARIABLES, y, x, step, "cartesian", "zeros", static=("depth",))
    if physics.refine > 1:
        fine = replace(domain, y=_finer(y, physics.refine), x=_finer(x, physics.refine))
        model: ForecastModel = Refined(build_model(RunConfig(model=options), fine), domain, physics.refine)
        step_notes = (
            *step_notes,
            f"the model runs on {physics.refine} x {physics.refine} cells for one of the waves, in steps as much shorter",
        )
    else:
        model = build_model(RunConfig(model=options), domain)
    if numbers["beta"]:
        said, doubt = _rotation(numbers, y)
        step_notes, warnings = (*step_notes, said), (*warnings, *doubt)
    settled: dict[str, float | int | str] = dict(numbers)
    settled |= {"time_step": observed.interval / steps_per_frame, "steps_per_frame": steps_per_frame}
    settled |= {
        "refine": physics.refine,
        "scheme": scheme or ShallowWater.SCHEMES[0],
        "solver": "forward-backward",
        "model": "finn",
    }
    lower = math.nan if physics.min_depth is None else physics.min_depth
    return Forward(model, lower, upper, 1, settled, notes=(*notes, *step_notes), warnings=warnings)


def _rotation(numbers: Mapping[str, float], y: Axis) -> tuple[str, tuple[str, ...]]:
    """The Coriolis parameter at both ends, and a warning where y seems to be counted from elsewhere."""
    first, last = (y.first or 0.0), (y.first or 0.0) + (y.size - 1) * (y.spacing or 0.0)
    south, north = (numbers["coriolis"] + numbers["beta"] * place for place in (first, last))
    said = f"f = coriolis + beta y: {south:.4g} s-1 at y = {first:.6g} m, {north:.4g} s-1 at y = {last:.6g} m"
    if abs(numbers["beta"]) * max(abs(first), abs(last)) <= MOST_TURN * abs(numbers["coriolis"]):
        return said, ()
    return said, (f"{said}. If that is not so there, give --coriolis and --beta for the y of the file",)


def _finer(axis: Axis, factor: int) -> Axis:
    """The axis with `factor` cells in the place of one."""
    spacing = (axis.spacing or 0.0) / factor
    first = (axis.first or 0.0) + (spacing - (axis.spacing or 0.0)) / 2
    return replace(axis, size=axis.size * factor, first=first, spacing=spacing)


def _numbers(physics: Physics, observed: Observed) -> tuple[dict[str, float], tuple[str, ...], tuple[str, ...]]:
    """Gravity, rotation and friction; where they come from; and warnings where the file says something else."""
    found, origins, warnings = {}, [], []
    for name, default in DEFAULTS.items():
        value, origin = physics.numbers.get(name), f"--{name}"
        said = _attribute(observed, name, f"--{name}") if name in observed.attributes else None
        if value is not None and said is not None and value != said:
            warnings.append(f"{name} {value:g} (--{name}), but the file says {said:g}")
        elif said is not None:
            value, origin = said, "the file"
        if value is None and observed.latitude is not None and name in ("coriolis", "beta"):
            angle = math.radians(observed.latitude)
            value = 2 * ROTATION * math.sin(angle) if name == "coriolis" else 2 * ROTATION * math.cos(angle) / 6.371e6
            origin = "the latitude"
        if value is None:
            value, origin = default, "the default"
        if (
            not math.isfinite(value)
            or (name in ("gravity", "friction") and value < 0)
            or (name == "gravity" and value == 0)
        ):
            raise ConfigError(
                f"{name} = {value:g} ({origin}): expected a {'positive' if name == 'gravity' else 'sensible'} number."
            )
        found[name] = value
        origins.append(f"{name} {value:g} ({origin})")
    return found, (", ".join(origins),), tuple(warnings)


def _attribute(observed: Observed, name: str, option: str) -> float:
    """A number among the attributes of the file; DataError, which names the option instead, for what is none."""
    try:
        return float(observed.attributes[name])
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{observed.source}: the attribute {name} = {observed.attributes[name]!r} is no number. Give {option}."
        ) from error


def deepest_stable(observed: Observed, time_step: float, gravity: float, friction: float) -> float:
    """The depth [m] at which a step is at its limit of stability, see ShallowWater.stable_step."""
    curvature = sum(1 / dx**2 for dx in observed.grid.spacing)
    return max(0.0, 1 - friction * time_step / 2) / (gravity * curvature * time_step**2)


def _steps(
    physics: Physics, observed: Observed, numbers: Mapping[str, float]
) -> tuple[int, float, tuple[str, ...], tuple[str, ...]]:
    """Steps to a frame, the largest depth, and notes and warnings of them."""
    interval, gravity, friction = observed.interval, numbers["gravity"], numbers["friction"]
    step, origin = physics.time_step, "--time-step"
    if step is None and "time_step" in observed.attributes:
        step, origin = _attribute(observed, "time_step", "--time-step"), "the file"
    warnings: tuple[str, ...] = ()
    if step is None:
        if physics.max_depth is None:
            raise ConfigError(
                "the time step of the waves is not known, nor how deep the sea may be. Give --time-step or --max-depth."
            )
        curvature = sum(1 / dx**2 for dx in observed.grid.spacing)
        step, origin = BELOW / math.sqrt(gravity * curvature * physics.max_depth), "guessed from the largest depth"
        warnings = (
            f"the time step is {origin}: the steps of the waves' own model are part of its physics, and wrong ones show in the depth. "
            "Give --time-step if you know it",
        )
    count = steps_of(interval, step, math.inf, name="forward-backward", where="--time-step")
    if not math.isclose(interval / count, step, rel_tol=1e-3) and not warnings:
        warnings = (
            f"frames are {interval:g} s apart, no whole number of steps of {step:g} s ({origin}): taken are {interval / count:.6g} s, "
            "and wrong ones show in the depth",
        )
    stable = deepest_stable(observed, interval / count, gravity, friction)
    upper = BELOW * stable if physics.max_depth is None else physics.max_depth
    if upper > stable:
        raise ConfigError(
            f"--max-depth {upper:g}: steps of {interval / count:.4g} s are unstable in water deeper than {stable:.4g} m. "
            "Give a smaller --max-depth or --time-step."
        )
    return count, upper, (f"{count} steps of {interval / count:.4g} s to a frame ({origin})",), warnings


def _of_run(physics: Physics, observed: Observed) -> Forward:
    """A trained model whose one static field is the depth."""
    given = (
        [f"--{name}" for name in physics.numbers]
        + ["--time-step"] * (physics.time_step is not None)
        + ["--scheme"] * bool(physics.scheme)
        + ["--refine"] * (physics.refine > 1)
    )
    if given or physics.free:
        raise ConfigError(
            f"{', '.join(given) or '--gravity free'}: with --run the physics is that of the run, its weights frozen."
        )
    assert physics.run is not None
    saved = load_model(Path(physics.run))
    domain, wanted = saved.domain, observed.grid.axes
    if len(domain.static) != 1 or domain.forcing or domain.shape[0] != 3:
        raise CheckpointError(
            f"{physics.run}: an inversion needs a model of eta, u, v with one static field, the depth; "
            f"this one has {domain.shape[0]} variables and {len(domain.static)} static fields."
        )
    for axis, mine in zip((domain.y, domain.x), wanted, strict=True):
        if (
            axis is None
            or axis.size != mine.size
            or axis.spacing is None
            or not math.isclose(axis.spacing, mine.spacing or 0, rel_tol=1e-3)
        ):
            raise CheckpointError(f"{physics.run}: trained on another grid than that of the waves (axis {mine.name}).")
    if not math.isclose(domain.time_step.amount, observed.interval, rel_tol=1e-3):
        raise CheckpointError(
            f"{physics.run}: trained on frames {domain.time_step.amount:g} s apart, the waves have {observed.interval:g}. "
            "Cut the waves to that, or train on frames like theirs (train --set data.stride=N)."
        )
    config = saved.config.model
    settled: dict[str, float | int | str] = {"model": config.name, "run": physics.run, "weights": saved.sha256}
    upper = physics.max_depth
    if config.name == "finn":
        settled |= _learned(saved.model, config.parameters) | {"scheme": config.scheme or "upwind"}
        if config.time_step:
            count = steps_of(
                observed.interval, config.time_step, math.inf, name="forward-backward", where="model.time_step ="
            )
            numbers = DEFAULTS | _learned(saved.model, config.parameters)
            stable = deepest_stable(observed, observed.interval / count, numbers["gravity"], numbers["friction"])
            upper = BELOW * stable if upper is None else upper
            if upper > stable:
                raise ConfigError(
                    f"--max-depth {upper:g}: the steps of the run are unstable in water deeper than {stable:.4g} m."
                )
            settled |= {"time_step": observed.interval / count, "steps_per_frame": count}
    if upper is None:
        upper = float(saved.model.static_mean + 4 * saved.model.static_scale)
    lower = math.nan if physics.min_depth is None else physics.min_depth
    context = 1 if config.name == "finn" else saved.config.data.context
    notes = (f"model of {physics.run}: {config.name}, its weights frozen",)
    return Forward(saved.model, lower, upper, context, settled, notes=notes)


def _learned(model: ForecastModel, parameters: Mapping[str, float]) -> dict[str, float]:
    """The numbers of a trained model, with those that it has learned."""
    found = {name: float(value) for name, value in parameters.items()}
    return found | {name: value for name, (value, _) in model.learned_numbers().items()}
