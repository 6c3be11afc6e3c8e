"""Traces replayed through the autoscaling policies that run in production, under a virtual clock.

`skerry simulate` and `make bench-autoscaling` use it. Needs NumPy and Numba (extra `control`).
"""
