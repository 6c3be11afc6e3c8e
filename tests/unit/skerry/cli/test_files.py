"""Deployment files of one command: all of them are right together, or none is used."""

from pathlib import Path

import pytest

from skerry.cli.files import read_deployments
from skerry.cli.session import UsageFault

TEXT = """\
apiVersion: skerry/v1
kind: Deployment
metadata: {name: NAME}
spec:
  baseModel: {uri: "builtin://skerry-tiny", servedName: SERVED}
  engine: {name: llamacpp}
  resources: [{accelerator: cpu}]
"""


def a_file(path: Path, name: str, served: str) -> str:
    """Write a deployment file and return its name."""
    path.write_text(TEXT.replace("NAME", name).replace("SERVED", served))
    return str(path)


def test_files_of_different_deployments_are_read_in_order(tmp_path: Path) -> None:
    names = [a_file(tmp_path / f"{n}.yaml", n, f"{n}-model") for n in ("b", "a")]
    assert [deployment.name for _, deployment in read_deployments(names)] == ["b", "a"]


def test_a_deployment_in_two_files_is_refused(tmp_path: Path) -> None:
    first, second = (a_file(tmp_path / f"{n}.yaml", "demo", n) for n in ("x", "y"))
    with pytest.raises(UsageFault, match=f"deployment 'demo' is in {first} too"):
        read_deployments([first, second])


def test_two_files_cannot_serve_by_one_name(tmp_path: Path) -> None:
    first, second = (a_file(tmp_path / f"{n}.yaml", n, "tiny") for n in ("x", "y"))
    with pytest.raises(UsageFault, match=f"'tiny' is served by deployment 'x' of {first}"):
        read_deployments([first, second])
