"""The capacity database: what is wanted, decided and known, and who changed it.

Functions take a session and values and return values; rows never leave. The API and the reconcile
loop call them through `engine.Database`. Every write is fenced by the leader's epoch.
"""
