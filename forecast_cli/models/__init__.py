"""Every model by the name it has on the command line."""

import difflib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch

from forecast_cli.config import ModelConfig, RunConfig
from forecast_cli.domain import Domain
from forecast_cli.errors import ConfigError
from forecast_cli.models.activations import activation
from forecast_cli.models.base import Forecast, ForecastModel, LearnedFunction, Records, State
from forecast_cli.models.conv_nets import PlainStack, ResNet, UNet
from forecast_cli.models.conv_next import ConvNeXt
from forecast_cli.models.conv_rnn import ConvGRUCell, ConvLSTMCell
from forecast_cli.models.described import completed, require_units
from forecast_cli.models.direct import DirectForecaster
from forecast_cli.models.distana import PredictionKernel
from forecast_cli.models.finn import FiniteVolumeNetwork
from forecast_cli.models.min_conv import MinConvExpLSTMCell, MinConvGRUCell, MinConvLSTMCell
from forecast_cli.models.phydnet import PhyDNet
from forecast_cli.models.recurrent import RecurrentForecaster
from forecast_cli.models.swin import Swin
from forecast_cli.models.var import VectorAutoregression

__all__ = [
    "DIRECT",
    "MODELS",
    "RECURRENT",
    "Forecast",
    "ForecastModel",
    "LearnedFunction",
    "Records",
    "State",
    "build_model",
    "completed",
    "ignored",
    "require_units",
]

RECURRENT: dict[str, Callable[[RunConfig, Domain], ForecastModel]] = {
    "minconvlstm": partial(RecurrentForecaster, cell=MinConvLSTMCell),
    "minconvgru": partial(RecurrentForecaster, cell=MinConvGRUCell),
    "minconvexplstm": partial(RecurrentForecaster, cell=MinConvExpLSTMCell),
    "convlstm": partial(RecurrentForecaster, cell=ConvLSTMCell),
    "convgru": partial(RecurrentForecaster, cell=ConvGRUCell),
    "distana": partial(RecurrentForecaster, cell=PredictionKernel),
    "phydnet": PhyDNet,
}
"""Recurrent networks on the grid: one stack, of which only the cell differs; `phydnet` has another cell beside it."""
DIRECT: dict[str, Callable[[RunConfig, Domain], ForecastModel]] = {
    "cnn": partial(DirectForecaster, backbone=PlainStack),
    "resnet": partial(DirectForecaster, backbone=ResNet),
    "unet": partial(DirectForecaster, backbone=UNet),
    "convnext": partial(DirectForecaster, backbone=ConvNeXt),
    "swin": partial(DirectForecaster, backbone=Swin),
}
"""Networks that map a window of frames to the next one."""
MODELS = {**RECURRENT, **DIRECT, "finn": FiniteVolumeNetwork, "var": VectorAutoregression}


def build_model(config: RunConfig, domain: Domain) -> ForecastModel:
    """The model that `config.model.name` names, for the fields of `domain`; ConfigError for an unknown name."""
    name = config.model.name
    if name not in MODELS:
        match = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {match[0]}? " if match else ""
        raise ConfigError(f"model.name: no model '{name}'; {hint}known are {', '.join(MODELS)}.")
    wanted = activation(config.model.activation)
    model = MODELS[name](config, domain)
    if config.model.activation != "auto" and not any(type(module) is type(wanted) for module in model.modules()):
        remedy = "give it a channel MLP with model.mlp, or leave it out" if name in RECURRENT else "leave it out"
        raise ConfigError(
            f"model.activation = {config.model.activation}: {name} has no activation to choose here; {remedy}."
        )
    return model


class _Watched:
    """Options that remember which of them were looked at."""

    def __init__(self, options: ModelConfig) -> None:
        self._options, self.seen = options, set[str]()

    def __getattr__(self, name: str) -> Any:
        self.seen.add(name)
        return getattr(self._options, name)


def ignored(config: RunConfig, domain: Domain, said: Iterable[str]) -> list[str]:
    """Those of the options `said` that the model does not look at when it is built; FINN looks at some later, and is not asked."""
    if config.model.name == "finn" or not said:
        return []
    watched = _Watched(config.model)
    with torch.device("meta"):  # no memory, no random numbers
        build_model(config.model_copy(update={"model": watched}), domain)
    return [name for name in said if name not in watched.seen]
