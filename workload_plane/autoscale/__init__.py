"""The local loop: how many replicas the plane's own load needs, inside its envelope."""
