"""The state of one replica host: health, state file, and what both gRPC services share."""

from collections.abc import Callable

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.processes import ProcessRecord
from workload_plane.engines.port import EngineLaunch
from workload_plane.replica_host.engine_client import EngineClient
from workload_plane.replica_host.in_flight import Flights
from workload_plane.replica_host.lifecycle import Health, HostState, advance, after_probe
from workload_plane.replica_host.load import may_be_busy
from workload_plane.replica_host.spec import ReplicaSpec
from workload_plane.replica_host.state import record_of, write_record

_log = logs.get_logger(__name__)

PROBE_PAUSE_SECONDS = 1.0
# After a failure the second look comes at once, so that a hang is known in under 3 s.
_PROBE_AGAIN_SECONDS = 0.1


class ReplicaHost:
    """One replica's health and requests; writes the state file at every change."""

    def __init__(
        self, spec: ReplicaSpec, launch: EngineLaunch, engine: EngineClient, clock: Clock
    ) -> None:
        """Begin in state STARTING; nothing is written yet."""
        self.spec = spec
        self.launch = launch
        self.engine = engine
        self.flights = Flights()
        self.clock = clock
        self.health = Health()
        self.message = ""
        self._was_ready = False
        self._process: ProcessRecord | None = None
        self._listeners: list[Callable[[Health], None]] = []

    def on_change(self, listener: Callable[[Health], None]) -> None:
        """Tell the listener of every later change of state."""
        self._listeners.append(listener)

    def record_with(self, process: ProcessRecord) -> None:
        """Write the state file for an engine that was just started."""
        self._process = process
        self._write()

    def become(self, state: HostState, message: str = "") -> None:
        """Move to the state, write it down and tell the listeners."""
        self._set(Health(state=advance(self.health.state, state)), message)

    async def probe_until_too_late(self) -> None:
        """Probe the engine for ever; return only when it is not up within its start-up time."""
        deadline = self.clock.monotonic() + self.launch.startup_seconds_max
        while self.health.state is not HostState.STARTING or self.clock.monotonic() < deadline:
            answered = await self.engine.probe()
            health = after_probe(self.health, answered=answered)
            message = "" if answered else "the engine does not answer its health check"
            self._set(health, message)
            again = health.probes_failed > 0
            await self.clock.sleep(_PROBE_AGAIN_SECONDS if again else PROBE_PAUSE_SECONDS)

    async def wait_drained(self) -> None:
        """Return once no request is under way, here or at the engine's own HTTP server.

        An engine that tells nothing in time is waited for: it is silent because it is busy. One
        that never was ready has no requests, and loads on without telling anything.
        """
        while True:
            await self.flights.wait_idle()
            if not self._was_ready:
                return
            load = await self.engine.load()
            if not may_be_busy(load, self.launch.load_metrics) and not len(self.flights):
                return
            await self.clock.sleep(_PROBE_AGAIN_SECONDS)

    def _set(self, health: Health, message: str) -> None:
        changed = health.state is not self.health.state
        self.health = health
        self._was_ready = self._was_ready or health.serving
        if not changed:
            return
        self.message = message
        _log.info("replica.state", state=health.state.value, message=message)
        self._write()
        for listener in self._listeners:
            listener(health)

    def _write(self) -> None:
        write_record(
            self.spec.state_file,
            record_of(self.spec, self.health.state, self._process, self.message),
        )
