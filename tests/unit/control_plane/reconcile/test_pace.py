"""How much room turns over large fleets leave, and none is lost in small ones."""

import threading
from dataclasses import replace

from control_plane.reconcile.pace import (
    LARGE_PLANES,
    REST_SECONDS_MAX,
    REST_WAITING_SECONDS,
    aside,
    rest_after,
)
from control_plane.reconcile.policy import ReconcilePolicy, policy_for
from control_plane.reconcile.snapshot import LinkView
from tests.builders import a_plane_view, a_snapshot

SMALL = a_snapshot(a_plane_view("p0"))
VIEWS = tuple(a_plane_view(f"p{n}") for n in range(LARGE_PLANES))
LARGE = a_snapshot(*VIEWS)


async def test_a_small_fleet_is_decided_on_the_loop_and_without_a_rest() -> None:
    assert await aside(SMALL, threading.current_thread) is threading.current_thread()
    assert rest_after(SMALL, 5.0) == 0.0
    assert rest_after(None, 5.0) == 0.0


async def test_a_large_fleet_is_decided_beside_the_loop_in_a_quarter_of_the_time() -> None:
    assert await aside(LARGE, threading.current_thread) is not threading.current_thread()
    assert rest_after(LARGE, 0.2) == 0.2 * 3
    assert rest_after(LARGE, 60.0) == REST_SECONDS_MAX


def test_while_planes_return_after_a_start_turns_are_seldom() -> None:
    silent = LinkView(connected=False, silent_seconds=1.0)
    waiting = a_snapshot(*(replace(view, link=silent) for view in VIEWS), age=1.0)
    assert rest_after(waiting, 60.0) == REST_WAITING_SECONDS


def test_the_larger_the_fleet_the_longer_nothing_expires_after_a_start() -> None:
    usual = ReconcilePolicy()
    assert policy_for(usual, 300) is usual
    assert policy_for(usual, 3_000).grace_seconds() == 20.0 + usual.lease_seconds
    large = policy_for(usual, 1_001)
    assert (large.heartbeat_period_seconds, large.heartbeat_timeout_seconds) == (2.0, 6.0)
    assert large.lease_seconds > large.heartbeat_timeout_seconds
    patient = ReconcilePolicy(reconnect_jitter_seconds=60.0)
    assert policy_for(patient, 5_000).reconnect_jitter_seconds == 60.0
