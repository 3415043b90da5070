"""Working off the outbox: at least once, in order per host, and never let go of while it is wanted."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from engine_parts import UID, Parts, ScriptedDelivery, key, reached, status, walked
from performing import AGAIN, Performing

from controller.adapters.places.nowhere import Nowhere
from controller.domain.caller import Caller
from controller.domain.deciding.verbs import Request
from controller.domain.delivery import BootCause, BootEnd, BootRecord
from controller.domain.errors import Permanent, Temporary
from controller.domain.kernels import Kernel
from controller.domain.record.control import Verb
from controller.domain.record.effects import (
    AgentEffect,
    ArmKernel,
    Effect,
    RebootHost,
    RevertKernel,
    RunWorkload,
    StageKernel,
)
from controller.domain.record.events import DeliveryReported, FailureKind, TrialEnded
from controller.domain.record.journey import Step
from controller.domain.state.rollout import State
from controller.services.agents.sessions import AgentStream
from controller.services.engine.performing import Performer
from controller.services.engine.watching import Watcher


@pytest.fixture
async def at(request: pytest.FixtureRequest) -> AsyncIterator[Performing]:
    performing = Performing(await walked(request.param))
    yield performing
    await performing.performer.close()
    await performing.parts.engine.close()


staging = pytest.mark.parametrize("at", [Step.STAGE], indirect=True)
arming = pytest.mark.parametrize("at", [Step.ARM], indirect=True)


@staging
async def test_an_answer_is_recorded_and_the_effect_forgotten(at: Performing) -> None:
    at.go()
    await at.idle()
    answer = at.parts.attempt().delivery
    assert answer is not None
    assert (answer.default_kernel, answer.running_kernel) == ("old-digest", "old-digest")
    assert at.parts.engine.outstanding == {}
    assert at.parts.disk.effects == {}


@staging
async def test_without_a_known_way_back_nothing_is_armed(at: Performing) -> None:
    at.delivery.failures["status"] = [AGAIN, AGAIN]
    at.go()
    await at.idle()
    answer = at.parts.attempt().delivery
    assert answer is not None
    assert answer.default_kernel == "old-digest"
    assert [verb for verb, _ in at.delivery.calls] == ["stage", "status"] * 3


@staging
async def test_a_delivery_that_names_no_default_is_no_way_back(at: Performing) -> None:
    at.delivery.present = status(default="", running="")
    at.go()
    await at.idle()
    await at.parts.engine.settle()
    attempt = at.parts.attempt()
    assert attempt.step is Step.SKIPPED
    assert attempt.failure is not None
    assert attempt.failure.kind is FailureKind.DELIVERY


@arming
@pytest.mark.parametrize("failure", [AGAIN, TimeoutError(), ValueError("a bug"), OSError("no such file")])
async def test_whatever_goes_wrong_is_tried_again(at: Performing, failure: Exception) -> None:
    at.delivery.failures["arm"] = [failure, failure]
    if isinstance(failure, TimeoutError):
        at.delivery.failures["arm"] = [AGAIN]
    at.go()
    await at.idle()
    answer = at.parts.attempt().delivery
    assert answer is not None
    assert answer.error == ""


@arming
async def test_a_refusal_is_an_answer(at: Performing) -> None:
    at.delivery.failures["arm"] = [Permanent("it has no room")]
    at.go()
    await at.idle()
    answer = at.parts.attempt().delivery
    assert answer is not None
    assert answer.error == "it has no room"


@arming
async def test_an_answer_that_cannot_be_recorded_is_asked_for_again(at: Performing) -> None:
    at.parts.disk.failure = Temporary("the disk is full", retry_after_s=0.0)
    at.go()
    await reached(lambda: len(at.delivery.calls) >= 4)
    at.parts.disk.failure = None
    await at.idle()
    assert at.parts.attempt().delivery is not None


@arming
async def test_what_is_superseded_is_dropped(at: Performing) -> None:
    at.delivery.failures["arm"] = [AGAIN] * 1000
    at.go()
    await reached(lambda: len(at.delivery.calls) >= 2)
    await at.parts.operations.control("trial", Request(verb=Verb.ABORT, by=Caller("me")))
    await at.parts.engine.settle()
    await at.idle()
    verbs = [verb for verb, _ in at.delivery.calls]
    assert verbs[-2:] == ["revert", "status"]
    assert "arm" not in verbs[verbs.index("revert") :]


@staging
async def test_a_call_that_takes_longer_than_its_delivery_allows_is_given_up_and_tried_again(at: Performing) -> None:
    stage, tries = at.delivery.stage, 0

    async def hangs_once(host: str, command_id: str, kernel: Kernel) -> None:
        nonlocal tries
        tries += 1
        # What the next try may take.
        at.delivery.seconds = 120.0
        if tries == 1:
            await asyncio.Event().wait()
        await stage(host, command_id, kernel)

    at.delivery.stage = hangs_once  # type: ignore[method-assign]  # a copy that hangs
    at.delivery.seconds = 0.0
    at.go()
    await at.idle()
    assert (tries, [verb for verb, _ in at.delivery.calls]) == (2, ["stage", "status"])


@staging
async def test_a_revert_does_not_wait_for_a_stage_that_nobody_wants_any_more(at: Performing) -> None:
    begun = asyncio.Event()

    async def endless(*_arguments: object, **_named: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    at.delivery.stage = endless  # type: ignore[method-assign]  # a copy that hangs
    at.go()
    await begun.wait()
    await at.parts.operations.control("trial", Request(verb=Verb.ABORT, by=Caller("me")))
    await at.parts.engine.settle()
    revert = RevertKernel(command_id="u1/a/9.reverting.0", host="a", kernel="old-digest")
    at.parts.engine.outstanding[revert.command_id] = revert
    at.performer.submit((revert,))
    await at.idle()
    assert [verb for verb, _ in at.delivery.calls] == ["revert", "status"]


@arming
async def test_a_revert_does_not_wait_out_the_pause_before_a_try_that_nobody_wants_any_more(at: Performing) -> None:
    at.delivery.failures["arm"] = [Temporary("not reachable", retry_after_s=3600.0)]
    at.go()
    await reached(lambda: bool(at.delivery.calls))
    await at.parts.operations.control("trial", Request(verb=Verb.ABORT, by=Caller("me")))
    await at.parts.engine.settle()
    await at.idle()
    assert [verb for verb, _ in at.delivery.calls] == ["arm", "revert", "status"]


@arming
async def test_what_changes_the_next_boot_is_waited_for_before_it_is_taken_back(at: Performing) -> None:
    """Broken off, it might be carried out after the revert, and the host would boot what it was to leave."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    order: list[str] = []

    async def slow(*_arguments: object, **_named: object) -> None:
        begun.set()
        await go_on.wait()
        order.append("armed")

    at.delivery.arm = slow  # type: ignore[method-assign]  # takes its time
    at.go()
    await begun.wait()
    await at.parts.operations.control("trial", Request(verb=Verb.ABORT, by=Caller("me")))
    await at.parts.engine.settle()
    for _ in range(20):
        await asyncio.sleep(0)
    assert [verb for verb, _ in at.delivery.calls] == []
    go_on.set()
    await at.idle()
    assert order == ["armed"]
    assert [verb for verb, _ in at.delivery.calls][-2:] == ["revert", "status"]


class NotWalked(dict[str, Effect]):
    """Outstanding effects of a fleet, which nobody goes through because of one host."""

    def values(self) -> Any:
        raise AssertionError("all outstanding effects are walked")

    items = __iter__ = values


@pytest.mark.parametrize("at", [Step.BASELINE], indirect=True)
async def test_a_host_that_connects_costs_only_what_it_was_asked(at: Performing) -> None:
    at.parts.engine.outstanding = NotWalked(at.parts.engine.outstanding)
    await at.parts.connect()
    await at.idle()
    assert [type(effect) for effect in at.parts.sent] == [RunWorkload]
    await at.parts.sessions.accepted("a", at.parts.attempt().command_id, "")
    await at.parts.connect()
    await at.idle()
    assert len(at.parts.sent) == 1
    assert at.parts.engine.outstanding_of("a") == ()


@arming
async def test_verbs_of_one_host_come_one_after_the_other(at: Performing) -> None:
    present, most = 0, 0

    async def slow(*_arguments: object, **_named: object) -> None:
        nonlocal present, most
        present += 1
        most = max(most, present)
        await asyncio.sleep(0)
        present -= 1

    at.delivery.arm = at.delivery.reboot = slow  # type: ignore[method-assign]  # counts its calls
    effects = (
        ArmKernel(command_id="u1/a/x", host="a", kernel="k", boot_timeout_s=1.0, probation_timeout_s=1.0),
        RebootHost(command_id="u1/a/y", host="a"),
    )
    at.parts.engine.outstanding.update({effect.command_id: effect for effect in effects})
    at.performer.submit(effects)
    await at.idle()
    assert most == 1


@pytest.mark.parametrize("at", [Step.BASELINE], indirect=True)
async def test_a_command_that_a_breaking_stream_lost_goes_down_the_next_one(at: Performing) -> None:
    broken = 0

    async def fail(_effect: AgentEffect) -> None:
        nonlocal broken
        broken += 1
        raise ConnectionResetError("the stream is gone")

    at.parts.sessions._connected["a"] = AgentStream(host="a", send=fail, close=lambda _reason: None)
    at.go()
    await reached(lambda: broken > 1)
    await at.parts.connect()
    await at.idle()
    assert [type(effect) for effect in at.parts.sent] == [RunWorkload]


@pytest.mark.parametrize("at", [Step.BASELINE], indirect=True)
async def test_a_command_for_a_host_that_is_away_waits_for_it(at: Performing) -> None:
    await at.parts.sessions.disconnected(at.parts.sessions._connected["a"])
    at.go()
    await at.idle()
    assert at.parts.sent == []
    await at.parts.connect()
    await at.idle()
    assert [type(effect) for effect in at.parts.sent] == [RunWorkload]


@staging
async def test_what_is_under_way_is_not_begun_twice(at: Performing) -> None:
    at.go()
    at.go()
    await at.idle()
    assert [verb for verb, _ in at.delivery.calls] == ["stage", "status"]
    effect = StageKernel(command_id="u1/a/done", host="a", kernel="k")
    at.performer.submit((effect,))
    await at.idle()
    assert len(at.delivery.calls) == 2


async def test_an_answer_to_an_earlier_command_is_not_taken_for_this_one() -> None:
    parts = await walked(Step.ARM)
    await parts.engine.observe(key(), DeliveryReported(at=1.0, command_id="u1/a/0.stage.0"))
    await parts.engine.settle()
    assert parts.attempt().step is Step.ARM


# --- the watch over trial boots ---


async def test_a_host_that_is_rebooting_is_not_taken_for_returned() -> None:
    """The controller has not noticed yet that the old boot ended, and the operator wants everything back."""
    parts = await walked(Step.VERIFY)
    delivery = ScriptedDelivery()
    delivery.present = status(running="new-digest")
    performer = Performer(
        parts.engine, parts.sessions, delivery, parts.kernels, parts.clock, places=Nowhere(), pause_s=0.0
    )
    parts.engine.on_effects = performer.submit
    await parts.operations.control("trial", Request(verb=Verb.REVERT, by=Caller("me")))
    await parts.engine.settle()
    await reached(lambda: parts.attempt().delivery is not None)
    await parts.engine.settle()
    assert parts.attempt().silent_since is None
    assert parts.attempt().step is Step.REVERTING
    await parts.connect(boot="3")
    await parts.engine.settle()
    assert parts.attempt().step is Step.REVERTED
    await performer.close()


def trial(parts: Parts, end: BootEnd | None, *, started_at: float = 1000.0) -> BootRecord:
    """The boot that the attempt asked for."""
    return BootRecord(
        number=2,
        kernel="new-digest",
        command_id=parts.attempt().trial_command_id,
        cause=BootCause.TRIAL,
        end=end,
        started_at=started_at,
    )


async def test_a_watch_that_breaks_begins_anew() -> None:
    parts = await walked(Step.VERIFY)
    delivery = ScriptedDelivery()
    delivery.failures["watch"] = [OSError("gone"), AGAIN]
    delivery.present = status("a", trial(parts, BootEnd.PANIC))
    watching = asyncio.create_task(Watcher(parts.engine, delivery, parts.clock, pause_s=0.0).run())
    await reached(lambda: parts.attempt().trial is not None)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_an_end_that_cannot_be_recorded_is_told_again() -> None:
    parts = await walked(Step.VERIFY)
    delivery = ScriptedDelivery()
    delivery.present = status("a", trial(parts, BootEnd.PANIC))
    parts.disk.failure = AGAIN
    watching = asyncio.create_task(Watcher(parts.engine, delivery, parts.clock, pause_s=0.0).run())
    await reached(lambda: len(delivery.calls) > 2)
    parts.disk.failure = None
    await reached(lambda: parts.attempt().trial is not None)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize(
    ("end", "started_at", "state"),
    [
        # Healthy, and nobody was there to bless it.
        (BootEnd.NOT_BLESSED, 900.0, State.PAUSED),
        (BootEnd.NOT_BLESSED, 1001.0, State.REVERTING),
        # A kernel that panics or hangs does so without us as well.
        (BootEnd.PANIC, 900.0, State.REVERTING),
        (BootEnd.NOT_ACKNOWLEDGED, 900.0, State.REVERTING),
    ],
)
async def test_only_the_kernels_own_failures_condemn_it(end: BootEnd, started_at: float, state: State) -> None:
    parts = await walked(Step.PROBATION)
    watcher = Watcher(parts.engine, ScriptedDelivery(), parts.clock)
    await watcher.noticed(status("a", trial(parts, None, started_at=started_at)))
    assert parts.attempt().trial is None
    await watcher.noticed(status("a", trial(parts, end, started_at=started_at)))
    await watcher.noticed(status("a", trial(parts, end, started_at=started_at)))
    assert sum(isinstance(one.event, TrialEnded) for one in parts.disk.log) == 1
    await parts.engine.settle()
    assert parts.engine.world.rollouts[UID].state is state
