"""The control plane: decides what runs where and pushes it to the planes.

It is on nobody's request path: planes serve, scale and restart replicas without it.
"""
