"""Pure placement: supply + demand + what runs now -> a plan with reasons, checked before use.

`control_plane.reconcile` and the operator API call `solve`; nothing here knows time, disk or wire.
Reading order: problem, plan, grid, levels, exact, solve.
"""
