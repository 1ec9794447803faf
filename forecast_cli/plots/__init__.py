"""Pictures of scores, spectra, trainings, learned functions and fields."""

import os

os.environ["MPLBACKEND"] = "Agg"  # a backend that another program has set may not exist here, and fails the import

from forecast_cli.plots.closures import plot_closures
from forecast_cli.plots.curves import plot_scores, plot_spectra, plot_training
from forecast_cli.plots.maps import Picture, animate, of_fields, of_forecast, plot_fields
from forecast_cli.plots.topography import plot_topography

__all__ = [
    "Picture",
    "animate",
    "of_fields",
    "of_forecast",
    "plot_closures",
    "plot_fields",
    "plot_scores",
    "plot_spectra",
    "plot_topography",
    "plot_training",
]
