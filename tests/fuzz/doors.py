"""Where people and planes come in: the join port, the dashboard, and a gateway that asks for keys.

Each of the three lets in by a secret. Beside what nobody should get, a finding is whoever is let in
without it.
"""

import asyncio
import contextlib
import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from skerry.api.plane.v1 import enrolment_pb2 as pb
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.rpc import CHANNEL_OPTIONS
from tests.fuzz.calls import BAD
from tests.fuzz.dice import dice_of, mutated
from tests.fuzz.http_inputs import ANSWER_SECONDS, SILENCE_SECONDS, Parts, answer_to, judged
from tests.fuzz.messages import TEXTS, a_message, a_text, request_bytes
from tests.fuzz.tally import INSIDES, Outcome

HOST = "127.0.0.1"
CLOCK = SystemClock()
CALL_SECONDS = 20.0
# Who fails twenty times is not looked at for a while, so that each few come from another address.
CALLS_AN_ADDRESS = 8
# So many certificates are asked for a second at most; who is sent away comes again.
TURNED_AWAY_SECONDS, TURNS_MAX = 0.2, 100
_SERVICE = "/skerry.api.plane.v1.EnrolmentService"
_MESSAGES: dict[str, Any] = {"Join": pb.JoinRequest, "Renew": pb.RenewRequest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Joinable:
    """A join port: where it is, the roots and the name that prove it, and what opens it."""

    address: str
    roots: Path
    server_name: str
    proofs: Sequence[str]
    planes: Sequence[str]


class JoinPort:
    """Join and Renew by whoever has no certificate: proofs, requests of all kinds, and noise."""

    name = "join port"
    concurrency = 4

    def __init__(self, at: Joinable, seed: int) -> None:
        """Send to the port; nothing is opened yet."""
        self._at, self._seed = at, seed
        self._requests = _requests()
        self._callers = [_Caller(at, first) for first in range(1, self.concurrency + 1)]
        self._free: asyncio.Queue[_Caller] = asyncio.Queue()
        for caller in self._callers:
            self._free.put_nowait(caller)

    async def close(self) -> None:
        """Close the connections."""
        for caller in self._callers:
            await caller.close()

    async def send(self, number: int) -> Outcome:
        """Send one input and say what came of it."""
        dice = dice_of(self._seed, self.name, number)
        if dice.random() < 0.1:
            noise = dice.choice(
                (b"\x16\x03\x01", b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n", b"")
            )
            data = noise + dice.randbytes(dice.choice((0, 5, 500)))
            # Whatever comes of it is TLS's own; that others are served is what is looked at.
            await answer_to(self._at.address, data, SILENCE_SECONDS)
            return Outcome(label="(noise)")
        method = dice.choice(("Join", "Join", "Renew"))
        caller = await self._free.get()
        try:
            return await caller.call(f"{_SERVICE}/{method}", self._request(dice, method))
        finally:
            self._free.put_nowait(caller)

    def _request(self, dice: random.Random, method: str) -> bytes:
        kind = _MESSAGES[method]
        words = (*self._at.proofs, *self._at.planes, "default")
        if dice.random() < 0.3:
            return request_bytes(dice, kind.DESCRIPTOR, words)
        message: Any = a_message(dice, kind.DESCRIPTOR, words)
        message.certificate_request = self._certificate_request(dice)
        if method == "Join":
            message.proof = dice.choice(self._at.proofs)
            if dice.random() < 0.4:
                message.proof = _text(mutated(dice, message.proof.encode()))
        else:
            message.project, message.plane = "default", dice.choice(self._at.planes)
        return message.SerializeToString()  # type: ignore[no-any-return]

    def _certificate_request(self, dice: random.Random) -> bytes:
        request = dice.choice(self._requests)
        return mutated(dice, request)[:20_000] if dice.random() < 0.5 else request


class _Caller:
    """Calls from one address of this host after the other; each connection is of one of them."""

    def __init__(self, at: Joinable, first: int) -> None:
        self._at = at
        self._addresses = (f"127.{first}.{n // 250}.{n % 250 + 1}" for n in itertools.count())
        self._channel: grpc.aio.Channel | None = None
        self._way: asyncio.Server | None = None
        self._calls = 0

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        if self._way is not None:
            self._way.close()

    async def call(self, path: str, request: bytes) -> Outcome:
        """Call, again while it is not the caller's turn; say what came of it."""
        for _ in range(TURNS_MAX):
            outcome = await self._call(path, request)
            if outcome.label != grpc.StatusCode.RESOURCE_EXHAUSTED.name:
                break
            await CLOCK.sleep(TURNED_AWAY_SECONDS)
        return outcome

    async def _call(self, path: str, request: bytes) -> Outcome:
        channel = await self._opened()
        unary: Any = channel.unary_unary(path)
        try:
            await unary(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
            if code in BAD or INSIDES.search(details):
                finding = f"{path}: {code.name} {details[:300]}"
                return Outcome(label=code.name, finding=finding)
            return Outcome(label=code.name)
        return Outcome(label="OK")

    async def _opened(self) -> grpc.aio.Channel:
        if self._channel is None or self._calls % CALLS_AN_ADDRESS == 0:
            await self.close()
            self._way = await asyncio.start_server(self._carry, HOST, 0)
            port = self._way.sockets[0].getsockname()[1]
            credentials = grpc.ssl_channel_credentials(self._at.roots.read_bytes())
            options = (
                *CHANNEL_OPTIONS,
                ("grpc.ssl_target_name_override", self._at.server_name),
                ("grpc.use_local_subchannel_pool", 1),
            )
            self._channel = grpc.aio.secure_channel(f"{HOST}:{port}", credentials, options=options)
        self._calls += 1
        return self._channel

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._at.address.rpartition(":")
        out_reader, out_writer = await asyncio.open_connection(
            host, int(port), local_addr=(next(self._addresses), 0)
        )
        with contextlib.suppress(ConnectionError):
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, out_writer))
                group.create_task(_copy(out_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _requests() -> list[bytes]:
    """Return requests for certificates, for keys that are taken and that are not."""
    keys: list[Any] = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    keys += [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(public_exponent=65_537, key_size=2_048),
    ]
    names = ("plane", "x" * 64, "control-plane", "\u202e")
    found = []
    for key, name in itertools.product(keys, names):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = x509.CertificateSigningRequestBuilder().subject_name(subject)
        alternative = x509.SubjectAlternativeName([x509.DNSName("control-plane")])
        signed = made.add_extension(alternative, critical=True).sign(key, hashes.SHA256())
        found.append(signed.public_bytes(serialization.Encoding.PEM))
        found.append(signed.public_bytes(serialization.Encoding.DER))
    return found


class Dashboard:
    """The dashboard: its pages and forms with a session, without one and with what is none."""

    name = "dashboard"
    concurrency = 6
    _PATHS = (
        *("/", "/deployments", "/placements", "/placements/why", "/survival", "/survival/losses"),
        *("/survival/what-if", "/plans", "/plans/1", "/timeline", "/timeline/1", "/actions"),
        *("/planes/{word}", "/deployments/{word}", "/plans/{word}", "/timeline/{word}"),
        *("/actions/{word}", "/actions/drain", "/actions/failover", "/static/{word}/{word}"),
        *("/static/x/page.css", "/events", "/login", "/logout", "/nothing", "/favicon.ico"),
    )
    _FIELDS = (
        *("deployment", "pool", "lose", "lose_name", "page", "part", "plane", "back", "reason"),
        *("token", "name", "form_secret", "replicas", "number", "q", "kind", "to", "revision"),
    )
    # What anybody may see without a session.
    _OPEN = re.compile(r"/(login|static/)")

    def __init__(self, address: str, token: str, seed: int, words: Sequence[str]) -> None:
        """Send to the dashboard; `words` are names that there are, `token` is an admin's."""
        self._address, self._token, self._seed = address, token, seed
        self._words = (*words, "drain", "cordon", "rollback", "1", "2", "cloud", "aws")
        self._cookie = self._secret = ""
        self._signing_in = asyncio.Lock()

    async def send(self, number: int) -> Outcome:
        """Send one input and say what came of it."""
        async with self._signing_in:
            if not self._cookie:
                await self._sign_in()
        dice = dice_of(self._seed, self.name, number)
        shown = self._shown(dice)
        path = dice.choice(self._PATHS)
        while "{word}" in path:
            path = path.replace("{word}", quote(a_text(dice, self._words)[:2_000], safe=""), 1)
        parts = self._request(dice, path, shown)
        data, seconds = parts.whole(), ANSWER_SECONDS
        is_whole = dice.random() > 0.15
        if not is_whole:
            data, seconds = mutated(dice, data), SILENCE_SECONDS
        answer = await answer_to(self._address, data, seconds)
        found = judged(f"{parts.method} {path[:60]}", answer)
        is_in = found.label == "200" and not self._OPEN.match(path)
        if is_whole and is_in and self._cookie not in shown and not found.finding:
            return Outcome(label="200", finding=f"{path[:60]} was shown to nobody: {shown!r}")
        # What a browser is told to let no script of a page's content run.
        if found.label == "200" and b"text/html" in answer and b"default-src 'none'" not in answer:
            return Outcome(label="200", finding=f"{path[:60]} without a policy")
        return found

    def _shown(self, dice: random.Random) -> str:
        kind = dice.random()
        if kind < 0.75:
            return self._cookie
        odd = ("", "skerry-1=x", "=" * 50, _text(mutated(dice, self._cookie.encode())))
        return dice.choice(odd)

    def _request(self, dice: random.Random, path: str, shown: str) -> Parts:
        fields = [
            (dice.choice(self._FIELDS), a_text(dice, self._words)[:1_000])
            for _ in range(dice.choice((0, 1, 2, 6)))
        ]
        headers = [f"cookie: {shown}".encode("latin-1", "replace")] if shown else []
        if dice.random() < 0.1:
            headers.append(b"hx-request: true")
        if dice.random() < 0.05:
            headers.append(dice.choice((b"host: evil.example", b"origin: null", b"referer: //x")))
        told = "&".join(f"{name}={quote_plus(text)}" for name, text in fields)
        if dice.random() < 0.65:
            return Parts(
                method="GET", path=f"{path}?{told}" if told else path, headers=(*headers,), body=b""
            )
        # Nobody signs the session out whose answers are looked at.
        if path != "/logout" and dice.random() < 0.5:
            told += f"&form_secret={self._secret}"
        if path == "/login":
            headers = [one for one in headers if not one.startswith(b"cookie")]
        kinds = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/x")
        kind = kinds[0] if dice.random() < 0.8 else dice.choice(kinds)
        headers += [f"content-type: {kind}".encode(), f"origin: http://{HOST}".encode()]
        body = told.encode()
        if kind == kinds[1]:
            body = b"".join(
                f'--x\r\ncontent-disposition: form-data; name="{name}"'.encode()
                + dice.choice((b"", b'; filename="f"'))
                + b"\r\n\r\n"
                + text.encode("utf-8", "replace")
                + b"\r\n"
                for name, text in fields
            )
            body += dice.choice((b"--x--\r\n", b""))
        return Parts(method="POST", path=path, headers=(*headers,), body=body)

    async def _sign_in(self) -> None:
        base = f"http://{self._address}"
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(base, cookie_jar=jar) as http:
            told = {"token": self._token}
            async with http.post("/login", data=told, headers={"Origin": base}) as answer:
                text = await answer.text()
            (cookie,) = list(jar)
        found = re.search(r'name="form_secret" value="([^"]+)"', text)
        assert found is not None, "every page has the form to sign out"
        self._cookie, self._secret = f"{cookie.key}={cookie.value}", found[1]


class KeyedGateway:
    """A gateway that asks for API keys: credentials of all shapes where one belongs, and beside."""

    name = "keyed gateway"
    concurrency = 12
    _PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/x", "/nothing")
    _ELSEWHERE = (b"x-api-key", b"proxy-authorization", b"cookie", b"x-skerry-key", b"api-key")

    def __init__(self, address: str, model: str, key: str, seed: int) -> None:
        """Send to the gateway; `key` opens `model`."""
        self._address, self._model, self._key, self._seed = address, model, key.encode(), seed

    async def send(self, number: int) -> Outcome:
        """Send one input and say what came of it."""
        dice = dice_of(self._seed, self.name, number)
        path = dice.choice(self._PATHS)
        method = "GET" if "models" in path or path == "/nothing" else "POST"
        body = b'{"model":"%s","prompt":"x","messages":[],"max_tokens":1}' % self._model.encode()
        shown = self._shown(dice)
        parts = Parts(
            method=method,
            path=path,
            headers=(b"content-type: application/json", *shown),
            body=body if method == "POST" else b"",
        )
        answer = await answer_to(self._address, parts.whole(), ANSWER_SECONDS)
        found = judged(f"{method} {path} {shown!r:.200}", answer)
        if found.label == "200" and not self._opens(shown):
            return Outcome(label="200", finding=f"{path} was open to {shown!r:.300}")
        if self._key[-20:] in answer:
            return Outcome(label=found.label, finding=f"{path} showed the key again")
        return found

    def _shown(self, dice: random.Random) -> tuple[bytes, ...]:
        right = b"Bearer " + self._key
        kind = dice.random()
        if kind < 0.15:
            return (b"authorization: " + right,)
        if kind < 0.45:
            return (b"authorization: " + _line(mutated(dice, right))[:70_000],)
        if kind < 0.60:
            credential = dice.choice((right, self._key, b"", b"Bearer", _line(dice.randbytes(60))))
            return tuple(b"authorization: " + credential for _ in range(dice.choice((2, 2, 90))))
        if kind < 0.75:
            return (dice.choice(self._ELSEWHERE) + b": " + dice.choice((right, self._key)),)
        schemes = (b"Basic ", b"bearer ", b"BEARER   ", b"Bearer\t", b"Token ", b"", b"Bearer,")
        if kind < 0.9:
            tail = dice.choice((b"", b" ", b"x", b" " + right, b"\x00", b"=", b",", b"\xff"))
            return (b"authorization: " + dice.choice(schemes) + self._key + tail,)
        text = dice.choice(TEXTS).encode("utf-8", "replace")
        return (b"authorization: Bearer " + _line(text),)

    def _opens(self, shown: Sequence[bytes]) -> bool:
        """Say whether there is one credential, and it is the key whole."""
        told = [one.partition(b":")[2] for one in shown if one.startswith(b"authorization:")]
        whole = rb"[ \t]*(?i:bearer) +" + re.escape(self._key) + rb"[ \t]*"
        return len(told) == 1 and re.fullmatch(whole, told[0]) is not None


def _line(data: bytes) -> bytes:
    """Return bytes that stay one header: an end of a line begins another one."""
    return data.replace(b"\r", b"").replace(b"\n", b"")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
