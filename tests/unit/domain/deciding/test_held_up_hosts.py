"""A measured host that may not be taken down says why, and until when; nobody is said to be drained meanwhile."""

from dataclasses import dataclass, replace

import pytest
from simulated_fleet import SPEC, UID, Simulation
from simulated_host import NEW_RELEASE

from controller.domain.deciding.waves import why_waiting
from controller.domain.record.control import Verb
from controller.domain.record.events import CommandReported, CommandState
from controller.domain.record.fleet import FleetFrozen, FleetThawed, KernelDenied
from controller.domain.record.journey import Step
from controller.domain.record.names import FLEET, Key
from controller.domain.state.attempt import RETRY_PAUSE_S
from controller.services.state.waiting import held_up
from controller.views.models import RolloutView
from controller.views.rollouts.explain import explain
from controller.views.rollouts.status import rollout_view

SHORT = SPEC.replace("  claim:", '  windows: [{days: [thu], from: "01:00", to: "01:02", zone: UTC}]\n  claim:').replace(
    "boot_timeout: 60s", "boot_timeout: 110s"
)
WEEK_S = 7 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    view: RolloutView
    explained: str


def seen(simulation: Simulation) -> Seen:
    world, rollout = simulation.world, simulation.rollout
    stopped = held_up(world, UID, simulation.now)
    waits = why_waiting(world.snapshot(Key(UID)), simulation.now)
    view = rollout_view(rollout, world.attempts[UID], {}, simulation.now, waits=waits, held_up=stopped)
    told = explain(rollout, world.attempts[UID], "trial", waits, held_up=stopped)
    return Seen(view=view, explained=told.sentence)


def measured(spec: str = SPEC, waves: list[list[str]] | None = None) -> Simulation:
    simulation = Simulation(waves or [["a"]], spec=spec)
    simulation.run(until=lambda: simulation.step("a") is Step.BASELINE)
    return simulation


def held(simulation: Simulation) -> Simulation:
    simulation.run(until=lambda: simulation.step("a") is Step.HELD)
    simulation.settle()
    assert simulation.step("a") is Step.HELD
    return simulation


def row(found: Seen, host: str = "a") -> tuple[str, float | None]:
    (one,) = [one for wave in found.view.waves for one in wave.hosts if one.host == host]
    return one.detail, one.deadline


def test_a_freeze_that_ends_by_itself_is_told_with_its_end() -> None:
    simulation = measured()
    until = simulation.now + 9000.0
    simulation.record(FLEET, FleetFrozen(at=simulation.now, by="ada", remark="release week", until=until))
    found = seen(held(simulation))
    why = "the fleet is frozen by ada: release week"
    assert found.view.blocking_reason == f"a is measured and waits: {why}"
    assert found.explained == f"trial is running: a is measured and waits: {why}."
    assert (found.view.next_deadline_name, found.view.next_deadline) == ("a: it may be taken down", until)
    assert row(found) == (f"waits: {why}", until)


def test_a_freeze_that_a_person_ends_has_no_deadline_but_the_waves() -> None:
    simulation = measured()
    simulation.record(FLEET, FleetFrozen(at=simulation.now, by="ada"))
    found = seen(held(simulation))
    assert found.view.blocking_reason == "a is measured and waits: the fleet is frozen by ada"
    assert found.view.next_deadline_name == "wave 1 must have ended, else the rollout pauses"
    assert found.view.next_deadline == 1000.0 + 30 * 86_400.0
    assert row(found)[1] is None
    simulation.record(FLEET, FleetThawed(at=simulation.now, by="ada"))
    assert "waits" not in seen(simulation).view.blocking_reason


def test_a_window_that_is_too_short_is_told_with_the_next_one() -> None:
    found = seen(held(measured(SHORT)))
    assert found.view.blocking_reason.startswith("a is measured and waits: the maintenance window closes in ")
    assert found.view.next_deadline == 3600.0 + WEEK_S
    assert found.view.next_deadline_name == "a: it may be taken down"


@pytest.mark.parametrize("where", ["", 'host == "a"'])
def test_a_denial_is_told(where: str) -> None:
    simulation = measured()
    denied = KernelDenied(at=simulation.now, by="olga", kernel=NEW_RELEASE, reason="hangs", where=where)
    simulation.record(FLEET, denied)
    found = seen(held(simulation))
    of = f" where {where}" if where else ""
    assert found.view.blocking_reason == f"a is measured and waits: {NEW_RELEASE} is denied{of} by olga: hangs"


def test_several_hosts_that_wait_for_one_thing_are_told_together() -> None:
    simulation = measured(waves=[["a", "b"]])
    simulation.record(FLEET, FleetFrozen(at=simulation.now, by="ada"))
    simulation.run(until=lambda: simulation.step("b") is Step.HELD and simulation.step("a") is Step.HELD)
    simulation.settle()
    assert seen(simulation).view.blocking_reason == "a and b are measured and wait: the fleet is frozen by ada"


def test_a_paused_rollout_tells_it_too() -> None:
    simulation = measured()
    simulation.record(FLEET, FleetFrozen(at=simulation.now, by="ada"))
    held(simulation)
    simulation.ask(Verb.PAUSE)
    assert seen(simulation).view.blocking_reason.endswith("; a is measured and waits: the fleet is frozen by ada")


def test_hosts_that_may_not_start_yet_have_a_deadline_as_well() -> None:
    simulation = Simulation([["a"]], spec=SHORT)
    simulation.settle()
    found = seen(simulation)
    assert (found.view.next_deadline_name, found.view.next_deadline) == ("hosts may start", 3600.0)


def test_nobody_is_ever_said_to_be_held() -> None:
    simulation = measured()
    simulation.record(FLEET, FleetFrozen(at=simulation.now, by="ada"))
    held(simulation)
    view = rollout_view(simulation.rollout, simulation.world.attempts[UID], {}, simulation.now)
    assert view.blocking_reason == "a is measured and about to be taken down"


def test_finished_hosts_that_wait_to_return_say_why() -> None:
    simulation = Simulation([["a"], ["b"]])
    world = simulation.world
    for host in list(world.hosts.values()):
        world.see(replace(host, labels={"zone": "z"}))
    simulation.run(until=lambda: simulation.step("a") is Step.DONE)
    # Another rollout has a host of the zone under way.
    world.occupancy.set("x", {"zone": "z"}, moving=True, away=False)
    simulation.ask(Verb.REVERT)
    simulation.settle()
    assert seen(simulation).view.blocking_reason == (
        "reverting: reverted by test; a waits: zone=z may have 1 unavailable at a time"
    )


def test_a_measurement_that_the_rig_spoilt_says_when_it_is_tried_again() -> None:
    simulation = measured()
    name = simulation.world.attempts[UID]["a"].command_id
    spoilt = CommandReported(
        at=simulation.now, report_id="", command_id=name, state=CommandState.INFRASTRUCTURE, detail="no swap"
    )
    simulation.record(Key(UID, "a"), spoilt)
    found = seen(simulation)
    told = (found.view.next_deadline_name, found.view.next_deadline)
    assert told == ("a: it is tried again", simulation.now + RETRY_PAUSE_S)
    assert row(found)[1] == simulation.now + RETRY_PAUSE_S
