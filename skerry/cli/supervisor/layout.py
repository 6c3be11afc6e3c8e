"""Where everything of a data directory is: folders, planes, and the ports chosen once for good.

`skerry up` makes the layout and keeps it in layout.json; the supervisor, `down` and `logs` read it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from skerry.cli.supervisor.catalogue import PLANES_MAX, PlaneOffer, offer_planes
from skerry.plumbing.errors import InvalidInput, NotFound
from skerry.plumbing.files import write_atomically

HOST = "127.0.0.1"
CONTROL_PLANE_NAME = "control-plane"
ENGINES = ("llamacpp", "simulated")
RUNTIMES = ("local", "ray")
# One leads; three standbys outlive what any fleet on one host does.
CONTROL_PLANES_MAX = 4
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlanePorts:
    """Ports of the control plane: operators, the planes' link, HTTP, the dashboard, joining planes.

    The dashboard's and the joining planes' are 0 in a layout of before, until the next `up`.
    """

    operator: int
    link: int
    http: int
    dashboard: int = 0
    join: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanePorts:
    """Ports of a plane: users, peers (mTLS), Envoy's admin, the front, and Ray's head if any.

    The relay has two of its own, and one of the gateway's for itself; the picker's and the agent's
    are for metrics.
    """

    public: int
    peer: int
    admin: int
    front: int
    ray: int = 0
    relay_http: int = 0
    relay_grpc: int = 0
    relay_inner: int = 0
    picker: int = 0
    agent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneLayout:
    """One plane of the layout; `runtime` runs its replicas."""

    offer: PlaneOffer
    ports: PlanePorts
    runtime: str = RUNTIMES[0]

    @property
    def name(self) -> str:
        """Return the plane's name."""
        return self.offer.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneLayout:
    """One control plane of the layout: its name and where it answers, each as `host:port`."""

    name: str
    operator_address: str
    link_address: str
    http_address: str
    dashboard_address: str
    join_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The fleet of one data directory.

    Without a `database` it is an SQLite file there; `standbys` are control planes beside the first.
    With `auth` callers of the operator API must show a credential, with `tls` it shows them one,
    with `keys` users of gateways show one. Engines run as `engine_user`, `UID:GID`, or as whoever
    started the fleet. Traces go to `trace_endpoint`, "" for nowhere. The authority's key is sealed
    by the first of `sealing_keys`, which say where keys are.
    """

    engine: str
    control_plane: ControlPlanePorts
    planes: tuple[PlaneLayout, ...]
    database: str = ""
    standbys: tuple[ControlPlanePorts, ...] = ()
    auth: bool = True
    keys: bool = True
    engine_user: str = ""
    tls: bool = False
    trace_endpoint: str = ""
    sealing_keys: tuple[str, ...] = ()

    @property
    def control_planes(self) -> tuple[ControlPlaneLayout, ...]:
        """Return every control plane, the one that was there first ahead."""
        return tuple(
            ControlPlaneLayout(
                name=CONTROL_PLANE_NAME if number == 1 else f"{CONTROL_PLANE_NAME}-{number}",
                operator_address=f"{HOST}:{ports.operator}",
                link_address=f"{HOST}:{ports.link}",
                http_address=f"{HOST}:{ports.http}",
                dashboard_address=f"{HOST}:{ports.dashboard}",
                join_address=f"{HOST}:{ports.join}",
            )
            for number, ports in enumerate((self.control_plane, *self.standbys), start=1)
        )

    @property
    def operator_address(self) -> str:
        """Return where the operator API of the first control plane answers."""
        return self.control_planes[0].operator_address

    @property
    def operator_addresses(self) -> tuple[str, ...]:
        """Return where the operator API answers."""
        return tuple(one.operator_address for one in self.control_planes)

    def plane(self, name: str) -> PlaneLayout:
        """Return a plane by name; NotFound lists those there are."""
        for plane in self.planes:
            if plane.name == name:
                return plane
        parts: tuple[ControlPlaneLayout | PlaneLayout, ...] = (*self.control_planes, *self.planes)
        names = ", ".join(part.name for part in parts)
        raise NotFound(f"{name!r} is no part of this fleet; there are {names}")


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """The paths below a data directory."""

    root: Path

    @property
    def layout(self) -> Path:
        """Return the file of the chosen ports."""
        return self.root / "layout.json"

    @property
    def fleet(self) -> Path:
        """Return the file that tells scripts what runs."""
        return self.root / "fleet.json"

    @property
    def targets(self) -> Path:
        """Return the file that tells Prometheus where metrics are."""
        return self.root / "prometheus-targets.json"

    @property
    def config(self) -> Path:
        """Return the client's context file."""
        return self.root / "config.yaml"

    @property
    def operator_token(self) -> Path:
        """Return the file of the admin's token that the fleet began with."""
        return self.root / "operator.token"

    @property
    def api_key(self) -> Path:
        """Return the file of the API key for its gateways that the fleet began with."""
        return self.root / "api.key"

    @property
    def processes(self) -> Path:
        """Return the supervisor's own record of the processes it started."""
        return self.root / "processes.json"

    @property
    def lock(self) -> Path:
        """Return the file that a running supervisor holds locked."""
        return self.root / "supervisor.lock"

    @property
    def socket(self) -> Path:
        """Return the socket that a running supervisor listens on."""
        return self.root / "supervisor.sock"

    @property
    def supervisor_log(self) -> Path:
        """Return the supervisor's log."""
        return self.root / "supervisor.log"

    @property
    def pki(self) -> Path:
        """Return the folder of the authority and the certificates."""
        return self.root / "pki"

    @property
    def control_plane(self) -> Path:
        """Return the control plane's folder."""
        return self.root / "control-plane"

    def control_plane_of(self, name: str) -> Path:
        """Return the folder of the control plane of that name."""
        return self.root / name

    def plane(self, name: str) -> Path:
        """Return a plane's folder."""
        return self.root / "planes" / name


def check_layout(planes: int, engine: str) -> None:
    """Raise InvalidInput unless that many planes can be made with that engine."""
    if not 1 <= planes <= PLANES_MAX:
        raise InvalidInput(f"--planes must be 1..{PLANES_MAX}, not {planes}", field="--planes")
    if engine not in ENGINES:
        raise InvalidInput(f"--engine must be {' or '.join(ENGINES)}, not {engine!r}")


def extend_layout(
    existing: Layout | None, planes: int, engine: str, take_port: Callable[[], int]
) -> Layout:
    """Return the layout of the first `planes` planes, with the ports that were chosen before.

    `take_port` gives a free port that it has not given yet.
    """
    check_layout(planes, engine)
    known = {plane.name: plane for plane in existing.planes} if existing else {}
    return Layout(
        engine=engine,
        database=existing.database if existing else "",
        auth=existing.auth if existing else True,
        keys=existing.keys if existing else True,
        engine_user=existing.engine_user if existing else "",
        tls=existing.tls if existing else False,
        trace_endpoint=existing.trace_endpoint if existing else "",
        sealing_keys=existing.sealing_keys if existing else (),
        standbys=tuple(
            _with_all(ports, take_port) for ports in (existing.standbys if existing else ())
        ),
        control_plane=(
            _with_all(existing.control_plane, take_port)
            if existing
            else _control_plane_ports(take_port)
        ),
        planes=tuple(
            _with_helpers(
                known.get(offer.name)
                or PlaneLayout(
                    offer=offer,
                    ports=PlanePorts(
                        public=take_port(), peer=take_port(), admin=take_port(), front=take_port()
                    ),
                ),
                take_port,
            )
            for offer in offer_planes(planes)
        ),
    )


def _control_plane_ports(take_port: Callable[[], int]) -> ControlPlanePorts:
    return ControlPlanePorts(
        operator=take_port(),
        link=take_port(),
        http=take_port(),
        dashboard=take_port(),
        join=take_port(),
    )


def _with_all(ports: ControlPlanePorts, take_port: Callable[[], int]) -> ControlPlanePorts:
    """Return the ports with the dashboard's and the joining planes', which older layouts lack."""
    return replace(ports, dashboard=ports.dashboard or take_port(), join=ports.join or take_port())


def _with_helpers(plane: PlaneLayout, take_port: Callable[[], int]) -> PlaneLayout:
    """Return the plane with ports for a relay and a picker; layouts of before have none."""
    ports = plane.ports
    if not ports.relay_http:
        ports = replace(
            ports, relay_http=take_port(), relay_grpc=take_port(), relay_inner=take_port()
        )
    if not ports.picker:
        ports = replace(ports, picker=take_port())
    if not ports.agent:
        ports = replace(ports, agent=take_port())
    return replace(plane, ports=ports)


def choose_runtimes(layout: Layout, told: Sequence[str], take_port: Callable[[], int]) -> Layout:
    """Return the layout with the runtimes that were told: `ray` for all, or `PLANE=ray`.

    A plane of which nothing is told keeps what it has. Raises InvalidInput for anything else.
    """
    chosen: dict[str, str] = {}
    names = [plane.name for plane in layout.planes]
    for text in told:
        name, named, runtime = text.rpartition("=")
        if runtime not in RUNTIMES or (named and name not in names):
            raise InvalidInput(
                f"--runtime must be {' or '.join(RUNTIMES)}, or PLANE=RUNTIME with one of"
                f" {', '.join(names)}; not {text!r}",
                field="--runtime",
            )
        chosen |= {name: runtime} if name else dict.fromkeys(names, runtime)

    def of(plane: PlaneLayout) -> PlaneLayout:
        runtime = chosen.get(plane.name, plane.runtime)
        ports = plane.ports
        if runtime == "ray" and not ports.ray:
            ports = replace(ports, ray=take_port())
        return replace(plane, runtime=runtime, ports=ports)

    return replace(layout, planes=tuple(of(plane) for plane in layout.planes))


def choose_control_planes(
    layout: Layout,
    count: int | None,
    database: str | None,
    take_port: Callable[[], int],
    *,
    is_new: bool,
) -> Layout:
    """Return the layout with that many control planes on that database; None leaves it as it is.

    InvalidInput for several on an SQLite file, and for another database than a fleet began with.
    """
    database = layout.database if database is None else database
    count = 1 + len(layout.standbys) if count is None else count
    if not 1 <= count <= CONTROL_PLANES_MAX:
        raise InvalidInput(
            f"--control-planes must be 1..{CONTROL_PLANES_MAX}, not {count}",
            field="--control-planes",
        )
    if database and not database.startswith(("postgresql://", "postgres://")):
        raise InvalidInput(
            "--database must be postgresql://USER@HOST/NAME; without it the fleet has an SQLite"
            " file of its own",
            field="--database",
        )
    if count > 1 and not database:
        raise InvalidInput(
            f"--control-planes {count} needs --database postgresql://USER@HOST/NAME: an SQLite file"
            " has one control plane, high availability means PostgreSQL",
            field="--control-planes",
        )
    if database != layout.database and not is_new:
        raise InvalidInput(
            "this fleet began with another database, and would find itself in an empty one; take"
            " another --data-dir for a fleet on that database",
            field="--database",
        )
    kept = layout.standbys[: count - 1]
    added = tuple(_control_plane_ports(take_port) for _ in range(count - 1 - len(kept)))
    return replace(layout, database=database, standbys=(*kept, *added))


def ports_of(layout: Layout) -> dict[int, str]:
    """Return every fixed port of the layout with what listens there."""
    ports = {
        port: f"{name}'s {use}"
        for name, held in zip(
            ("the control plane", *(one.name for one in layout.control_planes[1:])),
            (layout.control_plane, *layout.standbys),
            strict=True,
        )
        for use, port in asdict(held).items()
        if port
    }
    for plane in layout.planes:
        for use, port in asdict(plane.ports).items():
            if port:
                ports[port] = f"{plane.name}'s {use}"
    return ports


def write_layout(directory: DataDirectory, layout: Layout) -> None:
    """Write layout.json."""
    values = {"format": _FORMAT, **asdict(layout)}
    # Its owner's alone: the database's URL may have a password in it.
    write_atomically(directory.layout, json.dumps(values, indent=1).encode() + b"\n", mode=0o600)


def read_layout(directory: DataDirectory) -> Layout:
    """Return the layout; NotFound when there is no fleet, InvalidInput when it is not readable."""
    path = directory.layout
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(
            f"there is no fleet in {directory.root}; `skerry up --data-dir {directory.root}`"
            " starts one"
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}; delete it to start anew") from None
    try:
        return Layout(
            engine=values["engine"],
            control_plane=ControlPlanePorts(**values["control_plane"]),
            database=values.get("database", ""),
            standbys=tuple(ControlPlanePorts(**ports) for ports in values.get("standbys", ())),
            # A fleet of a release that asked for no credential goes on so until it is told.
            auth=bool(values.get("auth", False)),
            keys=bool(values.get("keys", False)),
            engine_user=values.get("engine_user", ""),
            tls=bool(values.get("tls", False)),
            trace_endpoint=values.get("trace_endpoint", ""),
            sealing_keys=tuple(values.get("sealing_keys", ())),
            planes=tuple(
                PlaneLayout(
                    offer=_offer(entry["offer"]),
                    ports=PlanePorts(**entry["ports"]),
                    runtime=entry.get("runtime", RUNTIMES[0]),
                )
                for entry in values["planes"]
            ),
        )
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"{path} is no layout: {error}; delete it to start anew") from None


def _offer(values: dict[str, object]) -> PlaneOffer:
    zones = values.pop("residency_zones")
    assert isinstance(zones, list)
    return PlaneOffer(residency_zones=tuple(zones), **values)  # type: ignore[arg-type]
