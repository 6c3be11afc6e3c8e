"""The bridge: a process of the agent's that alone speaks to Ray, over pipes.

Ray ends a process that loses its head for a minute, and its calls may block for as long: neither
may happen to an agent. Frames are pickles between a process and its own child, from nowhere else.
"""

import argparse
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray._private.state import state
from ray.core.generated import gcs_pb2
from ray.util.placement_group import (
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from skerry.plumbing.errors import Unavailable
from skerry.plumbing.software import software_version
from workload_plane.replicas.ray.framing import HELLO, frame_of, read_frame, write_frame
from workload_plane.replicas.ray.launcher import Launcher
from workload_plane.replicas.ray.values import (
    GROUP_PREFIX,
    Bundle,
    Fault,
    LaunchPlace,
    NodeWord,
    Rank,
    RayLook,
    RayNode,
    group_state,
)

CALLS_AT_ONCE_MAX = 32
RESERVE_SECONDS_MAX = 5.0  # measured: 5 ms; what takes longer waits for somebody to release
WORD_SECONDS_MAX = 3.0
_REMOVED = "REMOVED"


class Bridge:
    """What the agent may ask of Ray; each method blocks and runs in a thread of its own."""

    def __init__(self) -> None:
        """Know no launcher yet."""
        self._launchers: dict[str, Any] = {}
        self._renewed: set[str] = set()
        self._lock = threading.Lock()

    def look(self) -> RayLook:
        """Return the cluster's nodes and our placement groups."""
        nodes = tuple(
            RayNode(
                node_id=node["NodeID"],
                alive=bool(node["Alive"]),
                address=node["NodeManagerAddress"],
                hostname=node["NodeManagerHostname"],
                labels=dict(node.get("Labels") or {}),
                resources=dict(node.get("Resources") or {}),
            )
            for node in ray.nodes()  # type: ignore[no-untyped-call]
        )
        alive = {node.node_id for node in nodes if node.alive}
        groups = {
            group["name"]: group_state(group["state"], group["bundles_to_node_id"].values(), alive)
            for group in placement_group_table().values()
            if group["name"].startswith(GROUP_PREFIX) and group["state"] != _REMOVED
        }
        return RayLook(nodes=nodes, groups=groups)

    def words(self, places: Sequence[LaunchPlace]) -> dict[str, NodeWord | Fault]:
        """Return what the launchers of the nodes say, by the node's name; starts the missing."""
        refs = {place.node: self._launcher(place).word.remote() for place in places}
        ray.wait(list(refs.values()), num_returns=len(refs), timeout=WORD_SECONDS_MAX)
        words = {place.node: self._result(place, refs[place.node], 0.0) for place in places}
        for place in places:
            word = words[place.node]
            if isinstance(word, NodeWord) and word.software != software_version():
                words[place.node] = self._renew(place, word)
        return words

    def call(
        self, place: LaunchPlace, method: str, arguments: tuple[object, ...], seconds: float
    ) -> object:
        """Return what a method of the node's launcher returned, or a Fault."""
        call = getattr(self._launcher(place), method)
        return self._result(place, call.remote(*arguments), seconds)

    def reserve(self, name: str, bundles: Sequence[Bundle]) -> str:
        """Return the state of the placement group, made unless it is there."""
        try:
            group = get_placement_group(name)
        except ValueError:
            group = placement_group(
                [dict(bundle.resources) for bundle in bundles],
                # Where each one lies is said by its label; PACK asks for nothing beside that.
                strategy="STRICT_PACK" if len(bundles) == 1 else "PACK",
                name=name,
                lifetime="detached",
                bundle_label_selector=[{"ray.io/node-id": one.node_id} for one in bundles],
            )
        group.wait(RESERVE_SECONDS_MAX)
        table = placement_group_table(group)
        asked = {bundle.node_id for bundle in bundles}
        return group_state(str(table["state"]), table["bundles_to_node_id"].values(), asked)

    def release(self, name: str) -> None:
        """Remove the placement group if there is one."""
        try:
            remove_placement_group(get_placement_group(name))
        except ValueError:
            return

    def ranks(self, name: str) -> tuple[Rank, ...]:
        """Return the processes that work in the placement group; none without a group."""
        try:
            group = get_placement_group(name).id.binary()
        except ValueError:
            return ()
        rows = state._connect_and_get_accessor().get_actor_table(None, "ALIVE")
        table: Any = gcs_pb2
        actors = [table.ActorTableData.FromString(row) for row in rows]
        return tuple(
            Rank(node_id=actor.address.node_id.hex(), pid=actor.pid)
            for actor in actors
            if actor.placement_group_id == group
        )

    def _launcher(self, place: LaunchPlace) -> Any:
        with self._lock:
            # By both: a raylet that is started again is another node to Ray, and for a moment its
            # label is taken by the old one, so that it goes by another name and another folder.
            key = f"launcher-{place.node}-{place.node_id}"
            if key not in self._launchers:
                actor = ray.remote(num_cpus=0, max_restarts=-1)(Launcher)
                self._launchers[key] = actor.options(
                    name=key,
                    lifetime="detached",
                    get_if_exists=True,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(place.node_id, soft=False),
                ).remote(place)
            return self._launchers[key]

    def _forget(self, place: LaunchPlace) -> None:
        self._launchers.pop(f"launcher-{place.node}-{place.node_id}", None)

    def _renew(self, place: LaunchPlace, word: NodeWord) -> Fault:
        if place.node_id not in self._renewed:
            # It was started by an agent of another release: the next one is of the node's own.
            self._renewed.add(place.node_id)
            ray.kill(self._launcher(place), no_restart=True)
            self._forget(place)
        return Fault(
            kind="Unavailable",
            message=f"the node runs {word.software}, the agent {software_version()}: install the"
            " same on both",
        )

    def _result(self, place: LaunchPlace, ref: Any, seconds: float) -> Any:
        try:
            return ray.get(ref, timeout=seconds)
        except ray.exceptions.GetTimeoutError:
            return Fault(kind="Unavailable", message=f"the launcher of {place.node} is silent")
        except ray.exceptions.RayActorError as error:
            self._forget(place)
            return Fault(kind="Unavailable", message=f"the launcher of {place.node}: {error}"[:300])
        except Exception as error:
            return Fault.of(error)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the agent's questions until it closes our input."""
    parser = argparse.ArgumentParser(prog="skerry-ray-bridge", description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--host", required=True, help="the address of this machine's Ray node")
    parser.add_argument("--namespace", required=True)
    options = parser.parse_args(argv)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever Ray prints goes to the log
    lock, connected = threading.Lock(), threading.Event()
    bridge = Bridge()

    def answer(number: int, verb: str, arguments: tuple[object, ...]) -> None:
        connected.wait()
        try:
            method: Callable[..., object] = getattr(bridge, verb)
            value = method(*arguments)
        except BaseException as error:
            value = Fault.of(error)
        try:
            data = frame_of((number, value))
        except Exception as error:  # too long, or nothing that can be sent
            data = frame_of((number, Fault.of(error)))
        with lock:
            out.write(data)
            out.flush()

    def listen() -> None:
        with ThreadPoolExecutor(CALLS_AT_ONCE_MAX) as threads:
            try:
                while True:
                    threads.submit(answer, *read_frame(sys.stdin.buffer))
            except EOFError:
                os._exit(0)  # the agent is gone; threads inside Ray may never end

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        _connect(options.address, options.host, options.namespace)
    except BaseException as error:
        write_frame(out, (HELLO, Fault.of(error)))
        os._exit(1)
    with lock:
        write_frame(out, (HELLO, None))
    connected.set()
    listener.join()
    return 0


def _connect(address: str, host: str, namespace: str) -> None:
    ray.init(
        address=address,
        namespace=namespace,
        log_to_driver=False,
        configure_logging=False,
        _node_ip_address=host,
    )
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise Unavailable("Ray's token authentication is off; clusters without it are refused")


if __name__ == "__main__":
    raise SystemExit(main())
