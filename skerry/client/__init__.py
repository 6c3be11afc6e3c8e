"""The public Python client: deployment files, the operator API, and requests to several gateways.

The command line is built on it; it shows fleet values and its own frozen rows, never protobuf.
"""
