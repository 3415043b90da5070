"""Rollouts with a design, from the first baseline to the end: what the looks at wave ends decide."""

import math
from dataclasses import replace

import pytest
from designed_fleet import (
    ABBA,
    ARMS,
    ELAPSED,
    METAL,
    PAIRS,
    SICK,
    SYSTEM_TIME,
    USER_TIME,
    VM,
    Designed,
    hosts,
    sick_fleet,
    slower,
)
from simulated_fleet import UID
from simulated_host import NEW, OLD, Faults

from controller.adapters.store.codec import decode_event, encode
from controller.domain.judging.waves import judge_wave
from controller.domain.record.control import Verb
from controller.domain.record.events import Event, RunReported
from controller.domain.record.journey import LEGS, Role, Step, legs_of
from controller.domain.record.names import Key
from controller.domain.record.policy import SuspendedCell
from controller.domain.record.verdicts import JudgedCell, WaveJudged
from controller.domain.state.rollout import State
from controller.services.operating.replay import replay
from controller.services.records import Logged
from controller.views.report import report

DESIGNS = (PAIRS, ARMS, ABBA)


def finished(fleet: Designed) -> Designed:
    fleet.run(horizon_s=50_000.0)
    return fleet


def cell(event: WaveJudged, metric: str = SYSTEM_TIME, stratum: str = VM) -> JudgedCell:
    return next(one for one in event.cells if (one.metric, one.stratum) == (metric, stratum))


@pytest.mark.parametrize("design", DESIGNS)
def test_a_good_kernel_passes_at_its_last_look_and_is_promoted(design: str) -> None:
    fleet = finished(Designed(design, hosts(40)))
    assert fleet.rollout.state is State.PROMOTED, fleet.rollout.reason
    first, second, third = fleet.judged
    assert (first.decision, cell(first).verdict, cell(first).look) == ("promote", "NEED_MORE_DATA", 1)
    assert first.sentence.endswith("1 of 2 performance cells pass; the others wait for the next wave.")
    assert (cell(second).verdict, cell(second).look, cell(second).looks) == ("PASS", 2, 2)
    # Nobody is compared in the third wave; what was decided stays.
    assert replace(cell(third), sentence="") == replace(cell(second), sentence="")
    assert fleet.rollout.reason.endswith("2 of 2 performance cells pass.")
    kept = {name: fleet.hosts[name].default for name in fleet.hosts}
    controls = fleet.roles(Role.CONTROL)
    assert {name for name, kernel in kept.items() if kernel == OLD} == set(controls)
    assert len(controls) == (0 if design == ABBA else 14)


@pytest.mark.parametrize("design", DESIGNS)
def test_a_slower_kernel_is_reverted(design: str) -> None:
    fleet = finished(Designed(design, hosts(40), shift=slower(0.06)))
    assert fleet.rollout.state is State.REVERTED
    failed = cell(fleet.judged[-1])
    assert (fleet.judged[-1].wave, failed.verdict, failed.role) == (1, "FAIL", "critical")
    assert failed.low is not None
    assert failed.low > 3
    assert fleet.rollout.reason.startswith(f"REVERT: {VM} {SYSTEM_TIME}: ")
    assert {host.default for host in fleet.hosts.values()} == {OLD}


def test_a_drift_that_moves_everybody_is_not_held_against_the_kernel() -> None:
    def drift(_host: str, _stratum: str, _new: bool, boot: str) -> float:
        return math.log(1.05) if boot.endswith("-2") else 0.0

    fleet = finished(Designed(PAIRS, hosts(40), shift=drift))
    assert fleet.rollout.state is State.PROMOTED, fleet.rollout.reason


def test_noise_that_hides_the_margin_pauses_with_what_could_be_seen() -> None:
    fleet = finished(Designed(PAIRS, hosts(40), noise=0.03))
    assert fleet.rollout.state is State.PAUSED
    assert (fleet.judged[-1].wave, fleet.judged[-1].decision) == (1, "hold")
    assert "INCONCLUSIVE: with this spread it takes about" in fleet.rollout.reason
    assert "what there is can decide on a margin of" in fleet.rollout.reason
    # Only a person goes on from here, and the record says so.
    fleet.ask(Verb.PROMOTE, remark="we know", skip=True)
    finished(fleet)
    assert fleet.judged[-1].wave == 2


def test_a_failing_guard_pauses_and_a_moving_negative_control_makes_it_undecided() -> None:
    def guard(host: str, event: RunReported, values: dict[str, float]) -> dict[str, float]:
        return {**values, ELAPSED: values[ELAPSED] * 1.06} if event.release.endswith("new") else values

    def rig(host: str, event: RunReported, values: dict[str, float]) -> dict[str, float]:
        return {**values, USER_TIME: values[USER_TIME] * 1.06} if event.release.endswith("new") else values

    for change, words in ((guard, "It is a guard: hold"), (rig, "which the kernel cannot move: the rig did")):

        class Changed(Designed):
            def values(self, host: str, run: RunReported) -> dict[str, float]:
                return self.change(host, run, super().values(host, run))

        Changed.change = staticmethod(change)  # type: ignore[attr-defined]  # made here
        fleet = finished(Changed(PAIRS, hosts(40)))
        assert fleet.rollout.state is State.PAUSED
        assert words in fleet.rollout.reason


def test_a_stratum_that_fails_is_held_alone_and_the_end_names_it() -> None:
    fleet = finished(Designed(PAIRS, hosts(40) + hosts(40, METAL), shift=slower(0.06, METAL), hold=True))
    assert fleet.rollout.state is State.PROMOTED, fleet.rollout.reason
    assert f"{METAL} was held back: {METAL} {SYSTEM_TIME}: " in fleet.rollout.reason
    assert fleet.rollout.reason.endswith(" FAIL.")
    judged = fleet.judged[1]
    assert {one.stratum: one.decision for one in judged.strata} == {METAL: "revert", VM: "promote"}
    attempts = fleet.world.attempts[UID].values()
    assert {a.step for a in attempts if a.stratum == METAL} == {Step.REVERTED, Step.SKIPPED}
    assert {fleet.hosts[a.host].default for a in attempts if a.stratum == METAL} == {OLD}
    assert {fleet.hosts[a.host].default for a in attempts if a.stratum == VM and a.role is Role.TREATED} == {NEW}
    # Held, it is not judged any more, and the others' promise of errors stays that of two strata.
    assert {one.stratum for one in fleet.judged[-1].cells} == {VM}
    whole = finished(Designed(PAIRS, hosts(40) + hosts(40, METAL), shift=slower(0.06, METAL)))
    assert whole.rollout.state is State.REVERTED


def test_a_host_far_outside_is_measured_again_and_counts_when_that_was_all() -> None:
    fleet = finished(sick_fleet(Faults(), well_after=1))
    assert fleet.rollout.state is State.PROMOTED
    again = next(event for event in fleet.judged if event.measure_again)
    assert (again.decision, again.measure_again, again.quarantined) == ("measure_again", (SICK,), ())
    assert again.sentence == f"{SICK} is far outside the others and is measured once more before anything is decided."
    assert SICK in cell(again).outliers
    after = fleet.judged[fleet.judged.index(again) + 1]
    assert (after.wave, cell(after).hosts, after.quarantined, cell(after).outliers) == (again.wave, 14, (), ())


def test_a_host_far_outside_twice_is_left_out_by_name_for_good() -> None:
    fleet = finished(sick_fleet(Faults()))
    assert fleet.rollout.state is State.PROMOTED
    asked = [event.measure_again for event in fleet.judged if event.measure_again]
    assert asked == [(SICK,)]
    for event in fleet.judged[-2:]:
        assert event.quarantined == (SICK,)
        assert cell(event).hosts == 13
        assert f"{SICK} is quarantined and was left out." in event.remarks


def test_an_abort_leaves_a_host_that_is_measured_once_more_where_it_is() -> None:
    fleet = sick_fleet(Faults())
    fleet.run(until=lambda: fleet.step(SICK) is Step.REMEASURE)
    before = fleet.hosts[SICK].boots
    fleet.abort()
    finished(fleet)
    assert (fleet.rollout.state, fleet.step(SICK), fleet.hosts[SICK].boots) == (State.ABORTED, Step.DONE, before)


def test_two_hosts_beyond_ten_margins_stop_the_wave_before_its_end() -> None:
    fleet = Designed(PAIRS, hosts(40), shift=slower(0.5))
    fleet.run(horizon_s=50_000.0)
    assert fleet.rollout.state is State.PAUSED
    assert "got worse by more than ten margins" in fleet.rollout.reason
    assert not fleet.judged, "it is no verdict and spends nothing"
    # A person may go on; the same two hosts do not stop it a second time, the wave's end does.
    fleet.ask(Verb.RESUME, remark="looked at them")
    finished(fleet)
    assert (fleet.rollout.state, fleet.judged[-1].decision) == (State.PAUSED, "hold")
    assert "stop here and look at them" in fleet.rollout.reason


def test_one_host_beyond_ten_margins_and_a_faster_kernel_stop_nothing() -> None:
    assert not finished(sick_fleet(Faults())).world.tallies[UID].far_worse.get((VM, USER_TIME))
    fast = finished(Designed(PAIRS, hosts(40), shift=slower(-0.3)))
    assert fast.rollout.state is State.PROMOTED


def test_a_suspended_cell_neither_fails_nor_passes() -> None:
    why = SuspendedCell(stratum=VM, metric=SYSTEM_TIME, why="5 of 10 old-vs-old judgements failed")
    fleet = finished(Designed(PAIRS, hosts(40), shift=slower(0.06), suspended=(why,)))
    assert fleet.rollout.state is State.PAUSED
    judged = cell(fleet.judged[-1])
    assert judged.verdict == "INCONCLUSIVE"
    assert judged.sentence.endswith("the cell is suspended and decides nothing: 5 of 10 old-vs-old judgements failed.")


def test_a_host_that_never_tells_a_metric_does_not_spoil_the_count_of_runs() -> None:
    class Silent(Designed):
        def values(self, host: str, run: RunReported) -> dict[str, float]:
            return {name: value for name, value in super().values(host, run).items() if name != ELAPSED}

    fleet = finished(Silent(PAIRS, hosts(40)))
    assert fleet.rollout.state is State.PROMOTED
    assert cell(fleet.judged[-1], ELAPSED).verdict == "INCONCLUSIVE"
    assert cell(fleet.judged[-1], "completion").verdict == "PASS"


def test_a_metric_told_on_the_old_kernel_only_is_no_pass() -> None:
    class Half(Designed):
        def values(self, host: str, run: RunReported) -> dict[str, float]:
            values = super().values(host, run)
            return values if run.release.endswith("old") else {ELAPSED: values[ELAPSED], USER_TIME: values[USER_TIME]}

    fleet = finished(Half(PAIRS, hosts(40)))
    assert fleet.rollout.state is State.PAUSED
    assert cell(fleet.judged[-1]).verdict == "INCONCLUSIVE"


def stored(event: Event) -> Event:
    """Return the event as it comes back from the log."""
    return decode_event(type(event).__name__, encode(event))


def logged(fleet: Designed) -> list[Logged]:
    return [
        Logged(
            number=number, stream=key.stream, revision=number, event=decode_event(type(event).__name__, encode(event))
        )
        for number, (key, event) in enumerate(fleet.log, start=1)
    ]


@pytest.mark.parametrize("faults", [None, Faults()])
def test_a_replay_says_every_word_and_number_again(faults: Faults | None) -> None:
    fleet = finished(Designed(PAIRS, hosts(40), shift=slower(0.01)) if faults is None else sick_fleet(faults))
    view = replay(fleet.rollout, logged(fleet), {}, {})
    assert view.waves
    assert all(wave.same for wave in view.waves), view.sentence
    # And what if a change of one per cent had been too much?
    strict = replay(fleet.rollout, logged(fleet), {}, {SYSTEM_TIME: 0.005})
    assert not all(wave.same for wave in strict.waves)


def test_a_judgement_does_not_depend_on_the_order_of_hosts() -> None:
    fleet = finished(Designed(ARMS, hosts(40)))
    attempts = fleet.world.attempts[UID]
    turned = {name: attempts[name] for name in sorted(attempts, reverse=True)}
    assert judge_wave(fleet.rollout, turned, 1.0) == judge_wave(fleet.rollout, attempts, 1.0)


def test_a_report_shows_what_was_compared() -> None:
    fleet = finished(sick_fleet(Faults()))
    events = [(key.stream, event) for key, event in fleet.log]
    made = report(fleet.rollout, fleet.world.attempts[UID], events, fleet.world.hosts)
    assert report(fleet.rollout, fleet.world.attempts[UID], events, fleet.world.hosts) == made
    assert f"{SYSTEM_TIME}" in made.text
    assert "Compared by matched pairs, x86_64/vm" in made.text
    assert f"Left out, far outside the others both times they were measured: {SICK}." in made.text
    assert "Compared by matched pairs, which takes out what the hour did:" in made.letter
    assert "bounds" in made.letter


def test_the_paired_hosts_reboot_in_the_same_wave_one_beside_the_other() -> None:
    fleet = finished(Designed(PAIRS, hosts(40)))
    attempts = fleet.world.attempts[UID]
    for one in attempts.values():
        if one.pair and one.role is Role.TREATED:
            partner = next(a for a in attempts.values() if a.pair == one.pair and a.role is Role.CONTROL)
            assert (partner.wave, partner.position) == (one.wave, one.position + 1)
            assert fleet.hosts[partner.host].boots == fleet.hosts[one.host].boots == 2
    assert Key(UID, SICK).host in attempts


def test_cycles_repeat_the_walk_and_only_crossover_hosts_have_them() -> None:
    assert [side.value for side in legs_of(Role.CROSSOVER, 2)] == [*("old", "new", "new", "old") * 2, "new"]
    assert legs_of(Role.TREATED) == LEGS[Role.TREATED]
    with pytest.raises(AssertionError, match="repeat"):
        legs_of(Role.CONTROL, 2)
