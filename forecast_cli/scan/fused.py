"""Gates and recurrence in one pass over time each way, in plain torch, on any device.

Autograd would keep every intermediate of every gate; here the inputs and the hidden states are kept
and the rest is computed again, so that nothing larger than the gates is held between the passes.
"""

from typing import Any

import torch
from torch import Tensor

from forecast_cli.scan.reference import g, keep_logit


def fused(gates: tuple[Tensor, ...], candidate: Tensor, initial: Tensor) -> Tensor:
    """See `forecast_cli.scan.scan`."""
    hidden: Tensor = _Fused.apply(candidate, initial, *gates)
    return hidden


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, candidate: Tensor, initial: Tensor, *gates: Tensor) -> Tensor:
        hidden = g(candidate)
        update = torch.sigmoid(-keep_logit(gates))
        last = initial
        for time in range(hidden.shape[1]):
            # h + z (g - h) = a h + z g: one operation, in the memory of g; torch.compile takes no `out` that is a view
            if torch.compiler.is_compiling():
                last = hidden[:, time] = torch.lerp(last, hidden[:, time], update[:, time])
            else:
                last = torch.lerp(last, hidden[:, time], update[:, time], out=hidden[:, time])
        ctx.save_for_backward(candidate, initial, hidden, *gates)
        return hidden

    @staticmethod
    def backward(ctx: Any, grad_hidden: Tensor) -> tuple[Tensor, ...]:
        candidate, initial, hidden, *gates = ctx.saved_tensors
        keep = keep_logit(gates)
        decay, update = torch.sigmoid(keep), torch.sigmoid(-keep)

        # What reaches h_t: its own gradient, and what h_(t+1) hands back through its decay.
        flow = grad_hidden.clone()
        for time in range(flow.shape[1] - 1, 0, -1):
            flow[:, time - 1].addcmul_(flow[:, time], decay[:, time])

        before = torch.cat([initial.unsqueeze(1), hidden[:, :-1]], dim=1)
        squashed = torch.sigmoid(candidate)
        slope = torch.where(candidate >= 0, 1.0, squashed * (1 - squashed))
        grad_keep = flow * decay * update * (before - g(candidate))
        grad_gates = [grad_keep]
        if len(gates) == 2:
            forget, input_ = gates
            grad_gates = [grad_keep * torch.sigmoid(-forget), -grad_keep * torch.sigmoid(-input_)]
        return flow * update * slope, flow[:, 0] * decay[:, 0], *grad_gates
