"""The plane's side of the proof of residency: the gateway's log, rolled up and chained."""
