"""Seeded nonsense at every listener: `make fuzz`, and a small run in the test suite."""
