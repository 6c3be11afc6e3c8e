"""What a project is told in words: sentences of the scheduler without others' names."""

from types import SimpleNamespace
from typing import Any

import pytest

from control_plane.api.projects import explained, infeasible
from control_plane.reconcile.questions import Answered
from scheduler.explain import Explanation
from scheduler.reasons import Way
from skerry.plumbing.errors import Infeasible, NotFound
from tests.builders import a_deployment

MINE = a_deployment("mine", project="red")
DEPLOYMENTS = {one.name: one for one in (MINE, a_deployment("theirs", project="blue"))}
VIEW: Any = SimpleNamespace(index=SimpleNamespace(deployments=DEPLOYMENTS))
SENTENCE = "without this pool: 3 more replicas of theirs unplaced, 1 of mine, -$4/h"
APART = "without this pool: 3 more replicas of another project's unplaced, 1 of mine, -$4/h"


async def answer(deployment: str) -> Answered[Explanation]:
    found = Explanation(
        deployment=deployment,
        pool=None,
        replicas=1,
        reasons=(SENTENCE, "full: theirs--cpu"),
        conflict=(),
        ways=(Way(change="theirs dropped", dollars_per_hour=1.0),),
    )
    return Answered(value=found, seconds=0.5)


async def test_an_explanation_names_no_other_projects_deployments() -> None:
    told = await explained(VIEW, MINE, answer("mine"))
    assert list(told.reasons) == [APART, "full: theirs--cpu"], "that is a pool of a plane"
    assert told.ways[0].change == "another project's dropped"


async def test_whoever_sees_the_fleet_sees_all_of_it() -> None:
    told = await explained(VIEW, a_deployment(), answer("demo"))
    assert told.reasons[0] == SENTENCE


async def test_why_something_cannot_be_names_no_others_either() -> None:
    error = infeasible(VIEW, "red", Infeasible(SENTENCE, field="to_pool"))
    assert (error.message, error.field) == (APART, "to_pool")


async def test_what_is_not_to_be_served_any_more_is_answered_without_a_list_of_what_is() -> None:
    async def nobody() -> Answered[Explanation]:
        raise NotFound("no deployment 'mine' is to be served; there are theirs", field="name")

    with pytest.raises(NotFound) as refused:
        await explained(VIEW, MINE, nobody())
    assert "theirs" not in refused.value.message
