"""Some hundred inputs of `make fuzz` at every listener, with real processes."""

from pathlib import Path

import pytest

from control_plane.api.serving import operator_services
from tests.fuzz.calls import GatewayCalls, OperatorCalls
from tests.fuzz.doors import Dashboard, JoinPort, KeyedGateway
from tests.fuzz.http_inputs import GatewayHttp, HttpApi
from tests.fuzz.parsers import Parsers
from tests.fuzz.run import (
    SHARES,
    Asked,
    fuzz_control_plane,
    fuzz_gateway,
    fuzz_keyed_gateway,
    fuzz_parsers,
)
from tests.fuzz.tally import Tally

SEED = 20261126
INPUTS = 1_500


def found_by(tallies: list[Tally]) -> list[str]:
    return [finding for tally in tallies for finding in tally.findings]


async def test_nothing_that_a_parser_reads_ends_in_anything_but_what_it_says(
    tmp_path: Path,
) -> None:
    tallies = await fuzz_parsers(Asked(inputs=4_000, seed=SEED, listener=Parsers.name), tmp_path)
    assert found_by(tallies) == []


@pytest.mark.slow
async def test_nothing_sent_to_a_control_plane_ends_in_internal_or_unknown(tmp_path: Path) -> None:
    tallies, _ = await fuzz_control_plane(Asked(inputs=INPUTS, seed=SEED), tmp_path)
    assert found_by(tallies) == []
    calls, http, links, dashboard, joins = tallies
    # Most of it comes further than the door, and some of it is taken.
    assert {"OK", "INVALID_ARGUMENT", "UNAUTHENTICATED"} <= set(calls.labels)
    assert {"200", "400", "401"} <= set(http.labels)
    assert {"(goes on)", "INVALID_ARGUMENT"} <= set(links.labels)
    assert {"200", "401", "404"} <= set(dashboard.labels)
    assert {"INVALID_ARGUMENT", "UNAUTHENTICATED"} <= set(joins.labels)


@pytest.mark.slow
async def test_nothing_sent_to_a_gateway_ends_a_process_or_shows_its_insides(
    tmp_path: Path,
) -> None:
    tallies, _ = await fuzz_gateway(Asked(inputs=INPUTS, seed=SEED), tmp_path)
    assert found_by(tallies) == []
    http, calls = tallies
    assert {"200", "400"} <= set(http.labels)
    assert "OK" in calls.labels


@pytest.mark.slow
async def test_nothing_but_its_key_opens_a_gateway_that_asks_for_one(tmp_path: Path) -> None:
    asked = Asked(inputs=400, seed=SEED, listener=KeyedGateway.name)
    tallies = await fuzz_keyed_gateway(asked, tmp_path)
    assert found_by(tallies) == []
    assert {"200", "400", "401"} <= set(tallies[0].labels)


def test_every_listener_gets_its_share() -> None:
    listeners = (OperatorCalls, GatewayCalls, HttpApi, GatewayHttp, Parsers)
    doors = (Dashboard, JoinPort, KeyedGateway)
    assert {listener.name for listener in (*listeners, *doors)} < set(SHARES)
    assert sum(SHARES.values()) == pytest.approx(1.0)
    assert len(operator_services()) >= 5
