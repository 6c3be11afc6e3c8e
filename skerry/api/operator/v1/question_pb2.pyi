from skerry.api.common.v1 import supply_pb2 as _supply_pb2
from skerry.api.operator.v1 import placement_pb2 as _placement_pb2
from skerry.api.operator.v1 import pool_pb2 as _pool_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Explanation(_message.Message):
    __slots__ = ("deployment", "pool", "replicas", "reasons", "conflict", "ways", "solve_seconds")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    CONFLICT_FIELD_NUMBER: _ClassVar[int]
    WAYS_FIELD_NUMBER: _ClassVar[int]
    SOLVE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    pool: str
    replicas: int
    reasons: _containers.RepeatedScalarFieldContainer[str]
    conflict: _containers.RepeatedScalarFieldContainer[str]
    ways: _containers.RepeatedCompositeFieldContainer[WayOut]
    solve_seconds: float
    def __init__(self, deployment: _Optional[str] = ..., pool: _Optional[str] = ..., replicas: _Optional[int] = ..., reasons: _Optional[_Iterable[str]] = ..., conflict: _Optional[_Iterable[str]] = ..., ways: _Optional[_Iterable[_Union[WayOut, _Mapping]]] = ..., solve_seconds: _Optional[float] = ...) -> None: ...

class WayOut(_message.Message):
    __slots__ = ("change", "dollars_per_hour")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    DOLLARS_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    change: str
    dollars_per_hour: float
    def __init__(self, change: _Optional[str] = ..., dollars_per_hour: _Optional[float] = ...) -> None: ...

class Hypothesis(_message.Message):
    __slots__ = ("lose", "price", "demand", "pool")
    LOSE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    DEMAND_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    lose: LostDomain
    price: PriceFactor
    demand: DemandFactor
    pool: NewPool
    def __init__(self, lose: _Optional[_Union[LostDomain, _Mapping]] = ..., price: _Optional[_Union[PriceFactor, _Mapping]] = ..., demand: _Optional[_Union[DemandFactor, _Mapping]] = ..., pool: _Optional[_Union[NewPool, _Mapping]] = ...) -> None: ...

class LostDomain(_message.Message):
    __slots__ = ("domain", "name")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    domain: str
    name: str
    def __init__(self, domain: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class PriceFactor(_message.Message):
    __slots__ = ("factor", "pool")
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    factor: float
    pool: str
    def __init__(self, factor: _Optional[float] = ..., pool: _Optional[str] = ...) -> None: ...

class DemandFactor(_message.Message):
    __slots__ = ("factor", "deployment")
    FACTOR_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    factor: float
    deployment: str
    def __init__(self, factor: _Optional[float] = ..., deployment: _Optional[str] = ...) -> None: ...

class NewPool(_message.Message):
    __slots__ = ("plane", "shape", "terms")
    PLANE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    plane: _supply_pb2.PlaneIdentity
    shape: _supply_pb2.PoolShape
    terms: _pool_pb2.PoolTerms
    def __init__(self, plane: _Optional[_Union[_supply_pb2.PlaneIdentity, _Mapping]] = ..., shape: _Optional[_Union[_supply_pb2.PoolShape, _Mapping]] = ..., terms: _Optional[_Union[_pool_pb2.PoolTerms, _Mapping]] = ...) -> None: ...

class Consequences(_message.Message):
    __slots__ = ("placed", "moved", "evicted", "shed", "unplaced", "unplaced_before", "cost_per_hour_before", "cost_per_hour_after", "levels", "solver", "optimal", "solve_seconds")
    PLACED_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    EVICTED_FIELD_NUMBER: _ClassVar[int]
    SHED_FIELD_NUMBER: _ClassVar[int]
    UNPLACED_FIELD_NUMBER: _ClassVar[int]
    UNPLACED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    COST_PER_HOUR_BEFORE_FIELD_NUMBER: _ClassVar[int]
    COST_PER_HOUR_AFTER_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    SOLVER_FIELD_NUMBER: _ClassVar[int]
    OPTIMAL_FIELD_NUMBER: _ClassVar[int]
    SOLVE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    placed: _containers.RepeatedCompositeFieldContainer[PlannedReplicas]
    moved: _containers.RepeatedCompositeFieldContainer[_placement_pb2.PlannedMove]
    evicted: _containers.RepeatedCompositeFieldContainer[PlannedReplicas]
    shed: _containers.RepeatedCompositeFieldContainer[_placement_pb2.Shed]
    unplaced: _containers.RepeatedCompositeFieldContainer[_placement_pb2.Unplaced]
    unplaced_before: _containers.RepeatedCompositeFieldContainer[_placement_pb2.Unplaced]
    cost_per_hour_before: float
    cost_per_hour_after: float
    levels: _containers.RepeatedCompositeFieldContainer[_placement_pb2.PlanLevel]
    solver: str
    optimal: bool
    solve_seconds: float
    def __init__(self, placed: _Optional[_Iterable[_Union[PlannedReplicas, _Mapping]]] = ..., moved: _Optional[_Iterable[_Union[_placement_pb2.PlannedMove, _Mapping]]] = ..., evicted: _Optional[_Iterable[_Union[PlannedReplicas, _Mapping]]] = ..., shed: _Optional[_Iterable[_Union[_placement_pb2.Shed, _Mapping]]] = ..., unplaced: _Optional[_Iterable[_Union[_placement_pb2.Unplaced, _Mapping]]] = ..., unplaced_before: _Optional[_Iterable[_Union[_placement_pb2.Unplaced, _Mapping]]] = ..., cost_per_hour_before: _Optional[float] = ..., cost_per_hour_after: _Optional[float] = ..., levels: _Optional[_Iterable[_Union[_placement_pb2.PlanLevel, _Mapping]]] = ..., solver: _Optional[str] = ..., optimal: _Optional[bool] = ..., solve_seconds: _Optional[float] = ...) -> None: ...

class PlannedReplicas(_message.Message):
    __slots__ = ("deployment", "pool", "replicas", "reason")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    pool: str
    replicas: int
    reason: str
    def __init__(self, deployment: _Optional[str] = ..., pool: _Optional[str] = ..., replicas: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class LossMatrix(_message.Message):
    __slots__ = ("losses", "solve_seconds")
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    SOLVE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    losses: _containers.RepeatedCompositeFieldContainer[Loss]
    solve_seconds: float
    def __init__(self, losses: _Optional[_Iterable[_Union[Loss, _Mapping]]] = ..., solve_seconds: _Optional[float] = ...) -> None: ...

class Loss(_message.Message):
    __slots__ = ("domain", "name", "holds", "survivors", "shed", "solved")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    SHED_FIELD_NUMBER: _ClassVar[int]
    SOLVED_FIELD_NUMBER: _ClassVar[int]
    domain: str
    name: str
    holds: bool
    survivors: _containers.RepeatedCompositeFieldContainer[Survivor]
    shed: _containers.RepeatedCompositeFieldContainer[_placement_pb2.Shed]
    solved: bool
    def __init__(self, domain: _Optional[str] = ..., name: _Optional[str] = ..., holds: _Optional[bool] = ..., survivors: _Optional[_Iterable[_Union[Survivor, _Mapping]]] = ..., shed: _Optional[_Iterable[_Union[_placement_pb2.Shed, _Mapping]]] = ..., solved: _Optional[bool] = ...) -> None: ...

class Survivor(_message.Message):
    __slots__ = ("deployment", "wanted", "left", "promised", "shortfall", "unmet_after")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    PROMISED_FIELD_NUMBER: _ClassVar[int]
    SHORTFALL_FIELD_NUMBER: _ClassVar[int]
    UNMET_AFTER_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    wanted: float
    left: float
    promised: float
    shortfall: float
    unmet_after: int
    def __init__(self, deployment: _Optional[str] = ..., wanted: _Optional[float] = ..., left: _Optional[float] = ..., promised: _Optional[float] = ..., shortfall: _Optional[float] = ..., unmet_after: _Optional[int] = ...) -> None: ...
