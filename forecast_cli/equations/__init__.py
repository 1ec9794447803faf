"""Partial differential equations that the tool can simulate, one a file."""
