"""A bounded share of blocks that are too many to be read."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def evenly(items: Sequence[Item], count: int) -> Iterator[Item]:
    """Yield all items, or `count` of them at even distances, the first and the last among them."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return (items[place] for place in places)
