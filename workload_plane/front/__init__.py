"""The front: a small gRPC process beside the gateway that speaks for the plane as one engine."""
