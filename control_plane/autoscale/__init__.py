"""The global loop of autoscaling: what planes counted in, targets and what is to be placed out."""
