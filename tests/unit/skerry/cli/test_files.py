"""Deployment files of one command: all of them are right together, or none is used."""

from pathlib import Path

import pytest

from skerry.cli.files import read_deployments, read_objects
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


CLOUD = "apiVersion: skerry/v1\nkind: Cloud\nmetadata: {name: gcp}\n"


def test_the_deployments_of_mixed_files_are_found_among_the_rest(tmp_path: Path) -> None:
    name = a_file(tmp_path / "x.yaml", "demo", "m")
    (tmp_path / "x.yaml").write_text(f"{CLOUD}---\n{(tmp_path / 'x.yaml').read_text()}")
    assert [one.name for _, one in read_deployments([name])] == ["demo"]
    assert len(read_objects([name])) == 2


def test_files_without_a_deployment_are_no_answer_to_where_it_would_run(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(CLOUD)
    with pytest.raises(UsageFault, match="there is no deployment in it"):
        read_deployments([str(tmp_path / "x.yaml")])


def test_a_thing_in_two_files_is_refused(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a.yaml", "b.yaml")]
    for name in names:
        Path(name).write_text(CLOUD)
    with pytest.raises(UsageFault, match=f"{names[1]}: cloud 'gcp' is in {names[0]} too"):
        read_objects(names)


def test_a_directory_stands_for_every_yaml_file_below_it_by_name(tmp_path: Path) -> None:
    below = tmp_path / "deployment"
    below.mkdir()
    (tmp_path / "cloud.yml").write_text(CLOUD)
    (tmp_path / "notes.txt").write_text("not read")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text("not read")
    for name in ("b", "a"):
        a_file(below / f"{name}.yaml", name, f"{name}-model")
    found = [source for source, _ in read_objects([str(tmp_path)])]
    assert found == [str(tmp_path / "cloud.yml"), str(below / "a.yaml"), str(below / "b.yaml")]


def test_a_directory_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match=r"there is no \.yaml file in it"):
        read_objects([str(tmp_path)])
