"""How a stream that broke is gone on with elsewhere: pure rules, for the relay and the client."""
