"""How all pictures look, and how they are written: readable at the width of a paper, safe for the colour-blind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from forecast_cli.data.atomic import temporary
from forecast_cli.data.output import refuse_overwrite
from forecast_cli.errors import OutputError

# Okabe and Ito (2008): eight colours that most people can tell apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
MARKERS = "os^Dv<>PX"
STROKES = ["-", ":", "-."]
"""Of curves beyond the first eight, whose colours come again: with other markers, since there are nine of these."""
PAPER = 7.0
"""Width of a page of two columns, in inches."""
MISSING = "0.85"
"""Light grey, where a map has no value."""
_STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "figure.dpi": 150,
    "savefig.dpi": 200,
    "legend.frameon": False,
}


@contextmanager
def styled() -> Iterator[None]:
    """Everything drawn inside looks alike, whatever a matplotlibrc of the folder or the user sets."""
    with plt.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def with_unit(name: str, unit: str) -> str:
    """'name [unit]', or the name alone for pure numbers."""
    return name if unit in ("", "1") else f"{name} [{unit}]"


def ahead(lead: float, unit: str) -> str:
    """A lead time as a title: +1 hour, +24 hours, +3."""
    if unit in ("", "1"):
        return f"+{lead:g}"
    return f"+{lead:g} {unit.removesuffix('s') if lead == 1 and unit.endswith('s') and len(unit) > 2 else unit}"


def is_baseline(model: str) -> bool:
    """Whether a curve belongs to a baseline: drawn dashed, behind the forecasts."""
    return model.split(":")[0] in ("persistence", "climatology")


def require_kind(path: Path) -> str:
    """The kind of a picture, by the end of its name; OutputError for one that cannot be made."""
    known, kind = FigureCanvasBase.get_supported_filetypes(), path.suffix.lstrip(".").lower()
    if kind not in known:
        raise OutputError(
            f"{path}: cannot make a picture of kind '{kind}'. Known are {', '.join(sorted(known))}, gif and mp4."
        )
    return kind


def save(figure: Figure, path: Path, overwrite: bool) -> None:
    """Write a picture under its final name only when it is whole."""
    try:
        kind = require_kind(path)
    except OutputError:
        plt.close(figure)
        raise
    written(figure, path, overwrite, lambda partial: figure.savefig(partial, format=kind))


def written(figure: Figure, path: Path, overwrite: bool, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside `path`, which takes its name when it is whole."""
    refuse_overwrite(path, overwrite)
    # The ending gives writers the kind; a relative name with a leading dash is an option to ffmpeg.
    partial = temporary(path.absolute()).with_suffix(f".partial{path.suffix}")
    try:
        write(partial)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}).") from error
    finally:
        with suppress(OSError):  # where nothing can be written, nothing can be removed
            partial.unlink(missing_ok=True)
        plt.close(figure)
