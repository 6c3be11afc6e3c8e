"""One plane's link in a process of its own, to be stopped: `python -m tests.integration.link_peer`.

Arguments: the control plane's address, the plane's name, and the three PEM files.
"""

import asyncio
import sys
from pathlib import Path

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.rpc import TlsFiles
from tests.integration.link_world import Side
from workload_plane.link.client import LinkClient
from workload_plane.link.connection import LinkSettings


def main() -> None:
    """Keep the link up until the process is ended."""
    address, plane, ca, cert, key = sys.argv[1:]
    clock = SystemClock()
    tls = TlsFiles(ca=Path(ca), cert=Path(cert), key=Path(key))
    settings = LinkSettings(
        control_planes=(address,), tls=tls, project="default", agent_id="another-process"
    )
    client = LinkClient(settings, Side(plane), asyncio.Event(), clock, SystemIds(clock))
    asyncio.run(client.run())


if __name__ == "__main__":
    main()
