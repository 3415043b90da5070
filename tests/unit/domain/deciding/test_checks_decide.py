"""Checks at the end of a wave: only a pass lets it go, whatever else happens has a deadline and a stated reason."""

import pytest
from checked_fleet import ERROR, FAIL, MANUAL, PASS, QUERY, WAIT, CheckedFleet
from simulated_fleet import NEW, OLD, UID, Faults

from controller.domain.errors import Conflict, InvalidInput, NotFound
from controller.domain.record.checks import MOST_ERRORS, Outcome
from controller.domain.record.control import CheckReported, ChecksAsked, ChecksOverridden, Verb
from controller.domain.record.events import HostSilent, WaveJudged, WaveOpened
from controller.domain.record.journey import Step
from controller.domain.state.rollout import State
from controller.services.state.world import folded

HOOK = "  - {name: orders, webhook: {url: 'http://hook/orders'}, deadline: 120s}\n"


def reverting(check: str) -> str:
    return check.replace("}\n", ", on_fail: revert, on_timeout: revert}\n")


def kinds(fleet: CheckedFleet) -> list[type]:
    wanted = (WaveJudged, ChecksAsked, CheckReported, WaveOpened, ChecksOverridden)
    return [type(event) for _, event in fleet.log if isinstance(event, wanted)]


def test_every_wave_passes_its_checks_after_its_verdict_and_before_the_next_opens() -> None:
    fleet = CheckedFleet(QUERY, {"api-errors": [PASS]})
    fleet.run()
    assert fleet.rollout.state is State.PROMOTED
    assert kinds(fleet) == [WaveJudged, ChecksAsked, CheckReported, WaveOpened, WaveJudged, ChecksAsked, CheckReported]
    assert "Checks passed: api-errors." in fleet.rollout.reason


def test_a_wave_that_the_gate_holds_is_not_asked_about() -> None:
    fleet = CheckedFleet(QUERY, {"api-errors": [PASS]}, faults={"a": Faults(new_cost=800.0)})
    fleet.run()
    assert fleet.rollout.held_wave
    assert ChecksAsked not in kinds(fleet)
    fleet.ask(Verb.PROMOTE, skip=True, remark="measured by hand")
    fleet.run(until=lambda: fleet.rollout.wave == 1)
    assert [one.wave for one in fleet.rollout.askings] == [0], "going past the gate does not go past the checks"


def test_nothing_moves_while_an_answer_is_awaited() -> None:
    fleet = CheckedFleet(QUERY, {"api-errors": [WAIT] * 5 + [PASS]})
    fleet.run(until=lambda: fleet.rollout.asking is not None)
    asked = fleet.now
    fleet.run(until=lambda: fleet.rollout.wave == 1)
    assert fleet.now - asked == pytest.approx(60.0)
    reports = [event for _, event in fleet.log if isinstance(event, CheckReported)]
    assert [one.outcome for one in reports] == [Outcome.WAIT, Outcome.PASS], "a wait that says the same is told once"


@pytest.mark.parametrize(("check", "state"), [(QUERY, State.PAUSED), (reverting(QUERY), State.REVERTED)])
def test_a_failed_check_pauses_or_reverts_as_the_file_says(check: str, state: State) -> None:
    fleet = CheckedFleet(check, {"api-errors": [FAIL]})
    fleet.run()
    assert fleet.rollout.state is state
    assert fleet.rollout.reason == "check api-errors of wave 1 failed: 0.31, must be at most 0.01"
    assert fleet.hosts["a"].default == (NEW if state is State.PAUSED else OLD)
    assert fleet.step("b") in (Step.PENDING, Step.SKIPPED)


@pytest.mark.parametrize(("check", "state"), [(QUERY, State.PAUSED), (reverting(QUERY), State.REVERTED)])
@pytest.mark.parametrize("answers", [[], [WAIT]])
def test_no_answer_by_the_deadline_is_never_a_pass(check: str, state: State, answers: list[CheckReported]) -> None:
    fleet = CheckedFleet(check, {"api-errors": answers})
    fleet.run(until=lambda: fleet.rollout.asking is not None)
    asked = fleet.now
    fleet.run(until=lambda: fleet.rollout.state is not State.RUNNING)
    assert fleet.now - asked == pytest.approx(300.0)
    assert fleet.rollout.askings[0].results[0].outcome is Outcome.TIMED_OUT
    fleet.run()
    assert fleet.rollout.state is state
    assert "ran out of time: it had not passed within 300 s" in fleet.rollout.reason


@pytest.mark.parametrize("check", [QUERY, reverting(QUERY)])
def test_errors_one_after_the_other_are_inconclusive_and_pause_but_condemn_no_kernel(check: str) -> None:
    fleet = CheckedFleet(check, {"api-errors": [ERROR]})
    fleet.run()
    assert fleet.rollout.state is State.PAUSED
    assert "is inconclusive: 4 errors one after the other" in fleet.rollout.reason
    assert sum(isinstance(event, CheckReported) for _, event in fleet.log) == MOST_ERRORS
    assert fleet.hosts["a"].default == NEW


def test_errors_between_answers_are_forgiven() -> None:
    fleet = CheckedFleet(QUERY, {"api-errors": [*[ERROR] * 3, WAIT, *[ERROR] * 3, PASS]})
    fleet.run(until=lambda: fleet.rollout.wave == 1)
    assert fleet.rollout.state is State.RUNNING


@pytest.mark.parametrize(("answers", "denied"), [([FAIL], True), ([], False)], ids=["failed", "not answered"])
def test_a_check_that_failed_condemns_the_kernel_and_one_without_an_answer_does_not(
    answers: list[CheckReported], denied: bool
) -> None:
    fleet = CheckedFleet(reverting(QUERY), {"api-errors": answers})
    fleet.run()
    assert fleet.rollout.state is State.REVERTED
    assert [bool(one) for one in fleet.condemnations()] == [denied]


def test_the_way_back_comes_before_a_pause() -> None:
    fleet = CheckedFleet(QUERY + reverting(HOOK), {"api-errors": [FAIL], "orders": [FAIL]})
    fleet.run()
    assert fleet.rollout.state in (State.PAUSED, State.REVERTED)
    both = CheckedFleet(QUERY + reverting(HOOK), {"api-errors": [], "orders": []})
    both.run(until=lambda: both.rollout.asking is not None)
    both.now += 1000.0
    both.run()
    assert both.rollout.state is State.REVERTED
    assert both.rollout.reason.startswith("check orders of wave 1 ran out of time")


def test_a_resume_asks_the_checks_of_the_wave_again() -> None:
    fleet = CheckedFleet(QUERY, {"api-errors": [FAIL, PASS]})
    fleet.run()
    fleet.ask(Verb.RESUME)
    fleet.run()
    assert fleet.rollout.state is State.PROMOTED
    assert [(one.wave, one.number) for one in fleet.rollout.askings] == [(0, 2), (1, 1)]


def test_an_answer_to_an_asking_that_a_resume_made_void_changes_nothing() -> None:
    fleet = CheckedFleet(QUERY, {"api-errors": []})
    fleet.run(until=lambda: fleet.rollout.asking is not None)
    fleet.ask(Verb.PAUSE)
    fleet.ask(Verb.RESUME)
    fleet.settle()
    assert fleet.rollout.askings[-1].number == 2
    late = CheckReported(at=fleet.now, wave=0, number=1, check="api-errors", outcome=Outcome.PASS)
    fleet.record(next(key for key, _ in fleet.log if not key.host), late)
    assert fleet.rollout.askings[-1].results[0].outcome is Outcome.WAIT


@pytest.mark.parametrize("answers", [[FAIL], []], ids=["failed", "awaited"])
def test_a_person_goes_past_a_check_only_with_a_remark_that_stays_on_record(answers: list[CheckReported]) -> None:
    fleet = CheckedFleet(QUERY, {"api-errors": answers})
    fleet.run(until=lambda: fleet.rollout.state is State.PAUSED or (not answers and fleet.rollout.asking is not None))
    with pytest.raises(InvalidInput, match="--remark"):
        fleet.ask(Verb.PROMOTE, skip=True)
    fleet.ask(Verb.PROMOTE, skip=True, remark="known noise", by="grace")
    fleet.run(until=lambda: fleet.rollout.wave == 1)
    past = fleet.rollout.askings[0].overridden
    assert past is not None
    assert (past.by, past.remark, past.checks) == ("grace", "known noise", ("api-errors",))


def test_promote_without_skip_says_what_is_awaited() -> None:
    fleet = CheckedFleet(QUERY, {"api-errors": []})
    fleet.run(until=lambda: fleet.rollout.asking is not None)
    with pytest.raises(Conflict, match=r"awaits api-errors: .*--skip"):
        fleet.ask(Verb.PROMOTE)


def test_all_waves_at_once_go_past_the_checks_of_the_open_one_and_are_checked_at_the_end() -> None:
    fleet = CheckedFleet(QUERY, {"api-errors": [FAIL, PASS]}, waves=[["a"], ["b"], ["c"]])
    fleet.run()
    fleet.ask(Verb.PROMOTE, full=True, remark="security fix")
    fleet.run()
    assert fleet.rollout.state is State.PROMOTED
    assert fleet.rollout.askings[0].overridden is not None
    assert [one.wave for one in fleet.rollout.askings] == [0, 2]


def test_a_dry_run_reports_and_never_blocks() -> None:
    dry = QUERY.replace("}\n", ", dry_run: true}\n")
    fleet = CheckedFleet(dry, {"api-errors": [FAIL]}, waves=[["a"]])
    fleet.run()
    fleet.run()
    assert fleet.rollout.state is State.PROMOTED
    result = fleet.rollout.askings[0].results[0]
    assert (result.outcome, result.value) == (Outcome.FAIL, 0.31), "it is told although nothing waited for it"
    assert "api-errors" not in fleet.rollout.reason


def test_a_person_reports_a_manual_check() -> None:
    fleet = CheckedFleet(MANUAL)
    with pytest.raises(Conflict, match="not awaited"):
        fleet.report("dba", passed=True)
    fleet.run(until=lambda: fleet.rollout.asking is not None)
    with pytest.raises(NotFound, match="its checks are: dba"):
        fleet.report("dbas", passed=True)
    fleet.report("dba", passed=True, remark="replicas are in step")
    with pytest.raises(Conflict, match="answered already by ada: pass"):
        fleet.report("dba", passed=False)
    fleet.run(until=lambda: fleet.rollout.wave == 1 and fleet.rollout.asking is not None)
    fleet.report("dba", passed=False, by="grace", remark="replication lags")
    fleet.run()
    assert fleet.rollout.state is State.PAUSED
    assert fleet.rollout.reason == "check dba of wave 2 failed (by grace): replication lags"


def test_nobody_reports_in_time() -> None:
    fleet = CheckedFleet(MANUAL)
    fleet.run()
    assert fleet.rollout.state is State.PAUSED
    assert "nobody reported it within 1000 s" in fleet.rollout.reason


def test_a_person_does_not_answer_for_a_program() -> None:
    fleet = CheckedFleet(QUERY, {"api-errors": []})
    fleet.run(until=lambda: fleet.rollout.asking is not None)
    with pytest.raises(Conflict, match="answered by a program"):
        fleet.report("api-errors", passed=True)


@pytest.mark.parametrize("verb", [Verb.ABORT, Verb.REVERT])
def test_whatever_is_awaited_a_rollout_can_be_ended(verb: Verb) -> None:
    fleet = CheckedFleet(QUERY, {"api-errors": []})
    fleet.run(until=lambda: fleet.rollout.asking is not None)
    fleet.ask(verb)
    fleet.run()
    assert fleet.rollout.state is (State.ABORTED if verb is Verb.ABORT else State.REVERTED)


def test_a_host_that_falls_silent_meanwhile_counts_more_than_a_check_that_passes() -> None:
    fleet = CheckedFleet(QUERY, {"api-errors": [WAIT] * 3 + [PASS]})
    fleet.run(until=lambda: fleet.rollout.asking is not None)
    fleet.hosts["a"].silenced = True
    fleet.tell(1.0, "a", lambda: HostSilent(at=fleet.now))
    fleet.run()
    assert fleet.rollout.state is State.REVERTED
    assert fleet.rollout.wave == 0


def test_old_against_old_asks_nobody() -> None:
    fleet = CheckedFleet(QUERY, aa=True)
    fleet.run()
    assert fleet.rollout.state is State.COMPLETED
    assert fleet.rollout.askings == ()


def test_the_log_alone_says_what_memory_says() -> None:
    fleet = CheckedFleet(QUERY + MANUAL, {"api-errors": [WAIT, FAIL]})
    fleet.run()
    again = folded(((key.stream, event) for key, event in fleet.log), fleet.world.hosts)
    assert again.rollouts[UID] == fleet.rollout
