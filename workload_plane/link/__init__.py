"""The plane's side of the link to the control plane. Losing it stops nothing."""
