"""All that operators say applied at once: all or none, each a change, on both databases."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from control_plane.store import tables
from control_plane.store.catalogue import (
    ACCELERATOR_KINDS,
    CLOUDS,
    REGIONS,
    REGISTERED_MODELS,
    RESERVATIONS,
    get_entry,
)
from control_plane.store.changes import list_changes
from control_plane.store.cordons import list_cordons
from control_plane.store.deployments import apply_deployments, list_deployments, mark_deleting
from control_plane.store.engine import Database
from control_plane.store.intents import (
    AppliedAll,
    Wanted,
    WantedIntent,
    apply_wanted,
    preview_wanted,
)
from control_plane.store.leadership import WriteContext
from control_plane.store.pools import get_terms, list_waiting_terms
from control_plane.store.prices import list_prices
from control_plane.store.values import ApplyOutcome
from skerry.fleet.catalogue import AcceleratorKind, Cloud, Region, RegisteredModel, Reservation
from skerry.fleet.cordon import Part, Scope
from skerry.fleet.intent import CordonIntent, Intent, PoolIntent, PriceIntent
from skerry.fleet.pool import CapacityClass, PoolTerms
from skerry.plumbing.errors import (
    AlreadyExists,
    Conflict,
    Exhausted,
    Infeasible,
    InvalidInput,
    SkerryError,
)
from tests.builders import T0, a_deployment

POOL = "onprem-fra--cpu"
PRICE = PriceIntent(pool=POOL, valid_from=T0, price_per_accelerator_hour=0.25)
CLOSED = CordonIntent(part=Part(scope=Scope.CLOUD, name="gcp"), reason="leaving")
RESERVED = Reservation(
    name="gpu-2026",
    pool=POOL,
    price_per_accelerator_hour=1.5,
    start_time=T0,
    end_time=T0 + timedelta(days=365),
)
H100 = AcceleratorKind(name="h100-80gb", vendor="nvidia", memory_bytes=80 * 2**30)
EVERYTHING: tuple[Intent, ...] = (
    CLOSED,
    RESERVED,
    PRICE,
    PoolIntent(pool=POOL, terms=PoolTerms(price_per_accelerator_hour=2.0)),
    RegisteredModel(name="tiny", uri="builtin://skerry-tiny"),
    H100,
    Region(name="gcp/west", client_latency_seconds=(("eu", 0.02), ("us", 0.1))),
    Cloud(name="gcp", description="rented"),
)


def wanting(*intents: Intent, deployments: tuple[str, ...] = (), **etags: str) -> Wanted:
    return Wanted(
        deployments=tuple(map(a_deployment, deployments)),
        intents=tuple(WantedIntent(intent=one) for one in intents),
        etags=etags,
    )


def applied(
    database: Database, write: WriteContext, wanted: Wanted, request_id: str = ""
) -> AppliedAll:
    with database.write() as session:
        return apply_wanted(session, write, wanted, request_id)


def outcomes(done: AppliedAll) -> list[str]:
    every = [one.applied.outcome for one in done.deployments]
    return [outcome.value for outcome in (*every, *(one.outcome for one in done.intents))]


def everything(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    with database.read() as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table))]
            for table in tables.metadata.sorted_tables
        }


def changes(database: Database) -> list[tuple[str, str]]:
    with database.read() as session:
        return [(one.kind, one.subject) for one in list_changes(session, 0, 1_000)][1:]


def test_everything_said_at_once_is_there_and_is_a_change_each_in_a_sound_order(
    database: Database, write: WriteContext
) -> None:
    done = applied(database, write, wanting(*EVERYTHING, deployments=("demo",)))
    assert outcomes(done) == ["created"] * 9
    assert [one.intent for one in done.intents] == list(EVERYTHING)
    assert changes(database) == [
        ("cloud.created", "projects/default/clouds/gcp"),
        ("region.created", "projects/default/regions/gcp/west"),
        ("accelerator-kind.created", "projects/default/acceleratorKinds/h100-80gb"),
        ("base-model.created", "projects/default/baseModels/tiny"),
        ("pool.terms-set", f"projects/default/pools/{POOL}"),
        ("price.set", f"projects/default/pools/{POOL}"),
        ("reservation.created", "projects/default/reservations/gpu-2026"),
        ("domain.cordoned", "projects/default/clouds/gcp"),
        ("deployment.applied", "projects/default/deployments/demo"),
    ]
    with database.read() as session:
        assert get_entry(session, CLOUDS, "gcp").value == EVERYTHING[7]
        assert get_entry(session, REGIONS, "gcp/west").value == EVERYTHING[6]
        assert get_entry(session, ACCELERATOR_KINDS, "h100-80gb").value == H100
        assert get_entry(session, REGISTERED_MODELS, "tiny").value == EVERYTHING[4]
        assert get_entry(session, RESERVATIONS, "gpu-2026").value == RESERVED
        assert [one.terms for one in list_waiting_terms(session)] == [
            PoolTerms(price_per_accelerator_hour=2.0)
        ]
        assert list_prices(session) == {POOL: ((T0, 0.25),)}
        assert [(c.part, c.reason) for c in list_cordons(session)] == [(CLOSED.part, "leaving")]
        assert [one.deployment.name for one in list_deployments(session)] == ["demo"]


def test_what_is_there_already_is_left_alone_and_no_change(
    database: Database, write: WriteContext
) -> None:
    wanted = wanting(*EVERYTHING, deployments=("demo",))
    applied(database, write, wanted)
    before = everything(database)
    again = applied(database, replace(write, now=T0 + timedelta(days=300)), wanted)
    assert outcomes(again) == ["unchanged"] * 9
    assert everything(database) == before


def test_what_differs_is_updated_and_told_with_what_was_there(
    database: Database, write: WriteContext
) -> None:
    applied(database, write, wanting(*EVERYTHING))
    terms = PoolTerms(capacity_class=CapacityClass.SPOT)
    others: tuple[Intent, ...] = (
        replace(CLOSED, draining=True, reason=""),
        replace(RESERVED, description="second half"),
        replace(PRICE, price_per_accelerator_hour=0.5),
        PoolIntent(pool=POOL, terms=terms),
        RegisteredModel(name="tiny", uri="builtin://other"),
        replace(H100, vendor=""),
        Region(name="gcp/west"),
        Cloud(name="gcp"),
    )
    why = replace(write, reason="end of the contract")
    done = applied(database, why, wanting(*others))
    assert outcomes(done) == ["updated"] * 8
    assert [one.before for one in done.intents] == list(EVERYTHING)
    with database.read() as session:
        (cordon,) = list_cordons(session)
        held = get_terms(session, POOL)
    assert (cordon.draining, cordon.reason) == (True, "end of the contract")
    assert held is not None
    assert held.terms == terms


def test_what_is_not_said_is_left_as_it_is(database: Database, write: WriteContext) -> None:
    applied(database, write, wanting(*EVERYTHING, deployments=("demo",)))
    before = everything(database)
    applied(database, write, wanting(Cloud(name="aws")))
    after = everything(database)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"catalogue", "changes", "change_counter"}
    assert all(row in after["catalogue"] for row in before["catalogue"])


BAD_LAST: list[tuple[Wanted, type[SkerryError], str]] = [
    (
        Wanted(intents=(WantedIntent(intent=replace(H100, vendor="x"), etag="stale"),)),
        Conflict,
        "intents[1].accelerator_kind.etag",
    ),
    (
        Wanted(intents=(WantedIntent(intent=Cloud(name="new"), etag="stale"),)),
        Conflict,
        "intents[1].cloud.etag",
    ),
    (
        Wanted(
            intents=(WantedIntent(intent=PoolIntent(pool="a--b", terms=PoolTerms()), etag="stale"),)
        ),
        Conflict,
        "intents[1].pool.etag",
    ),
    (wanting(Cloud(name="first")), InvalidInput, "intents[1].cloud"),
    (wanting(deployments=("ending",)), Infeasible, "specs[0]"),
    (wanting(deployments=("demo",), demo="stale"), Conflict, "specs[0].etag"),
    (
        Wanted(
            deployments=(
                replace(
                    a_deployment("late"), revision=replace(a_deployment("demo").revision, number=7)
                ),
            )
        ),
        AlreadyExists,
        "specs[0].spec.baseModel.servedName",
    ),
]


@pytest.mark.parametrize(("last", "kind", "path"), BAD_LAST)
def test_a_bad_last_part_keeps_every_other_from_being_applied_and_is_foretold(
    last: Wanted, kind: type[SkerryError], path: str, database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        apply_deployments(session, write, [a_deployment("demo"), a_deployment("ending")], "")
        mark_deleting(session, write, "ending", "", "")
    applied(database, write, wanting(H100))
    asked = replace(last, intents=(WantedIntent(intent=Cloud(name="first")), *last.intents))
    before = everything(database)
    with pytest.raises(kind) as refused:
        applied(database, write, asked, "request-1")
    assert refused.value.field == path
    with pytest.raises(kind) as foretold, database.read() as session:
        preview_wanted(session, asked, T0)
    assert foretold.value.message == refused.value.message
    assert everything(database) == before


@pytest.mark.parametrize(
    ("intents", "path"),
    [
        ((PRICE, replace(PRICE, valid_from=T0 + timedelta(1))), "price"),
        ((Cloud(name="a"), Cloud(name="b")), "cloud"),
        ((CLOSED, replace(CLOSED, part=Part(scope=Scope.CLOUD, name="aws"))), "cordon"),
    ],
)
def test_more_than_there_is_room_for_is_refused_and_foretold(
    intents: tuple[Intent, ...],
    path: str,
    database: Database,
    write: WriteContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for limit in ("PRICES_OF_POOL_MAX", "CORDONS_MAX"):
        monkeypatch.setattr(f"control_plane.store.intents.{limit}", 1)
    narrow = {Cloud: replace(CLOUDS, entries_max=1)}
    monkeypatch.setattr("control_plane.store.intents._ENTRY_KINDS", narrow)
    with pytest.raises(Exhausted) as refused:
        applied(database, write, wanting(*intents))
    assert refused.value.field == f"intents[1].{path}"
    with pytest.raises(Exhausted), database.read() as session:
        preview_wanted(session, wanting(*intents), T0)
    applied(database, write, wanting(intents[0]))
    applied(database, write, wanting(intents[0]))


def test_a_preview_tells_what_applying_does_and_changes_nothing(
    database: Database, write: WriteContext
) -> None:
    applied(database, write, wanting(*EVERYTHING[:4], deployments=("demo",)))
    asked = wanting(
        *(replace(RESERVED, description="x"), *EVERYTHING[4:], PRICE), deployments=("demo", "new")
    )
    before = everything(database)
    with database.read() as session:
        foretold = preview_wanted(session, asked, T0)
    assert everything(database) == before
    done = applied(database, write, asked)
    assert foretold.intents == done.intents
    assert outcomes(foretold) == outcomes(done)
    assert {one.outcome for one in done.intents} == set(ApplyOutcome)


def test_a_repeated_request_is_one_effect_and_one_answer(
    database: Database, write: WriteContext
) -> None:
    applied(database, write, wanting(*EVERYTHING[:5]))
    asked = wanting(
        *EVERYTHING[:2], replace(H100, vendor="amd"), Cloud(name="gcp"), deployments=("demo",)
    )
    first = applied(database, write, asked, "request-1")
    applied(database, write, wanting(H100))
    before = everything(database)
    assert applied(database, write, asked, "request-1") == first
    with pytest.raises(InvalidInput, match="different call"):
        applied(database, write, wanting(*EVERYTHING[:2], deployments=("demo",)), "request-1")
    assert everything(database) == before


def test_a_repeat_is_told_what_was_there_before_the_first(
    database: Database, write: WriteContext
) -> None:
    applied(database, write, wanting(*EVERYTHING))
    others = wanting(
        replace(CLOSED, draining=True),
        replace(PRICE, price_per_accelerator_hour=1.0),
        Region(name="gcp/west"),
        replace(RESERVED, description="x"),
    )
    first = applied(database, write, others, "request-1")
    assert applied(database, write, others, "request-1") == first
