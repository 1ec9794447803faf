"""Gates and recurrence in one pass over time each way, in plain torch, on any device.

Autograd would keep every intermediate of every gate; here the inputs and the hidden states are kept
and the rest is computed again, so that nothing larger than the gates is held between the passes.
"""

from typing import Any

import torch
from torch import Tensor

from forecast_cli.scan.reference import g, keep_logit


def fused(gates: tuple[Tensor, ...], candidate: Tensor, initial: Tensor) -> Tensor:
    """See `forecast_cli.scan.scan`. Low-precision inputs are computed in float32 and rounded once."""
    hidden: Tensor = _Fused.apply(candidate, initial, *gates)
    return hidden


def _computing_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, candidate: Tensor, initial: Tensor, *gates: Tensor) -> Tensor:
        dtype = _computing_dtype(candidate.dtype)
        hidden = g(candidate.to(dtype))
        update = torch.sigmoid(-keep_logit(tuple(gate.to(dtype) for gate in gates)))
        last = initial.to(dtype)
        for time in range(hidden.shape[1]):
            # h + z (g - h) = a h + z g: one operation, in the memory of g
            last = torch.lerp(last, hidden[:, time], update[:, time], out=hidden[:, time])
        hidden_out = hidden.to(candidate.dtype)
        ctx.save_for_backward(candidate, initial, hidden_out, *gates)
        return hidden_out

    @staticmethod
    def backward(ctx: Any, grad_hidden: Tensor) -> tuple[Tensor, ...]:
        candidate, initial, hidden, *gates = ctx.saved_tensors
        dtype = _computing_dtype(candidate.dtype)
        keep = keep_logit(tuple(gate.to(dtype) for gate in gates))
        decay, update = torch.sigmoid(keep), torch.sigmoid(-keep)

        # What reaches h_t: its own gradient, and what h_(t+1) hands back through its decay.
        flow = grad_hidden.to(dtype, copy=True)
        for time in range(flow.shape[1] - 1, 0, -1):
            flow[:, time - 1].addcmul_(flow[:, time], decay[:, time])

        before = torch.cat([initial.unsqueeze(1), hidden[:, :-1]], dim=1).to(dtype)
        squashed = torch.sigmoid(candidate.to(dtype))
        slope = torch.where(candidate >= 0, 1.0, squashed * (1 - squashed))
        grad_keep = flow * decay * update * (before - g(candidate.to(dtype)))
        grad_candidate = flow * update * slope
        grad_initial = flow[:, 0] * decay[:, 0]
        if len(gates) == 1:
            grad_gates = (grad_keep,)
        else:
            forget, input_ = (gate.to(dtype) for gate in gates)
            grad_gates = (grad_keep * torch.sigmoid(-forget), -grad_keep * torch.sigmoid(-input_))
        return (
            grad_candidate.to(candidate.dtype),
            grad_initial.to(initial.dtype),
            *(grad.to(gate.dtype) for grad, gate in zip(grad_gates, gates, strict=True)),
        )
