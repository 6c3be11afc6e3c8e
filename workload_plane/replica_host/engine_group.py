"""The processes of one engine: one as a rule, several where prefill and decode are apart.

Workers come first; the process that answers on the replica's HTTP port is started once they all
listen. One that ends takes the others with it: what is left of an engine serves nobody.
"""

import asyncio
import os
import signal
from collections.abc import Sequence

from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Conflict, Unavailable
from skerry.plumbing.ports import check_port_free, is_listening
from skerry.plumbing.processes import (
    ProcessRecord,
    children,
    is_alive,
    kill_group,
    record_of,
    session_members,
    signal_process,
    terminate,
    wait_until_gone,
)
from skerry.plumbing.tasks import first_of
from workload_plane.engine_user import EngineUser
from workload_plane.engines.port import EngineLaunch, EngineProcess
from workload_plane.replica_host import engine_process
from workload_plane.replica_host.ending import main_grace_seconds
from workload_plane.replica_host.prefix_disk import PrefixPlace
from workload_plane.replica_host.spec import ReplicaSpec

# A worker listens once its weights are loaded, which takes seconds to minutes.
_LISTEN_LOOK_SECONDS = 0.1
# A killed engine's driver may take seconds to give its memory and its ports back.
_GONE_SECONDS_MAX = 30.0
_GONE_LOOK_SECONDS = 0.05


class EngineGroup:
    """What was started of one engine; start it from the main thread."""

    def __init__(
        self,
        spec: ReplicaSpec,
        launch: EngineLaunch,
        *,
        held: Sequence[int] = (),
        place: PrefixPlace | None = None,
        user: EngineUser | None = None,
        owns_children: bool = False,
    ) -> None:
        """Start nothing yet; the engine's processes inherit the descriptors that are `held`.

        Prefixes on disk are kept in the `place`, each engine's own ones. They run as the `user`, or
        as this process.
        With `owns_children` every child of this process is the engine's: this process adopts
        orphans and starts nothing else.
        """
        self._spec = spec
        self._held = held if place is None else (*held, place.lock)
        self._place = place
        self._user = user
        self._owns_children = owns_children
        *self._workers, self._main = launch.processes(spec.http_port)
        self._grace_seconds = launch.drain.kill_after_seconds
        self._main_grace_seconds = main_grace_seconds(launch)
        self._started: dict[str, ProcessRecord] = {}
        self.ended = self._main.name  # whose log tells why, once one has ended

    @property
    def first(self) -> ProcessRecord:
        """Return the process that stands for the engine: the one that answers, if it is there."""
        return self._started.get(self._main.name) or next(iter(self._started.values()))

    @property
    def pids(self) -> frozenset[int]:
        """Return the processes whose exit codes are waited for here."""
        return frozenset(process.pid for process in self._started.values())

    @property
    def who_ended(self) -> str:
        """Return what ended in words: the engine, or one worker of it by its name."""
        return "the engine" if self.ended == self._main.name else f"the engine's {self.ended}"

    @property
    def log_names(self) -> Sequence[str]:
        """Return the names of the processes, each of which has a log."""
        return [*(worker.name for worker in self._workers), self._main.name]

    def start(self) -> None:
        """Start what comes first: the workers, or the only process there is."""
        self._started.clear()
        for process in self._workers or [self._main]:
            self._spawn(process)

    async def complete(self, clock: Clock) -> bool:
        """Start the process that answers once all workers listen; False if it runs already."""
        if self._main.name in self._started:
            return False
        for worker in self._workers:
            # The port of one that has died may be another's by now: its end is told elsewhere.
            while not (
                await is_listening(self._spec.host, worker.port)
                and is_alive(self._started[worker.name])
            ):
                await clock.sleep(_LISTEN_LOOK_SECONDS)
        self._spawn(self._main)
        return True

    async def wait_for_an_end(self) -> int | None:
        """Return when one of the started has ended, with its exit code; `ended` is its name."""
        codes: list[int | None] = []

        async def wait(name: str, process: ProcessRecord) -> None:
            code = await wait_until_gone(process)
            if not codes:
                self.ended = name
                codes.append(code)

        await first_of(*(wait(name, process) for name, process in self._started.items()))
        return codes[0]

    async def end(self, clock: Clock) -> None:
        """End all in order, by force after the grace, with whatever they started."""
        # The one that answers first: workers that are gone would be its failed requests. Then the
        # workers side by side: whoever ends the replica waits for one grace, not for one of each.
        failures: list[BaseException | None] = []
        rounds = (([self._main], self._main_grace_seconds), (self._workers, self._grace_seconds))
        for processes, grace_seconds in rounds:
            started = [self._started[one.name] for one in processes if one.name in self._started]
            ends = (terminate(process, clock, grace_seconds) for process in started)
            failures += await asyncio.gather(*ends, return_exceptions=True)
        self._kill()
        for failure in failures:
            if failure is not None:
                raise failure

    async def confirm_gone(self, clock: Clock) -> None:
        """Kill what is left; return once all of it is gone and the ports are free.

        Raises Unavailable or Conflict naming what is not after a while.
        """
        deadline = clock.monotonic() + _GONE_SECONDS_MAX
        found: set[ProcessRecord] = set()
        while True:
            found |= self._kill()
            living = [process for process in found if is_alive(process)]
            taken = None if living else self._why_not_free()
            if not living and taken is None:
                break
            if clock.monotonic() > deadline:
                raise taken or Unavailable(f"{_names(living)} of the engine does not die")
            await clock.sleep(_GONE_LOOK_SECONDS)
        if self._place is not None:
            await asyncio.to_thread(self._place.empty)

    def _why_not_free(self) -> Conflict | None:
        try:
            for process in (*self._workers, self._main):
                check_port_free(process.host or self._spec.host, process.port)
        except Conflict as error:
            return error
        return None

    def _kill(self) -> set[ProcessRecord]:
        """Kill all that the engine started, in sessions of its own too; return what there was."""
        started = tuple(self._started.values())
        found = {one for process in started for one in (process, *session_members(process))}
        # Before anything is killed: the children of one that is gone are nobody's.
        parents = (record_of(os.getpid()),) if self._owns_children else started
        found |= {one for parent in parents for one in children(parent)}
        for process in started:
            kill_group(process)
        for process in found:
            signal_process(process, signal.SIGKILL)
        return found

    def _spawn(self, process: EngineProcess) -> None:
        self._started[process.name] = engine_process.start(
            self._spec, process, self._held, self._user
        )


def _names(processes: Sequence[ProcessRecord]) -> str:
    return "process " + ", ".join(f"{one.pid} ({one.name})" for one in processes)
