"""What Python loads by itself at the start of an engine over several nodes: see sitecustomize."""
