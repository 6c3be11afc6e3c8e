"""What a base model that is not here may keep a plane from, and what it may not, for any plane."""

import dataclasses

from hypothesis import given

from skerry.fleet.desired import DesiredState
from tests.properties.test_converge_plan import NOW, desires, planes
from workload_plane.converge.actions import DrainReplica, ForgetReplica, StartReplica
from workload_plane.converge.plan import decide
from workload_plane.converge.seen import Observed


@given(desired=desires(), observed=planes())
def test_without_its_model_nothing_starts_and_nothing_goes_that_would_not_go_anyway(
    desired: DesiredState, observed: Observed
) -> None:
    everyone = {
        (one.deployment.name, revision.number): "downloading"
        for one in desired.assignments
        for revision in one.revisions
    }
    waiting = decide(desired, dataclasses.replace(observed, model_waits=everyone), NOW)
    ready = decide(desired, observed, NOW)
    assert not any(isinstance(action, StartReplica) for action in waiting.actions)
    ends = [action for action in waiting.actions if not isinstance(action, ForgetReplica)]
    assert set(ends) <= set(ready.actions)
    drains = [action for action in ready.actions if isinstance(action, DrainReplica)]
    for drain in set(drains) - set(waiting.actions):
        assert "has no place for the new revision" in drain.reason
    starts = sum(isinstance(action, StartReplica) for action in ready.actions)
    shown = sum(len(wait.places) for wait in waiting.waits if wait.replicas)
    assert shown == starts


@given(desired=desires(), observed=planes())
def test_one_deployments_model_keeps_no_other_from_anything(
    desired: DesiredState, observed: Observed
) -> None:
    for one in desired.assignments[:1]:
        waits = {(one.deployment.name, revision.number): "x" for revision in one.revisions}
        waiting = decide(desired, dataclasses.replace(observed, model_waits=waits), NOW)
        ready = decide(desired, observed, NOW)
        others = [
            action
            for action in ready.actions
            if isinstance(action, StartReplica) and action.deployment != one.deployment.name
        ]
        assert [a for a in waiting.actions if isinstance(a, StartReplica)] == others
