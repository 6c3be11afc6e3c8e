"""Where replicas run: one port, `local` behind it, and the records that outlive the agent."""
