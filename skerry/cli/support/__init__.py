"""What `skerry bundle` gathers for whoever is asked for help, and what it must not tell."""
