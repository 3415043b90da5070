"""The checks of a rollout as operators see them: what is awaited, what passed, what failed and by how much."""

from collections.abc import Iterable, Sequence

from controller.domain.deciding.checks import pending_checks
from controller.domain.record.checks import Check, CheckKind, Outcome, asked_text, bound_text
from controller.domain.state.askings import Asking, Result
from controller.domain.state.rollout import ENDED_STATES, Rollout, State
from controller.views.models import CheckView, Epoch
from controller.views.plan_models import PlannedCheckView
from controller.words import duration_text, names_text

_STATES = {
    Outcome.PASS: "passed",
    Outcome.FAIL: "failed",
    Outcome.TIMED_OUT: "timed_out",
}
_WORDS = {
    "awaited": "is awaited",
    "passed": "passed",
    "failed": "failed",
    "inconclusive": "is inconclusive",
    "timed_out": "ran out of time",
    "skipped": "was skipped",
    "unanswered": "was not answered",
}
_EFFECTS = {"pause": "pauses", "revert": "reverts"}


def check_views(rollout: Rollout) -> tuple[CheckView, ...]:
    """Return what is known of every check of every wave that was asked about, in that order."""
    checks = {check.name: check for check in rollout.policy.checks}
    return tuple(
        _view(rollout, asking, checks[result.check], result)
        for asking in sorted(rollout.askings, key=lambda one: one.wave)
        for result in asking.results
        if result.check in checks
    )


def _view(rollout: Rollout, asking: Asking, check: Check, result: Result) -> CheckView:
    state = _state(rollout, asking, check, result)
    return CheckView(
        wave=asking.wave + 1,
        name=check.name,
        kind=check.kind.value,
        state=state,
        detail=result.detail,
        value=result.value,
        bound=bound_text(check),
        by=result.by,
        dry_run=check.dry_run,
        tries=asking.number,
        reported_at=None if result.at is None else Epoch(result.at),
        deadline=Epoch(result.deadline) if state == "awaited" else None,
        sentence=_sentence(asking, check, result, state),
    )


def _state(rollout: Rollout, asking: Asking, check: Check, result: Result) -> str:
    if result.outcome in _STATES:
        past = asking.overridden is not None and check.name in asking.overridden.checks
        return "skipped" if past and result.outcome is not Outcome.PASS else _STATES[result.outcome]
    if result.inconclusive:
        return "inconclusive" if asking.overridden is None else "skipped"
    if asking.overridden is not None and not check.dry_run:
        return "skipped"
    going_on = rollout.state is State.RUNNING or (check.dry_run and rollout.state not in ENDED_STATES)
    return "awaited" if going_on and not asking.dismissed and asking is rollout.askings[-1] else "unanswered"


def _sentence(asking: Asking, check: Check, result: Result, state: str) -> str:
    told = f"check {check.name} of wave {asking.wave + 1} {_WORDS[state]}"
    if state == "skipped" and asking.overridden is not None:
        what = {Outcome.FAIL: " after it failed", Outcome.TIMED_OUT: " after its time was over"}.get(result.outcome, "")
        told = f"{told}{what} by {asking.overridden.by} ({asking.overridden.remark})"
    if result.by:
        told = f"{told} (by {result.by})"
    error = "error: " if result.outcome is Outcome.ERROR else ""
    detail = f": {error}{result.detail}" if result.detail else ""
    again = f", asked {asking.number} times" if asking.number > 1 else ""
    return f"{told}{again}{detail}{'; only reported' if check.dry_run else ''}"


def checked_state(rollout: Rollout, wave: int) -> str:
    """Return the state of a wave that the gate let pass: "passed", or what its checks make of it."""
    holding = [check for check in rollout.policy.checks if not check.dry_run]
    if wave != rollout.wave or not holding:
        return "passed"
    if rollout.state is State.RUNNING:
        return "checking" if rollout.asking is None or pending_checks(rollout) else "passed"
    return "failed" if pending_checks(rollout) else "passed"


def awaited_text(rollout: Rollout) -> str:
    """Say which checks hold the open wave now; empty when none does."""
    pending = pending_checks(rollout)
    if not pending or rollout.state is not State.RUNNING:
        return ""
    checks = [check for check in rollout.policy.checks if check.name in pending]
    where = f"wave {rollout.wave + 1} of {len(rollout.waves)} awaits"
    persons = [check.name for check in checks if check.kind is CheckKind.MANUAL]
    programs = [check.name for check in checks if check.kind is not CheckKind.MANUAL]
    if not programs:
        return f"{where} a person's word on {names_text(persons)}"
    asking = rollout.asking
    result = asking.result(programs[0]) if asking is not None and len(checks) == 1 else None
    newest = f" ({result.detail})" if result is not None and result.detail else ""
    return f"{where} {'check' if len(checks) == 1 else 'checks'} {names_text([*programs, *persons])}{newest}"


def awaited_deadline(rollout: Rollout) -> tuple[str, float] | None:
    """Return what must have happened and when: the first deadline of a check that holds the open wave."""
    asking, pending = rollout.asking, pending_checks(rollout)
    if asking is None or rollout.state is not State.RUNNING:
        return None
    due = [(one.deadline, one.check) for one in asking.results if one.check in pending and one.open]
    if not due:
        return None
    deadline, name = min(due)
    return f"check {name} must have passed", deadline


def manual_awaited(rollout: Rollout) -> str:
    """Return the first manual check that holds the open wave now; empty when none does."""
    pending = pending_checks(rollout) if rollout.state is State.RUNNING else ()
    return next((one.name for one in rollout.policy.checks if one.kind is CheckKind.MANUAL and one.name in pending), "")


def ways_past(rollout: Rollout, name: str) -> str:
    """Say how a rollout goes on that its checks have paused; empty when they have not."""
    if rollout.state is not State.PAUSED or not pending_checks(rollout):
        return ""
    return (
        f"`kernroll rollout resume {name}` asks the checks of the wave again, `kernroll rollout promote {name} --skip "
        f"--remark WHY` goes on without them"
    )


def planned_checks(checks: Sequence[Check]) -> tuple[PlannedCheckView, ...]:
    """Return the checks of a plan."""
    return tuple(
        PlannedCheckView(
            name=check.name,
            kind=check.kind.value,
            dry_run=check.dry_run,
            every_s=check.every_s,
            deadline_s=check.deadline_s,
            on_fail=check.on_fail,
            on_timeout=check.on_timeout,
            sentence=_planned(check),
        )
        for check in checks
    )


def _planned(check: Check) -> str:
    within = f"{asked_text(check)}, within {duration_text(check.deadline_s)} of each wave's verdict"
    if check.dry_run:
        return f"{within}; it is only reported."
    fails, late = _EFFECTS[check.on_fail], _EFFECTS[check.on_timeout]
    same = f"a failure or no answer {fails} the rollout"
    return f"{within}; {same if fails == late else f'a failure {fails} the rollout, no answer {late} it'}."


def check_lines(rollout: Rollout) -> Iterable[str]:
    """Yield every check that was asked as a sentence."""
    return (f"{view.sentence[:1].upper()}{view.sentence[1:]}." for view in check_views(rollout))
