"""The topology follows from what is desired and what runs; residency fails closed."""

import dataclasses
from typing import Any

import pytest

from skerry.fleet.deployment import PlacementPolicy, ServiceObjective
from skerry.fleet.desired import Assignment, DesiredState, PeerPlane
from skerry.fleet.engine import EngineName, EngineProtocol, EngineSpec, Lora, LoraAdapter
from skerry.fleet.generation import Version
from skerry.fleet.observation import ReplicaState
from skerry.fleet.placement import Envelope
from skerry.fleet.routing import Routing, RoutingPolicy
from tests.unit.workload_plane.converge.test_plan import POOL, a_deployment
from tests.unit.workload_plane.test_settings import GOOD
from workload_plane.gateway.clusters import build_endpoints as build_clusters_endpoints
from workload_plane.gateway.feed import gateway_view
from workload_plane.gateway.routing import Hosts, build_endpoints, build_topology
from workload_plane.gateway.topology import GatewayTopology
from workload_plane.replicas.port import LiveReplica
from workload_plane.replicas.records import ReplicaRecord
from workload_plane.settings import parse_settings

SETTINGS = parse_settings(GOOD)
HOSTS = Hosts(known={"127.0.0.1": "127.0.0.1", "10.0.0.1": "10.0.0.1", "10.0.0.2": "10.0.0.2"})
PEERS = (
    PeerPlane(
        plane="eu", cloud="gcp", region="eu-1", peer_address="10.0.0.1:5", residency_zones=("eu",)
    ),
    PeerPlane(
        plane="us", cloud="aws", region="us-2", peer_address="10.0.0.2:5", residency_zones=("us",)
    ),
)


def live(name: str, state: ReplicaState, alive: bool = True) -> LiveReplica:
    record = ReplicaRecord(
        name=name,
        deployment="demo",
        revision=1,
        pool=POOL,
        state=state,
        http_port=10,
        grpc_port=11,
        health_port=12,
    )
    return LiveReplica(record=record, alive=alive)


def desired(assignment: Assignment, peers: tuple[PeerPlane, ...] = PEERS) -> DesiredState:
    return DesiredState(
        plane="here",
        version=Version(epoch=1, generation=1),
        assignments=(assignment,),
        peers=peers,
    )


def assigned(**values: object) -> Assignment:
    first = Assignment(deployment=a_deployment(), serving_planes=("eu", "us", "here"))
    return dataclasses.replace(first, **values)  # type: ignore[arg-type]


def topology(assignment: Assignment, *replicas: LiveReplica) -> GatewayTopology:
    return build_topology(SETTINGS, desired(assignment), replicas, HOSTS)


def test_ready_and_draining_replicas_are_routed_and_others_are_not() -> None:
    built = topology(
        assigned(),
        live("demo-r1-a", ReplicaState.READY),
        live("demo-r1-b", ReplicaState.DRAINING),
        live("demo-r1-c", ReplicaState.STARTING),
        live("demo-r1-d", ReplicaState.FAILED, alive=False),
        live("demo-r1-e", ReplicaState.READY, alive=False),
    )
    (model,) = built.models
    assert [(r.name, r.draining) for r in model.replicas] == [
        ("demo-r1-a", False),
        ("demo-r1-b", True),
    ]


def test_a_model_without_replicas_here_is_served_by_peers_nearest_first() -> None:
    (model,) = topology(assigned()).models
    assert model.peers == ("us", "eu")
    assert model.replicas == ()


def test_only_planes_that_serve_it_may_help() -> None:
    (model,) = topology(assigned(serving_planes=("eu",))).models
    assert model.peers == ("eu",)


def test_where_nobody_is_named_that_serves_it_those_that_may_help_are_known() -> None:
    (model,) = topology(assigned(serving_planes=())).models
    assert (model.peers, model.untold_peers) == ((), ("us", "eu"))
    demo = dataclasses.replace(a_deployment(), policy=PlacementPolicy(residency_zones=("us",)))
    (model,) = topology(assigned(deployment=demo, serving_planes=())).models
    assert model.untold_peers == ("us",)
    for named in ("here", "eu"):
        (model,) = topology(assigned(serving_planes=(named,))).models
        assert model.untold_peers == (), "an instruction, also where it names no peer"


def test_requests_do_not_leave_their_residency_zones() -> None:
    demo = dataclasses.replace(a_deployment(), policy=PlacementPolicy(residency_zones=("us",)))
    (model,) = topology(assigned(deployment=demo)).models
    assert model.peers == ("us",)


def test_a_peer_of_unknown_zones_is_no_host_of_a_deployment_with_residency() -> None:
    demo = dataclasses.replace(a_deployment(), policy=PlacementPolicy(residency_zones=("us",)))
    (eu, us) = PEERS
    silent = dataclasses.replace(us, residency_zones=())
    for serving in (("eu", "us", "nobody-told"), ()):
        asked = assigned(deployment=demo, serving_planes=serving)
        built = build_topology(SETTINGS, desired(asked, (eu, silent)), (), HOSTS)
        (model,) = built.models
        assert (model.peers, model.untold_peers) == ((), ())
        hosts = {
            host["endpoint"]["hostname"]
            for endpoints in build_clusters_endpoints(built)
            for locality in endpoints["endpoints"]
            for host in locality["lb_endpoints"]
        }
        assert hosts.isdisjoint({"eu", "us", "nobody-told"})


def test_a_peer_whose_name_never_resolved_is_left_out_until_it_does() -> None:
    (eu, us) = PEERS
    far = dataclasses.replace(us, peer_address="gateway.example:5")
    built = build_topology(SETTINGS, desired(assigned(), (eu, far)), (), HOSTS)
    assert [peer.plane for peer in built.peers] == ["eu"]
    assert built.models[0].peers == ("eu",)


def test_a_deleted_deployment_is_routed_until_its_last_replica_is_gone() -> None:
    gone = assigned(tombstone=True)
    assert topology(gone, live("demo-r1-a", ReplicaState.DRAINING)).models != ()
    assert topology(gone).models == ()


def test_the_front_is_told_of_ready_replicas_and_of_models_without_any() -> None:
    told = build_endpoints(
        SETTINGS,
        desired(assigned()),
        (live("demo-r1-a", ReplicaState.READY), live("demo-r1-b", ReplicaState.DRAINING)),
    )
    models: Any = told["models"]
    assert [model["served_name"] for model in models] == ["demo"]
    assert models[0]["replicas"] == [{"name": "demo-r1-a", "grpc": "127.0.0.1:11"}]


def test_a_gateway_that_does_not_answer_routes_nothing_and_knows_nothing() -> None:
    view = gateway_view(None)
    assert (view.known, view.routable) == (False, frozenset())


def of_engine(name: EngineName, *adapters: str) -> Assignment:
    lora = (
        Lora(adapters=tuple(LoraAdapter(name=one, uri=f"file:///{one}") for one in adapters))
        if adapters
        else None
    )
    deployment = a_deployment()
    engine = EngineSpec(name=name, lora=lora)
    revision = dataclasses.replace(deployment.revision, engine=engine)
    return assigned(deployment=dataclasses.replace(deployment, revision=revision))


def test_what_an_engine_has_not_is_known_before_a_request_asks_for_it() -> None:
    lacks = {
        name: topology(of_engine(name)).models[0].lacks
        for name in (EngineName.VLLM, EngineName.TENSORRT_LLM, EngineName.LLAMACPP)
    }
    assert lacks == {
        EngineName.VLLM: (),
        EngineName.TENSORRT_LLM: ("embeddings",),
        EngineName.LLAMACPP: ("embeddings", "responses"),
    }


def test_a_model_of_the_engines_own_service_is_known_unless_another_engine_stands_in() -> None:
    deployment = a_deployment()
    engine = EngineSpec(name=EngineName.TENSORRT_LLM, version="1.4", protocol=EngineProtocol.TRTLLM)
    revision = dataclasses.replace(deployment.revision, engine=engine)
    assignment = assigned(deployment=dataclasses.replace(deployment, revision=revision))
    assert topology(assignment).models[0].serves_trtllm
    assert not topology(of_engine(EngineName.TENSORRT_LLM)).models[0].serves_trtllm
    settings = dataclasses.replace(SETTINGS, engine_override=EngineName.SIMULATED)
    (model,) = build_topology(settings, desired(assignment), [], HOSTS).models
    assert not model.serves_trtllm


def test_adapters_are_asked_for_as_their_engine_wants_it() -> None:
    served = a_deployment().revision.base_model.served_name
    (vllm,) = topology(of_engine(EngineName.VLLM, "sql", served)).models
    assert vllm.names == (served, "sql"), "a served name wins over an adapter's"
    (sglang,) = topology(of_engine(EngineName.SGLANG, "sql")).models
    assert sglang.names == (served, f"{served}:sql")
    (trtllm,) = topology(of_engine(EngineName.TENSORRT_LLM, "sql")).models
    assert trtllm.names == (served,)


def test_a_model_is_listed_where_somebody_may_serve_it() -> None:
    assert topology(assigned()).models[0].listed, "a peer has it"
    alone = assigned(serving_planes=())
    assert not topology(alone).models[0].listed
    assert topology(alone, live("a", ReplicaState.READY)).models[0].listed
    envelope = Envelope(deployment="demo", pool=POOL, floor=0, target=0, ceiling=1)
    assert topology(assigned(serving_planes=(), envelopes=(envelope,))).models[0].listed


def test_peers_are_ordered_by_what_was_measured() -> None:
    unmeasured = topology(assigned())
    nearest = [peer.plane for peer in unmeasured.peers]
    far, near = nearest
    measured = {near: 0.001, far: 0.2}
    again = build_topology(SETTINGS, desired(assigned()), (), HOSTS, measured)
    assert [peer.plane for peer in again.peers] == [near, far]
    assert again.models[0].peers == (near, far)
    assert {peer.plane: peer.distance_seconds for peer in again.peers} == measured


def test_the_gateway_knows_how_a_deployment_wants_to_be_routed() -> None:
    routing = Routing(policy=RoutingPolicy.SESSION, continuation=True)
    deployment = dataclasses.replace(a_deployment(), routing=routing)
    assert topology(assigned(deployment=deployment)).models[0].routing == routing


@pytest.mark.parametrize(
    ("context_tokens", "ttft_seconds", "bound_seconds"),
    [
        (2_048, 1.0, 10.0),  # the least that a busy machine needs
        (8_192, 4.0, 20.0),  # what its users are promised, five times
        (131_072, 2.0, 131.072),  # a long prompt takes its time, whatever they are promised
        (131_072, 60.0, 300.0),
    ],
)
def test_the_bound_on_the_first_token_grows_with_the_context(
    context_tokens: int, ttft_seconds: float, bound_seconds: float
) -> None:
    deployment = a_deployment()
    revision = dataclasses.replace(
        deployment.revision,
        engine=dataclasses.replace(deployment.revision.engine, context_tokens=context_tokens),
        objective=ServiceObjective(ttft_seconds=ttft_seconds, tpot_seconds=0.05),
    )
    asked = assigned(deployment=dataclasses.replace(deployment, revision=revision))
    (model,) = topology(asked).models
    assert model.ttft_bound_seconds == bound_seconds
    assert model.total_deadline_seconds == max(60.0, bound_seconds + 0.1 * context_tokens)
