"""What planes hold, asked for while the database knows less: in memory, until it is taken in.

`recovery/run.py` asks and reads; `service.py` carries question and answer.
"""

from collections.abc import Callable, Mapping

from control_plane.recovery.assess import Told
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import InvalidInput
from skerry.wire.desired import desired_from_proto

_log = logs.get_logger(__name__)

# Answers are up to 4 MiB each: thousands at once would fill the memory and hold up heartbeats.
# With a heartbeat every 2 s, 5,000 planes have all been asked within a minute at 0.7 s an answer.
ASKED_AT_ONCE_MAX = 64
# Who has not answered by then gives its turn away, and is asked again at its next: its stream
# ended, or its answer takes its time and is still taken.
ANSWER_SECONDS_MAX = 10.0


class HeldStates:
    """Who is to be asked what it holds, and what was answered."""

    def __init__(self, wake: Callable[[], None], clock: Clock) -> None:
        """Begin with nobody asked; `wake` is called at every answer."""
        self._wake = wake
        self._clock = clock
        self._wanted: set[str] = set()
        self._asked_at: dict[str, float] = {}  # those whose turn it is, the longest asked first
        self._unread: dict[str, messages.Desired] = {}
        self._told: dict[str, Told] = {}

    def ask(self, plane: str) -> None:
        """Have the plane asked at a heartbeat once it is its turn, and until it answers."""
        if plane not in self._told and plane not in self._unread:
            self._wanted.add(plane)

    def takes_turn(self, plane: str) -> bool:
        """Say whether the plane is to be asked now; if so it counts as asked from now on."""
        if plane not in self._wanted or plane in self._asked():
            return False
        if len(self._asked_at) >= ASKED_AT_ONCE_MAX:
            return False
        self._asked_at[plane] = self._clock.monotonic()
        return True

    def take(self, plane: str, held: messages.Desired) -> None:
        """Keep a plane's answer; one that cannot be read is that of a plane that cannot tell.

        InvalidInput when nobody asked: what is kept is bounded by who was.
        """
        if plane not in self._wanted:
            raise InvalidInput(f"plane {plane} told what it holds, which nobody asked")
        self._wanted.discard(plane)
        self._asked_at.pop(plane, None)
        self._unread[plane] = held
        self._wake()

    def read(self) -> None:
        """Make values of what was answered: milliseconds each, so from a thread when many are."""
        unread, told = self._unread, self._told  # `forget` begins with others meanwhile
        for plane in tuple(unread):
            # Told before it is unread no more: whoever looks in between finds it in one of them.
            told[plane] = _read(plane, unread[plane])
            del unread[plane]

    def told(self) -> Mapping[str, Told]:
        """Return what was answered and read, by plane."""
        return self._told

    def forget(self) -> None:
        """Let go of every question and answer."""
        self._wanted.clear()
        self._asked_at.clear()
        self._unread = {}
        self._told = {}

    def _asked(self) -> Mapping[str, float]:
        """Return who was asked and may still answer."""
        over = self._clock.monotonic() - ANSWER_SECONDS_MAX
        while self._asked_at and (first := next(iter(self._asked_at))):
            if self._asked_at[first] > over:
                break
            del self._asked_at[first]
        return self._asked_at


def _read(plane: str, held: messages.Desired) -> Told:
    try:
        state = desired_from_proto(held)
        if state.plane != plane:
            raise ValueError(f"it is that of plane {state.plane!r}")
    except (ValueError, InvalidInput) as error:
        _log.warning("plane.cannot-tell", plane=plane, error=str(error))
        return Told(plane=plane, state=None)
    payload = held.SerializeToString(deterministic=True)
    return Told(plane=plane, state=state, payload=payload, digest=held.digest)
