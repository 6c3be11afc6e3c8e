"""A deposed leader's writes have no effect: every write function there is, found by looking."""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

import control_plane.store
from control_plane.store import tables
from control_plane.store.api_keys import KeyRecord, create_api_key
from control_plane.store.catalogue import ACCELERATOR_KINDS, Merge, OnlyIf, create_entry
from control_plane.store.changes import Entry
from control_plane.store.cold_starts import SightedStart
from control_plane.store.deployments import AskedUpdate, apply_deployment, mark_deleting
from control_plane.store.desired import Telling
from control_plane.store.drills import DrillRecord
from control_plane.store.engine import Database
from control_plane.store.intents import Wanted, WantedIntent
from control_plane.store.joining import Enrolled, create_plane_invite, join_plane
from control_plane.store.leadership import WriteContext, take_leadership
from control_plane.store.placements import Decision
from control_plane.store.planes import Judged, record_report
from control_plane.store.plans import Basis, Proposal, put_in_force
from control_plane.store.pools import AskedTerms
from control_plane.store.prices import PriceFrom, set_price
from control_plane.store.projects import create_project
from control_plane.store.removals import keep_removal
from control_plane.store.requests import Asked
from control_plane.store.residency import Told as ToldEvidence
from control_plane.store.residency import keep_residency
from control_plane.store.rollouts import Steer, put_rollouts
from control_plane.store.scalings import ScalingStep
from control_plane.store.service_tokens import create_service_token
from control_plane.store.values import AdoptedPlane, Adoption, StoredLease, Told
from skerry.fleet.access import Grant, Role, ServiceToken
from skerry.fleet.api_key import ApiKey, KeyTerms
from skerry.fleet.autoscaling.scaled import FleetRecord, Scaled
from skerry.fleet.catalogue import AcceleratorKind
from skerry.fleet.cordon import CordonState, Part, Scope
from skerry.fleet.deployment import BaseModel
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.joining import PlaneInvite
from skerry.fleet.observation import PlaneCondition, PlaneReport, PlaneState
from skerry.fleet.placement import Envelope, Placement
from skerry.fleet.pool import GatewayAddresses, PoolTerms
from skerry.fleet.project import Project
from skerry.fleet.residency import Record, link_of
from skerry.fleet.rollout import Rollout, Stage
from skerry.fleet.verdict import Verdict
from skerry.plumbing.errors import StaleGeneration
from tests.builders import T0, a_deployment, a_shape, an_identity

T1 = T0 + timedelta(days=1)
REPORT = PlaneReport(
    identity=an_identity("onprem-fra"),
    pools=(a_shape(),),
    gateway=GatewayAddresses(http="a:1", grpc="a:1", peer="a:2"),
)
DECISION = Decision(cost_per_hour=0.0, solver="exact", optimal=True, solve_seconds=0.0)
LEASE = StoredLease(plane="gcp-x", heard_at=T0, held=NEVER, replicas_ready=2)
START_OF_DEMO = SightedStart(
    plane="onprem-fra",
    replica="demo-r1-a",
    restarts=0,
    deployment="demo",
    revision=1,
    accelerator="cpu",
    seconds=41.0,
    seen_at=T0,
)
EVIDENCE = ToldEvidence(
    plane="onprem-fra",
    chain="c",
    links=(link_of(Record(sequence=1, chain="c", from_ms=1, to_ms=2), None),),
)
TOLD = Told(
    payload=b"payload",
    digest=b"digest",
    envelopes=(Envelope(deployment="demo", pool="onprem-fra--cpu", floor=0, target=1, ceiling=2),),
)
PLACED = (Placement(deployment="demo", pool="p", count=1),)
PROPOSAL = Proposal(decision=DECISION, placements=PLACED, summary="demo moves")
NOTHING = Proposal(decision=DECISION, placements=(), summary="nothing moves")

JUDGED = Judged(
    plane="onprem-fra", condition=PlaneCondition(state=PlaneState.LOST, since=T0), before=None
)
CANARY = Rollout(deployment="demo", revision=2, stable=1, stage=Stage.CANARY, since=T0)

SCALED = Scaled(deployment="demo", demand=3, floor=1, targets=(("onprem-fra", 3),), wanted=3)
RECORD = FleetRecord(
    deployment="demo",
    decided_at=T0,
    sentence="3 replicas.",
    because="need",
    running=1,
    total=3,
    wanted=3,
    unmet=0,
    demand=3,
    floor=1,
)

# What each write function is called with, after the session and the write context.
TOKEN = ServiceToken(
    name="ci",
    grant=Grant(role=Role.VIEWER, projects=("default",)),
    creator="user:root",
    created_at=T0,
)
KEY = KeyRecord(
    name="team-a", terms=KeyTerms(deployments=("demo",)), creator="user:root", created_at=T0
)
INVITE = PlaneInvite(
    plane="fra", creator="user:root", created_at=T0, expires_at=T0 + timedelta(days=10_000)
)
ENROLLED = Enrolled(plane="fra", key_digest=bytes(32), serial="1f", expires_at=T1)
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "append_change": ("kind", "subject", "summary"),
    "append_changes": ((Entry(kind="kind", subject="subject", summary="summary"),),),
    "apply_deployment": (a_deployment("other"), "", "request-1"),
    "apply_deployments": ((a_deployment("other"), a_deployment("third")), "request-10"),
    "apply_wanted": (
        Wanted(
            deployments=(a_deployment("other"),),
            intents=(WantedIntent(intent=AcceleratorKind(name="h200")),),
        ),
        "request-12",
    ),
    "forget_changes": (1,),
    "create_entry": (ACCELERATOR_KINDS, AcceleratorKind(name="h100"), "request-4"),
    "update_entry": (
        ACCELERATOR_KINDS,
        AcceleratorKind(name="a100", vendor="nvidia"),
        OnlyIf(),
        "request-5",
    ),
    "merge_entry": (
        ACCELERATOR_KINDS,
        Merge(
            name="a100", text="vendor", into=lambda held: AcceleratorKind(name="a100", vendor="x")
        ),
        OnlyIf(),
        "request-13",
    ),
    "update_deployment": (
        AskedUpdate(name="demo", text="replicas"),
        lambda held: replace(held, labels=(("team", "blue"),)),
        "request-14",
    ),
    "delete_entry": (ACCELERATOR_KINDS, "a100", "", "request-6"),
    "put_decided": (PROPOSAL, Basis(placements=(), cordons=()), "other inputs", None),
    "put_in_force": (PROPOSAL, (), "other inputs", None),
    "settle_plan": (1, True, "request-8"),
    "rollback_deployment": ("demo", 1, "", "request-9"),
    "flush_leases": ((LEASE,),),
    "record_starts": ((START_OF_DEMO,),),
    "keep_residency": ((replace(EVIDENCE, plane="gcp-x"),),),
    "forget_residency": (),
    "set_price": (PriceFrom("onprem-fra--cpu", T0, 2.0), "request-10"),
    "delete_price": ("onprem-fra--cpu", T1, "request-11"),
    "set_cordon": (Part(scope=Scope.PLANE, name="onprem-fra"), CordonState.CORDONED, "request-7"),
    "declare_lost": (
        ("onprem-fra",),
        Asked(request_id="request-20", kind="failover", body="planes/onprem-fra"),
    ),
    "put_moved": (PROPOSAL, (), "inputs", Asked(request_id="request-21", kind="move", body="demo")),
    "mark_deleting": ("demo", "", "request-2"),
    "remove_deployment": ("gone",),
    "keep_removal": (a_deployment("gone"),),
    "forget_removals": (("before",),),
    "record_report": (replace(REPORT, identity=an_identity("gcp-x"), pools=()),),
    "keep_verdict": ("onprem-fra", Verdict(judged_at=T0, state=PlaneState.SUSPECT)),
    "keep_verdicts": ({"onprem-fra": Verdict(judged_at=T0, state=PlaneState.SUSPECT)},),
    "record_freeze": (True, "3 of 5 planes fell silent at once"),
    "set_condition": ("onprem-fra", PlaneCondition(state=PlaneState.LOST, since=T0), None),
    "set_conditions": ((JUDGED,),),
    "update_terms": (
        AskedTerms(pool="onprem-fra--cpu", text="cordoned"),
        lambda held: replace(held, cordoned=True),
        "request-22",
    ),
    "set_terms": ("onprem-fra--cpu", PoolTerms(cordoned=True), "", "request-3"),
    "replace_placements": ((Placement(deployment="demo", pool="p", count=1),), "why"),
    "record_decision": (DECISION,),
    "put_desired": ("onprem-fra", TOLD, 0),
    "put_every_desired": ((Telling(plane="onprem-fra", told=TOLD, expected_generation=0),),),
    "raise_generation": ("onprem-fra", 7),
    "put_held": ("onprem-fra", TOLD, Version(epoch=1, generation=7)),
    "end_recovery": (
        Adoption(placements=PLACED, summary="taken in"),
        Asked(request_id="request-24", kind="approve recovery", body=""),
    ),
    "begin_adoption": (Adoption(placements=PLACED, summary="taken in"),),
    "adopt_planes": (
        [AdoptedPlane(plane="onprem-fra", version=Version(epoch=1, generation=7), payload=b"x")],
    ),
    "put_rollouts": ([(replace(CANARY, stage=Stage.SOAKING), CANARY)],),
    "put_scalings": ([ScalingStep(scaled=SCALED, before=None, record=RECORD)],),
    "record_drill": (
        DrillRecord(name="plane-killed", target="onprem-fra", held=True, report={"failed": 0}),
        "request-30",
    ),
    "steer_rollout": ("demo", Steer.PAUSE, "request-23"),
    "create_service_token": (replace(TOKEN, name="other"), bytes(32), "request-24"),
    "revoke_service_token": (TOKEN, "request-25"),
    "note_use": (TOKEN.name,),
    "create_api_key": (replace(KEY, name="other"), bytes(32), "request-26"),
    "revoke_api_key": (KEY.name, "request-27"),
    "adopt_api_keys": ([ApiKey(name="held", digest=bytes(32), terms=KEY.terms)],),
    "create_project": (Project(name="team-b", creator="user:root", created_at=T0), "request-31"),
    "delete_project": ("team-a", "request-32"),
    "adopt_projects": (("default", "team-b"),),
    "adopt_revoked_planes": (["edge-ams"],),
    "create_plane_invite": (replace(INVITE, plane="gcp-x"), bytes(32), "request-26"),
    "withdraw_plane_invite": (INVITE.plane, "request-27"),
    "join_plane": (bytes(32), ENROLLED),
    "renew_plane": (replace(ENROLLED, plane="aws-y", serial="2f"),),
    "revoke_plane": ("onprem-fra", "request-28"),
}
# These take part in a write function's transaction, after its check.
INSIDE = frozenset(
    {
        "answered",
        "earlier_answer",
        "keep_answer",
        "keep_told",
        "record_nodes",
        "told_in",
        "was_revoked_by",
    }
)


def write_functions() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for module in pkgutil.iter_modules(control_plane.store.__path__, "control_plane.store."):
        for name, function in vars(importlib.import_module(module.name)).items():
            if not inspect.isfunction(function) or name.startswith("_"):
                continue
            if not function.__module__.startswith("control_plane.store"):
                continue
            if WriteContext in typing.get_type_hints(function).values():
                found[name] = function
    return found


def test_every_write_function_is_tried_here() -> None:
    assert set(write_functions()) - INSIDE == set(ARGUMENTS)


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_a_deposed_leaders_write_has_no_effect(
    name: str, database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        record_report(session, write, REPORT)
        apply_deployment(session, write, a_deployment(), "", "")
        apply_deployment(session, write, a_deployment("gone"), "", "")
        mark_deleting(session, write, "gone", "", "")
        create_entry(session, write, ACCELERATOR_KINDS, AcceleratorKind(name="a100"), "")
        set_price(session, write, PriceFrom("onprem-fra--cpu", T1, 1.0), "")
        model = BaseModel(uri="builtin://other", served_name="demo")
        other = replace(a_deployment().revision, base_model=model)
        apply_deployment(session, write, replace(a_deployment(), revision=other), "", "")
        put_in_force(session, write, NOTHING, (), "inputs", PROPOSAL)
        put_rollouts(session, write, [(CANARY, None)])
        keep_removal(session, write, a_deployment("before"))
        team = Project(name="team-a", creator="user:root", created_at=T0)
        create_project(session, write, team, "")
        create_service_token(session, write, TOKEN, bytes(32), "")
        create_api_key(session, write, KEY, bytes(32), "")
        keep_residency(session, write, (EVIDENCE,))
        for plane in (INVITE.plane, "aws-y"):
            create_plane_invite(session, write, replace(INVITE, plane=plane), bytes(32), "")
        join_plane(session, write, bytes(32), replace(ENROLLED, plane="aws-y"))
        take_leadership(session, "cp-2", T0)
    before = everything(database)
    with pytest.raises(StaleGeneration, match="epoch"), database.write() as session:
        write_functions()[name](session, write, *ARGUMENTS[name])
    assert everything(database) == before
    with database.write() as session:
        successor = WriteContext(epoch=write.epoch + 1, actor="user:root", now=T0)
        write_functions()[name](session, successor, *ARGUMENTS[name])
    assert everything(database) != before


def everything(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    with database.read() as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table))]
            for table in tables.metadata.sorted_tables
        }
