"""Who leads: one control plane at a time, by a term in the database that it keeps renewing."""
