"""The fleet's vocabulary: pure frozen values with their invariants.

Everybody imports it; it imports nothing but the standard library.
"""
