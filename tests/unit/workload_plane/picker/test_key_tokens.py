"""An API key's tokens: who is refused and how, what a request turns out to cost, what is kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from skerry.fleet.token_budget import BudgetPeriod, KeySpent
from skerry.plumbing.errors import Corrupt
from tests.fakes.clock import FakeClock
from tests.unit.workload_plane.picker.test_picker import NOW, a_picker
from workload_plane.picker.accounting import find_lines
from workload_plane.picker.answer_lengths import ANSWER_TOKENS, AnswerLengths, Sent, Usage
from workload_plane.picker.authz import Authz, Rooms
from workload_plane.picker.body import answer_limit
from workload_plane.picker.counts import Counters, parse_counters, render_counters
from workload_plane.picker.facts import Entry
from workload_plane.picker.key_tokens import TokenBounds
from workload_plane.picker.picker import TICKET_SECONDS_MAX, Picker
from workload_plane.picker.plane_file import parse_plane
from workload_plane.picker.spending import Spending
from workload_plane.picker.spent_file import parse_spent, render_spent
from workload_plane.picker.tickets import used_tokens
from workload_plane.picker.wire import (
    AVOID_HEADER,
    DEPLOYMENT_HEADER,
    KEY_HEADER,
    RESUMED_HEADER,
    TICKET_HEADER,
)

CLOCK = FakeClock()  # 2030-01-01T00:00Z
DAY, MONTH = "2030-01-01", "2030-01"
# A prompt of 100 estimated tokens, and an answer of at most 50.
BODY = b'{"max_tokens": 50, "prompt": "' + b"x" * 388 + b'"}'
PROMPT = (len(BODY) - BODY.index(b'"prompt"')) / 4
COST = PROMPT + 50


class Asked:
    """A question as Envoy asks it, and its answer in parts."""

    def __init__(self, path: bytes, headers: dict[str, str]) -> None:
        self.path, self.body = path, BODY
        self.headers = {DEPLOYMENT_HEADER.encode(): b"d", KEY_HEADER.encode(): b"team"}
        self.headers |= {name.encode(): value.encode() for name, value in headers.items()}

    def answer(self, response: bytes) -> None:
        head, _, self.text = response.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split(" ")[1])
        self.told = dict(line.split(": ", 1) for line in lines)


def ask(
    picker: Picker, path: bytes = b"/pick/v1/completions", headers: dict[str, str] | None = None
) -> Asked:
    exchange = Asked(path, headers or {})
    Authz(picker, CLOCK, Rooms(b"room", b"room-grpc"), "here")(exchange)  # type: ignore[arg-type]
    return exchange


def bounded(per_minute: int = 0, budget: int = 0) -> Picker:
    picker = a_picker("a")
    bounds = TokenBounds(per_minute, budget, BudgetPeriod.DAY)
    picker.tokens.update({"team": bounds}, CLOCK.monotonic())
    return picker


def ended(picker: Picker, asked: Asked, **more: Any) -> None:
    ticket = int(asked.told[TICKET_HEADER])
    entry = Entry(ticket, "a:1", 200, "", 50, 60, 10, 800, 1, True)
    picker.note(entry._replace(**more), NOW)


def test_a_key_has_its_tokens_a_minute_and_then_429_as_openai_has_it() -> None:
    picker = bounded(per_minute=160)
    asked = ask(picker)
    assert asked.status == 200
    assert asked.told["x-ratelimit-limit-tokens"] == "160"
    assert asked.told["x-ratelimit-remaining-tokens"] == str(int(160 - COST))
    refused = ask(picker)
    assert refused.status == 429
    error = json.loads(refused.text)["error"]
    assert (error["type"], error["code"]) == ("tokens", "rate_limit_exceeded")
    assert 50 <= int(refused.told["retry-after"]) <= 60
    assert TICKET_HEADER not in refused.told
    over_grpc = ask(picker, b"/pick/openengine.v1.Inference/Generate")
    assert over_grpc.status == 429
    assert b"no more tokens" in over_grpc.text
    assert b"{" not in over_grpc.text
    assert ask(picker, b"/forwarded/v1/completions").status == 200, "counted by the peer"
    assert {str(bound): count for bound, count in picker.tokens.refused.items()} == {
        "rate": 2,
        "budget": 0,
    }


def test_a_prompt_of_which_nobody_knew_the_length_is_counted_at_the_end() -> None:
    picker = bounded(budget=10_000)
    asked = ask(picker)
    ticket = picker._tickets[int(asked.told[TICKET_HEADER])]
    charge = ticket.facts.charge
    assert charge is not None
    unknown = charge._replace(prompt=0.0)
    entry = Entry(1, "a:1", 200, "", 50, 60, 4_000, 800, 1, True)
    tokens, is_told = used_tokens(ticket, unknown, entry)
    assert not is_told
    assert tokens - used_tokens(ticket, charge, entry)[0] == 1_000 - charge.prompt


def test_a_request_costs_what_the_engine_tells_once_it_told() -> None:
    picker = bounded(budget=10_000)
    asked = ask(picker)
    assert picker.tokens.spent("team", DAY) == COST
    ended(picker, asked, usage=Usage(90, 7, 9))
    assert picker.tokens.spent("team", DAY) == 97
    assert picker.tokens.settled == {"told": 97, "estimated": 0}


@pytest.mark.parametrize(
    ("told", "used"),
    [
        ({"usage": Usage(None, None, 12)}, PROMPT + 10),
        ({"usage": Usage(80, None, 0)}, 80),  # embeddings
        ({"bytes_sent": 700}, PROMPT + 100),  # a whole answer, its fields aside
        ({"bytes_sent": 2_200, "duration_ms": 900}, PROMPT + 10),  # a stream that was cut
        ({"status": 503, "bytes_sent": 900}, 0),
        ({"status": 0, "flags": "DC"}, PROMPT),
        ({"status": 0, "flags": "DC", "address": ""}, 0),
    ],
)
def test_what_nobody_told_is_estimated_and_what_failed_is_given_back(
    told: dict[str, Any], used: float
) -> None:
    picker = bounded(budget=10_000)
    ended(picker, ask(picker), **told)
    assert picker.tokens.spent("team", DAY) == pytest.approx(used)


def test_what_was_never_told_to_end_stays_charged() -> None:
    picker = bounded(budget=10_000)
    ask(picker)
    picker.expire(CLOCK.monotonic() + TICKET_SECONDS_MAX + 1)
    assert picker.tokens.spent("team", DAY) == COST


def test_a_used_budget_is_429_until_its_day_ends() -> None:
    picker = bounded(budget=100)
    assert ask(picker).status == 200
    refused = ask(picker)
    error = json.loads(refused.text)["error"]
    assert (refused.status, error["type"], error["code"]) == (
        429,
        "insufficient_quota",
        "insufficient_quota",
    )
    assert refused.told["retry-after"] == "86400"


@pytest.mark.parametrize("headers", [{AVOID_HEADER: "here/a"}, {RESUMED_HEADER: "1"}])
def test_a_stream_that_broke_is_let_in_and_its_prompt_counted_once(headers: dict[str, str]) -> None:
    picker = bounded(per_minute=160, budget=100)
    ask(picker)
    again = ask(picker, headers=headers)
    assert again.status == 200
    ended(picker, again, usage=Usage(120, 5, 7))
    assert picker.tokens.spent("team", DAY) == COST + 5


def test_what_answers_cost_is_learned_for_those_that_name_no_bound() -> None:
    lengths = AnswerLengths()
    assert lengths.tokens == ANSWER_TOKENS
    for _ in range(200):
        lengths.learn(20.0, Usage(5, 20, 22), Sent(2_000, is_grpc=False, is_streamed=True))
    assert lengths.tokens == pytest.approx(20.0, rel=0.02)
    cut = lengths.tokens_of(None, Sent(1_000, is_grpc=False, is_streamed=True))
    assert cut == pytest.approx(10.0, rel=0.02), "100 bytes each, as it was told"


def test_a_bound_on_the_answer_is_found_and_not_in_a_prompt() -> None:
    assert answer_limit(b'{"max_completion_tokens" : 12}') == 12
    assert answer_limit(b'{"prompt": "\\"max_tokens\\": 3"}') is None
    assert answer_limit(b'{"prompt": "' + b"x" * 9_000 + b'", "max_tokens":7}') == 7


def test_what_was_used_outlasts_the_picker_and_a_damaged_file_does_not_stop_it(
    tmp_path: Path,
) -> None:
    path, picker = tmp_path / "spent.json", bounded(budget=10_000)
    ended(picker, ask(picker), usage=Usage(90, 7, 9))
    Spending(path, picker.tokens, CLOCK).keep()
    assert path.stat().st_mode & 0o777 == 0o600
    again = bounded(budget=10_000)
    Spending(path, again.tokens, CLOCK).restore()
    assert again.tokens.spent("team", DAY) == 97
    path.write_bytes(b'{"format": 1, "spent": [["team"]]}')
    fresh = bounded(budget=10_000)
    Spending(path, fresh.tokens, CLOCK).restore()
    assert fresh.tokens.kept() == ()


def test_files_of_both_sides_are_read_and_those_of_an_earlier_release() -> None:
    spent = (KeySpent(key="team", period=MONTH, tokens=12),)
    assert parse_spent(render_spent(spent)) == spent
    for damaged in (b"{}", b'{"format":2,"spent":[]}', b'{"format":1,"spent":[["a","b",-1]]}'):
        with pytest.raises(Corrupt):
            parse_spent(damaged)
    counters = Counters(run=1, deployments={}, spent=spent)
    assert parse_counters(render_counters(counters)) == counters
    assert parse_counters(b'{"format": 1, "run": 1, "deployments": {}}').spent == ()
    values: dict[str, Any] = {"format": 1, "plane": "a", "deployments": []}
    assert parse_plane(json.dumps(values).encode()).key_tokens == {}
    values["key_tokens"] = {"team": {"per_minute": 3, "budget": 9, "period": "day"}}
    told = parse_plane(json.dumps(values).encode()).key_tokens
    assert told == {"team": TokenBounds(3, 9, BudgetPeriod.DAY)}


def test_the_log_tells_what_an_answer_used_as_far_as_it_says() -> None:
    line = b"[%b]<7|127.0.0.1:8000|200|-|12|345|678|910|1|DownstreamEnd|-|->"
    for told, usage in (
        (b"-", None),
        (b"12.34.36", Usage(12, 34, 36)),
        (b"-.-.5", Usage(None, None, 5)),
    ):
        (entry,) = find_lines(line % told)
        assert entry.usage == usage
