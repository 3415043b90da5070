"""Cutting a host's power: the order is given once whatever happens to the controller, and every end is on record."""

from collections.abc import AsyncIterator

import pytest
from engine_parts import Parts, reached
from performing import AGAIN, Performing
from unheard_host import COMMAND, KEY, unheard

from controller.domain.errors import OutcomeUnknown, Permanent
from controller.domain.record.actions.power_cycles import CycleOutcome, PowerCycleBegun, PowerCycled
from controller.domain.record.journey import Step


@pytest.fixture
async def cutting() -> AsyncIterator[Performing]:
    performing = Performing(await unheard())
    yield performing
    await performing.performer.close()
    await performing.parts.engine.close()


def told(performing: Performing) -> list[PowerCycleBegun | PowerCycled]:
    events = [logged.event for logged in performing.parts.disk.log]
    return [event for event in events if isinstance(event, PowerCycleBegun | PowerCycled)]


async def ended(performing: Performing) -> tuple[CycleOutcome, str]:
    performing.go()
    await reached(lambda: COMMAND not in performing.parts.engine.outstanding)
    await performing.idle()
    last = told(performing)[-1]
    assert isinstance(last, PowerCycled)
    return last.outcome, last.detail


async def test_the_order_is_written_down_before_it_is_given(cutting: Performing) -> None:
    cutting.power.says = ("power supply 2: failed",)
    assert await ended(cutting) == (CycleOutcome.DONE, "")
    begun, done = told(cutting)
    assert isinstance(begun, PowerCycleBegun)
    assert begun.seen.says == ("power supply 2: failed",)
    assert (begun.command_id, done.command_id) == (COMMAND, COMMAND)
    assert cutting.power.calls == [("look", "a"), ("cycle", "a")]


async def test_what_was_done_is_not_done_again_after_a_restart(cutting: Performing) -> None:
    await ended(cutting)
    again = Performing(await Parts(cutting.parts.disk, cutting.parts.clock).start())
    again.go()
    await again.idle()
    assert again.power.calls == []
    await again.performer.close()


async def test_an_order_that_may_have_been_given_is_told_as_unknown(cutting: Performing) -> None:
    """The controller ends after it has written that it gives the order, and before it knows what came of it."""
    effect = cutting.parts.engine.outstanding[COMMAND]
    seen = await cutting.power.look("a")
    begun = PowerCycleBegun(at=cutting.parts.clock.at, command_id=COMMAND, seen=seen)
    await cutting.parts.engine.observe(KEY, begun)
    again = Performing(await Parts(cutting.parts.disk, cutting.parts.clock).start())
    assert again.parts.engine.outstanding[COMMAND] == effect
    outcome, detail = await ended(again)
    assert outcome is CycleOutcome.UNKNOWN
    assert "does not give it a second time" in detail
    assert again.power.calls == []
    await again.performer.close()


async def test_after_a_restart_a_host_may_speak_first(cutting: Performing) -> None:
    again = Performing(await Parts(cutting.parts.disk, cutting.parts.clock).start())
    again.go()
    await again.parts.connect(boot="3")
    assert await ended(again) == (CycleOutcome.SPARED, "it was heard again before")
    assert again.power.calls == []
    await again.performer.close()


async def test_after_a_restart_a_host_that_stays_silent_is_cut(cutting: Performing) -> None:
    again = Performing(await Parts(cutting.parts.disk, cutting.parts.clock).start())
    power, deadline = again.parts.attempt().power, again.parts.attempt().deadline
    assert power is not None
    assert deadline is not None
    # Also when its management controller takes long: until it is cut it is not given up.
    assert deadline > again.parts.clock.at + 20.0 + power.allowed_s
    again.parts.clock.at += 20.0
    assert await ended(again) == (CycleOutcome.DONE, "")
    assert again.power.cycles("a") == 1
    await again.performer.close()


async def test_a_management_controller_that_is_away_is_tried_three_times(cutting: Performing) -> None:
    cutting.power.failures["look"] = [AGAIN, AGAIN]
    assert await ended(cutting) == (CycleOutcome.DONE, "")
    assert [verb for verb, _ in cutting.power.calls] == ["look", "look", "look", "cycle"]


async def test_one_that_stays_away_is_told(cutting: Performing) -> None:
    cutting.power.failures["look"] = [AGAIN] * 5
    assert await ended(cutting) == (CycleOutcome.REFUSED, "not reachable")
    assert cutting.power.calls == [("look", "a")] * 3


@pytest.mark.parametrize(
    ("verb", "error", "outcome", "detail"),
    [
        ("look", Permanent("wrong password"), CycleOutcome.REFUSED, "wrong password"),
        ("look", OSError("gone"), CycleOutcome.REFUSED, "internal error: OSError('gone'); please report it"),
        ("cycle", Permanent("it allows no such order"), CycleOutcome.REFUSED, "it allows no such order"),
        ("cycle", AGAIN, CycleOutcome.REFUSED, "not reachable"),
        ("cycle", OutcomeUnknown("no answer"), CycleOutcome.UNKNOWN, "no answer"),
        ("cycle", OSError("gone"), CycleOutcome.UNKNOWN, "internal error: OSError('gone'); please report it"),
    ],
)
async def test_every_end_is_told(
    cutting: Performing, verb: str, error: Exception, outcome: CycleOutcome, detail: str
) -> None:
    cutting.power.failures[verb] = [error]
    assert await ended(cutting) == (outcome, detail)
    assert cutting.power.cycles("a") == (1 if verb == "cycle" else 0)


async def test_nobody_is_cut_who_is_not_waited_for_any_more(cutting: Performing) -> None:
    cutting.power.failures["look"] = [AGAIN]
    cutting.go()
    await cutting.parts.connect(boot="3")
    await cutting.parts.engine.settle()
    await cutting.idle()
    assert cutting.parts.attempt().step is Step.REVERTED
    assert cutting.power.cycles("a") == 0
    assert COMMAND not in cutting.parts.engine.outstanding
