"""What a plane is told to run: the whole desired state of one plane, as one value."""

from dataclasses import dataclass

from skerry.fleet.api_key import ApiKey
from skerry.fleet.autoscaling.told import ScalingTerms
from skerry.fleet.coefficients import Coefficients
from skerry.fleet.deployment import Deployment, Revision
from skerry.fleet.generation import Version
from skerry.fleet.node import NodeCordon
from skerry.fleet.placement import Envelope

# What every desired state requires of a plane.
FEATURES_NEEDED = ("envelopes.v1", "peers.v1", "openengine.v1")
# Required only by a state that cordons nodes, so that planes of an earlier release go on taking
# those that do not.
NODE_CORDONS = "node-cordons.v1"
# Required only by a state with an engine's technique that the first release would leave out.
ENGINE_TECHNIQUES = "engine-techniques.v2"
# Required only by a state in which a plane is to run two revisions of a deployment.
ROLLOUTS = "rollouts.v1"
# No state requires it: a plane with it tells all that it holds when it is asked.
TELLS_HELD = "held.v1"
# No state requires it: a plane with it follows the targets that move, and reports its loads.
AUTOSCALING = "autoscaling.v1"
# Told by Welcome: the control plane takes `LoadReport`.
TAKES_LOADS = "loads.v1"
# No state requires it; told by Hello and by Welcome: who reads there takes large messages in parts.
TAKES_PARTS = "parts.v1"
# A control plane that takes records of where requests went.
TAKES_RESIDENCY = "residency.v1"
# What this release of the plane understands; a desired state that requires more is refused (Nack).
FEATURES = (
    *FEATURES_NEEDED,
    NODE_CORDONS,
    ENGINE_TECHNIQUES,
    ROLLOUTS,
    TELLS_HELD,
    AUTOSCALING,
    TAKES_PARTS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPlane:
    """A peer's gateway: where it listens for gateways (mTLS), and what decides who may use it."""

    plane: str
    cloud: str
    region: str
    peer_address: str
    residency_zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A revision that so many replicas of a pool run, within the target; the rest stays as it is.

    `replicas` are (pool, count), counts above 0.
    """

    revision: Revision
    replicas: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One deployment at one plane: its spec and the envelope on each of the plane's pools.

    `tombstone` says the deployment is meant to go: without it, a deployment missing from a newer
    desired state is an error of the sender, not an instruction. `coefficients` are of the kinds of
    accelerator that it has envelopes on, as far as they were measured. `scaling` None: the control
    plane knows no autoscaling, or there is nothing to scale.
    """

    deployment: Deployment
    envelopes: tuple[Envelope, ...] = ()
    serving_planes: tuple[str, ...] = ()
    tombstone: bool = False
    coefficients: tuple[Coefficients, ...] = ()
    candidate: Candidate | None = None
    scaling: ScalingTerms | None = None

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """Return the revisions that may run at the plane, the candidate's last."""
        own = self.deployment.revision
        return (own,) if self.candidate is None else (own, self.candidate.revision)

    def revision(self, number: int) -> Revision | None:
        """Return one of the revisions that may run at the plane."""
        return next((one for one in self.revisions if one.number == number), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """The desired state of one plane at one version.

    `planes` is about how many the fleet has where `peers` are not all of them, else 0. `api_keys`
    None: the control plane knows of none, which is no word against those told before. Of
    `revoked_planes` the gateway takes nothing, whatever certificate they show; None: nothing is
    said of them, and those told before stay out.
    """

    plane: str
    version: Version
    assignments: tuple[Assignment, ...] = ()
    peers: tuple[PeerPlane, ...] = ()
    required_features: tuple[str, ...] = ()
    node_cordons: tuple[NodeCordon, ...] = ()
    planes: int = 0
    api_keys: tuple[ApiKey, ...] | None = None
    revoked_planes: tuple[str, ...] | None = None

    @property
    def envelopes(self) -> tuple[Envelope, ...]:
        """Return every envelope that the plane is granted."""
        return tuple(envelope for one in self.assignments for envelope in one.envelopes)

    def envelope(self, deployment: str, pool: str) -> Envelope | None:
        """Return the envelope of a deployment on a pool, None when there is none."""
        for assignment in self.assignments:
            if assignment.deployment.name == deployment:
                return next((e for e in assignment.envelopes if e.pool == pool), None)
        return None
