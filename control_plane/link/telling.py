"""What planes hold, asked for while the database knows less: in memory, until it is taken in.

`recovery/run.py` asks and reads; `service.py` carries question and answer.
"""

from collections.abc import Callable, Mapping

from control_plane.recovery.assess import Told
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.plumbing import logs
from skerry.plumbing.errors import InvalidInput
from skerry.wire.desired import desired_from_proto

_log = logs.get_logger(__name__)


class HeldStates:
    """Who is to be asked what it holds, and what was answered."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """Begin with nobody asked; `wake` is called at every answer."""
        self._wake = wake
        self._wanted: set[str] = set()
        self._told: dict[str, Told] = {}

    def ask(self, plane: str) -> None:
        """Have the plane asked at its next heartbeat, and again until it answers."""
        if plane not in self._told:
            self._wanted.add(plane)

    def is_wanted(self, plane: str) -> bool:
        """Say whether the plane is to be asked now."""
        return plane in self._wanted

    def take(self, plane: str, held: messages.Desired) -> None:
        """Keep a plane's answer; one that cannot be read is that of a plane that cannot tell.

        InvalidInput when nobody asked: what is kept is bounded by who was.
        """
        if plane not in self._wanted:
            raise InvalidInput(f"plane {plane} told what it holds, which nobody asked")
        self._wanted.discard(plane)
        self._told[plane] = _read(plane, held)
        self._wake()

    def told(self) -> Mapping[str, Told]:
        """Return what was answered, by plane."""
        return self._told

    def forget(self) -> None:
        """Let go of every question and answer."""
        self._wanted.clear()
        self._told = {}


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
