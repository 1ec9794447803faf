"""Random weights for models that would otherwise start from what they are not trained to be."""

import torch
from torch import nn


def randomize(model: nn.Module) -> None:
    """Random weights everywhere, also where training starts from zero.

    The coefficients of PhyDNet's linear equation are small: with others its fields grow from step to step, and roundings with them.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.02 if name.endswith("equation.coefficients") else 0.4
            parameter.copy_(spread * torch.randn_like(parameter))
