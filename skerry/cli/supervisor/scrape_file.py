"""prometheus-targets.json: where the metrics of a data directory's processes are, for file_sd.

Made of the same values as fleet.json and kept current with it: replicas come and go with ports of
their own. Pure.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from skerry.cli.supervisor.layout import HOST, Layout

ENVOY_PATH = "/stats/prometheus"


def render_targets(layout: Layout, fleet: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the content; `fleet` is that of fleet.json, and names the replicas that live."""
    targets = [_target("control-plane", one.http_address) for one in layout.control_planes]
    for plane in layout.planes:
        ports, name = plane.ports, plane.name
        targets += [
            _target(job, f"{HOST}:{port}", plane=name)
            for job, port in (("agent", ports.agent), ("picker", ports.picker))
            if port
        ]
        admin = f"{HOST}:{ports.admin}"
        targets.append(_target("gateway", admin, plane=name, __metrics_path__=ENVOY_PATH))
    for shown in fleet["planes"]:
        targets += _relay(layout, shown)
        targets += _replicas(shown)
    return targets


def _relay(layout: Layout, shown: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    # Only where a deployment continues streams; else nothing listens, and that is no fault.
    if shown["relay_pid"]:
        port = layout.plane(shown["name"]).ports.relay_http
        yield _target("relay", f"{HOST}:{port}", plane=shown["name"])


def _replicas(shown: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for replica in shown["replicas"]:
        if replica["health"]:
            yield _target(
                "replica",
                replica["health"],
                plane=shown["name"],
                deployment=replica["deployment"],
                replica=replica["name"],
            )


def _target(job: str, address: str, **labels: str) -> dict[str, Any]:
    return {"targets": [address], "labels": {"job": f"skerry-{job}", **labels}}
