"""What each plane may run of a deployment while a revision is rolled out, and how much. Pure.

`envelopes` bounds its grants by it, `plan` tells planes their revisions by it. Without a rollout of
a deployment every plane runs its present revision.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from control_plane.reconcile.snapshot import Snapshot
from skerry.fleet.deployment import Deployment, Revision
from skerry.fleet.desired import ROLLOUTS, Candidate
from skerry.fleet.digests import with_digests
from skerry.fleet.observation import PlaneState
from skerry.fleet.placement import Envelope
from skerry.fleet.rollout import UNDER_WAY, Halt, Rollout, Share, Stage, share_of

Key = tuple[str, str]  # deployment, pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """The rollouts of a snapshot, by deployment, and what is needed to say what they allow."""

    rollouts: Mapping[str, Rollout]
    snapshot: Snapshot
    # By name and number: thousands of planes are told the same of a deployment.
    _at: dict[tuple[str, int], Deployment] = field(default_factory=dict, init=False, repr=False)
    # By name and kind of accelerator.
    _sizes: dict[tuple[str, str], int] = field(default_factory=dict, init=False, repr=False)

    def of(self, deployment: Deployment, plane: str) -> Share:
        """Return what the plane may run of the deployment."""
        rollout = self.rollouts.get(deployment.name)
        if rollout is None:
            return Share(revision=deployment.revision.number)
        return share_of(rollout, plane)

    def revision(self, deployment: Deployment, number: int) -> Revision:
        """Return a revision by number; the present one where that one is not known any more."""
        if number == deployment.revision.number:
            return deployment.revision
        return self.snapshot.revisions.get(deployment.name, {}).get(number, deployment.revision)

    def told(
        self, deployment: Deployment, plane: str, here: tuple[Envelope, ...]
    ) -> tuple[Deployment, Candidate | None]:
        """Return the deployment as the plane is told of it, and what it is to try beside."""
        share = self.of(deployment, plane)
        told = self._told_at(deployment, share.revision)
        pools = {envelope.pool for envelope in here if envelope.target > 0}
        counts = tuple((pool, count) for pool, count in share.replicas if pool in pools)
        if not counts or not self._understands(plane):
            return told, None
        new = self._told_at(deployment, share.candidate)
        return told, Candidate(revision=new.revision, replicas=counts)

    def _told_at(self, deployment: Deployment, number: int) -> Deployment:
        """Return the deployment at one of its revisions, with the contents that it must have."""
        key = deployment.name, number
        if key not in self._at:
            revision = self.revision(deployment, number)
            at = deployment
            if revision is not deployment.revision:
                at = replace(deployment, revision=revision)
            self._at[key] = with_digests(at, self.snapshot.digests)
        return self._at[key]

    def _understands(self, plane: str) -> bool:
        view, stored = self.snapshot.plane(plane), self.snapshot.desired_of(plane)
        if view is None or view.link.report is None:
            return stored is not None and ROLLOUTS in stored.required_features
        return ROLLOUTS in view.link.report.features

    def size(self, deployment: Deployment, kind: str) -> int:
        """Return the accelerators of the largest replica that may run of it on that kind."""
        key = deployment.name, kind
        if key not in self._sizes:
            self._sizes[key] = self._size(deployment, kind)
        return self._sizes[key]

    def _size(self, deployment: Deployment, kind: str) -> int:
        rollout = self.rollouts.get(deployment.name)
        numbers = rollout.revisions if rollout is not None else frozenset[int]()
        found = [deployment.revision, *(self.revision(deployment, one) for one in numbers)]
        shapes = (revision.shape_on(kind) for revision in found)
        return max((shape.accelerators for shape in shapes if shape is not None), default=1)

    def bounded(
        self, wanted: Mapping[Key, Envelope], held: Mapping[Key, Envelope]
    ) -> dict[Key, Envelope]:
        """Return the envelopes as far as rollouts let replicas start: a poison revision's one."""
        pools = {pool.name: pool for pool in self.snapshot.pools}
        demands = {one.deployment.name: one.deployment for one in self.snapshot.demands}
        result = dict(wanted)
        tried: set[str] = set()
        for key, envelope in wanted.items():
            rollout, deployment = self.rollouts.get(key[0]), demands.get(key[0])
            pool = pools.get(key[1])
            if rollout is None or deployment is None or pool is None:
                continue
            most = self._most(rollout, deployment, pool.plane.name, pool.name, held.get(key))
            if most == 0 and key[0] not in tried and self._is_nowhere(rollout, held):
                most = 1  # a bad plane keeps it from no other: one replica tells which it was
                tried.add(key[0])
            if most is not None:
                result[key] = _at_most(envelope, most)
        return result

    def _is_nowhere(self, rollout: Rollout, held: Mapping[Key, Envelope]) -> bool:
        """Say whether a broken revision has a place on no plane that is there any more."""
        if rollout.stage is not Stage.COMPLETE or rollout.halt is not Halt.FAILURE:
            return False
        planes = {pool.name: pool.plane.name for pool in self.snapshot.pools}
        for (name, pool), envelope in held.items():
            view = self.snapshot.plane(planes.get(pool, ""))
            condition = view.condition if view is not None else None
            is_lost = condition is None or condition.state is PlaneState.LOST
            if name == rollout.deployment and envelope.target and not is_lost:
                return False
        return True

    def _most(
        self,
        rollout: Rollout,
        deployment: Deployment,
        plane: str,
        pool: str,
        held: Envelope | None,
    ) -> int | None:
        """Return how many replicas may be there at most, None for no bound of the rollout's."""
        if rollout.stage is Stage.FIRST:
            return 1 if pool == rollout.pool else 0
        if rollout.stage is Stage.COMPLETE and rollout.halt is Halt.FAILURE:
            return None if held is not None and held.target else 0
        if rollout.stage not in UNDER_WAY:
            return None
        kind = next(one.shape.accelerator for one in self.snapshot.pools if one.name == pool)
        if self.revision(deployment, rollout.stable).shape_on(kind) is not None:
            return None
        # Only the new revision can run there: it comes when it is the plane's turn.
        if plane in rollout.done or (rollout.stage is Stage.ROLLING and plane == rollout.plane):
            return None
        return 1 if pool == rollout.pool else 0


def shares_of(snapshot: Snapshot) -> Shares:
    """Return what the rollouts of a snapshot allow."""
    return Shares(rollouts={one.deployment: one for one in snapshot.rollouts}, snapshot=snapshot)


def _at_most(envelope: Envelope, most: int) -> Envelope:
    return replace(
        envelope,
        floor=min(envelope.floor, most),
        target=min(envelope.target, most),
        ceiling=min(envelope.ceiling, most),
    )
