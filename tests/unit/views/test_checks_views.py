"""What operators read of checks: awaited, passed, failed, by how much, and how to go on."""

import json

import pytest
from checked_fleet import ERROR, FAIL, MANUAL, PASS, QUERY, WAIT, CheckedFleet, with_checks
from rollout_story import telling
from simulated_fleet import UID

from controller.adapters.rpc.messages import from_message, to_message
from controller.adapters.store.codec import decode_effect, decode_event, encode
from controller.domain.record.control import Verb
from controller.domain.record.effects import RunCheck
from controller.domain.record.events import Event
from controller.domain.record.names import Key, attempt_stream, rollout_stream
from controller.domain.spec.parse import parse_spec
from controller.domain.state.rollout import State
from controller.services.state.world import folded
from controller.views.json import view_data
from controller.views.models import CheckView, ExplanationView, RolloutView
from controller.views.plan_models import PlannedCheckView
from controller.views.report import report
from controller.views.rollouts.changes import changes
from controller.views.rollouts.checks import check_views, planned_checks
from controller.views.rollouts.explain import explain
from controller.views.rollouts.status import rollout_view
from protos.kernroll.v1 import operator_pb2


class Told(CheckedFleet):
    """Keeps a log as the store has it."""

    def record(self, key: Key, event: Event) -> None:
        """Record the event with its evidence."""
        super().record(key, telling(event))

    @property
    def view(self) -> RolloutView:
        return rollout_view(self.rollout, self.world.attempts[UID], {}, self.now)

    @property
    def explanation(self) -> ExplanationView:
        return explain(self.rollout, self.world.attempts[UID], "trial")

    def reported(self) -> str:
        events = [(attempt_stream(UID, key.host) if key.host else rollout_stream(UID), one) for key, one in self.log]
        return report(self.rollout, self.world.attempts[UID], events, self.world.hosts).text


def awaiting(checks: str, *answers: object) -> Told:
    fleet = Told(checks, {"api-errors": list(answers)})  # type: ignore[dict-item]  # answers of checked_fleet
    fleet.run(until=lambda: fleet.rollout.asking is not None)
    return fleet


def test_what_is_awaited_is_the_one_reason_and_its_deadline_the_next_thing() -> None:
    fleet = awaiting(QUERY)
    view = fleet.view
    assert view.blocking_reason == "wave 1 of 2 awaits check api-errors"
    assert [wave.state for wave in view.waves] == ["checking", "waiting"]
    assert (view.next_deadline_name, view.next_deadline) == ("check api-errors must have passed", fleet.now + 300.0)
    assert [(check.state, check.deadline) for check in view.checks] == [("awaited", fleet.now + 300.0)]
    assert "awaits check api-errors" in fleet.explanation.sentence
    assert "Check api-errors of wave 1 is awaited." in fleet.explanation.evidence


def test_what_it_said_last_is_told_with_it() -> None:
    fleet = awaiting(QUERY, WAIT)
    fleet.run(until=lambda: fleet.rollout.askings[0].results[0].at is not None)
    assert fleet.view.blocking_reason == "wave 1 of 2 awaits check api-errors (the queue is long)"


def test_a_check_that_a_person_must_report_names_the_command() -> None:
    fleet = awaiting(MANUAL)
    assert fleet.view.blocking_reason == "wave 1 of 2 awaits a person's word on dba"
    assert fleet.explanation.next_command == "kernroll rollout check trial dba --pass"


def test_a_failure_is_told_with_value_and_bound_and_how_to_go_on() -> None:
    fleet = awaiting(QUERY, FAIL)
    before = fleet.view
    fleet.run()
    assert [wave.state for wave in fleet.view.waves] == ["failed", "waiting"]
    (check,) = fleet.view.checks
    assert (check.state, check.value, check.bound) == ("failed", 0.31, "at most 0.01")
    explanation = fleet.explanation
    assert explanation.sentence == (
        "trial is paused because check api-errors of wave 1 failed: 0.31, must be at most 0.01."
    )
    assert any("rollout resume trial` asks the checks of the wave again" in line for line in explanation.evidence)
    lines = [(change.subject, change.text) for change in changes(before, fleet.view)]
    assert ("check", "api-errors of wave 1 failed: 0.31, must be at most 0.01") in lines


def test_who_went_on_without_is_told_for_ever() -> None:
    fleet = awaiting(QUERY, FAIL)
    fleet.run()
    fleet.ask(Verb.PROMOTE, skip=True, remark="known noise", by="grace")
    fleet.run(until=lambda: fleet.rollout.wave == 1)
    (check,) = fleet.view.checks
    assert check.state == "skipped"
    assert fleet.view.waves[0].state == "passed"
    assert check.sentence == (
        "check api-errors of wave 1 was skipped after it failed by grace (known noise): 0.31, must be at most 0.01"
    )
    assert "grace went on without api-errors: known noise" in fleet.reported().replace("\n", " ").replace("  ", "")


@pytest.mark.parametrize(
    ("answers", "state", "words"),
    [
        ([ERROR], "inconclusive", "is inconclusive: error: http://prom cannot be reached"),
        ([], "timed_out", "ran out of time"),
    ],
)
def test_no_answer_is_told_as_none(answers: list[object], state: str, words: str) -> None:
    fleet = awaiting(QUERY, *answers)
    fleet.run()
    (check,) = fleet.view.checks
    assert check.state == state
    assert words in check.sentence


def test_what_is_not_awaited_any_more_is_no_open_question() -> None:
    fleet = awaiting(QUERY)
    fleet.ask(Verb.PAUSE)
    fleet.run()
    assert [(one.state, one.deadline) for one in fleet.view.checks] == [("unanswered", None)]
    assert fleet.rollout.state is State.PAUSED


def test_a_report_has_a_table_of_all_waves_and_the_same_log_gives_the_same_bytes() -> None:
    fleet = awaiting(QUERY, PASS)
    fleet.run()
    text = fleet.reported()
    assert fleet.rollout.state is State.PROMOTED
    rows = [line.split() for line in text.splitlines() if line.lstrip()[:2] in ("1 ", "2 ") and "api-errors" in line]
    assert [row[:4] for row in rows] == [["1", "api-errors", "passed", "0.002"], ["2", "api-errors", "passed", "0.002"]]
    assert "check api-errors of wave 2: pass: 0.002, at most 0.01" in " ".join(text.split())
    assert text == fleet.reported()


def test_a_plan_says_what_is_asked_and_what_follows() -> None:
    spec = parse_spec(with_checks(QUERY + MANUAL).replace("IN_FLIGHT", "1").replace("ON_REFUTED", "pause"), "f")
    query, person = planned_checks([one.check for one in spec.checks])
    assert query.sentence == (
        "every value of errors at http://prom must be at most 0.01, within 5 min of each wave's verdict; "
        "a failure or no answer pauses the rollout."
    )
    assert person.sentence.startswith("a person must report that it passes, within 16 min 40 s")


def test_views_go_through_the_contract_and_json_whole() -> None:
    fleet = awaiting(QUERY + MANUAL, FAIL)
    fleet.run()
    view = fleet.view
    assert from_message(to_message(view, operator_pb2.Rollout), RolloutView) == view
    assert {one.value for one in view.checks} == {0.31, None}, "no value is not the value 0"
    data = json.loads(json.dumps(view_data(view)))
    assert [one["state"] for one in data["checks"]] == ["failed", "unanswered"]
    assert data["checks"][0]["reported_at"].endswith("Z")
    for kind, message in ((CheckView, operator_pb2.Check), (PlannedCheckView, operator_pb2.PlannedCheck)):
        assert set(kind.__slots__) == {field.name for field in message.DESCRIPTOR.fields}  # type: ignore[attr-defined]  # both have slots


def test_events_and_effects_of_checks_are_stored_and_read_again() -> None:
    fleet = awaiting(MANUAL.replace("dba", "zoe") + QUERY + MANUAL, WAIT, FAIL)
    fleet.run()
    fleet.ask(Verb.PROMOTE, skip=True, remark="known noise")
    stored = [(key.stream, decode_event(type(event).__name__, encode(event))) for key, event in fleet.log]
    assert [event for _, event in stored] == [event for _, event in fleet.log]
    # The order of checks included: what is read is told as it was before a restart.
    again = folded(stored, fleet.world.hosts).rollouts[UID]
    assert again == fleet.rollout
    assert check_views(again) == check_views(fleet.rollout)
    effect = RunCheck(command_id="u1//check-1.1.api-errors", wave=0, number=1, check="api-errors")
    assert decode_effect(effect.command_id, "RunCheck", encode(effect)) == effect
