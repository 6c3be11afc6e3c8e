"""Entry point: serves until SIGTERM; started by the replica host."""

import sys

from workload_plane.simulated.server import main

sys.exit(main())
