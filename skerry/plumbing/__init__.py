"""What every process of the tree stands on: time, ids, errors, files, processes, wires.

No domain word lives in here; everything above may import it, it imports nothing of ours.
"""
