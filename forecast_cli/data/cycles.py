"""Cycles that a dated series may follow, and where a time stands in them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from forecast_cli.data.times import dates_of

CYCLES = {"hour": 24, "dayofyear": 366, "month": 12}
"""Kinds of cycles, and the number of their positions."""

Cycles = Mapping[str, np.ndarray]
"""Kind of cycle to (position, channel, height, width), float32; NaN where the training part has no value."""


def positions(values: np.ndarray, kind: str) -> np.ndarray:
    """Where times stand in a cycle, 0 first; `values` as `TimeAxis.rounded` has them, any shape."""
    read = {"hour": lambda date: date.hour, "month": lambda date: date.month - 1, "dayofyear": day_of_year}[kind]
    return np.array([read(date) for date in dates_of(values.ravel())], int).reshape(values.shape)


def day_of_year(date: Any) -> int:
    """The days since the first of the year."""
    return int(date.day_of_year if isinstance(date, pd.Timestamp) else date.dayofyr) - 1


def days_in_year(date: Any) -> int:
    """The days of the year that a date lies in, in its calendar."""
    if isinstance(date, pd.Timestamp):
        return 366 if date.is_leap_year else 365
    return int(date.replace(month=12, day=30 if date.calendar == "360_day" else 31).dayofyr)


def longest_year(calendar: str | None) -> int:
    """The days of the longest year of a calendar."""
    return {"360_day": 360, "noleap": 365, "365_day": 365}.get(str(calendar), CYCLES["dayofyear"])
