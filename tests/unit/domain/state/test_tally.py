"""The counts that decisions are made from."""

from dataclasses import replace
from typing import Any

import pytest
from designed_fleet import PAIRS, Designed, hosts, slower
from simulated_fleet import UID, Simulation
from simulated_host import Faults

from controller.adapters.store.memory import Disk
from controller.domain.record.control import Verb
from controller.domain.record.events import Failure, FailureKind, Moved, PlannedHost
from controller.domain.record.journey import Role, Step, Trigger
from controller.domain.state.attempt import Attempt, evolve, planned_attempt
from controller.domain.state.rollout import Rollout
from controller.domain.state.tally import Tally, tallied, tally_moved
from controller.sim.rules.invariants import Rule
from controller.sim.rules.witness import Witness


def test_failures_that_condemn_are_never_crowded_out() -> None:
    rollout, tally = Simulation([["a"]]).rollout, Tally()
    attempts = [
        planned_attempt(
            PlannedHost(host=f"h{n}", stratum="s", architecture="x86_64"), rollout="r", uid=UID, wave=0, position=n
        )
        for n in range(150)
    ]
    for attempt in attempts:
        kind = FailureKind.PANIC if attempt is attempts[-1] else FailureKind.INFRASTRUCTURE
        failed = replace(attempt, failure=Failure(kind=kind, sentence="it broke"), failed_at=1.0)
        tally = tally_moved(tally, None, attempt, rollout)
        tally = tally_moved(tally, attempt, failed, rollout)
    assert len(tally.failures) == 100
    assert tally.broken == 149
    assert (tally.failures[0].host, tally.failures[0].condemns) == ("h149", True)


COST = "swap_fill.system_time"


def moved(trigger: Trigger, step: Step, at: float, **more: Any) -> Moved:
    return Moved(at=at, trigger=trigger, step=step, deadline=None, leg=0, tries=0, **more)


def walked(rollout: Rollout, *events: Moved) -> tuple[Tally, Attempt]:
    """The tally of one host, kept event by event."""
    planned = PlannedHost(host="a", stratum="x86_64/vm", architecture="x86_64")
    attempt = planned_attempt(planned, rollout="r", uid=UID, wave=0, position=0)
    tally = tally_moved(Tally(), None, attempt, rollout)
    for event in events:
        after = evolve(attempt, event)
        tally, attempt = tally_moved(tally, attempt, after, rollout), after
    return tally, attempt


BROKE = Failure(kind=FailureKind.DELIVERY, sentence="could not be blessed")
FAR_WORSE = moved(Trigger.MEASURED, Step.BLESS, 5.0, far_worse=(COST,))
BACK = (
    moved(Trigger.FAIL, Step.REVERTING, 6.0, failure=BROKE),
    moved(Trigger.RETURNED, Step.REVERTED, 7.0),
    moved(Trigger.AGAIN, Step.PENDING, 8.0),
)


def test_what_a_host_measured_in_an_earlier_round_is_not_counted_against_the_kernel() -> None:
    rollout = Simulation([["a"]]).rollout
    tally, attempt = walked(rollout, FAR_WORSE)
    assert tally.far_worse == {("x86_64/vm", COST): (("a", 5.0),)}
    tally, attempt = walked(rollout, FAR_WORSE, *BACK)
    assert tally.far_worse == {}
    assert tally == replace(tallied(rollout, [attempt]), hosts=tally.hosts)


def test_a_host_that_is_far_worse_elsewhere_counts_there_alone() -> None:
    later = moved(Trigger.NEXT_LEG, Step.ARM, 9.0, far_worse=("kernel_build.system_time",))
    tally, attempt = walked(Simulation([["a"]]).rollout, FAR_WORSE, later)
    assert tally.far_worse == tallied(Simulation([["a"]]).rollout, [attempt]).far_worse


@pytest.mark.parametrize("forgets", [True, False])
def test_the_simulators_witness_sees_what_a_tally_should_have_forgotten(*, forgets: bool) -> None:
    """A controller's memory that keeps a host's earlier round differs from the log."""
    simulation = Simulation([["a"]])
    simulation.run()
    breaches: list[None] = []
    witness = Witness(Disk(), places={}, on_breach=lambda: breaches.append(None))
    witness.seen.rollouts, witness.seen.attempts = simulation.world.rollouts, simulation.world.attempts
    if not forgets:
        tally = simulation.world.tallies[UID]
        simulation.world.tallies[UID] = replace(tally, far_worse={("x86_64/vm", COST): (("a", 5.0),)})
    witness.remembers(simulation.world)
    assert [breach.rule for breach in witness.breaches] == ([] if forgets else [Rule.REPLAY])


def remembering_for_ever(known: Any, before: Attempt | None, after: Attempt) -> Any:
    """What a host was found to be in any round: the rule as it must not be."""
    if (0.0 if before is None else before.far_worse_at) == after.far_worse_at:
        return known
    entry = after.host, after.far_worse_at
    cells = {cell: (*known.get(cell, ()), entry) for cell in ((after.stratum, metric) for metric in after.far_worse)}
    return {**known, **cells}


@pytest.mark.parametrize("broken", [False, True])
def test_the_witness_finds_a_rollout_whose_host_began_again(monkeypatch: pytest.MonkeyPatch, *, broken: bool) -> None:
    """A whole rollout: a host gets far worse, its rig breaks, and an operator has it begin again."""
    if broken:
        monkeypatch.setattr("controller.domain.state.tally._with_far_worse", remembering_for_ever)
    fleet = hosts(40)
    changed = next(one.host for one in Designed(PAIRS, fleet).plan.waves[0].hosts if one.role is Role.TREATED)
    story = Designed(PAIRS, fleet, shift=slower(0.5), faults={changed: Faults(refused="bless")})
    story.run(until=lambda: story.step(changed) is Step.REVERTED)
    assert story.world.attempts[UID][changed].far_worse
    story.ask(Verb.RETRY, hosts=(changed,))
    story.run(until=lambda: story.step(changed) is Step.BASELINE)
    witness = Witness(Disk(), places={}, on_breach=lambda: None)
    witness.seen.rollouts, witness.seen.attempts = story.world.rollouts, story.world.attempts
    witness.remembers(story.world)
    assert [breach.rule for breach in witness.breaches] == ([Rule.REPLAY] if broken else [])
