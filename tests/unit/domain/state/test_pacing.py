"""Who may move when: disruption budgets by place, error budget, wave deadlines, and learned boot times."""

from dataclasses import replace

import pytest
from simulated_fleet import SPEC, UID, Faults, Simulation

from controller.domain.deciding.waves import why_waiting
from controller.domain.hosts.boot_times import FEWEST_BOOTS, BootTimes
from controller.domain.record.control import Verb
from controller.domain.record.events import CommandState, HostsAdmitted
from controller.domain.record.fleet import FleetFrozen, HostLabelled, HostQuarantined, InventoryImported
from controller.domain.record.journey import Step
from controller.domain.record.names import FLEET, Key
from controller.domain.record.policy import PlaceBound, WavePolicy
from controller.domain.state.occupancy import FLEET as WHOLE_FLEET
from controller.domain.state.occupancy import HYPERVISOR, Occupancy
from controller.domain.state.rollout import State
from controller.domain.state.snapshot import RolloutSnapshot
from controller.domain.state.turns import Turns, next_turns

ZONES = SPEC.replace("  limits:\n", "  limits:\n    max_unavailable: {zone: 1, fleet: 3}\n").replace("IN_FLIGHT", "10")
BROKEN_RIG = [CommandState.INFRASTRUCTURE] * 2


def zoned(*names: str) -> dict[str, dict[str, str]]:
    """Hosts called after their zone: a1 is the first of zone a."""
    return {name: {"zone": name[0]} for name in names}


def fleet(hosts: dict[str, dict[str, str]], away: frozenset[str] = frozenset()) -> tuple[Occupancy, Turns]:
    """Hosts that all wait in the first wave, in this order."""
    occupancy, turns = Occupancy(), Turns()
    for position, (name, labels) in enumerate(hosts.items()):
        occupancy.set(name, labels, moving=False, away=name in away)
        turns.add(name, 0, (labels.get("zone", ""),), position)
    return occupancy, turns


def chosen(
    hosts: dict[str, dict[str, str]], *bounds: PlaceBound, count: int = 10, away: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    occupancy, turns = fleet(hosts, away)
    return next_turns(turns, occupancy, bounds, last_wave=0, count=count).hosts


ONE_A_ZONE = PlaceBound(key="zone", count=1)


def test_one_host_of_every_zone_in_planned_order() -> None:
    assert chosen(zoned("a1", "a2", "b1", "c1"), ONE_A_ZONE) == ("a1", "b1", "c1")
    assert chosen(zoned("a1", "a2", "b1", "c1"), ONE_A_ZONE, count=2) == ("a1", "b1")


def test_a_host_without_the_label_is_bound_by_nothing_but_the_others() -> None:
    assert chosen({"a1": {"zone": "a"}, "x": {}, "y": {}}, ONE_A_ZONE) == ("a1", "x", "y")


def test_hosts_that_are_away_take_room_and_are_named() -> None:
    occupancy, turns = fleet(zoned("a1", "a2", "b1"), frozenset({"a2"}))
    found = next_turns(turns, occupancy, (ONE_A_ZONE,), last_wave=0, count=9)
    assert found.hosts == ("b1",)
    assert found.waits == "a1 waits: zone=a may have 1 unavailable at a time (a2 is not heard)"


def test_a_way_back_does_not_wait_for_hosts_that_are_away() -> None:
    occupancy, turns = fleet(zoned("a1", "a2"), frozenset({"a2"}))
    assert next_turns(turns, occupancy, (ONE_A_ZONE,), last_wave=0, count=9, foreign=False).hosts == ("a1",)


@pytest.mark.parametrize(("known", "allowed"), [(1, 1), (49, 1), (50, 1), (100, 2), (149, 2), (150, 3)])
def test_a_share_is_rounded_down_and_is_at_least_one(known: int, allowed: int) -> None:
    assert PlaceBound(key=WHOLE_FLEET, share=0.02).allowed(known) == allowed


def test_a_hypervisor_never_moves_with_a_guest_of_its_own() -> None:
    guests = {"metal": {}, "g1": {HYPERVISOR: "metal"}, "g2": {HYPERVISOR: "metal"}, "other": {}}
    assert chosen(guests) == ("metal", "other")
    reordered = {name: guests[name] for name in ("g1", "metal", "g2", "other")}
    assert chosen(reordered) == ("g1", "g2", "other")


def test_hosts_of_later_waves_do_not_pass_those_of_earlier_ones() -> None:
    occupancy, turns = fleet(zoned("a1"))
    occupancy.set("b1", {"zone": "b"}, moving=False, away=False)
    turns.add("b1", 1, ("b",), 0)
    assert next_turns(turns, occupancy, (), last_wave=0, count=5).hosts == ("a1",)
    assert next_turns(turns, occupancy, (), last_wave=1, count=5).hosts == ("a1", "b1")


def test_a_host_that_left_and_waits_again_is_called_once() -> None:
    occupancy, turns = fleet(zoned("a1", "a2"))
    turns.call(("a1",))
    turns.leave("a1")
    turns.add("a1", 0, ("a",), 0)
    assert sorted(next_turns(turns, occupancy, (), last_wave=0, count=5).hosts) == ["a1", "a2"]
    turns.leave("a1")
    turns.leave("a2")
    assert (turns.waiting, next_turns(turns, occupancy, (), last_wave=0, count=5).hosts) == (0, ())


def test_a_host_that_is_relabelled_waits_in_its_new_place() -> None:
    occupancy, turns = fleet(zoned("a1", "a2", "a3", "b1", "b2"))
    turns.call(("b1",))
    # Zone b is full, and the first of zone a belongs there now.
    occupancy.set("a1", {"zone": "b"}, moving=False, away=False)
    turns.place("a1", ("b",))
    found = next_turns(turns, occupancy, (ONE_A_ZONE,), last_wave=0, count=9)
    assert (found.hosts, found.waits) == (("a2",), "a1 waits: zone=b may have 1 unavailable at a time")
    turns.leave("b1")
    occupancy.set("b1", {"zone": "c"}, moving=False, away=False)
    # In planned order: it stands before those that were there.
    assert next_turns(turns, occupancy, (ONE_A_ZONE,), last_wave=0, count=9).hosts == ("a1", "a2")


def test_a_host_that_is_relabelled_there_and_back_waits_once() -> None:
    occupancy, turns = fleet(zoned("a1", "a2", "b1"))
    for zone in ("b", "a", "b", "a"):
        occupancy.set("a1", {"zone": zone}, moving=False, away=False)
        turns.place("a1", (zone,))
    two = PlaceBound(key="zone", count=2)
    assert next_turns(turns, occupancy, (two,), last_wave=0, count=9).hosts == ("a1", "a2", "b1")
    assert turns.waiting == 3


def relabel(simulation: Simulation, how: str, host: str, zone: str) -> None:
    known = simulation.world.hosts[host]
    if how == "agent":
        simulation.world.see(replace(known, labels={"zone": zone}))
    elif how == "hand":
        labelled = HostLabelled(at=simulation.now, by="ada", host=host, labels={"zone": zone})
        simulation.record(FLEET, labelled)
    else:
        imported = InventoryImported(at=simulation.now, by="ada", inventory="i", hosts={host: {"zone": zone}})
        simulation.record(FLEET, imported)


@pytest.mark.parametrize("how", ["agent", "hand", "import"])
@pytest.mark.parametrize("back", [False, True])
def test_relabelling_a_waiting_host_into_a_full_zone_blocks_nobody(how: str, *, back: bool) -> None:
    """On the way out and on the way back: the others of its old zone go on."""
    simulation = Simulation([["a1", "a2", "b1", "b2"]], spec=ZONES, labels=zoned("a1", "a2", "b1", "b2", "b9"))
    if back:
        simulation.run(until=lambda: all(simulation.step(name) is Step.BAKE for name in ("a1", "a2", "b1", "b2")))
    # Zone b is full: of its hosts one that belongs to no rollout is away.
    away = replace(simulation.world.hosts["a1"], name="b9", labels={"zone": "b"}, connected=False)
    simulation.world.see(away)
    if back:
        simulation.ask(Verb.REVERT, remark="test")
        waiting = simulation.world.returns[UID]
    else:
        waiting = simulation.world.starts[UID]
    assert waiting.waits("a1")
    relabel(simulation, how, "a1", "b")
    found = next_turns(
        waiting, simulation.world.occupancy, simulation.rollout.policy.max_unavailable, last_wave=0, count=9
    )
    assert "a2" in found.hosts


def test_a_host_whose_label_is_empty_is_not_taken_for_one_without_the_label() -> None:
    labels = {"x1": {"zone": ""}, "x2": {"zone": ""}, "x3": {}, "x4": {}}
    simulation = Simulation([list(labels)], spec=ZONES, labels=labels)
    simulation.run(until=lambda: simulation.step("x4") is not Step.PENDING)
    assert simulation.step("x2") is Step.PENDING


def test_budgets_by_zone_hold_all_the_way_through_a_rollout() -> None:
    names = [f"{zone}{number}" for zone in "abcd" for number in range(4)]
    simulation = Simulation([names[:1], names[1:]], spec=ZONES, labels=zoned(*names))
    most: dict[str, int] = {}

    def look() -> bool:
        attempts = simulation.world.attempts[UID]
        moving = [name for name in names if attempts[name].holds_slot]
        for zone in "abcd":
            most[zone] = max(most.get(zone, 0), sum(name[0] == zone for name in moving))
        most["fleet"] = max(most.get("fleet", 0), len(moving))
        return False

    simulation.run(until=look, horizon_s=20_000.0)
    assert simulation.rollout.state is State.PROMOTED
    assert most == {"a": 1, "b": 1, "c": 1, "d": 1, "fleet": 3}


def test_a_host_of_another_rollout_or_of_none_that_goes_away_holds_its_zone_back() -> None:
    simulation = Simulation([["a1"], ["a2", "b1"]], spec=ZONES, labels=zoned("a1", "a2", "b1", "a9"))
    simulation.hosts["a9"] = replace(simulation.hosts["a1"], name="a9")
    away = replace(simulation.world.hosts["a1"], name="a9", connected=False)
    simulation.world.see(away)
    simulation.settle()
    assert {simulation.step(name) for name in ("a1", "a2", "b1")} == {Step.PENDING}
    simulation.world.see(replace(away, connected=True))
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED


def test_rigs_may_fail_within_the_error_budget() -> None:
    spec = SPEC.replace("error_budget: {hosts: 0, share: 0 %}", "error_budget: {hosts: 1, share: 0 %}")
    faults = {"a": Faults(measurements=list(BROKEN_RIG)), "c": Faults(measurements=list(BROKEN_RIG))}
    simulation = Simulation([["a", "b"], ["c", "d"]], faults, spec=spec)
    simulation.run()
    assert simulation.rollout.state is State.PAUSED
    assert simulation.rollout.wave == 1
    assert "and 1 more" in simulation.rollout.reason
    simulation.ask(Verb.RESUME)
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED


def test_a_wave_that_takes_too_long_pauses_and_may_go_on() -> None:
    simulation = Simulation([["a"]], wave_policies=(WavePolicy(max_duration_s=100.0),))
    simulation.run()
    assert simulation.rollout.state is State.PAUSED
    assert simulation.rollout.reason == "wave 1 has not ended within its max_duration"
    simulation.ask(Verb.RESUME)
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED


def test_who_was_admitted_is_on_record() -> None:
    simulation = Simulation([["a", "b", "c"]])
    simulation.run()
    admitted = [event.hosts for _, event in simulation.log if isinstance(event, HostsAdmitted)]
    assert admitted[0] == ("a", "b")
    assert [name for hosts in admitted for name in hosts] == ["a", "b", "c"]


def test_boot_timeouts_are_by_platform_until_enough_boots_are_known() -> None:
    few = BootTimes((30.0,) * (FEWEST_BOOTS - 1))
    assert few.timeout_s(None, "x86_64/vm") == 900.0
    for platform in ("metal", "emulated", "unknown", "container", ""):
        assert few.timeout_s(None, f"arm64/{platform}/zone=a") == 2700.0, platform
    assert few.timeout_s(None, "arm64/vm/group/db=true") == 900.0
    known = few.with_boot(200.0)
    assert known.timeout_s(None, "x86_64/vm") == 400.0
    assert known.expected_s(None, "x86_64/vm") == 30.0
    assert known.timeout_s(77.0, "x86_64/vm") == 77.0


def test_learned_timeouts_are_neither_too_short_nor_endless() -> None:
    assert BootTimes((1.0,) * 50).timeout_s(None, "x86_64/vm") == 60.0
    assert BootTimes((9000.0,) * 50).timeout_s(None, "x86_64/metal") == 7200.0


def test_boots_of_a_rollout_are_learned() -> None:
    names = [f"h{number}" for number in range(FEWEST_BOOTS + 2)]
    spec = SPEC.replace("    boot_timeout: 60s\n", "")
    simulation = Simulation([names], spec=spec, max_in_flight=1)
    simulation.run(horizon_s=50_000.0)
    attempts = simulation.world.attempts[UID]
    assert attempts["h0"].boot_timeout_s == 900.0
    assert attempts[names[-1]].boot_timeout_s == 60.0
    assert len(simulation.world.boots["x86_64/vm"].seconds) == len(names)


NIGHTS = SPEC.replace("  claim:", '  windows: [{days: [thu], from: "01:00", to: "01:10", zone: UTC}]\n  claim:')


def test_hosts_start_only_while_a_window_is_open_and_long_enough() -> None:
    """The clock starts on Thursday, 1 January 1970, at 00:16:40."""
    simulation = Simulation([["a"], ["b"]], spec=NIGHTS)
    simulation.run(until=lambda: simulation.step("a") is Step.BASELINE)
    assert simulation.now == 3600.0
    simulation.run(until=lambda: simulation.step("b") is Step.BASELINE, horizon_s=8 * 86_400.0)
    assert simulation.now < 3600.0 + 600.0, "the second wave begins within the same window"
    simulation.run(horizon_s=8 * 86_400.0)
    assert simulation.rollout.state is State.PROMOTED


def test_a_host_that_is_measured_too_late_waits_for_the_next_window_before_it_is_touched() -> None:
    late = NIGHTS.replace('to: "01:10"', 'to: "01:02"').replace("boot_timeout: 60s", "boot_timeout: 110s")
    simulation = Simulation([["a"]], spec=late)
    simulation.run(until=lambda: simulation.step("a") is Step.STAGE, horizon_s=8 * 86_400.0)
    assert simulation.now == 3600.0 + 7 * 86_400.0
    assert simulation.hosts["a"].boots == 1


def test_a_frozen_fleet_starts_nothing_and_says_who_froze_it() -> None:
    simulation = Simulation([["a"]])
    simulation.record(FLEET, FleetFrozen(at=simulation.now, by="ada", remark="release week", until=5000.0))
    simulation.settle()
    snapshot = simulation.world.snapshot(Key(UID))
    assert isinstance(snapshot, RolloutSnapshot)
    assert why_waiting(snapshot, simulation.now) == "the fleet is frozen by ada: release week"
    simulation.run(until=lambda: simulation.step("a") is Step.BASELINE)
    assert simulation.now == 5000.0


def test_a_host_that_is_quarantined_before_its_turn_is_left_out() -> None:
    simulation = Simulation([["a"], ["b", "c"]])
    simulation.record(FLEET, HostQuarantined(at=simulation.now, by="ada", host="b", remark="bad memory"))
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    assert (simulation.step("b"), simulation.step("c")) == (Step.SKIPPED, Step.DONE)
    assert simulation.hosts["b"].boots == 1
