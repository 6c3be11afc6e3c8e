"""Autoscaling as a pure decision: what was counted and `now` in, how many replicas and why out.

The plane's agent (`local`), the control plane (`fleetwide`) and the replay of traces
(`skerry.replay`) run this very code. No clock, network or disk.
"""
