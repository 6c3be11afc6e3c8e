"""The `skerry` command: one module per verb or noun, and the supervisor of a fleet on one host.

Modules import what they need inside their commands: `skerry --help` must not wait for gRPC.
"""
