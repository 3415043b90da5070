"""Taking hosts out of service and putting them back: tried until it is done, and in nobody's way."""

from collections.abc import AsyncIterator

import pytest
from engine_parts import UID, reached, walked
from performing import AGAIN, Performing

from controller.domain.caller import Caller
from controller.domain.deciding.verbs import Request
from controller.domain.errors import Permanent
from controller.domain.record.control import Verb
from controller.domain.record.effects import StageKernel, UncordonHost
from controller.domain.record.events import PlaceReported
from controller.domain.record.journey import Step


@pytest.fixture
async def draining() -> AsyncIterator[Performing]:
    """A node that is to be drained."""
    performing = Performing(await walked(Step.DRAIN, place="cluster"))
    yield performing
    await performing.performer.close()
    await performing.parts.engine.close()


async def test_a_node_that_is_drained_goes_on(draining: Performing) -> None:
    draining.go()
    await draining.idle()
    await draining.parts.engine.settle()
    assert draining.places.calls == [("drain", f"{UID}/a/0.drain.0")]
    await draining.idle()
    assert draining.parts.attempt().step is Step.VERIFY
    assert not draining.places.serves("a")


async def test_a_draining_that_nobody_wants_any_more_is_broken_off_and_taken_back(draining: Performing) -> None:
    draining.places.empty.clear()
    draining.go()
    await reached(lambda: bool(draining.places.calls))
    await draining.parts.operations.control("trial", Request(verb=Verb.REVERT, by=Caller("me")))
    await draining.parts.engine.settle()
    await draining.idle()
    assert draining.parts.attempt().step is Step.SKIPPED
    assert draining.places.serves("a")
    assert draining.parts.attempt().drained_by == ""
    assert draining.parts.engine.outstanding == {}


async def test_a_place_that_does_not_answer_is_asked_again(draining: Performing) -> None:
    draining.places.failures["drain"] = [AGAIN, AGAIN]
    draining.go()
    await draining.idle()
    assert [verb for verb, _ in draining.places.calls] == ["drain"] * 3
    assert not draining.places.serves("a")


async def test_a_call_that_takes_too_long_is_given_up_and_made_again(draining: Performing) -> None:
    draining.places.empty.clear()
    draining.places.seconds = 0.01
    draining.go()
    await reached(lambda: len(draining.places.calls) > 1)
    draining.places.empty.set()
    await draining.idle()
    answer = draining.parts.attempt().place_answer
    assert answer is not None
    assert answer.error == ""


async def test_a_place_that_refuses_leaves_the_host_as_it_is(draining: Performing) -> None:
    draining.places.failures["drain"] = [Permanent("a pod may not be evicted")]
    draining.go()
    await draining.idle()
    await draining.parts.engine.settle()
    await draining.idle()
    assert draining.parts.attempt().step is Step.SKIPPED
    failure = draining.parts.attempt().failure
    assert failure is not None
    assert failure.sentence == "could not be taken out of service: a pod may not be evicted"
    assert draining.places.serves("a")


async def test_a_place_that_does_not_answer_keeps_no_kernel_waiting(draining: Performing) -> None:
    """An uncordoning is tried for as long as it takes, while the host may be on its way again."""
    draining.places.failures["uncordon"] = [AGAIN] * 1_000_000
    effects = (
        UncordonHost(command_id="u1/a/x.uncordon", host="a", drained_by="u1/a/x"),
        StageKernel(command_id="u1/a/y", host="a", kernel="new-digest"),
    )
    draining.parts.engine.outstanding.update({effect.command_id: effect for effect in effects})
    draining.performer.submit(effects)
    await reached(lambda: "u1/a/y" not in draining.parts.engine.outstanding)
    assert "u1/a/x.uncordon" in draining.parts.engine.outstanding


async def test_a_host_that_is_refused_its_place_is_put_back_once_somebody_has_mended_that() -> None:
    performing = Performing(await walked(Step.UNCORDON, place="cluster"))
    performing.places.out_by["a"] = f"{UID}/a/0.drain.0"
    performing.places.failures["uncordon"] = [Permanent("503 forbidden")] * 5
    performing.go()
    await reached(lambda: performing.parts.attempt().place_answer is not None)
    await performing.parts.engine.settle()
    # The kernel is good, and the host goes on; it is asked for all the same.
    assert performing.parts.attempt().step is Step.BAKE
    await performing.idle()
    assert performing.places.serves("a")
    assert performing.parts.attempt().drained_by == ""
    assert performing.parts.engine.outstanding == {}
    told = [logged.event for logged in performing.parts.disk.log if isinstance(logged.event, PlaceReported)]
    assert [event.error for event in told] == ["", "503 forbidden", ""]
    await performing.performer.close()
    await performing.parts.engine.close()
