"""Base models as files of this plane: where they come from and what they are."""
