"""Stand-ins that keep the contracts of the real things; each has a suite in tests/contract."""
