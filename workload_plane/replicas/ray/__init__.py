"""Replicas on the nodes of a Ray cluster: `--runtime ray`, for planes of many nodes.

Only the processes `bridge`, `node_main` and the launchers on the nodes import Ray: the agent
itself does not, so that neither a hung nor a dying Ray takes it along.
"""
