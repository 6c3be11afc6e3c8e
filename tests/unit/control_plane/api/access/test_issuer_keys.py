"""An issuer's keys: fetched beside the calls, seldom, and kept while it is away."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import pytest
from aiohttp import web

from control_plane.access_settings import OidcSettings
from control_plane.api.access import issuer_keys
from control_plane.api.access.issuer_keys import (
    KEPT_FOR,
    KEY_SECONDS_MAX,
    REFETCH_SECONDS_MIN,
    REFRESH_SECONDS,
    IssuerKeys,
    fetcher,
)
from control_plane.api.access.oidc import JWKS_BYTES_MAX
from skerry.plumbing.errors import Unauthenticated, Unavailable
from skerry.plumbing.ports import free_port
from skerry.plumbing.tasks import beside
from tests.fakes.clock import FakeClock, settle
from tests.unit.control_plane.api.access.credentials import OIDC, jwks, rsa_jwk

pytestmark = pytest.mark.integration

ONE = ("one", "RS256")


class Issuer:
    """Answers with the keys that it is told, and counts."""

    def __init__(self) -> None:
        self.data: bytes | None = jwks(rsa_jwk())
        self.asked = 0

    async def fetch(self) -> bytes:
        self.asked += 1
        if self.data is None:
            raise Unavailable("away")
        return self.data


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
async def keys(issuer: Issuer, clock: FakeClock) -> AsyncIterator[IssuerKeys]:
    keys = IssuerKeys(issuer.fetch, OIDC.algorithms, clock)
    async with beside(keys.keep_fresh()):
        await settle()
        yield keys


async def test_known_keys_cost_no_fetch(keys: IssuerKeys, issuer: Issuer) -> None:
    for _ in range(100):
        assert (await keys.key(*ONE)).algorithm_name == "RS256"
    assert issuer.asked == 1


async def test_made_up_keys_do_not_make_us_flood_the_issuer(
    keys: IssuerKeys, issuer: Issuer, clock: FakeClock
) -> None:
    for number in range(100):
        with pytest.raises(Unauthenticated, match="does not have"):
            await keys.key(f"made-up-{number}", "RS256")
    assert issuer.asked == 1
    await clock.run_for(REFETCH_SECONDS_MIN)
    many = asyncio.gather(*(keys.key(f"m-{n}", "RS256") for n in range(10)), return_exceptions=True)
    await clock.run_for(KEY_SECONDS_MAX)
    assert all(isinstance(error, Unauthenticated) for error in await many)
    assert issuer.asked == 2


async def test_a_new_key_is_fetched_for_the_call_that_shows_it(
    keys: IssuerKeys, issuer: Issuer, clock: FakeClock
) -> None:
    await clock.run_for(REFETCH_SECONDS_MIN)
    issuer.data = jwks(rsa_jwk("new"))
    assert (await keys.key("new", "RS256")).algorithm_name == "RS256"
    with pytest.raises(Unauthenticated):  # and one that was withdrawn is gone
        await keys.key(*ONE)


async def test_an_issuer_that_is_away_ends_nothing_for_a_day(
    keys: IssuerKeys, issuer: Issuer, clock: FakeClock
) -> None:
    issuer.data = None
    await clock.run_for(KEPT_FOR.total_seconds() - REFRESH_SECONDS)
    await keys.key(*ONE)
    await clock.run_for(2 * REFRESH_SECONDS)
    with pytest.raises(Unavailable, match="service token works"):
        await keys.key(*ONE)
    issuer.data = jwks(rsa_jwk())
    await clock.run_for(REFRESH_SECONDS)
    await keys.key(*ONE)


@pytest.mark.parametrize("data", [None, b"{}", b"\xff"])
async def test_an_answer_without_keys_takes_none_away(
    keys: IssuerKeys, issuer: Issuer, clock: FakeClock, data: bytes | None
) -> None:
    issuer.data = data
    await clock.run_for(2 * REFRESH_SECONDS)
    await keys.key(*ONE)


async def test_before_the_first_answer_nobody_is_called_a_liar(
    issuer: Issuer, clock: FakeClock
) -> None:
    issuer.data = None
    keys = IssuerKeys(issuer.fetch, OIDC.algorithms, clock)
    async with beside(keys.keep_fresh()):
        await settle()
        with pytest.raises(Unavailable):
            await keys.key(*ONE)


def _answers() -> Iterable[tuple[str, web.Response, str]]:
    yield "moved", web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "302"
    yield "broken", web.Response(status=500), "500"
    yield "huge", web.Response(body=b"x" * (JWKS_BYTES_MAX + 1)), "more than"


@pytest.mark.parametrize("what", ["good", "moved", "broken", "huge", "nobody", "slow"])
async def test_keys_come_from_the_told_address_and_from_nowhere_else(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "FETCH_SECONDS_MAX", 0.3)

    async def answer(_: web.Request) -> web.Response:
        if what == "slow":
            await asyncio.Event().wait()
        found = next((told for name, told, _ in _answers() if name == what), None)
        return found or web.Response(body=jwks())

    application = web.Application()
    application.router.add_get("/keys", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port("127.0.0.1")
    if what != "nobody":
        await web.TCPSite(runner, "127.0.0.1", port).start()
    fetch = fetcher(_at(port))
    try:
        if what == "good":
            assert await fetch() == jwks()
        else:
            with pytest.raises(Unavailable):
                await fetch()
    finally:
        await runner.cleanup()


def _at(port: int) -> OidcSettings:
    return replace(OIDC, jwks_url=f"http://127.0.0.1:{port}/keys")
