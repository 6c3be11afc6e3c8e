"""A workload plane: one serving site, which goes on alone.

It knows no database and no solver, and nothing in it waits for the control plane.
"""
