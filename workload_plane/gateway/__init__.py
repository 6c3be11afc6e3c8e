"""The plane's gateway: what Envoy is told, in which order, and what it says back."""
