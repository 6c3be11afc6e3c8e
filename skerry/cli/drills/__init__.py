"""Drills: faults made on purpose in a live fleet of `skerry up`, under load, and put back.

`skerry drill` runs them. `catalogue` and `report` are pure; only `runner` breaks anything, and
what it broke is in a record on disk that `guard` and `skerry drill undo` put back by.
"""
