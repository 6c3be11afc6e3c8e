"""Who may call the operator API: credentials become a principal, and a matrix decides.

`door.py` stands before every method; everything that decides is pure.
"""
