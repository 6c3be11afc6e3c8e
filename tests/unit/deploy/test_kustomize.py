"""The Kustomize bases and overlays: what they name is there, and Kubernetes takes it."""

import json
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from control_plane.settings import ControlPlaneSettings, load_settings
from tests.unit.deploy.files import DEPLOY, an_object, objects, unknown_parts
from workload_plane.settings import parse_settings

KUBERNETES = DEPLOY / "kubernetes"
CONTROL = "control-plane/control-plane.yaml"
FOLDERS = sorted(
    str(path.parent.relative_to(KUBERNETES)) for path in KUBERNETES.rglob("kustomization.yaml")
)
MANIFESTS = sorted(
    str(path.relative_to(KUBERNETES))
    for path in KUBERNETES.rglob("*.yaml")
    if path.name != "kustomization.yaml"
)
# Others' definitions, of which no package has the schemas.
OTHERS = ("ray.io/", "cert-manager.io/")
FIELDS = {"apiVersion", "kind", "resources", "images", "patches"}


def kustomization(folder: str) -> dict[str, Any]:
    text = (KUBERNETES / folder / "kustomization.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def base_objects(folder: str) -> list[dict[str, Any]]:
    """Return the objects that an overlay changes."""
    (base,) = kustomization(folder)["resources"]
    root = (KUBERNETES / folder / base).resolve()
    names = kustomization(str(root.relative_to(KUBERNETES)))["resources"]
    return [one for name in names for one in objects(str(root.relative_to(KUBERNETES) / name))]


def test_there_is_a_base_of_each_part_and_an_example_of_each() -> None:
    assert {"control-plane", "plane", "plane-ray"} <= set(FOLDERS)
    assert {"examples/aws-us-east-1", "examples/control-plane"} <= set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_a_kustomization_names_is_there(folder: str) -> None:
    told = kustomization(folder)
    assert set(told) <= FIELDS
    for resource in told["resources"]:
        path = KUBERNETES / folder / resource
        assert path.is_file() or (path / "kustomization.yaml").is_file(), resource


@pytest.mark.parametrize("folder", [one for one in FOLDERS if one.startswith("examples/")])
def test_an_overlay_changes_what_its_base_has(folder: str) -> None:
    told, base = kustomization(folder), base_objects(folder)
    images = {
        container["image"].partition(":")[0]
        for one in base
        if one["kind"] == "StatefulSet"
        for container in one["spec"]["template"]["spec"]["containers"]
    }
    assert {image["name"] for image in told["images"]} <= images
    for patch in told["patches"]:
        target = patch["target"]
        (one,) = [
            one
            for one in base
            if (one["kind"], one["metadata"]["name"]) == (target["kind"], target["name"])
        ]
        for change in yaml.safe_load(patch["patch"]):
            assert change["op"] == "replace"
            inside: Any = one
            for part in change["path"].strip("/").split("/"):
                inside = inside[int(part) if isinstance(inside, list) else part]


def test_the_settings_of_an_overlay_are_accepted(tmp_path: Path) -> None:
    (text,) = [
        change["value"]
        for patch in kustomization("examples/aws-us-east-1")["patches"]
        for change in yaml.safe_load(patch["patch"])
        if change["path"] == "/data/settings.json"
    ]
    links = {one.link_address for one in control_settings(tmp_path).values()}
    assert set(parse_settings(json.loads(text)).control_planes) == links


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_kubernetes_takes_every_object(manifest: str) -> None:
    for one in objects(manifest):
        if one["apiVersion"].startswith(OTHERS):
            continue
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_a_misspelt_field_is_found() -> None:
    one = an_object(CONTROL, "PodDisruptionBudget")
    one["spec"]["maxUnavailible"] = one["spec"].pop("maxUnavailable")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def template_spec() -> dict[str, Any]:
    spec: dict[str, Any] = an_object(CONTROL, "StatefulSet")["spec"]["template"]["spec"]
    return spec


def control_settings(folder: Path) -> dict[str, ControlPlaneSettings]:
    """Return the settings of each instance, by its name."""
    found = {}
    for name, text in an_object(CONTROL, "ConfigMap")["data"].items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        found[name.removesuffix(".json")] = load_settings(path)
    return found


def test_each_control_plane_has_settings_of_its_own_name_and_addresses(tmp_path: Path) -> None:
    stateful, service = an_object(CONTROL, "StatefulSet"), an_object(CONTROL, "Service")
    name, namespace = stateful["metadata"]["name"], stateful["metadata"]["namespace"]
    settings = control_settings(tmp_path)
    assert set(settings) == {f"{name}-{number}" for number in range(stateful["spec"]["replicas"])}
    assert stateful["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    ports = {one["name"]: one["containerPort"] for one in template_spec()["containers"][0]["ports"]}
    for instance, one in settings.items():
        host = f"{instance}.{service['metadata']['name']}.{namespace}.svc.cluster.local"
        assert one.name == instance
        assert one.operator_address == f"{host}:{ports['operator']}"
        assert one.link_address == f"{host}:{ports['link']}"
        assert one.http_address.endswith(f":{ports['http']}")
        assert one.operator_tls is not None
        assert "@" in one.database_url
        assert one.database_url.count(":") == 1, "the password is the Secret's"


def test_every_file_of_the_control_planes_settings_is_mounted(tmp_path: Path) -> None:
    (container,) = template_spec()["containers"]
    mounts = [one["mountPath"] for one in container["volumeMounts"]]
    for one in control_settings(tmp_path).values():
        files = [one.tls.ca, one.tls.certificate, one.tls.key]
        token = one.operator_access.bootstrap_token_file
        assert token is not None
        for path in (*files, token):
            assert any(path.is_relative_to(mount) for mount in mounts), path
    volumes = {one["name"] for one in template_spec()["volumes"]}
    used = {
        mount["name"]
        for one in (*template_spec()["initContainers"], container)
        for mount in one["volumeMounts"]
    }
    assert used == volumes


def test_a_standby_counts_as_ready_and_nobody_is_root() -> None:
    (container,) = template_spec()["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
    assert unknown_parts(container["args"]) == []
    assert template_spec()["securityContext"]["runAsNonRoot"] is True
    for one in (*template_spec()["initContainers"], container):
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert one["securityContext"]["allowPrivilegeEscalation"] is False


@pytest.mark.integration
@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_itself_builds_it(folder: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        warnings.warn("NO kustomize build IS TESTED HERE: no kubectl", stacklevel=1)
        pytest.skip("NO kustomize build IS TESTED HERE: no kubectl")
    built = subprocess.run(
        [kubectl, "kustomize", str(KUBERNETES / folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert all(one["kind"] for one in yaml.safe_load_all(built.stdout))
