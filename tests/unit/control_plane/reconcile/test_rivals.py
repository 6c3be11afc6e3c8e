"""A tenant cannot keep another's replicas away, whatever names it guesses."""

from dataclasses import replace

from control_plane.reconcile.problem import placement_problem
from control_plane.reconcile.rivals import apart, owners_of
from control_plane.reconcile.snapshot import Demand
from skerry.fleet.deployment import PlacementPolicy
from tests.builders import a_deployment, a_snapshot


def test_only_deployments_of_its_own_project_are_kept_apart() -> None:
    policy = PlacementPolicy(anti_affinity=("mine", "others", "nobodys"))
    demands = (
        Demand(deployment=a_deployment("asking", project="red", policy=policy)),
        Demand(deployment=a_deployment("mine", project="red")),
        Demand(deployment=a_deployment("others", project="blue")),
    )
    snapshot = replace(a_snapshot(), demands=demands)
    asked = placement_problem(snapshot, {}).demands[0].deployment
    assert asked.policy.anti_affinity == ("mine",)


def test_what_names_none_of_another_is_left_as_it_is() -> None:
    policy = PlacementPolicy(anti_affinity=("other",))
    deployment = a_deployment("asking", policy=policy)
    demands = (Demand(deployment=deployment), Demand(deployment=a_deployment("other")))
    assert apart(deployment, owners_of(demands)) is deployment
