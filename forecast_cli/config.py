"""The configuration of a run: frozen sections, read from TOML and the command line.

Precedence: defaults < preset < --config FILE < --set < named options. A key that does not exist is an
error that names the nearest one that does. `load_config` is the only way in; it needs no torch.
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from forecast_cli.errors import ConfigError

PositiveInt = Annotated[int, Field(ge=1, lt=2**31)]


def _comma_separated(value: Any) -> Any:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, (int, float)) else value


def _layer_sizes(value: Any) -> Any:
    """'4x40' is four layers of 40 channels; '40,40,40' three."""
    if isinstance(value, str) and value.count("x") == 1:
        layers, channels = value.split("x")
        if layers.strip().isdigit() and channels.strip().isdigit():
            return [int(channels)] * int(layers)
    return _comma_separated(value)


def _pairs(value: Any) -> Any:
    """'time=t,y=lat' as a mapping."""
    if isinstance(value, str):
        parts = _comma_separated(value)
        if all(part.count("=") == 1 for part in parts):
            return {key.strip(): name.strip() for key, name in (part.split("=") for part in parts)}
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_comma_separated)]
Pairs = Annotated[dict[str, str], BeforeValidator(_pairs)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """Which fields are read, how they are cut into windows, and which part trains."""

    files: tuple[str, ...] = ()
    variables: Names = ()
    """Empty: every variable on the grid."""
    dims: Pairs = {}
    """Role to dimension name, where it cannot be told: time, y, x, sample."""
    select: Pairs = {}
    time_as_steps: bool = False
    """Number the frames 0, 1, 2, ... whatever the files say of times."""
    split: Annotated[tuple[float | str, ...], BeforeValidator(_comma_separated)] | None = None
    """Training, validation, test: fractions, counts, or date ranges start:stop."""
    split_along: Literal["time", "sample"] | None = None
    context: PositiveInt = 10
    """True frames that the model sees."""
    horizon: Annotated[int, Field(ge=0)] = 5
    """Closed-loop frames in the loss; 0: as many as the part has after the context."""
    stride: PositiveInt = 1
    """Frames between the starts of a long series' training windows."""
    normalize: Literal["global", "pointwise"] = "global"
    nan: Literal["error", "mask"] = "error"
    """What to do where values are missing: refuse, or leave them out of input, loss and forecast."""
    mask: str = ""
    """FILE:variable, or a variable of the data: cells where it is 0 or missing are left out; `=VALUE` keeps that value alone."""
    static: Names = ()
    """Further input fields that do not change: variables of the data, or FILE:variable."""
    forcing: Names = ()
    """Further inputs that are known ahead, in the same way."""
    calendar_features: Annotated[
        tuple[Literal["auto", "hour", "dayofyear"], ...], BeforeValidator(_comma_separated)
    ] = ()
    """Hour of the day and day of the year of the frame to be forecast, as sine and cosine; auto: what the training part has."""
    climatology_features: Annotated[
        tuple[Literal["auto", "hour", "dayofyear", "month"], ...], BeforeValidator(_comma_separated)
    ] = ()
    """What the training part usually was at the hour, day of the year or month of the frame to be forecast, and its change."""
    coordinates: Annotated[tuple[Literal["y", "x"], ...], BeforeValidator(_comma_separated)] = ()
    """The place of each cell: on the globe the sine of the latitude, sine and cosine of the longitude."""
    memory: Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)] = "2G"
    """Data up to this size are held in memory; larger ones are read window by window."""
    workers: Annotated[int, Field(ge=0, le=64)] = 0
    """Processes that read windows from files; 0: a thread, which is enough unless decompression takes longer than a step."""

    @property
    def masked(self) -> bool:
        """Whether values may be missing; a mask says so too."""
        return self.nan == "mask" or bool(self.mask)


class ModelConfig(Section):
    """The network. Every option but `name` and `hidden` has the same meaning for each model that takes it."""

    name: str = "minconvlstm"
    hidden: Annotated[tuple[PositiveInt, ...], BeforeValidator(_layer_sizes), Field(min_length=1)] = (32, 32, 32)
    """Channels of each layer."""
    kernel_size: PositiveInt = 3
    dilation: PositiveInt = 1
    boundary: Literal["auto", "zeros", "circular", "cylinder", "replicate"] = "auto"
    norm: Literal["layer", "channel", "group", "none"] = "channel"
    norm_position: Literal["after", "before"] = "before"
    """After the residual sum, as in the paper, or before the cell."""
    predict: Literal["state", "tendency"] = "tendency"
    increments: bool = True
    """Give the last change, x_t - x_(t-1), as further input channels."""
    seasonal_lag: Annotated[int, Field(ge=0)] = 0
    """Frames of a cycle such as a day: what came one cycle before the frame to be forecast enters too; 0 for none."""
    patch: PositiveInt = 1
    """Cells along each side of a patch, the unit in which the layers work."""
    mlp: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Width of a channel MLP after each cell, in units of the layer's; 0 has none."""
    activation: str = "auto"
    """Where a model leaves it open, as in that MLP; auto: the model's own. A name out of models.activations, such as relu or sugar-nelu."""
    position: bool = False
    """Add a learned map to the encoded frames, so that a cell knows where it is."""
    encoder_tanh: bool = False
    eofs: Annotated[tuple[PositiveInt, ...], BeforeValidator(_comma_separated), Field(min_length=1)] = (5, 10, 20)
    """Numbers of EOFs that var chooses from."""
    lags: Annotated[tuple[PositiveInt, ...], BeforeValidator(_comma_separated), Field(min_length=1)] = (1, 2, 3)
    """Numbers of last frames that var chooses from; with a seasonal_lag it looks at two frames one cycle before as well."""
    window: PositiveInt = 4
    """Last frames that a direct forecaster sees: cnn, resnet, unet, convnext, swin."""
    attention_window: PositiveInt = 4
    """Cells, or patches, along each side of the windows of swin."""
    initial_hidden: Annotated[float, Field(gt=0)] = 0.5
    """The minimal cells' hidden state before the first frame."""
    scan: str = "auto"
    equation: str = ""
    """What follows is for finn. The equation: burgers, allen-cahn, diffusion-sorption, diffusion-reaction, shallow-water."""
    learn: Names = ()
    """Closures that become networks; parameters, boundary values (left, right, bottom, top) and `stencil` that become numbers to learn."""
    parameters: dict[str, float] = {}
    """Numbers in the equation: what is not given comes from the data file's attributes, else from the equation."""
    boundaries: Pairs = {}
    """Side to boundary condition, such as left=dirichlet:1; from the file or the equation where not given."""
    closures: Pairs = {}
    """Closure to the name of a known function, such as retardation=langmuir."""
    scheme: str = ""
    """How fluxes see the cells on both sides: upwind, as published; limited (burgers), of second order; centred (shallow-water)."""
    solver: str = "auto"
    time_step: Annotated[float, Field(gt=0)] | None = None
    """Longest step of a solver with fixed steps; none takes the stable one."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-6
    """Of an adaptive solver's step, relative to the spread of each variable."""


class TrainingConfig(Section):
    """How the weights are found."""

    epochs: PositiveInt = 30
    batch_size: PositiveInt = 4
    """Windows that go through the network together, on each rank."""
    accumulate: PositiveInt = 1
    """Batches whose gradients add up to one step: the step of a larger batch, in the memory of a small one."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    optimizer: Literal["adam", "adamw", "lbfgs"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises linearly from 0."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest gradient norm; 0 does not clip."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Stop after this many epochs without a better validation loss; 0 never."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the averaged weights that are validated and saved; 0 averages nothing."""
    input_noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the noise on the context in training, in units of each variable's own."""
    closed_loop_weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of a closed-loop frame in the loss, beside 1 for a teacher-forced one."""
    segments: Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_comma_separated)] = ()
    """Cut each window into rollouts of so many frames, each from the true frame before it (context 1). Several numbers take
    turns in equal shares of the epochs; 0 is the whole horizon."""
    iterations: PositiveInt = 20
    """Iterations of lbfgs an epoch."""
    precision: Annotated[Literal["32", "bf16"], BeforeValidator(lambda value: str(value) if value == 32 else value)] = (
        "32"
    )
    """bf16: convolutions in bfloat16; weights, recurrence, norms and loss stay in float32."""
    compile: bool = False
    """Let torch compile the model at its first step; worth it where that takes less time than it saves."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class RunConfig(Section):
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()


def presets() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(file.name.removesuffix(".toml") for file in _presets().iterdir() if file.name.endswith(".toml"))


def _presets() -> Any:
    return resources.files("forecast_cli") / "presets"


def load_config(
    *,
    preset: str | None = None,
    file: Path | None = None,
    assignments: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The resolved configuration of a run.

    preset: a name out of `presets()`. file: TOML with the sections of RunConfig.
    assignments: "section.key=value" with a TOML value, or a bare word for a string; "section.table.name=value" in tables.
    options: "section.key" to value; None where the user said nothing.
    Raises ConfigError, which names the key and what was expected.
    """
    options = options or {}
    layers = []
    assigned = [_assignment(text) for text in assignments]
    content = read_toml(file) if file else {}
    if preset is None:
        # A model with a preset of its own name starts from it.
        said = [content, *assigned, _nested("model.name", options.get("model.name"))]
        names = [layer.get("model", {}).get("name") for layer in said if isinstance(layer.get("model"), Mapping)]
        name = next((name for name in reversed(names) if name), None)
        preset = name if name in presets() else None
    if preset:
        if preset not in presets():
            raise ConfigError(f"--preset {preset}: no such preset{_nearest(preset, presets())}.")
        layers.append((f"preset {preset}", tomllib.loads((_presets() / f"{preset}.toml").read_text("utf-8"))))
    if file:
        layers.append((str(file), content))
    layers += [(f"--set {text}", nested) for text, nested in zip(assignments, assigned, strict=True)]
    layers += [(f"--{key.split('.')[1]}", _nested(key, value)) for key, value in options.items() if value is not None]

    merged: dict[str, dict[str, Any]] = {}
    budget: Mapping[str, Any] = {}
    for origin, content in layers:
        budget = content.pop("budget", budget)
        _check_keys(content, origin)
        for section, values in content.items():
            known = merged.setdefault(section, {})
            # Tables of names are filled up layer by layer, as sections are.
            tables = {key: _pairs(values[key]) for key in _TABLES & values.keys()}
            # What is no table is for pydantic to refuse.
            filled = {k: {**known.get(k, {}), **table} for k, table in tables.items() if isinstance(table, Mapping)}
            known.update({**values, **filled})
    model = merged.setdefault("model", {})
    name = model.get("name", ModelConfig().name)
    if "hidden" not in model and name in budget:
        model["hidden"] = budget[name]
    found = _validated(merged)
    if found.model.name != "finn" and (found.model.equation or found.model.learn):
        key = "equation" if found.model.equation else "learn"
        raise ConfigError(f"model.{key} is for --model finn; the model here is {found.model.name}.")
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; ConfigError if there is none."""
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))  # editors put a byte order mark first
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8 ({error}). Save it in that encoding.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}.") from error


def config_toml(config: RunConfig) -> str:
    """The configuration as TOML; an option without a value is left out."""
    import tomli_w

    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


_TABLES = frozenset(("parameters", "boundaries", "closures"))
"""Keys of `model` that hold names and values."""


def _assignment(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    in_table = key.count(".") == 2 and key.split(".")[1] in _TABLES
    if not equals or not (key.count(".") == 1 or in_table):
        raise ConfigError(f"--set {text}: expected section.key=value, such as training.epochs=50.")
    try:
        return _nested(key.strip(), tomllib.loads(f"value = {value}")["value"])
    except tomllib.TOMLDecodeError:
        return _nested(key.strip(), value.strip())


def _nested(key: str, value: Any) -> dict[str, Any]:
    section, _, name = key.partition(".")
    return {section: _nested(name, value) if "." in name else {name: value}}


def _check_keys(content: Mapping[str, Any], origin: str) -> None:
    sections = RunConfig.model_fields
    for section, values in content.items():
        if section not in sections:
            raise ConfigError(f"{origin}: no section '{section}'{_nearest(section, sections)}.")
        if not isinstance(values, Mapping):
            raise ConfigError(f"{origin}: '{section}' is a section; write {section}.key = value.")
        known = type(sections[section].default).model_fields
        for key in values:
            if key not in known:
                raise ConfigError(f"{origin}: no key '{section}.{key}'{_nearest_key(section, key)}.")


def _nearest_key(section: str, key: str) -> str:
    """The most similar key of any section; of equally similar ones that of the same section."""
    choices = [
        f"{name}.{known}"
        for name, field in RunConfig.model_fields.items()
        for known in type(field.default).model_fields
    ]

    def similarity(choice: str) -> tuple[float, bool]:
        name, _, known = choice.partition(".")
        return difflib.SequenceMatcher(None, key, known).ratio(), name == section

    nearest = max(choices, key=similarity)
    if similarity(nearest)[0] >= 0.5:
        return f" (did you mean {nearest}?)"
    return f". Choose one of {', '.join(choice for choice in choices if choice.startswith(f'{section}.'))}"


def _nearest(word: str, known: Iterable[str]) -> str:
    choices = list(known)
    match = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f" (did you mean {match[0]}?)" if match else f". Choose one of {', '.join(choices)}"


def _validated(content: Mapping[str, Any]) -> RunConfig:
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:2])
        raise ConfigError(f"{key} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}.") from error
