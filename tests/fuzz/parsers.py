"""Everything that reads what others wrote, without a process: files, URIs, bodies, messages.

Each may raise what its docstring names and nothing else, and takes no more than a moment.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from control_plane.api.access.authenticator import credential_in
from control_plane.api.filters import order_of, parse_filter
from control_plane.api.pagination import after_of
from control_plane.settings import load_settings
from skerry.api.operator.v1 import deployment_pb2, plane_pb2
from skerry.api.plane.v1 import plane_service_pb2
from skerry.client.audit_file import verify_export
from skerry.client.context import load_context
from skerry.client.load_trace import read_trace
from skerry.client.manifest import read_objects
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.service_token import name_in
from skerry.plumbing.errors import SkerryError
from skerry.wire.continuation.dialects import dialect_of
from skerry.wire.continuation.openai_request import Api, read_request
from skerry.wire.desired import desired_from_proto, desired_to_proto
from skerry.wire.observations import report_from_proto, report_to_proto
from skerry.wire.scaling import loads_from_proto
from tests.builders import a_report
from tests.fuzz.dice import dice_of, mutated
from tests.fuzz.tally import Outcome
from workload_plane.desired_state.format import decode, decode_seen, encode, encode_seen, version_in
from workload_plane.models.sources import resolve
from workload_plane.models.uris import parse_uri
from workload_plane.picker.accounting import find_lines
from workload_plane.picker.body import beginning, read_json, read_message, session_in
from workload_plane.picker.demand_file import parse_demand
from workload_plane.picker.health import parse_clusters
from workload_plane.picker.peer_loads import parse_loads
from workload_plane.picker.plane_file import parse_plane
from workload_plane.settings import read_settings

# Of the processor's time, many times what the slowest takes.
SECONDS_MAX = 3.0
ROOT = Path(__file__).resolve().parents[2]
VERSION = Version(epoch=3, generation=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """One reader, what it is given before that is mutated, and what it may raise."""

    name: str
    read: Callable[[bytes], object]
    sound: tuple[bytes, ...]
    raises: tuple[type[BaseException], ...] = (SkerryError,)


class Parsers:
    """All of them, one after another."""

    name = "parsers"
    concurrency = 1

    def __init__(self, seed: int, folder: Path) -> None:
        """Take a folder for those that read files."""
        self._seed = seed
        self._parsers = (*_of_users(), *_of_files(folder), *_of_processes(), *_of_messages())

    @property
    def names(self) -> tuple[str, ...]:
        """Return what is read here."""
        return tuple(parser.name for parser in self._parsers)

    async def send(self, number: int) -> Outcome:
        """Have one read one input."""
        dice = dice_of(self._seed, self.name, number)
        parser = dice.choice(self._parsers)
        data = mutated(dice, dice.choice(parser.sound))
        began = time.process_time()
        try:
            parser.read(data)
        except SkerryError as error:
            if type(error) is SkerryError or SkerryError not in parser.raises:
                return Outcome(label="FAULT", finding=f"{parser.name}: {error!r}"[:300])
            label = type(error).__name__
        except parser.raises as error:
            label = type(error).__name__
        except Exception as error:
            return Outcome(label="FAULT", finding=f"{parser.name}: {error!r}"[:300])
        else:
            label = "read"
        if (seconds := time.process_time() - began) > SECONDS_MAX:
            return Outcome(label="SLOW", finding=f"{parser.name}: {seconds:.1f} s of CPU")
        return Outcome(label=label)


def _of_users() -> tuple[Parser, ...]:
    """Return what reads the texts of operators, clients and users."""
    files = tuple(path.read_bytes() for path in sorted((ROOT / "examples").glob("*.yaml")))
    filters = (
        b'name = "fra" AND (state = CONNECTED OR labels.a:b)',
        b"NOT identity.region:eu-* AND identity.zone != x",
        b"revision.number >= 3 OR revision.shapes:cpu",
    )
    uris = (
        b"hf://org/name@main/model-Q4.gguf",
        b"s3://bucket/a/b/#sha256=" + b"a" * 64,
        b"https://models.example.com/a.safetensors",
        b"file:///models/a%2e%2e/b.gguf",
        b"builtin://skerry-tiny",
        b"simulated://tiny",
        b"http://[::1]:80/x",
    )
    bodies = (
        json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 900}]}).encode(),
        b'{"model":"m","prompt":"hello","max_tokens":3,"stop":["a"],"user":"u","stream":true}',
        b'{"model":"m","input":[1,2,3],"session_id":"s","previous_response_id":"r"}',
    )
    framed = b"\x00\x00\x00\x00\x20\x0a\x01a\x12\x01m\x1a\x18" + b"hello " * 4
    tokens = (b"skt_ci_" + b"x" * 43, b"Bearer a.b.c", b"eyJhbGciOiJub25lIn0.e30.")
    return (
        Parser(name="manifests", read=lambda d: read_objects(d, "f.yaml"), sound=files),
        Parser(name="filters of planes", read=_as_text(_plane_filter), sound=filters),
        Parser(name="filters of deployments", read=_as_text(_deployment_filter), sound=filters),
        Parser(name="orders", read=_as_text(_order), sound=(b"name desc, identity.region asc",)),
        Parser(name="page tokens", read=_as_text(lambda t: after_of("planes", t)), sound=tokens),
        Parser(name="URIs of base models", read=_as_text(parse_uri), sound=uris),
        Parser(name="URIs of files", read=_as_text(lambda t: resolve(t, ())), sound=uris),
        Parser(name="names in tokens", read=_as_text(name_in), sound=tokens, raises=()),
        Parser(name="credentials", read=_as_text(_credential), sound=tokens),
        Parser(name="prompts", read=_prompts, sound=(*bodies, framed), raises=()),
        Parser(name="requests to continue", read=_continued, sound=bodies, raises=(ValueError,)),
    )


def _of_files(folder: Path) -> tuple[Parser, ...]:
    """Return what reads files: of settings, contexts, states, exports and traces."""

    def by_file(read: Callable[[Path], object], name: str = "f") -> Callable[[bytes], object]:
        path = folder / name

        def written(data: bytes) -> object:
            path.write_bytes(data)
            return read(path)

        return written

    deploy = ROOT / "deploy" / "examples"
    control, plane = (
        (deploy / f"{name}.json").read_bytes() for name in ("control-plane", "plane-h100")
    )
    context = b"apiVersion: skerry/v1\nkind: Context\nendpoint: 127.0.0.1:7070\nproject: default\n"
    state = desired_to_proto(DesiredState(plane="fra", version=VERSION)).SerializeToString()
    kept = tuple(found.read_bytes() for found in (ROOT / "tests/wire").glob("desired-state.*"))
    rows = b'{"timestamp": 1, "input_length": 10, "output_length": 5, "hash_ids": [1, 2]}\n' * 3
    export = b'{"kind": "skerry-audit", "format": 1, "after": 0}\n{"sequence": 1}\n'
    return (
        Parser(name="settings of control planes", read=by_file(load_settings), sound=(control,)),
        Parser(name="settings of planes", read=by_file(read_settings), sound=(plane,)),
        Parser(
            name="contexts", read=by_file(lambda p: load_context(p, None, {})), sound=(context,)
        ),
        Parser(name="desired states", read=decode, sound=(encode(state, VERSION), *kept)),
        Parser(name="highest versions", read=decode_seen, sound=(encode_seen(VERSION),)),
        Parser(name="versions of damaged files", read=version_in, sound=(*kept, state), raises=()),
        Parser(name="traces", read=by_file(read_trace, "f.jsonl"), sound=(rows,)),
        Parser(name="exports of the audit", read=by_file(verify_export), sound=(export,)),
    )


def _of_processes() -> tuple[Parser, ...]:
    """Return what reads what other processes tell, peers' among them."""
    loads = b'{"chat": {"in_flight_min": 3, "ready": 2}}'
    demand = b'{"format": 1, "deployments": {"chat": {"waiting": 2, "idle_seconds": 0.5}}}'
    status = {"name": "http/chat", "host_statuses": [{"hostname": "r1", "priority": 0}]}
    clusters = json.dumps({"cluster_statuses": [status]}).encode()
    told = b'{"format": 1, "plane": "a", "deployments": []}'
    line = b"7 127.0.0.1:1 200 - 3 12 100 200 1 E - 0\n"
    return (
        Parser(name="peers' loads", read=parse_loads, sound=(loads,), raises=(ValueError,)),
        Parser(name="demand", read=parse_demand, sound=(demand,)),
        Parser(
            name="Envoy's clusters", read=parse_clusters, sound=(clusters,), raises=(ValueError,)
        ),
        Parser(name="the picker's plane", read=parse_plane, sound=(told,)),
        Parser(name="access logs", read=find_lines, sound=(line * 3,), raises=()),
    )


def _of_messages() -> tuple[Parser, ...]:
    """Return what turns messages into values; bytes that are no message are the door's."""
    odd = (DecodeError, ValueError, SkerryError)
    state = desired_to_proto(DesiredState(plane="fra", version=VERSION)).SerializeToString()
    report = report_to_proto(a_report("fra")).SerializeToString()
    return (
        Parser(name="messages of states", read=_state, sound=(state,), raises=odd),
        Parser(name="reports", read=_report, sound=(report,), raises=odd),
        Parser(name="loads", read=_loads, sound=(b"\x0a\x06\x0a\x04chat",), raises=odd),
    )


def _as_text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """Read text as it comes out of messages: whatever it is, it is UTF-8."""
    return lambda data: read(data.decode("utf-8", "replace"))


def _plane_filter(text: str) -> object:
    return parse_filter(text, plane_pb2.Plane)(plane_pb2.Plane(name="x"))


def _deployment_filter(text: str) -> object:
    return parse_filter(text, deployment_pb2.Deployment)(deployment_pb2.Deployment())


def _order(text: str) -> object:
    return order_of(text, plane_pb2.Plane)


def _credential(text: str) -> object:
    return credential_in((("authorization", text),))


def _prompts(data: bytes) -> object:
    length = len(data)
    return read_json(data, length), read_message(data), session_in(data), beginning(data)


def _continued(data: bytes) -> object:
    return [read_request(api, data, dialect_of("vllm")) for api in Api]


def _state(data: bytes) -> object:
    return desired_from_proto(plane_service_pb2.Desired.FromString(data))


def _report(data: bytes) -> object:
    return report_from_proto(plane_service_pb2.Observed.FromString(data), ("held.v1",), "1")


def _loads(data: bytes) -> object:
    return loads_from_proto(plane_service_pb2.LoadReport.FromString(data), 1.0)
