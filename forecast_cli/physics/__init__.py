"""Finite volumes: grids, boundary conditions, terms of an equation, and the steppers that integrate them.

Everywhere a state is (batch, channel, height, width); fields in one dimension have height 1.
"""
