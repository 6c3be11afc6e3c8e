"""Who is started again, and when a plane counts as lost like a machine."""

from dataclasses import replace

import pytest

from skerry.cli.supervisor.restarts import (
    BACKOFF_SECONDS_MAX,
    ENDING_SECONDS_MAX,
    HEALTHY_SECONDS,
    SETTLE_SECONDS,
    GiveUp,
    PartKey,
    PartSeen,
    PlaneSeen,
    Restart,
    Role,
    is_soon,
    pause_seconds,
    plan_plane,
    plan_restarts,
    restarts_after_death,
)

DIED = 100.0
SETTLED = DIED + SETTLE_SECONDS


def a_plane(
    *dead: Role, replicas_alive: int = 1, restarts: int = 0, died_at: float = DIED
) -> PlaneSeen:
    """Return a plane whose named processes were found dead."""

    def part(role: Role) -> PartSeen:
        return PartSeen(
            key=PartKey(role=role, plane="p"),
            died_at=died_at if role in dead else None,
            restarts=restarts,
        )

    return PlaneSeen(
        name="p",
        agent=part(Role.AGENT),
        front=part(Role.FRONT),
        gateway=part(Role.GATEWAY),
        replicas_alive=replicas_alive,
    )


def restart(role: Role) -> Restart:
    """Return the action that starts the plane's process again."""
    return Restart(key=PartKey(role=role, plane="p"))


def test_a_healthy_plane_is_left_alone() -> None:
    assert plan_plane(a_plane(), SETTLED) == ()


@pytest.mark.parametrize("role", [Role.AGENT, Role.FRONT, Role.GATEWAY])
def test_a_dead_process_is_started_again_once_things_have_settled(role: Role) -> None:
    assert plan_plane(a_plane(role), SETTLED - 0.01) == ()
    assert plan_plane(a_plane(role), SETTLED) == (restart(role),)


@pytest.mark.parametrize("role", [Role.AGENT, Role.GATEWAY])
def test_a_dead_process_is_started_again_also_without_replicas(role: Role) -> None:
    assert plan_plane(a_plane(role, replicas_alive=0), SETTLED) == (restart(role),)


def test_agent_and_gateway_come_back_while_replicas_live() -> None:
    actions = plan_plane(a_plane(Role.AGENT, Role.GATEWAY), SETTLED)
    assert actions == (restart(Role.AGENT), restart(Role.GATEWAY))


def test_a_plane_without_agent_gateway_and_replicas_is_lost_whole() -> None:
    dead = (Role.AGENT, Role.FRONT, Role.GATEWAY)
    assert plan_plane(a_plane(*dead, replicas_alive=0), SETTLED) == (GiveUp(plane="p"),)
    assert plan_plane(a_plane(*dead[::2], replicas_alive=0), SETTLED) == (GiveUp(plane="p"),)


def test_nothing_is_decided_before_the_kills_have_settled() -> None:
    plane = a_plane(Role.AGENT, Role.GATEWAY, replicas_alive=1)
    assert plan_plane(plane, SETTLED - 0.01) == ()


def test_a_process_that_keeps_dying_waits_longer_each_time() -> None:
    assert [pause_seconds(n) for n in range(5)] == [0.0, 1.0, 2.0, 4.0, 8.0]
    assert pause_seconds(1_000) == BACKOFF_SECONDS_MAX
    assert plan_plane(a_plane(Role.AGENT, restarts=3), DIED + 3.9) == ()
    assert plan_plane(a_plane(Role.AGENT, restarts=3), DIED + 4.0) == (restart(Role.AGENT),)


def test_a_healthy_life_forgets_earlier_restarts() -> None:
    assert restarts_after_death(4, HEALTHY_SECONDS) == 0
    assert restarts_after_death(4, HEALTHY_SECONDS - 1) == 4


def test_a_dead_control_plane_is_started_again_when_it_is_supervised() -> None:
    key = PartKey(role=Role.CONTROL_PLANE)
    assert plan_restarts((PartSeen(key=key, died_at=DIED),), DIED) == (Restart(key=key),)
    assert plan_restarts((PartSeen(key=key),), DIED) == ()


def test_a_dead_process_counts_as_soon_back_only_just_before_its_restart() -> None:
    key = PartKey(role=Role.AGENT, plane="p")
    assert is_soon(PartSeen(key=key, died_at=DIED), DIED)
    assert not is_soon(PartSeen(key=key, died_at=DIED, restarts=4), DIED)
    assert not is_soon(PartSeen(key=key), DIED)


def test_a_plane_is_not_started_again_while_a_killed_process_of_it_is_not_gone() -> None:
    # The agent was killed in the middle of an fsync: SIGKILL waits for the disk.
    dying = replace(a_plane(Role.FRONT, Role.GATEWAY, replicas_alive=0), ending=True)
    assert plan_plane(dying, SETTLED + 1.0) == ()
    gone = a_plane(Role.AGENT, Role.FRONT, Role.GATEWAY, replicas_alive=0)
    assert plan_plane(gone, SETTLED + 1.0) == (GiveUp(plane="p"),)


def test_a_gateway_does_not_wait_for_ever_for_an_agent_that_hangs_in_the_kernel() -> None:
    dying = replace(a_plane(Role.GATEWAY), ending=True)
    assert plan_plane(dying, DIED + ENDING_SECONDS_MAX) == (restart(Role.GATEWAY),)
