"""`skerry top`: looks at a fleet, what they say together, and how that is drawn."""
