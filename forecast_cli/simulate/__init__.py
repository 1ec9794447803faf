"""Simulated data sets: the same equations that a finite volume network learns, and Navier-Stokes, which is spectral."""
