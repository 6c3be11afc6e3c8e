"""The simulated engine: real HTTP, a latency model instead of a base model, faults on request.

For tests, and for fleets larger than the machine: `python -m workload_plane.simulated`.
"""
