"""What the processes of a data directory read at start: certificates, settings.json, config.yaml.

`skerry up` writes them before the supervisor starts anything; writing the same again changes
nothing, and what an operator wrote into the sections `scheduler`, `operator_access` (but for what
`up` decides), and a plane's `ray`, `engine_user` and `engine_environment`, stays.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from skerry.cli.supervisor.engine_user import numbers_of
from skerry.cli.supervisor.layout import (
    HOST,
    ControlPlaneLayout,
    DataDirectory,
    Layout,
    PlaneLayout,
)
from skerry.cli.supervisor.pki import authority_file, ensure_pki
from skerry.cli.supervisor.written_settings import section_of
from skerry.client.context import Context, render_context
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.party_uris import Naming
from skerry.fleet.service_token import BOOTSTRAP_TOKEN, SECRET_BYTES, name_in, token_text
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.files import write_atomically
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.rpc import TlsFiles
from skerry.plumbing.sealing import PLAIN, Keyring
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

POOL = "cpu"
ACCELERATOR = "cpu"
ACCELERATORS_PER_NODE = 4
ACCELERATOR_MEMORY_BYTES = 1 * 2**30
HOST_MEMORY_BYTES = 4 * 2**30
_TOKEN_MODE = 0o600


def write_settings(
    directory: DataDirectory,
    layout: Layout,
    model_directories: tuple[Path, ...],
    now: datetime,
    keyring: Keyring = PLAIN,
) -> None:
    """Write everything that the fleet's processes and its clients read."""
    pki = ensure_pki(directory, layout, now, keyring)
    if layout.auth:
        _ensure_token(directory.operator_token)
    for one in layout.control_planes:
        tls = pki.standbys.get(one.name, pki.control_plane)
        settings = {
            **_control_plane(directory, layout, one, tls),
            **_joining(directory, layout, one, pki.naming),
        }
        _write_json(directory.control_plane_of(one.name) / "settings.json", settings)
    for plane in layout.planes:
        home = directory.plane(plane.name)
        for folder in ("desired", "gateway", "replicas", "logs"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        settings = _plane(directory, layout, plane, pki.planes[plane.name], model_directories)
        _write_json(home / "settings.json", settings)
    write_atomically(directory.config, render_context(fleet_context(directory, layout)).encode())


def fleet_context(directory: DataDirectory, layout: Layout) -> Context:
    """Return the context of who owns the directory."""
    return Context(
        endpoints=layout.operator_addresses,
        data_directory=directory.root,
        token_file=directory.operator_token if layout.auth else None,
        api_key_file=directory.api_key if layout.keys else None,
        ca_file=authority_file(directory) if layout.tls else None,
        # Planes have certificates for `localhost`, too; this name is the control planes' alone.
        server_name=CONTROL_PLANE_SERVER_NAME if layout.tls else "",
    )


def _control_plane(
    directory: DataDirectory, layout: Layout, one: ControlPlaneLayout, tls: TlsFiles
) -> dict[str, Any]:
    file = f"sqlite:///{directory.control_plane / 'skerry.db'}"
    return {
        "project": DEFAULT_PROJECT,
        "name": one.name,
        "database_url": layout.database or file,
        "operator_address": one.operator_address,
        "link_address": one.link_address,
        "http_address": one.http_address,
        "dashboard_address": one.dashboard_address,
        "tls": _tls(tls),
        "operator_access": _access(directory, layout),
        **({"operator_tls": _served_with(tls)} if layout.tls else {}),
        **_tracing(layout, directory.control_plane / "settings.json"),
        # Each of them may lead: what the operator wrote for the first holds for all.
        **_kept(directory.control_plane / "settings.json"),
    }


def _joining(
    directory: DataDirectory, layout: Layout, one: ControlPlaneLayout, naming: Naming
) -> dict[str, Any]:
    """Return where planes join, how their certificates name them, and how long those last."""
    written = section_of(directory.control_plane / "settings.json", "joining")
    kept = {}
    if isinstance(written, dict) and "certificate_seconds" in written:
        kept = {"certificate_seconds": written["certificate_seconds"]}
    ours = {
        "address": one.join_address,
        "authority": str(directory.pki / "authority"),
        "certificate_uri": naming.form.value,
        **({"sealing_keys": list(layout.sealing_keys)} if layout.sealing_keys else {}),
    }
    return {"joining": {**kept, **ours}}


def _served_with(files: TlsFiles) -> dict[str, str]:
    return {"certificate": str(files.cert), "key": str(files.key)}


def _access(directory: DataDirectory, layout: Layout) -> dict[str, Any]:
    """Return who may call: the owner of the directory, and whom the operator wrote of there."""
    written = section_of(directory.control_plane / "settings.json", "operator_access")
    kept = dict(written) if isinstance(written, dict) else {}
    kept.pop("bootstrap_token", None)  # a fleet of `up` has the token of its file
    ours: dict[str, Any] = {"required": layout.auth}
    if layout.auth:
        ours["bootstrap_token_file"] = str(directory.operator_token)
    return {**kept, **ours}


def _ensure_token(path: Path) -> None:
    """Make the token that the fleet's owner has at first, unless there is one."""
    try:
        if name_in(path.read_text("ascii").strip()) == BOOTSTRAP_TOKEN:
            path.chmod(_TOKEN_MODE)
            return
    except (OSError, UnicodeDecodeError):
        pass  # the first start; or damaged, and then made anew
    secret = SystemIds(SystemClock()).token(SECRET_BYTES)
    text = token_text(BOOTSTRAP_TOKEN, secret)
    write_atomically(path, text.encode() + b"\n", mode=_TOKEN_MODE)


def _kept(path: Path) -> dict[str, Any]:
    """Return what of a settings file is the operator's own."""
    told = {
        name: section_of(path, name) for name in ("scheduler", "dashboard_origin", "trust_domain")
    }
    return {name: value for name, value in told.items() if value is not None}


def _plane(
    directory: DataDirectory,
    layout: Layout,
    plane: PlaneLayout,
    tls: TlsFiles,
    model_directories: tuple[Path, ...],
) -> dict[str, Any]:
    offer, on_ray = plane.offer, plane.runtime == "ray"
    return {
        "project": DEFAULT_PROJECT,
        "plane": plane.name,
        "cloud": offer.cloud,
        "region": offer.region,
        "zone": offer.zone,
        "residency_zones": list(offer.residency_zones),
        "labels": {},
        "pools": [
            {
                "name": POOL,
                "accelerator": ACCELERATOR,
                "accelerator_memory_bytes": ACCELERATOR_MEMORY_BYTES,
                # Ray counts its nodes itself.
                "nodes": 0 if on_ray else 1,
                "accelerators_per_node": ACCELERATORS_PER_NODE,
                "host_memory_bytes": HOST_MEMORY_BYTES,
            }
        ],
        "control_planes": [one.link_address for one in layout.control_planes],
        "data_dir": str(directory.plane(plane.name)),
        "gateway": {
            "host": HOST,
            "public_port": plane.ports.public,
            "peer_port": plane.ports.peer,
            "admin_port": plane.ports.admin,
            "picker_port": plane.ports.picker,
            "require_keys": layout.keys,
        },
        "front_port": plane.ports.front,
        "agent_port": plane.ports.agent,
        "relay": {
            "http_port": plane.ports.relay_http,
            "grpc_port": plane.ports.relay_grpc,
            "inner_port": plane.ports.relay_inner,
        },
        "tls": _tls(tls),
        "model_dirs": [str(path) for path in model_directories],
        "engine_override": "simulated" if layout.engine == "simulated" else None,
        **_engine_user(directory, layout, plane),
        **_tracing(layout, directory.plane(plane.name) / "settings.json"),
        **(_ray(directory, plane) if on_ray else {}),
    }


def _ray(directory: DataDirectory, plane: PlaneLayout) -> dict[str, Any]:
    """Return the plane's settings of Ray: a head of its own, and what was written there before."""
    kept = section_of(directory.plane(plane.name) / "settings.json", "ray")
    return {"runtime": "ray", "ray": kept or {"port": plane.ports.ray}}


def _engine_user(directory: DataDirectory, layout: Layout, plane: PlaneLayout) -> dict[str, Any]:
    """Return as whom the plane's engines run, with what the operator wrote of that besides."""
    path = directory.plane(plane.name) / "settings.json"
    named = section_of(path, "engine_environment")
    kept = {"engine_environment": named} if named else {}
    if not layout.engine_user:
        return kept
    uid, gid = numbers_of(layout.engine_user)
    written = section_of(path, "engine_user")
    more = written if isinstance(written, dict) else {}
    return {**kept, "engine_user": {**more, "uid": uid, "gid": gid}}


def _tracing(layout: Layout, path: Path) -> dict[str, Any]:
    """Return where traces go, with the share of requests that the operator wrote."""
    if not layout.trace_endpoint:
        return {}
    written = section_of(path, "tracing")
    kept = written if isinstance(written, dict) else {}
    return {"tracing": {**kept, "endpoint": layout.trace_endpoint}}


def _tls(files: TlsFiles) -> dict[str, str]:
    return {"ca": str(files.ca), "certificate": str(files.cert), "key": str(files.key)}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Its owner's alone: the database's URL may have a password in it.
    write_atomically(path, json.dumps(values, indent=1).encode() + b"\n", mode=0o600)
