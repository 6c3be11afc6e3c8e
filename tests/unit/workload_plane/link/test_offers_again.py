"""A state that was refused for what may pass, such as a full disk, is tried again by itself."""

import pytest

from tests.unit.workload_plane.link.test_connection import World, world
from workload_plane.desired_state.accept import Refuse

__all__ = ["world"]

FULL = Refuse(reason="it could not be made durable: no space left", may_pass=True)


@pytest.fixture
async def linked(world: World) -> World:
    await world.welcome()
    return world


async def test_a_state_that_found_no_room_is_taken_up_once_there_is_some(linked: World) -> None:
    linked.side.refusal = FULL
    await linked.push()
    assert len(linked.stream.said("nack")) == 1
    await linked.clock.run_for(20)
    assert linked.side.offers >= 3
    assert len(linked.stream.said("nack")) == 1  # the same reason is not told again
    linked.side.refusal = None
    await linked.clock.run_for(10)
    assert len(linked.stream.said("ack")) == 1
    offers = linked.side.offers
    await linked.clock.run_for(60)
    assert linked.side.offers == offers


async def test_what_is_wrong_with_the_state_itself_is_not_tried_again(linked: World) -> None:
    linked.side.refusal = Refuse(reason="an unknown required feature")
    await linked.push()
    await linked.clock.run_for(60)
    assert linked.side.offers == 1


async def test_a_newer_state_takes_the_place_of_one_that_waits(linked: World) -> None:
    linked.side.refusal = FULL
    await linked.push()
    linked.side.refusal = None
    await linked.push()
    await linked.clock.run_for(60)
    assert linked.side.offers == 2
    assert len(linked.stream.said("ack")) == 1
