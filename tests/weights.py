"""Random weights for models that would otherwise start from what they are not trained to be."""

import torch
from torch import nn

from forecast_cli.models.var import VectorAutoregression


def randomize(model: nn.Module) -> None:
    """Random weights everywhere, also where training starts from zero.

    The coefficients of PhyDNet's linear equation and of the linear model are small: with others their fields grow from step to step, and
    roundings with them.
    """
    with torch.no_grad():
        if isinstance(model, VectorAutoregression):
            model.eofs.copy_(torch.linalg.qr(torch.randn_like(model.eofs.T))[0].T)
            model.coefficients.copy_(0.1 * torch.randn_like(model.coefficients))
            model.constant.copy_(torch.randn_like(model.constant))
            model.rho.copy_(torch.rand_like(model.rho) / len(model.rho))
        for name, parameter in model.named_parameters():
            spread = 0.02 if name.endswith("equation.coefficients") else 0.4
            parameter.copy_(spread * torch.randn_like(parameter))
