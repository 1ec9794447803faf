"""Forecast fields in space and time: train, roll out, evaluate."""

__version__ = "0.1.0"
