"""Whatever checks answer and operators do: no wave is left without a pass of every check, or a person who said why."""

import contextlib

from checked_fleet import ERROR, FAIL, PASS, WAIT, CheckedFleet
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_fleet import UID

from controller.domain.errors import Conflict
from controller.domain.record.checks import Outcome
from controller.domain.record.control import CheckReported, ChecksAsked, Verb
from controller.domain.record.events import RolloutPromoted, WaveOpened
from controller.domain.record.journey import Step
from controller.domain.state.rollout import Rollout, State
from controller.services.state.world import folded

CHECKS = """\
  - {name: first, webhook: {url: 'http://first'}, deadline: 100s, on_fail: revert}
  - {name: second, webhook: {url: 'http://second'}, deadline: 60s, on_timeout: revert}
  - {name: told, webhook: {url: 'http://told'}, deadline: 60s, dry_run: true}
"""
ANSWERS = st.lists(st.sampled_from([PASS, PASS, FAIL, WAIT, ERROR]), max_size=6)
# What an operator does, how many seconds after the first checks were asked.
ACTS = st.lists(
    st.tuples(
        st.floats(min_value=0, max_value=200),
        st.sampled_from(["pause", "resume", "skip", "full", "abort"]),
    ),
    max_size=3,
)
_VERBS = {"pause": Verb.PAUSE, "resume": Verb.RESUME, "abort": Verb.ABORT}


class Watched(CheckedFleet):
    """Looks at every wave that is left."""

    def record(self, key, event):  # type: ignore[no-untyped-def]  # as above it
        """Record the event; a wave that is left has passed."""
        if isinstance(event, WaveOpened | RolloutPromoted):
            may_leave(self.rollout)
        super().record(key, event)


def may_leave(rollout: Rollout) -> None:
    """Assert that every check that holds has passed, or that somebody went on and said why."""
    asking = rollout.asking
    assert asking is not None, "a wave is left that nobody was asked about"
    if asking.overridden is not None:
        assert asking.overridden.remark
        return
    outcomes = {one.check: one.outcome for one in asking.results}
    assert (outcomes["first"], outcomes["second"]) == (Outcome.PASS, Outcome.PASS), outcomes


def act(fleet: Watched, what: str) -> None:
    """Do what an operator does; a refusal is an answer too."""
    with contextlib.suppress(Conflict):
        if what in ("skip", "full"):
            fleet.ask(Verb.PROMOTE, remark="known noise", **{what: True})
        else:
            fleet.ask(_VERBS[what])


@given(first=ANSWERS, second=ANSWERS, told=ANSWERS, acts=ACTS)
@settings(max_examples=60)
def test_no_wave_is_left_without_a_pass(
    first: list[CheckReported], second: list[CheckReported], told: list[CheckReported], acts: list[tuple[float, str]]
) -> None:
    fleet = Watched(CHECKS, {"first": first, "second": second, "told": told})
    fleet.run(until=lambda: fleet.rollout.asking is not None)
    for delay_s, what in acts:
        fleet.later(delay_s, lambda what=what: act(fleet, what))  # type: ignore[misc]  # bound now
    fleet.run()
    rollout = fleet.rollout
    assert rollout.ended or (rollout.state is State.PAUSED and rollout.reason)
    assert rollout.state is not State.REVERTED or fleet.step("a") is Step.REVERTED
    errors = [event for _, event in fleet.log if isinstance(event, CheckReported) and event.outcome is Outcome.ERROR]
    askings = sum(isinstance(event, ChecksAsked) for _, event in fleet.log)
    assert len(errors) <= askings * 4 * 3
    again = folded(((key.stream, event) for key, event in fleet.log), fleet.world.hosts)
    assert again.rollouts[UID] == rollout
