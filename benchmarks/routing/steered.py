"""The gateway's own picker as a policy of the benchmark, told what Envoy tells it."""

from benchmarks.routing.trace import BLOCK_TOKENS, Asked
from skerry.fleet.routing import RoutingPolicy
from workload_plane.picker.facts import DeploymentTold, Entry, Facts, ReplicaTold
from workload_plane.picker.picker import Picker

_DEPLOYMENT = "d"
SESSION_BLOCKS = 4


class Steered:
    """One deployment's requests through `workload_plane.picker`."""

    def __init__(self, engines: int, policy: RoutingPolicy, concurrent_requests: int) -> None:
        """Tell the picker of the engines."""
        self.name = f"picker: {policy.value}"
        self._picker = Picker()
        self._is_session = policy is RoutingPolicy.SESSION
        replicas = tuple(
            ReplicaTold(name=f"r{i}", http=f"h:{i}", grpc=f"g:{i}") for i in range(engines)
        )
        told = DeploymentTold(
            name=_DEPLOYMENT,
            policy=policy,
            replicas=replicas,
            concurrent_requests=concurrent_requests,
        )
        self._picker.update((told,), 0.0)
        self._tickets: dict[int, int] = {}

    def pick(self, asked: Asked, now: float) -> int:
        """Return the picker's first address."""
        session = 0
        if self._is_session:
            session = asked.keys[:SESSION_BLOCKS][-1] + 1 if asked.keys else -asked.number
        facts = Facts(
            deployment=_DEPLOYMENT,
            blocks=asked.keys,
            block_tokens=float(BLOCK_TOKENS),
            tokens=float(asked.tokens),
            session=session,
        )
        self._picker.expire(now)
        choice = self._picker.pick(facts, now)
        assert choice is not None
        self._tickets[asked.number] = choice.ticket
        return int(choice.addresses[0].partition(":")[2])

    def began(self, asked: Asked, engine: int, ttft: float, now: float) -> None:
        """Hand on a line about a stream under way."""
        self._note(asked, engine, ttft, now, ended=False)

    def ended(self, asked: Asked, engine: int, ttft: float, now: float) -> None:
        """Hand on a request's last line."""
        self._note(asked, engine, ttft, now, ended=True)
        del self._tickets[asked.number]

    def _note(self, asked: Asked, engine: int, ttft: float, now: float, *, ended: bool) -> None:
        entry = Entry(
            ticket=self._tickets[asked.number],
            address=f"h:{engine}",
            status=200 if ttft >= 0 else 0,
            flags="",
            first_byte_ms=int(ttft * 1000) if ttft >= 0 else None,
            duration_ms=int((now - asked.at) * 1000),
            bytes_received=0,
            bytes_sent=0,
            attempts=1,
            ended=ended,
        )
        self._picker.note(entry, now)
