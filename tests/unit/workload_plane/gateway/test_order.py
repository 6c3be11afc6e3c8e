"""Make before break."""

from tests.unit.workload_plane.gateway.gateway_builders import (
    DESCRIPTOR_SET,
    a_model,
    a_replica,
    a_topology,
)
from workload_plane.gateway.order import CLUSTERS, LISTENERS, RemoveFile, WriteFile, plan_steps
from workload_plane.gateway.resources import Snapshot, build_snapshot


def a_snapshot(*names: str) -> Snapshot:
    models = [a_model(name, a_replica(f"{name}-1")) for name in names]
    return build_snapshot(a_topology(*models), "/gateway", DESCRIPTOR_SET)


def test_what_is_pointed_at_is_written_before_what_points() -> None:
    paths = [step.path for step in plan_steps(None, a_snapshot("chat"))]
    endpoints = paths.index("endpoints/chat/http.json")
    secrets, routes = paths.index("secrets/identity.json"), paths.index("routes/public.json")
    assert max(endpoints, secrets) < paths.index(CLUSTERS) < routes < paths.index(LISTENERS)


def test_what_goes_stays_until_nothing_points_at_it() -> None:
    steps = plan_steps(a_snapshot("old", "kept"), a_snapshot("kept"))
    clusters = [
        (number, {cluster["name"] for cluster in step.resources})
        for number, step in enumerate(steps)
        if isinstance(step, WriteFile) and step.path == CLUSTERS
    ]
    listeners = next(n for n, step in enumerate(steps) if step.path == LISTENERS)
    (first, with_old), (last, without_old) = clusters
    assert first < listeners < last
    assert "http/old" in with_old
    assert "http/old" not in without_old
    removed = [step.path for step in steps[last + 1 :]]
    assert sorted(removed) == [
        f"endpoints/old/{kind}.json" for kind in ("grpc", "http", "local-grpc", "local-http")
    ]
    assert all(isinstance(step, RemoveFile) for step in steps[last + 1 :])
