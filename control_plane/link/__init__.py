"""Sessions with planes: bidirectional streams that the planes open, over mTLS."""
