"""The node packer against the public openb trace: replicas arrive one by one and may not be moved.

`trace` reads, `packer` decides, `online` runs and checks, `bound` proves ceilings, `report` writes.
"""
