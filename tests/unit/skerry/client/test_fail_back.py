"""A deployment's `failBack` comes through file, wire and rendering unchanged."""

import pytest

from skerry.client.manifest import read_manifests
from skerry.client.manifest_rendering import render_text
from skerry.fleet.deployment import FailBack
from skerry.plumbing.errors import InvalidInput
from skerry.wire.deployments import deployment_from_proto, deployment_to_proto

FILE = """\
apiVersion: skerry/v1
kind: Deployment
metadata: {name: demo}
spec:
  baseModel: {uri: "builtin://skerry-tiny", servedName: demo}
  engine: {name: simulated}
  resources: [{accelerator: cpu, hostMemory: 256MiB}]
  placement: {priority: 1%s}
"""


@pytest.mark.parametrize("policy", [None, *FailBack])
def test_fail_back_is_kept_through_file_wire_and_rendering(policy: FailBack | None) -> None:
    told = f", failBack: {policy.value}" if policy else ""
    (deployment,) = read_manifests((FILE % told).encode(), "demo.yaml")
    assert deployment.policy.fail_back is policy
    assert deployment_from_proto(deployment_to_proto(deployment)) == deployment
    (again,) = read_manifests(render_text((deployment,)).encode(), "again.yaml")
    assert again == deployment


def test_an_unknown_fail_back_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidInput, match="failBack"):
        read_manifests((FILE % ", failBack: sometimes").encode(), "demo.yaml")
