"""What a restart costs: nothing. Whoever was not listened to is not blamed for silence or for time that passed."""

from dataclasses import replace

import pytest
from engine_parts import TEXT, UID, Parts, outcome, run, walked

from controller.adapters.store.codec import decode_event, encode
from controller.domain.caller import Caller
from controller.domain.record.effects import ArmKernel, RunWorkload
from controller.domain.record.events import RolloutPlanned
from controller.domain.record.journey import Step
from controller.domain.state.rollout import State

AWAY_S = 7200.0


@pytest.mark.parametrize("step", [Step.BASELINE, Step.PROBATION, Step.BLESS, Step.BAKE, Step.VERIFY, Step.ARM])
@pytest.mark.parametrize("gracefully", [True, False])
async def test_hours_away_condemn_nobody(step: Step, gracefully: bool) -> None:
    before = await walked(step)
    if gracefully:
        # A controller that ends in peace sees every stream end before it.
        await before.sessions.disconnected(before.sessions._connected["a"])
    before.clock.at += AWAY_S
    parts = await Parts(before.disk, before.clock).start()
    await parts.engine.settle()
    assert parts.attempt().step is step
    assert parts.engine.world.rollouts[UID].state is State.RUNNING
    assert parts.attempt().failure is None


async def test_what_was_measured_meanwhile_counts() -> None:
    before = await walked(Step.PROBATION)
    attempt = before.attempt()
    before.clock.at += AWAY_S
    parts = await Parts(before.disk, before.clock).start()
    await parts.engine.settle()
    await parts.connect(boot="2", release="7.1.13-new")
    await parts.engine.settle()
    for index in range(3):
        await parts.sessions.reported("a", run(attempt, index, 567.0))
    await parts.sessions.reported("a", outcome(attempt))
    await parts.engine.settle()
    assert parts.attempt().step is Step.BLESS


async def test_a_soak_time_that_ended_unwatched_is_not_over_before_the_host_is_heard() -> None:
    before = await walked(Step.BAKE)
    before.clock.at += AWAY_S
    parts = await Parts(before.disk, before.clock).start()
    await parts.engine.settle()
    assert parts.attempt().step is Step.BAKE
    await parts.connect(boot="2", release="7.1.13-new")
    await parts.engine.settle()
    assert parts.engine.world.rollouts[UID].state is State.PROMOTED


async def test_a_log_means_the_same_to_a_version_that_reads_specs_differently() -> None:
    before = await Parts().start()
    await before.connect()
    await before.operations.start(TEXT, "f", Caller("me"))
    log = before.disk.log
    planned = log[0].event
    assert isinstance(planned, RolloutPlanned)
    # As if a later version understood nothing of the text any more.
    log[0] = replace(log[0], event=replace(planned, spec_yaml="kind: Another"))
    parts = await Parts(before.disk, before.clock).start()
    assert [one.policy for one in parts.engine.world.rollouts.values()] == [planned.policy]
    assert decode_event("RolloutPlanned", encode(planned)) == planned


async def test_a_host_that_stays_away_after_the_restart_is_noticed() -> None:
    before = await walked(Step.BAKE)
    parts = await Parts(before.disk, before.clock).start()
    await parts.engine.settle()
    parts.clock.at += 20.0
    await parts.engine.settle()
    assert parts.attempt().step is Step.REVERTING
    assert parts.engine.world.rollouts[UID].state is State.REVERTING


async def test_what_was_decided_and_not_done_is_done_again() -> None:
    before = await walked(Step.ARM)
    parts = Parts(before.disk, before.clock)
    submitted: list[object] = []
    parts.engine.on_effects = submitted.extend
    await parts.start()
    assert [type(effect) for effect in submitted] == [ArmKernel]
    measured = await walked(Step.BASELINE)
    again = Parts(measured.disk, measured.clock)
    again.engine.on_effects = submitted.extend
    await again.start()
    assert isinstance(submitted[-1], RunWorkload)
