"""What every place of hosts promises: each command once, whoever repeats it, and nothing that is somebody else's."""

from collections.abc import AsyncIterator, Callable

import pytest
from engine_parts import host
from fake_places import SOMEBODY_ELSE, FakePlaces

from controller.adapters.places.nowhere import Nowhere
from controller.domain.errors import NotFound
from controller.domain.record.effects import DrainHost, UncordonHost
from controller.services.ports import Places

HOST = "a"
DRAIN = "u/a/0.drain.0"
UNCORDON = f"{DRAIN}.uncordon"


class World:
    """An implementation with one node, and what a test sees of it."""

    def __init__(self, places: Places, serves: Callable[[], bool], cordon: Callable[[], None]) -> None:
        self.places = places
        # Whether work may be put on the node.
        self.serves = serves
        # Somebody else takes the node out of service.
        self.cordon = cordon

    async def drain(self, command_id: str = DRAIN) -> None:
        await self.places.drain(HOST, command_id)

    async def uncordon(self, command_id: str = UNCORDON, drained_by: str = DRAIN) -> None:
        await self.places.uncordon(HOST, command_id, drained_by=drained_by)


def fake() -> World:
    places = FakePlaces(HOST)
    return World(places, lambda: places.serves(HOST), lambda: places.out_by.update({HOST: SOMEBODY_ELSE}))


@pytest.fixture(params=[fake])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    yield request.param()


@pytest.mark.parametrize("places", [Nowhere(), FakePlaces(HOST)])
def test_it_knows_its_hosts_and_how_long_a_call_may_take(places: Places) -> None:
    assert places.place_of(host("elsewhere")) == ""
    for effect in (
        DrainHost(command_id=DRAIN, host=HOST),
        UncordonHost(command_id=UNCORDON, host=HOST, drained_by=DRAIN),
    ):
        assert 1.0 <= places.longest_s(effect) <= 3600.0


async def test_nowhere_is_no_place_and_does_nothing() -> None:
    assert Nowhere().place_of(host(HOST)) == ""
    await Nowhere().drain(HOST, DRAIN)
    await Nowhere().uncordon(HOST, UNCORDON, drained_by=DRAIN)


async def test_a_node_is_taken_out_and_put_back(world: World) -> None:
    assert world.places.place_of(host(HOST))
    await world.drain()
    assert not world.serves()
    await world.uncordon()
    assert world.serves()


async def test_a_repeated_command_changes_nothing(world: World) -> None:
    await world.drain()
    await world.drain()
    assert not world.serves()
    await world.uncordon()
    await world.uncordon()
    assert world.serves()


async def test_a_draining_that_was_taken_back_does_nothing_any_more(world: World) -> None:
    """Another controller may still be at it."""
    await world.drain()
    await world.uncordon()
    await world.drain()
    assert world.serves()


async def test_what_never_began_is_taken_back_as_well(world: World) -> None:
    await world.uncordon()
    assert world.serves()
    await world.drain()
    assert world.serves()


async def test_the_next_draining_is_its_own(world: World) -> None:
    await world.drain()
    await world.uncordon()
    await world.drain("u/a/r2.0.drain.0")
    assert not world.serves()
    # A late one of the first changes nothing about it.
    await world.uncordon()
    assert not world.serves()


async def test_a_draining_takes_over_from_one_that_was_never_taken_back(world: World) -> None:
    await world.drain()
    await world.drain("u/a/0.drain.1")
    await world.uncordon()
    assert not world.serves()
    await world.uncordon("u/a/0.drain.1.uncordon", "u/a/0.drain.1")
    assert world.serves()


async def test_what_somebody_else_took_out_stays_out(world: World) -> None:
    world.cordon()
    await world.drain()
    await world.uncordon()
    assert not world.serves()


async def test_a_host_that_is_no_node_is_refused(world: World) -> None:
    with pytest.raises(NotFound, match="another"):
        await world.places.drain("another", DRAIN)
    with pytest.raises(NotFound, match="another"):
        await world.places.uncordon("another", UNCORDON, drained_by=DRAIN)
