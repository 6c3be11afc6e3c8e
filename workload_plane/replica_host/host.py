"""The state of one replica host: health, state file, and what both gRPC services share."""

from collections.abc import Callable

from skerry.api.openengine.v1 import error_pb2
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.processes import ProcessRecord
from workload_plane.engines.port import ADAPTER_DIALECTS, EngineLaunch
from workload_plane.replica_host.engine_client import EngineAsked
from workload_plane.replica_host.faults import RequestFault, unavailable
from workload_plane.replica_host.in_flight import Flights
from workload_plane.replica_host.lifecycle import (
    RESTARTS,
    Health,
    HostState,
    advance,
    after_probe,
)
from workload_plane.replica_host.load import may_be_busy
from workload_plane.replica_host.restarts import is_sound
from workload_plane.replica_host.spec import ReplicaSpec
from workload_plane.replica_host.state import Counts, record_of, write_record

_log = logs.get_logger(__name__)

PROBE_PAUSE_SECONDS = 0.1
# After a failure the second look comes at once: a hang is known after 1.35 s, and with the next
# looks of the gateway, half a second later, and of its picker nothing new comes.
_PROBE_AGAIN_SECONDS = 0.05
_SILENT = "the engine does not answer its health check"


class ReplicaHost:
    """One replica's health and requests; writes the state file at every change."""

    def __init__(
        self,
        spec: ReplicaSpec,
        launch: EngineLaunch,
        engine: EngineAsked,
        clock: Clock,
        note: str = "",
    ) -> None:
        """Begin in state STARTING; nothing is written yet. See `ReplicaRecord` for the note."""
        self.spec = spec
        self.launch = launch
        self.engine = engine
        self.flights = Flights()
        self.clock = clock
        self.health = Health()
        self.message = ""
        self._note = note
        self.restarts = 0
        self.failures = spec.failures
        self.was_ready = False
        self._serving_since: float | None = None
        self._engine_may_work = False
        self._is_unwritten = False
        self._process: ProcessRecord | None = None
        self._listeners: list[Callable[[Health], None]] = []

    @property
    def adapters(self) -> tuple[str, ...]:
        """Return the LoRA adapters that a Generate request may name.

        Of the dialects only those of ADAPTER_DIALECTS have a word for them.
        """
        lora = self.spec.engine.lora
        if lora is None or self.launch.dialect not in ADAPTER_DIALECTS:
            return ()
        return tuple(adapter.name for adapter in lora.adapters)

    def check_serving(self) -> None:
        """Raise RequestFault, to be tried elsewhere, where no new request may come."""
        state = self.health.state
        if state is HostState.DRAINING:
            raise RequestFault(
                code=error_pb2.ERROR_CODE_DRAINING,
                message="this replica is draining; send the request to another",
                retryable=True,
            )
        if not self.health.serving:
            raise unavailable(f"this replica is {state.value}: {self.message or 'not ready yet'}")

    def on_change(self, listener: Callable[[Health], None]) -> None:
        """Tell the listener of every later change of state."""
        self._listeners.append(listener)

    def record_with(self, process: ProcessRecord, *, is_restart: bool = False) -> None:
        """Write the state file for an engine that was just started."""
        self._process = process
        self.restarts += is_restart
        self.failures += is_restart
        self._write()

    def engine_lost(self, reason: str) -> None:
        """End what the dead engine worked on, each request with an error that may be retried."""
        self._process = None
        self._engine_may_work = False
        lost = self.flights.lose_all(reason)
        if lost:
            _log.warning("requests.lost", requests=lost, reason=reason)

    def become(self, state: HostState, message: str = "") -> None:
        """Move to the state, write it down and tell the listeners."""
        self._set(Health(state=advance(self.health.state, state)), message, is_news=True)

    async def probe_until_too_late(self) -> None:
        """Probe the engine for ever; return only when it is not up within its start-up time."""
        deadline = self.clock.monotonic() + self.launch.startup_seconds_max
        while not self._is_coming_up or self.clock.monotonic() < deadline:
            answered = await self.engine.probe()
            health = after_probe(self.health, answered=answered)
            self._set(health, "" if answered else _SILENT)
            again = health.probes_failed > 0
            await self.clock.sleep(_PROBE_AGAIN_SECONDS if again else PROBE_PAUSE_SECONDS)

    async def wait_drained(self) -> None:
        """Return once no request is under way, here or at the engine's own HTTP server.

        An engine that tells nothing in time is waited for: it is silent because it is busy. One
        that never was ready has no requests, and loads on without telling anything.
        """
        while True:
            await self.flights.wait_idle()
            if not self._engine_may_work:
                return
            load = await self.engine.load()
            if not may_be_busy(load, self.launch.load_metrics) and not len(self.flights):
                return
            await self.clock.sleep(_PROBE_AGAIN_SECONDS)

    @property
    def _is_coming_up(self) -> bool:
        return self.health.state is HostState.STARTING or self.health.state in RESTARTS

    def _set(self, health: Health, message: str, *, is_news: bool = False) -> None:
        # What a full disk refused is written with the next probe that it lets through.
        changed = is_news or health.state is not self.health.state
        self._note_serving(health)
        self.health = health
        self.was_ready = self.was_ready or health.serving
        self._engine_may_work = self._engine_may_work or health.serving
        if not changed:
            if self._is_unwritten:
                self._write()
            return
        self.message = message
        _log.info("replica.state", state=health.state.value, message=message)
        self._write()
        for listener in self._listeners:
            listener(health)

    def _note_serving(self, health: Health) -> None:
        """Forget the failures in a row once the engine has served soundly; written down at once."""
        now = self.clock.monotonic()
        if not health.serving:
            self._serving_since = None
        elif self._serving_since is None:
            self._serving_since = now
        elif self.failures and is_sound(self._serving_since, now):
            self.failures, self._is_unwritten = 0, True

    def _write(self) -> None:
        record = record_of(
            self.spec,
            self.health.state,
            self._process,
            self.message,
            Counts(restarts=self.restarts, failures=self.failures),
            self._note,
        )
        try:
            write_record(self.spec.state_file, record)
        except OSError as error:
            # An engine that serves must not end because a disk is full.
            if not self._is_unwritten:
                _log.warning("state.not-written", path=self.spec.state_file, error=str(error))
            self._is_unwritten = True
        else:
            self._is_unwritten = False
