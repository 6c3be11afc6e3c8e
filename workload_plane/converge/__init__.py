"""Convergence: discover what runs (I/O), plan what to do (pure), apply it (I/O), and again."""
