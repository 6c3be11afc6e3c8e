"""The Kubernetes manifests fit the settings inside them, each other, and this tree."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest

from tests.unit.deploy.files import (
    END_SECONDS,
    ROOT,
    an_object,
    objects,
    settings_in,
    unknown_parts,
)
from workload_plane.gateway.wire import HEALTH_PATH
from workload_plane.settings import parse_settings

PLANE, RAY = "plane/plane.yaml", "plane-ray/plane-ray.yaml"
CERTIFICATE = "plane/certificate.yaml"
# What KubeRay 1.5 knows of a group and of a cluster, as far as it is used here.
GROUP_FIELDS = {
    "groupName",
    "labels",
    "maxReplicas",
    "minReplicas",
    "rayStartParams",
    "replicas",
    "serviceType",
    "template",
}


def groups() -> dict[str, dict[str, Any]]:
    spec = an_object(RAY, "RayCluster")["spec"]
    workers = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    return {"head": spec["headGroupSpec"], **workers}


def pod_specs(manifest: str) -> dict[str, dict[str, Any]]:
    if manifest == PLANE:
        return {"plane": an_object(PLANE, "StatefulSet")["spec"]["template"]["spec"]}
    return {name: group["template"]["spec"] for name, group in groups().items()}


def container(manifest: str, group: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in pod_specs(manifest)[group]["containers"] if one["name"] == name]
    return found  # type: ignore[no-any-return]


def every_container() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each container with the spec it is in."""
    for manifest in (PLANE, RAY):
        for spec in pod_specs(manifest).values():
            for one in (*spec.get("initContainers", ()), *spec["containers"]):
                yield spec, one


@pytest.mark.parametrize("manifest", [PLANE, RAY])
def test_the_ports_of_the_container_are_those_of_the_settings(manifest: str) -> None:
    settings = parse_settings(settings_in(manifest))
    plane = container(manifest, "plane", "plane")
    ports = {port["name"]: port["containerPort"] for port in plane["ports"]}
    assert ports == {"public": settings.gateway.public_port, "peer": settings.gateway.peer_port}
    probe = plane["readinessProbe"]["httpGet"]
    assert probe == {"path": HEALTH_PATH, "port": "public"}


def test_a_container_with_replicas_is_never_restarted_by_a_probe() -> None:
    assert "livenessProbe" not in container(PLANE, "plane", "plane")
    # KubeRay adds one of its own where there is none.
    for name in groups():
        ray = "ray-head" if name == "head" else "ray-worker"
        assert container(RAY, name, ray)["livenessProbe"] == {"exec": {"command": ["true"]}}


@pytest.mark.parametrize(
    ("manifest", "group", "name"), [(PLANE, "plane", "plane"), (RAY, "h100", "ray-worker")]
)
def test_a_node_has_the_accelerators_that_the_settings_tell(
    manifest: str, group: str, name: str
) -> None:
    (pool,) = parse_settings(settings_in(manifest)).pools
    limits = container(manifest, group, name)["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == pool.accelerators_per_node
    grace = pod_specs(manifest)[group]["terminationGracePeriodSeconds"]
    assert grace >= END_SECONDS


@pytest.mark.parametrize("manifest", [PLANE, RAY])
def test_every_file_of_the_settings_is_in_a_mounted_volume(manifest: str) -> None:
    settings = parse_settings(settings_in(manifest))
    assert settings.tls is not None
    files = [settings.tls.ca, settings.tls.cert, settings.tls.key, settings.data_dir]
    files += [settings.model_cache.directory]
    if settings.ray is not None:
        files += [settings.ray.token_file]
    mounts = [one["mountPath"] for one in container(manifest, "plane", "plane")["volumeMounts"]]
    for file in files:
        path = PurePosixPath(file)
        assert any(path.is_relative_to(mount) for mount in mounts), file


def test_every_mount_has_a_volume_and_every_volume_a_mount() -> None:
    claims = an_object(PLANE, "StatefulSet")["spec"]["volumeClaimTemplates"]
    for manifest in (PLANE, RAY):
        for spec in pod_specs(manifest).values():
            volumes = {volume["name"] for volume in spec["volumes"]}
            if manifest == PLANE:
                volumes |= {claim["metadata"]["name"] for claim in claims}
            containers = (*spec.get("initContainers", ()), *spec["containers"])
            mounted = {mount["name"] for one in containers for mount in one["volumeMounts"]}
            assert mounted == volumes


def test_what_volumes_refer_to_is_made_here_or_told_to_be_made() -> None:
    for manifest in (PLANE, RAY):
        text = (ROOT / "deploy" / "kubernetes" / manifest).read_text(encoding="utf-8")
        told = set(re.findall(r"create secret generic (\S+)", text)) | {"plane-tls"}
        made = {
            (one["kind"], one["metadata"]["name"]) for one in objects(manifest) if "metadata" in one
        }
        for spec in pod_specs(manifest).values():
            for volume in spec["volumes"]:
                if "configMap" in volume:
                    assert ("ConfigMap", volume["configMap"]["name"]) in made
                if "secret" in volume:
                    assert volume["secret"]["secretName"] in told
                if claim := volume.get("persistentVolumeClaim"):
                    assert ("PersistentVolumeClaim", claim["claimName"]) in made


def test_every_command_exists() -> None:
    for _, one in every_container():
        command = [*one.get("command", ()), *one.get("args", ())]
        assert unknown_parts(command) == [], command
        if "plane.py" in " ".join(command):
            settings = command[command.index("--settings") + 1]
            mounts = [mount["mountPath"] for mount in one["volumeMounts"]]
            assert str(PurePosixPath(settings).parent) in mounts


def test_no_container_is_roots() -> None:
    for spec, one in every_container():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert one["securityContext"]["allowPrivilegeEscalation"] is False
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert spec["automountServiceAccountToken"] is False


def test_an_update_ends_no_replica_before_the_operator_says_so() -> None:
    spec = an_object(PLANE, "StatefulSet")["spec"]
    assert (spec["replicas"], spec["updateStrategy"]) == (1, {"type": "OnDelete"})
    budget = an_object(PLANE, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 0
    assert budget["selector"] == spec["selector"]


def test_the_ray_cluster_is_of_the_locked_ray_and_of_known_fields() -> None:
    spec = an_object(RAY, "RayCluster")["spec"]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert f"\nray=={spec['rayVersion']} " in lock
    assert set(spec) == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    for group in groups().values():
        assert set(group) <= GROUP_FIELDS
        # KubeRay refuses these here since 1.5; they have a field of their own.
        assert "labels" not in group["rayStartParams"]
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_only_the_pools_group_makes_up_the_pool() -> None:
    settings = parse_settings(settings_in(RAY))
    assert settings.ray is not None
    (pool,) = settings.ray.pools
    assert groups()["h100"]["labels"] == dict(pool.labels)
    for name in ("head", "plane"):
        assert "labels" not in groups()[name]
        # No replica, and nothing of Ray's, is to be scheduled where the head or the gateway is.
        assert groups()[name]["rayStartParams"]["num-cpus"] == "0"


def test_the_agent_finds_the_head_and_its_own_raylet() -> None:
    settings = parse_settings(settings_in(RAY))
    assert settings.ray is not None
    cluster = an_object(RAY, "RayCluster")["metadata"]
    service = f"{cluster['name']}-head-svc.{cluster['namespace']}.svc.cluster.local"
    assert settings.ray.address == f"{service}:6379"
    assert groups()["plane"]["rayStartParams"]["node-ip-address"] == settings.ray.host
    mounts = {
        name: {
            (mount["name"], mount["mountPath"])
            for mount in container(RAY, "plane", name)["volumeMounts"]
        }
        for name in ("plane", "ray-worker")
    }
    assert mounts["plane"] & mounts["ray-worker"] >= {("ray", "/tmp/ray"), ("shm", "/dev/shm")}


def test_the_agent_shares_no_machine_with_its_nodes() -> None:
    cluster = an_object(RAY, "RayCluster")["metadata"]["name"]
    affinity = pod_specs(RAY)["plane"]["affinity"]["podAntiAffinity"]
    (rule,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    wanted = {"ray.io/cluster": cluster, "ray.io/group": "h100"}
    assert rule["labelSelector"]["matchLabels"] == wanted


def test_every_ray_process_asks_for_the_token() -> None:
    for name, group in groups().items():
        ray = group["template"]["spec"]["containers"][0]
        environment = {one["name"]: one["value"] for one in ray["env"]}
        assert environment["RAY_AUTH_MODE"] == "token", name
        mounts = [mount["mountPath"] for mount in ray["volumeMounts"]]
        assert str(PurePosixPath(environment["RAY_AUTH_TOKEN_PATH"]).parent) in mounts


def test_the_certificate_is_the_planes_own() -> None:
    plane = settings_in(PLANE)["plane"]
    spec = an_object(CERTIFICATE, "Certificate")["spec"]
    assert spec["uris"] == [f"skerry://projects/default/planes/{plane}"]
    assert spec["dnsNames"] == [plane]
    assert set(spec["usages"]) >= {"server auth", "client auth"}
    secrets = [
        volume["secret"]["secretName"]
        for volume in pod_specs(PLANE)["plane"]["volumes"]
        if "secret" in volume
    ]
    assert secrets == [spec["secretName"]]
