"""Entry point: serves one GGUF file until SIGTERM; started by the replica host."""

import sys

from workload_plane.llamacpp_server.server import main

sys.exit(main())
