"""Bars of a benchmark, with their range and what cannot be undercut."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from forecast_cli.plots.style import COLOURS, PAPER, save, styled


def plot_benchmark(rows: Sequence[Any], path: Path, *, overwrite: bool = False) -> None:
    """One bar a row: median and range in milliseconds; a line where the floor is."""
    labels = [
        " ".join(
            str(part)
            for part in (
                row.model,
                *((row.scan,) if row.scan != "-" else ()),
                f"T={row.context}+{row.horizon}",
                *((f"{row.threads} threads",) if row.threads > 1 else ()),
                *((row.precision,) if row.precision == "bf16" else ()),
            )
        )
        for row in rows
    ]
    middle, place = np.array([row.median_ms for row in rows]), np.arange(len(rows))
    reach = np.array([[row.median_ms - row.low_ms, row.high_ms - row.median_ms] for row in rows]).T
    with styled():
        figure, axis = plt.subplots(figsize=(PAPER, 0.8 + 0.28 * len(rows)), layout="constrained")
        axis.barh(place, middle, xerr=reach, color=COLOURS[0], error_kw={"linewidth": 0.8})
        floors = [(y, row.floor_ms) for y, row in zip(place, rows, strict=True) if row.floor_ms is not None]
        if floors:
            heights, values = np.array(floors).T
            floor = "ReLU" if rows[0].benchmark == "activations" else "its convolutions alone"
            axis.vlines(values, heights - 0.4, heights + 0.4, color="black", label=floor)
            axis.legend()
        axis.set_yticks(place, labels)
        axis.invert_yaxis()
        axis.set_xlabel("milliseconds")
        axis.set_title(f"{rows[0].benchmark}, batch {rows[0].batch}, {rows[0].device}")
        save(figure, path, overwrite)
