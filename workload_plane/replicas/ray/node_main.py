"""`ray start` as the agent runs it: the command of Ray, kept on loopback where it is to be.

Ray takes 127.0.0.1 for the address of a machine's network, and would bind to all of its addresses;
with a second node on loopback it would refuse to start. Both are Ray 2.60's, measured in
docs/decisions/0011-ray-runtime.md.
"""

import os
import sys

LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # "0" keeps 127.0.0.1 what it is


def main() -> int:
    """Run Ray's command line with our arguments."""
    from ray._private import ray_constants, services
    from ray.scripts.scripts import main as run

    if os.environ.get(LOOPBACK_VARIABLE) == "0":
        ray_constants.ENABLE_RAY_CLUSTER = True
        services.get_node_ip_address = lambda address=None: "127.0.0.1"
    sys.argv[0] = "ray"
    return int(run() or 0)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    raise SystemExit(main())
