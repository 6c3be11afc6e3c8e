"""A fleet on one host: its layout, its processes, who is started again, and fleet.json.

`skerry up` prepares a data directory and starts `python -m skerry.cli.supervisor`; only this
package of the command line knows the control plane and the workload planes.
"""
