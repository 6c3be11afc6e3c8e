"""Level-triggered reconciliation: snapshot -> plan (pure) -> apply; only loop.py does I/O."""
