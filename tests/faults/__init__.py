"""Faults of real fleets under load."""
