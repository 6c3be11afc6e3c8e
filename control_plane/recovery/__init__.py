"""Recovery: what planes hold is taken in when the database is lost or an older backup."""
