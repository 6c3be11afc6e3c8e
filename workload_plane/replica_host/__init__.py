"""`skerry-replica`: one engine process, its health, and `openengine.v1` in front of it.

Started by the plane's agent in a session of its own, so that it outlives the agent and is adopted
again from its state file.
"""
