import datetime

from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from skerry.api.operator.v1 import placement_pb2 as _placement_pb2
from skerry.api.operator.v1 import rollout_pb2 as _rollout_pb2
from skerry.api.operator.v1 import service_level_pb2 as _service_level_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DrainRequest(_message.Message):
    __slots__ = ("name", "request_id", "validate_only")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    validate_only: bool
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("state", "start_time", "replicas_left", "deployments", "waits_for")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[DrainResponse.State]
        STATE_DRAINING: _ClassVar[DrainResponse.State]
        STATE_DRAINED: _ClassVar[DrainResponse.State]
        STATE_ENDED: _ClassVar[DrainResponse.State]
        STATE_NOT_STARTED: _ClassVar[DrainResponse.State]
    STATE_UNSPECIFIED: DrainResponse.State
    STATE_DRAINING: DrainResponse.State
    STATE_DRAINED: DrainResponse.State
    STATE_ENDED: DrainResponse.State
    STATE_NOT_STARTED: DrainResponse.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_LEFT_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    state: DrainResponse.State
    start_time: _timestamp_pb2.Timestamp
    replicas_left: int
    deployments: _containers.RepeatedCompositeFieldContainer[DrainingDeployment]
    waits_for: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, state: _Optional[_Union[DrainResponse.State, str]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., replicas_left: _Optional[int] = ..., deployments: _Optional[_Iterable[_Union[DrainingDeployment, _Mapping]]] = ..., waits_for: _Optional[_Iterable[str]] = ...) -> None: ...

class DrainingDeployment(_message.Message):
    __slots__ = ("deployment", "replicas_left", "replicas_wanted", "replicas_ready_elsewhere")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_LEFT_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_WANTED_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_READY_ELSEWHERE_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    replicas_left: int
    replicas_wanted: int
    replicas_ready_elsewhere: int
    def __init__(self, deployment: _Optional[str] = ..., replicas_left: _Optional[int] = ..., replicas_wanted: _Optional[int] = ..., replicas_ready_elsewhere: _Optional[int] = ...) -> None: ...

class FailoverRequest(_message.Message):
    __slots__ = ("name", "request_id", "even_if_serving", "validate_only")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EVEN_IF_SERVING_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    even_if_serving: bool
    validate_only: bool
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ..., even_if_serving: _Optional[bool] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class FailoverResponse(_message.Message):
    __slots__ = ("planes", "heard", "lost_before")
    PLANES_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    LOST_BEFORE_FIELD_NUMBER: _ClassVar[int]
    planes: _containers.RepeatedScalarFieldContainer[str]
    heard: _containers.RepeatedScalarFieldContainer[str]
    lost_before: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, planes: _Optional[_Iterable[str]] = ..., heard: _Optional[_Iterable[str]] = ..., lost_before: _Optional[_Iterable[str]] = ...) -> None: ...

class MoveReplicaRequest(_message.Message):
    __slots__ = ("name", "from_pool", "to_pool", "replicas", "request_id", "validate_only")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FROM_POOL_FIELD_NUMBER: _ClassVar[int]
    TO_POOL_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    from_pool: str
    to_pool: str
    replicas: int
    request_id: str
    validate_only: bool
    def __init__(self, name: _Optional[str] = ..., from_pool: _Optional[str] = ..., to_pool: _Optional[str] = ..., replicas: _Optional[int] = ..., request_id: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class RecordDrillRequest(_message.Message):
    __slots__ = ("parent", "drill", "target", "held", "report", "request_id")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    DRILL_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    parent: str
    drill: str
    target: str
    held: bool
    report: str
    request_id: str
    def __init__(self, parent: _Optional[str] = ..., drill: _Optional[str] = ..., target: _Optional[str] = ..., held: _Optional[bool] = ..., report: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ListRolloutsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "filter", "order_by")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    filter: str
    order_by: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[str] = ..., order_by: _Optional[str] = ...) -> None: ...

class ListRolloutsResponse(_message.Message):
    __slots__ = ("rollouts", "next_page_token")
    ROLLOUTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    rollouts: _containers.RepeatedCompositeFieldContainer[_rollout_pb2.Rollout]
    next_page_token: str
    def __init__(self, rollouts: _Optional[_Iterable[_Union[_rollout_pb2.Rollout, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetRolloutRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class SteerRolloutRequest(_message.Message):
    __slots__ = ("name", "action", "request_id")
    class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACTION_UNSPECIFIED: _ClassVar[SteerRolloutRequest.Action]
        ACTION_PAUSE: _ClassVar[SteerRolloutRequest.Action]
        ACTION_RESUME: _ClassVar[SteerRolloutRequest.Action]
        ACTION_UNDO: _ClassVar[SteerRolloutRequest.Action]
    ACTION_UNSPECIFIED: SteerRolloutRequest.Action
    ACTION_PAUSE: SteerRolloutRequest.Action
    ACTION_RESUME: SteerRolloutRequest.Action
    ACTION_UNDO: SteerRolloutRequest.Action
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    action: SteerRolloutRequest.Action
    request_id: str
    def __init__(self, name: _Optional[str] = ..., action: _Optional[_Union[SteerRolloutRequest.Action, str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class ListServiceLevelsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "filter", "order_by", "deployments")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    filter: str
    order_by: str
    deployments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., filter: _Optional[str] = ..., order_by: _Optional[str] = ..., deployments: _Optional[_Iterable[str]] = ...) -> None: ...

class ListServiceLevelsResponse(_message.Message):
    __slots__ = ("service_levels", "next_page_token")
    SERVICE_LEVELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    service_levels: _containers.RepeatedCompositeFieldContainer[_service_level_pb2.ServiceLevel]
    next_page_token: str
    def __init__(self, service_levels: _Optional[_Iterable[_Union[_service_level_pb2.ServiceLevel, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
