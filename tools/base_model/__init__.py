"""Makes the small base model that the project ships; `python -m tools.base_model` starts it."""
