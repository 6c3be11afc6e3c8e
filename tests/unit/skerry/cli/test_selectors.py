"""`skerry get -l`: labels become a filter that the server reads."""

import pytest

from control_plane.api.filters import parse_filter
from skerry.api.operator.v1 import deployment_pb2
from skerry.cli.get import _with_labels
from skerry.cli.session import UsageFault

GOLD = deployment_pb2.Deployment()
GOLD.spec.labels.update({"tier": "gold", "team": "chat"})


@pytest.mark.parametrize(
    ("selector", "passes", "found"),
    [
        ("tier=gold", "", True),
        ("tier=gold,team=chat", "", True),
        ("tier", "", True),
        ("rank", "", False),
        ("tier=silver", "", False),
        ("tier=gold", "spec.labels.team = ops OR spec.labels.team = chat", True),
        ("tier=gold", "spec.labels.team = ops", False),
    ],
)
def test_labels_choose(selector: str, passes: str, found: bool) -> None:
    text = _with_labels("deployments", passes, selector)
    assert parse_filter(text, deployment_pb2.Deployment)(GOLD) is found


@pytest.mark.parametrize("selector", ["=gold", 'tier="x"', "a b=c", "tier=(x)"])
def test_what_is_no_label_is_refused(selector: str) -> None:
    with pytest.raises(UsageFault, match="KEY=VALUE"):
        _with_labels("deployments", "", selector)


def test_what_has_no_labels_is_refused() -> None:
    with pytest.raises(UsageFault, match="no labels"):
        _with_labels("pools", "", "tier=gold")
