"""How the logits of the gates say what is kept, and how they lie beside the candidate along the channels of one tensor."""

from typing import Literal

from torch import Tensor

Kind = Literal["keep", "update", "forget-input"]
KINDS: tuple[Kind, ...] = ("keep", "update", "forget-input")
"""keep: a = sigmoid(k). update: 1 - a = sigmoid(k). forget-input: a = sigmoid(k_f) / (sigmoid(k_f) + sigmoid(k_i))."""


def parts_of(kind: Kind) -> int:
    """Gates and candidate."""
    return 3 if kind == "forget-input" else 2


def unpacked(packed: Tensor, kind: Kind) -> tuple[tuple[Tensor, ...], Tensor]:
    """(gates, candidate) as `scan` takes them, from (batch, time, parts * channel, height, width)."""
    *gates, candidate = packed.chunk(parts_of(kind), dim=2)
    return (-gates[0],) if kind == "update" else tuple(gates), candidate
