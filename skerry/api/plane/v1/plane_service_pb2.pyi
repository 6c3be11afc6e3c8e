from skerry.api.common.v1 import budget_pb2 as _budget_pb2
from skerry.api.common.v1 import deployment_pb2 as _deployment_pb2
from skerry.api.common.v1 import replica_pb2 as _replica_pb2
from skerry.api.common.v1 import scaling_pb2 as _scaling_pb2
from skerry.api.common.v1 import supply_pb2 as _supply_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConnectRequest(_message.Message):
    __slots__ = ("hello", "heartbeat", "observed", "ack", "nack", "held", "loads", "part", "residency")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    LOADS_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    observed: Observed
    ack: Ack
    nack: Nack
    held: Desired
    loads: LoadReport
    part: Part
    residency: ResidencyReport
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., observed: _Optional[_Union[Observed, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., nack: _Optional[_Union[Nack, _Mapping]] = ..., held: _Optional[_Union[Desired, _Mapping]] = ..., loads: _Optional[_Union[LoadReport, _Mapping]] = ..., part: _Optional[_Union[Part, _Mapping]] = ..., residency: _Optional[_Union[ResidencyReport, _Mapping]] = ...) -> None: ...

class ConnectResponse(_message.Message):
    __slots__ = ("welcome", "heartbeat", "desired", "tell_held", "part", "residency_taken")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    TELL_HELD_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_TAKEN_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    heartbeat: Heartbeat
    desired: Desired
    tell_held: TellHeld
    part: Part
    residency_taken: ResidencyTaken
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., desired: _Optional[_Union[Desired, _Mapping]] = ..., tell_held: _Optional[_Union[TellHeld, _Mapping]] = ..., part: _Optional[_Union[Part, _Mapping]] = ..., residency_taken: _Optional[_Union[ResidencyTaken, _Mapping]] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("total_bytes", "offset", "data")
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    total_bytes: int
    offset: int
    data: bytes
    def __init__(self, total_bytes: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("project", "observed", "features", "software", "agent_id", "stream_number")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_NUMBER_FIELD_NUMBER: _ClassVar[int]
    project: str
    observed: Observed
    features: _containers.RepeatedScalarFieldContainer[str]
    software: str
    agent_id: str
    stream_number: int
    def __init__(self, project: _Optional[str] = ..., observed: _Optional[_Union[Observed, _Mapping]] = ..., features: _Optional[_Iterable[str]] = ..., software: _Optional[str] = ..., agent_id: _Optional[str] = ..., stream_number: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("epoch", "heartbeat_period_ms", "heartbeat_timeout_ms", "lease_ms", "control_plane", "features")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_PERIOD_MS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    CONTROL_PLANE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    heartbeat_period_ms: int
    heartbeat_timeout_ms: int
    lease_ms: int
    control_plane: str
    features: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, epoch: _Optional[int] = ..., heartbeat_period_ms: _Optional[int] = ..., heartbeat_timeout_ms: _Optional[int] = ..., lease_ms: _Optional[int] = ..., control_plane: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ...) -> None: ...

class TellHeld(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("number", "targets_current", "period_ms", "timeout_ms")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TARGETS_CURRENT_FIELD_NUMBER: _ClassVar[int]
    PERIOD_MS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    number: int
    targets_current: bool
    period_ms: int
    timeout_ms: int
    def __init__(self, number: _Optional[int] = ..., targets_current: _Optional[bool] = ..., period_ms: _Optional[int] = ..., timeout_ms: _Optional[int] = ...) -> None: ...

class Observed(_message.Message):
    __slots__ = ("identity", "pools", "gateway", "held", "replicas", "peers", "nodes", "gateway_faults", "held_digest", "newest_epoch", "told_seconds", "seen")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    POOLS_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FAULTS_FIELD_NUMBER: _ClassVar[int]
    HELD_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NEWEST_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TOLD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    identity: _supply_pb2.PlaneIdentity
    pools: _containers.RepeatedCompositeFieldContainer[_supply_pb2.PoolShape]
    gateway: _supply_pb2.GatewayAddresses
    held: _supply_pb2.Version
    replicas: _containers.RepeatedCompositeFieldContainer[_replica_pb2.ObservedReplica]
    peers: _containers.RepeatedCompositeFieldContainer[_replica_pb2.PeerView]
    nodes: _containers.RepeatedCompositeFieldContainer[_supply_pb2.Node]
    gateway_faults: _containers.RepeatedScalarFieldContainer[str]
    held_digest: bytes
    newest_epoch: int
    told_seconds: float
    seen: _supply_pb2.Version
    def __init__(self, identity: _Optional[_Union[_supply_pb2.PlaneIdentity, _Mapping]] = ..., pools: _Optional[_Iterable[_Union[_supply_pb2.PoolShape, _Mapping]]] = ..., gateway: _Optional[_Union[_supply_pb2.GatewayAddresses, _Mapping]] = ..., held: _Optional[_Union[_supply_pb2.Version, _Mapping]] = ..., replicas: _Optional[_Iterable[_Union[_replica_pb2.ObservedReplica, _Mapping]]] = ..., peers: _Optional[_Iterable[_Union[_replica_pb2.PeerView, _Mapping]]] = ..., nodes: _Optional[_Iterable[_Union[_supply_pb2.Node, _Mapping]]] = ..., gateway_faults: _Optional[_Iterable[str]] = ..., held_digest: _Optional[bytes] = ..., newest_epoch: _Optional[int] = ..., told_seconds: _Optional[float] = ..., seen: _Optional[_Union[_supply_pb2.Version, _Mapping]] = ...) -> None: ...

class LoadReport(_message.Message):
    __slots__ = ("loads", "decisions", "spent")
    LOADS_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    loads: _containers.RepeatedCompositeFieldContainer[DeploymentLoad]
    decisions: _containers.RepeatedCompositeFieldContainer[PlaneDecision]
    spent: _containers.RepeatedCompositeFieldContainer[KeySpent]
    def __init__(self, loads: _Optional[_Iterable[_Union[DeploymentLoad, _Mapping]]] = ..., decisions: _Optional[_Iterable[_Union[PlaneDecision, _Mapping]]] = ..., spent: _Optional[_Iterable[_Union[KeySpent, _Mapping]]] = ...) -> None: ...

class KeySpent(_message.Message):
    __slots__ = ("key", "period", "tokens")
    KEY_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    key: str
    period: str
    tokens: int
    def __init__(self, key: _Optional[str] = ..., period: _Optional[str] = ..., tokens: _Optional[int] = ...) -> None: ...

class ResidencyReport(_message.Message):
    __slots__ = ("chain", "records")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    chain: str
    records: _containers.RepeatedCompositeFieldContainer[ResidencyRecord]
    def __init__(self, chain: _Optional[str] = ..., records: _Optional[_Iterable[_Union[ResidencyRecord, _Mapping]]] = ...) -> None: ...

class ResidencyRecord(_message.Message):
    __slots__ = ("sequence", "content", "previous_digest", "digest")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    content: str
    previous_digest: bytes
    digest: bytes
    def __init__(self, sequence: _Optional[int] = ..., content: _Optional[str] = ..., previous_digest: _Optional[bytes] = ..., digest: _Optional[bytes] = ...) -> None: ...

class ResidencyTaken(_message.Message):
    __slots__ = ("chain", "sequence", "fault")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    chain: str
    sequence: int
    fault: str
    def __init__(self, chain: _Optional[str] = ..., sequence: _Optional[int] = ..., fault: _Optional[str] = ...) -> None: ...

class PlaneDecision(_message.Message):
    __slots__ = ("deployment", "decision")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    decision: _scaling_pb2.ScalingDecision
    def __init__(self, deployment: _Optional[str] = ..., decision: _Optional[_Union[_scaling_pb2.ScalingDecision, _Mapping]] = ...) -> None: ...

class DeploymentLoad(_message.Message):
    __slots__ = ("deployment", "reading", "decision", "coefficients", "answers")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    READING_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    COEFFICIENTS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    reading: _scaling_pb2.LoadReading
    decision: _scaling_pb2.ScalingDecision
    coefficients: _containers.RepeatedCompositeFieldContainer[Coefficients]
    answers: _scaling_pb2.RecentAnswers
    def __init__(self, deployment: _Optional[str] = ..., reading: _Optional[_Union[_scaling_pb2.LoadReading, _Mapping]] = ..., decision: _Optional[_Union[_scaling_pb2.ScalingDecision, _Mapping]] = ..., coefficients: _Optional[_Iterable[_Union[Coefficients, _Mapping]]] = ..., answers: _Optional[_Union[_scaling_pb2.RecentAnswers, _Mapping]] = ...) -> None: ...

class PeerPlane(_message.Message):
    __slots__ = ("plane", "cloud", "region", "peer_address", "residency_zones")
    PLANE_FIELD_NUMBER: _ClassVar[int]
    CLOUD_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_ZONES_FIELD_NUMBER: _ClassVar[int]
    plane: str
    cloud: str
    region: str
    peer_address: str
    residency_zones: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, plane: _Optional[str] = ..., cloud: _Optional[str] = ..., region: _Optional[str] = ..., peer_address: _Optional[str] = ..., residency_zones: _Optional[_Iterable[str]] = ...) -> None: ...

class Coefficients(_message.Message):
    __slots__ = ("accelerator", "prefill_seconds_per_token", "decode_seconds_per_token", "iteration_seconds")
    ACCELERATOR_FIELD_NUMBER: _ClassVar[int]
    PREFILL_SECONDS_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DECODE_SECONDS_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ITERATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    accelerator: str
    prefill_seconds_per_token: float
    decode_seconds_per_token: float
    iteration_seconds: float
    def __init__(self, accelerator: _Optional[str] = ..., prefill_seconds_per_token: _Optional[float] = ..., decode_seconds_per_token: _Optional[float] = ..., iteration_seconds: _Optional[float] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("revision", "replicas")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    revision: _deployment_pb2.Revision
    replicas: _containers.RepeatedCompositeFieldContainer[CandidateReplicas]
    def __init__(self, revision: _Optional[_Union[_deployment_pb2.Revision, _Mapping]] = ..., replicas: _Optional[_Iterable[_Union[CandidateReplicas, _Mapping]]] = ...) -> None: ...

class CandidateReplicas(_message.Message):
    __slots__ = ("pool", "count")
    POOL_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    pool: str
    count: int
    def __init__(self, pool: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("deployment", "envelopes", "serving_planes", "tombstone", "coefficients", "candidate", "scaling", "scales_down_at_once")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    SERVING_PLANES_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONE_FIELD_NUMBER: _ClassVar[int]
    COEFFICIENTS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    SCALING_FIELD_NUMBER: _ClassVar[int]
    SCALES_DOWN_AT_ONCE_FIELD_NUMBER: _ClassVar[int]
    deployment: _deployment_pb2.DeploymentSpec
    envelopes: _containers.RepeatedCompositeFieldContainer[_deployment_pb2.Envelope]
    serving_planes: _containers.RepeatedScalarFieldContainer[str]
    tombstone: bool
    coefficients: _containers.RepeatedCompositeFieldContainer[Coefficients]
    candidate: Candidate
    scaling: ScalingTerms
    scales_down_at_once: bool
    def __init__(self, deployment: _Optional[_Union[_deployment_pb2.DeploymentSpec, _Mapping]] = ..., envelopes: _Optional[_Iterable[_Union[_deployment_pb2.Envelope, _Mapping]]] = ..., serving_planes: _Optional[_Iterable[str]] = ..., tombstone: _Optional[bool] = ..., coefficients: _Optional[_Iterable[_Union[Coefficients, _Mapping]]] = ..., candidate: _Optional[_Union[Candidate, _Mapping]] = ..., scaling: _Optional[_Union[ScalingTerms, _Mapping]] = ..., scales_down_at_once: _Optional[bool] = ...) -> None: ...

class ScalingTerms(_message.Message):
    __slots__ = ("fleet_target", "cold_start_seconds", "warm_spares")
    FLEET_TARGET_FIELD_NUMBER: _ClassVar[int]
    COLD_START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WARM_SPARES_FIELD_NUMBER: _ClassVar[int]
    fleet_target: bool
    cold_start_seconds: float
    warm_spares: int
    def __init__(self, fleet_target: _Optional[bool] = ..., cold_start_seconds: _Optional[float] = ..., warm_spares: _Optional[int] = ...) -> None: ...

class NodeCordon(_message.Message):
    __slots__ = ("node", "draining")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    node: str
    draining: bool
    def __init__(self, node: _Optional[str] = ..., draining: _Optional[bool] = ...) -> None: ...

class ApiKey(_message.Message):
    __slots__ = ("name", "sha256", "deployments", "requests_per_minute", "concurrent_requests", "expire_seconds", "tokens_per_minute", "budget_tokens", "budget_period", "project", "every_of_project")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    CONCURRENT_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    BUDGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_PERIOD_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    EVERY_OF_PROJECT_FIELD_NUMBER: _ClassVar[int]
    name: str
    sha256: bytes
    deployments: _containers.RepeatedScalarFieldContainer[str]
    requests_per_minute: int
    concurrent_requests: int
    expire_seconds: int
    tokens_per_minute: int
    budget_tokens: int
    budget_period: _budget_pb2.BudgetPeriod
    project: str
    every_of_project: bool
    def __init__(self, name: _Optional[str] = ..., sha256: _Optional[bytes] = ..., deployments: _Optional[_Iterable[str]] = ..., requests_per_minute: _Optional[int] = ..., concurrent_requests: _Optional[int] = ..., expire_seconds: _Optional[int] = ..., tokens_per_minute: _Optional[int] = ..., budget_tokens: _Optional[int] = ..., budget_period: _Optional[_Union[_budget_pb2.BudgetPeriod, str]] = ..., project: _Optional[str] = ..., every_of_project: _Optional[bool] = ...) -> None: ...

class KeyRing(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[ApiKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[ApiKey, _Mapping]]] = ...) -> None: ...

class Desired(_message.Message):
    __slots__ = ("plane", "version", "assignments", "peers", "required_features", "digest", "node_cordons", "planes", "key_ring", "revoked_planes", "no_plane_revoked")
    PLANE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FEATURES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NODE_CORDONS_FIELD_NUMBER: _ClassVar[int]
    PLANES_FIELD_NUMBER: _ClassVar[int]
    KEY_RING_FIELD_NUMBER: _ClassVar[int]
    REVOKED_PLANES_FIELD_NUMBER: _ClassVar[int]
    NO_PLANE_REVOKED_FIELD_NUMBER: _ClassVar[int]
    plane: str
    version: _supply_pb2.Version
    assignments: _containers.RepeatedCompositeFieldContainer[Assignment]
    peers: _containers.RepeatedCompositeFieldContainer[PeerPlane]
    required_features: _containers.RepeatedScalarFieldContainer[str]
    digest: bytes
    node_cordons: _containers.RepeatedCompositeFieldContainer[NodeCordon]
    planes: int
    key_ring: KeyRing
    revoked_planes: _containers.RepeatedScalarFieldContainer[str]
    no_plane_revoked: bool
    def __init__(self, plane: _Optional[str] = ..., version: _Optional[_Union[_supply_pb2.Version, _Mapping]] = ..., assignments: _Optional[_Iterable[_Union[Assignment, _Mapping]]] = ..., peers: _Optional[_Iterable[_Union[PeerPlane, _Mapping]]] = ..., required_features: _Optional[_Iterable[str]] = ..., digest: _Optional[bytes] = ..., node_cordons: _Optional[_Iterable[_Union[NodeCordon, _Mapping]]] = ..., planes: _Optional[int] = ..., key_ring: _Optional[_Union[KeyRing, _Mapping]] = ..., revoked_planes: _Optional[_Iterable[str]] = ..., no_plane_revoked: _Optional[bool] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("version", "digest")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    version: _supply_pb2.Version
    digest: bytes
    def __init__(self, version: _Optional[_Union[_supply_pb2.Version, _Mapping]] = ..., digest: _Optional[bytes] = ...) -> None: ...

class Nack(_message.Message):
    __slots__ = ("version", "reason", "held")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    version: _supply_pb2.Version
    reason: str
    held: _supply_pb2.Version
    def __init__(self, version: _Optional[_Union[_supply_pb2.Version, _Mapping]] = ..., reason: _Optional[str] = ..., held: _Optional[_Union[_supply_pb2.Version, _Mapping]] = ...) -> None: ...
