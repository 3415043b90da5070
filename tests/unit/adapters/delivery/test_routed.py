"""Each host's calls go to the delivery that its plan names, and stay there."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest
from engine_parts import KERNEL, ScriptedDelivery, host, planned, status

from controller.adapters.delivery.routed import RoutedDelivery
from controller.domain.delivery import DeliveryStatus
from controller.domain.errors import Permanent
from controller.domain.hosts.host import Host
from controller.domain.record.effects import RebootHost, StageKernel
from controller.domain.record.names import Key
from controller.services.state.world import World, folded

STAGE = StageKernel(command_id="u1/b/1", host="b", kernel="k")


class Named(ScriptedDelivery):
    """A delivery that reaches some hosts and tells of them once."""

    def __init__(self, *reached: str, longest_s: float = 7.0) -> None:
        super().__init__()
        self.reached = reached
        self.seconds = longest_s

    def reaches(self, _host: Host) -> bool:
        return _host.name in self.reached

    def longest_s(self, _effect: object) -> float:
        return self.seconds

    async def watch(self, hosts: Sequence[str]) -> AsyncGenerator[DeliveryStatus]:
        for name in hosts:
            yield status(name)


def world(**ways: str) -> World:
    """A rollout whose plan pinned these deliveries."""
    plan = planned(tuple(ways))
    wave = tuple(replace(one, delivered_by=ways[one.host]) for one in plan.waves[0])
    return folded([(Key("u1").stream, replace(plan, waves=(wave,)))], {name: host(name) for name in ways})


async def test_calls_go_where_the_plan_says() -> None:
    first, second = Named("a"), Named("b", longest_s=9.0)
    routed = RoutedDelivery({"first": first, "second": second}, world(a="first", b="second").delivery_of)
    await routed.stage("b", "u1/b/1", KERNEL)
    await routed.arm("b", "u1/b/2", "k", boot_timeout_s=1.0, probation_timeout_s=1.0)
    await routed.reboot("a", "u1/a/3")
    await routed.acknowledge("a", "u1/a/4")
    await routed.bless("b", "u1/b/5")
    await routed.revert("b", "u1/b/6", "old")
    await routed.status("a")
    assert [verb for verb, _ in first.calls] == ["reboot", "acknowledge", "status"]
    assert [verb for verb, _ in second.calls] == ["stage", "arm", "bless", "revert"]
    assert (routed.longest_s(STAGE), routed.longest_s(RebootHost(command_id="u1/a/1", host="a"))) == (9.0, 7.0)


async def test_what_reaches_a_host_today_changes_nothing_of_its_plan() -> None:
    first, second = Named("a", "b"), Named()
    routed = RoutedDelivery({"first": first, "second": second}, world(b="second").delivery_of)
    assert (routed.chosen(host("b")), routed.reaches(host("b"))) == ("first", True)
    assert (routed.chosen(host("c")), routed.reaches(host("c"))) == ("", False)
    await routed.revert("b", "u1/b/6", "old")
    assert ([*first.calls], [verb for verb, _ in second.calls]) == ([], ["revert"])


async def test_a_plan_from_before_there_was_a_choice_has_the_first() -> None:
    first, second = Named(), Named("a")
    routed = RoutedDelivery({"first": first, "second": second}, world(a="").delivery_of)
    await routed.reboot("a", "u1/a/1")
    # Nobody has planned anything with this one.
    await routed.status("z")
    assert [verb for verb, _ in first.calls] == ["reboot", "status"]


async def test_a_delivery_that_is_gone_is_named_and_takes_no_watch_with_it() -> None:
    routed = RoutedDelivery({"first": Named("a")}, world(a="first", b="ansible").delivery_of)
    with pytest.raises(Permanent, match="b was planned with the delivery ansible, which this controller does not have"):
        await routed.revert("b", "u1/b/6", "old")
    states = routed.watch(["a", "b"])
    assert (await anext(aiter(states))).host == "a"
    await states.aclose()


async def test_every_host_is_watched_where_it_was_planned() -> None:
    ways = {"first": Named(), "second": Named()}
    routed = RoutedDelivery(ways, world(a="first", b="second", c="first").delivery_of)
    states = routed.watch(["a", "b", "c"])
    seen = {(await anext(aiter(states))).host for _ in range(3)}
    await states.aclose()
    assert seen == {"a", "b", "c"}


def test_the_newest_plan_decides_where_no_command_is_named() -> None:
    one, two = planned(("a",)), planned(("a",), uid="u2", name="later")
    waves = (tuple(replace(each, delivered_by="second") for each in two.waves[0]),)
    found = folded([(Key("u1").stream, one), (Key("u2").stream, replace(two, waves=waves))], {"a": host("a")})
    assert found.delivery_of("a", "u1/a/1") == ""
    assert found.delivery_of("a", "u2/a/1") == "second"
    assert found.delivery_of("a") == "second"


async def test_a_reader_that_leaves_closes_every_watch() -> None:
    """Also those that wait to be read: a watch holds connections."""
    closed: list[str] = []

    class Endless(Named):
        async def watch(self, hosts: Sequence[str]) -> AsyncGenerator[DeliveryStatus]:
            try:
                while True:
                    yield status(hosts[0])
            finally:
                closed.append(hosts[0])

    ways = {"first": Endless(), "second": Endless()}
    states = RoutedDelivery(ways, world(a="first", b="second").delivery_of).watch(["a", "b"])
    for _ in range(5):
        await anext(states)
    await states.aclose()
    assert sorted(closed) == ["a", "b"]
