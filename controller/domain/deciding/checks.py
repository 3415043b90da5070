"""What the checks of a wave ask for: to be asked, to be waited for, a pause, the way back, or nothing."""

from controller.domain.errors import Conflict, NotFound
from controller.domain.judging.condemned import CONTROLLER
from controller.domain.record.checks import MOST_ERRORS, Check, CheckKind, Outcome, Question
from controller.domain.record.control import AwaitedCheck, CheckReported, ChecksAsked, ChecksOverridden
from controller.domain.record.effects import RunCheck
from controller.domain.record.events import Event, RevertStarted, RolloutPaused
from controller.domain.record.names import check_command
from controller.domain.state.askings import Asking, Result
from controller.domain.state.rollout import Rollout, State
from controller.domain.state.snapshot import Decision

# States in which a check that only reports goes on: the wave it was asked about need not be open any more.
_GOES_ON = frozenset({State.RUNNING, State.AWAITING_APPROVAL, State.PROMOTED})


def check_wave(rollout: Rollout, now: float) -> Decision | None:
    """Return what the checks of the open wave ask for; None when none stands in the way of leaving it."""
    checks = rollout.policy.checks
    if not checks:
        return None
    asking = rollout.asking
    if asking is None:
        return _ask(rollout, now)
    if asking.overridden is not None:
        return None
    blocking = [
        (check, result) for check in checks if not check.dry_run and (result := asking.result(check.name)) is not None
    ]
    over = [(check, result) for check, result in blocking if result.outcome is not Outcome.PASS and _over(result, now)]
    if over:
        return _stopped(rollout, asking, over, now)
    deadlines = [result.deadline for _, result in blocking if result.open]
    return Decision(wake_at=min(deadlines)) if deadlines else None


def _over(result: Result, now: float) -> bool:
    """Whether the check has had its last word, or its time is over."""
    return not result.open or now >= result.deadline


def _ask(rollout: Rollout, now: float) -> Decision:
    """Ask all checks. The newest asking about the wave, if any, was made void by a resume."""
    earlier = [one.number for one in rollout.askings if one.wave == rollout.wave]
    number = max(earlier, default=0) + 1
    checks = rollout.policy.checks
    awaited = tuple(AwaitedCheck(name=check.name, deadline=now + check.deadline_s) for check in checks)
    asked = ChecksAsked(at=now, wave=rollout.wave, number=number, checks=awaited)
    effects = tuple(
        RunCheck(
            command_id=check_command(rollout.uid, rollout.wave, number, check.name),
            wave=rollout.wave,
            number=number,
            check=check.name,
        )
        for check in checks
        if check.kind is not CheckKind.MANUAL
    )
    return Decision(events=(asked,), effects=effects)


def _stopped(rollout: Rollout, asking: Asking, over: list[tuple[Check, Result]], now: float) -> Decision:
    """Pause or revert for the checks that did not pass; whatever asks for the way back comes first."""
    check, result = next((pair for pair in over if _response(*pair) == "revert"), over[0])
    late = tuple(
        CheckReported(
            at=now,
            wave=asking.wave,
            number=asking.number,
            check=one.check,
            outcome=Outcome.TIMED_OUT,
            detail=one.detail,
            value=one.value,
        )
        for _, one in over
        if one.open
    )
    reason = f"check {check.name} of wave {rollout.wave + 1} {_why(check, result)}"
    stop: Event = RolloutPaused(at=now, reason=reason)
    if _response(check, result) == "revert":
        stop = RevertStarted(at=now, reason=reason, by=CONTROLLER)
    return Decision(events=(*late, stop))


def _response(check: Check, result: Result) -> str:
    """Return "pause" or "revert". What could not be asked condemns no kernel."""
    if result.inconclusive:
        return "pause"
    # An operator who wants the way back for want of an answer says so.
    return check.on_fail if result.outcome is Outcome.FAIL else check.on_timeout


def _why(check: Check, result: Result) -> str:
    if result.outcome is Outcome.FAIL:
        who = f" (by {result.by})" if result.by else ""
        return f"failed{who}" + (f": {result.detail}" if result.detail else "")
    if result.inconclusive:
        return f"is inconclusive: {MOST_ERRORS} errors one after the other, the last: {result.detail}"
    last = f"; its last answer: {result.detail}" if result.detail else ""
    whom = "nobody reported it" if check.kind is CheckKind.MANUAL else "it had not passed"
    return f"ran out of time: {whom} within {check.deadline_s:g} s{last}"


def pending_checks(rollout: Rollout) -> tuple[str, ...]:
    """Return the checks of the open wave that were asked, hold it, and have not passed; by name, in order."""
    asking = rollout.asking
    if asking is None or asking.overridden is not None or not rollout.passed:
        return ()
    results = ((check, asking.result(check.name)) for check in rollout.policy.checks if not check.dry_run)
    return tuple(check.name for check, one in results if one is not None and one.outcome is not Outcome.PASS)


def override_checks(rollout: Rollout, by: str, remark: str, now: float) -> ChecksOverridden:
    """Return the decision to go on although checks have not passed."""
    return ChecksOverridden(at=now, wave=rollout.wave, checks=pending_checks(rollout), by=by, remark=remark)


def checks_text(rollout: Rollout) -> str:
    """Say in a sentence why the open wave's checks let it pass, after a space; empty without checks."""
    asking = rollout.asking
    if asking is None:
        return ""
    if (past := asking.overridden) is not None:
        return f" {past.by} went on although {_listed(past.checks)} had not passed: {past.remark}."
    passed = [one.check for one in asking.results if one.outcome is Outcome.PASS]
    return f" Checks passed: {', '.join(passed)}." if passed else ""


def _listed(checks: tuple[str, ...]) -> str:
    word = "check" if len(checks) == 1 else "checks"
    return f"{word} {', '.join(checks)}"


# --- carrying out ---


def wanted(rollout: Rollout, effect: RunCheck, now: float) -> Check | None:
    """Return the check if its answer is still wanted; None when it has had its last word or is superseded."""
    check = next((one for one in rollout.policy.checks if one.name == effect.check), None)
    asking = rollout.askings[-1] if rollout.askings else None
    if check is None or asking is None or (asking.wave, asking.number) != (effect.wave, effect.number):
        return None
    result = asking.result(check.name)
    if result is None or asking.dismissed or not result.open or now >= result.deadline:
        return None
    if check.dry_run:
        return check if rollout.state in _GOES_ON else None
    return check if rollout.state is State.RUNNING and rollout.asking is asking and not asking.overridden else None


def question(rollout: Rollout, effect: RunCheck) -> Question:
    """Return what whoever is asked gets to know."""
    judged = next((one for one in reversed(rollout.judged) if one.wave == effect.wave), None)
    past_gate = next((one for one in rollout.overridden if one.wave == effect.wave), None)
    first = 0 if rollout.rest_opened else effect.wave
    sentence = judged.sentence if judged else ""
    if past_gate is not None:
        sentence = f"{past_gate.by} went on although the gate held the wave: {past_gate.remark}"
    return Question(
        id=effect.command_id,
        check=effect.check,
        rollout=rollout.name,
        wave=effect.wave + 1,
        waves=len(rollout.waves),
        hosts=tuple(sorted(one.host for wave in rollout.waves[first : effect.wave + 1] for one in wave)),
        kernels={name: kernel.release for name, kernel in sorted(rollout.kernels.items())},
        verdict=judged.decision if judged else "",
        sentence=sentence,
    )


def learnt(rollout: Rollout, effect: RunCheck, report: CheckReported) -> tuple[Event, ...]:
    """Return the report as an event if it says something new that is still wanted."""
    if wanted(rollout, effect, report.at) is None:
        return ()
    result = rollout.askings[-1].result(effect.check)
    assert result is not None, "a wanted check has a result"
    same = (result.outcome, result.detail, result.value) == (report.outcome, report.detail, report.value)
    # Every error counts; a "wait" that says the same again does not.
    return () if same and result.at is not None and report.outcome is Outcome.WAIT else (report,)


# --- a person reports ---


def decide_report(rollout: Rollout, name: str, *, passed: bool, by: str, remark: str, now: float) -> CheckReported:
    """Return what a person says of a manual check; raises NotFound, or Conflict when nobody waits for it."""
    check = next((one for one in rollout.policy.checks if one.name == name), None)
    if check is None:
        known = ", ".join(one.name for one in rollout.policy.checks) or "none"
        raise NotFound(f"{rollout.name} has no check {name}; its checks are: {known}")
    if check.kind is not CheckKind.MANUAL:
        raise Conflict(
            f"check {name} of {rollout.name} is answered by a program ({check.kind.value}), not by a person: "
            f"`kernroll rollout promote {rollout.name} --skip --remark WHY` goes on without it"
        )
    asking = rollout.asking
    result = asking.result(name) if asking is not None and asking.overridden is None else None
    if asking is None or result is None or rollout.state is not State.RUNNING:
        raise Conflict(
            f"check {name} of {rollout.name} is not awaited: the rollout is {rollout.state.value.replace('_', ' ')}, "
            f"in wave {rollout.wave + 1}; a check is asked once the gate has let its wave pass"
        )
    if not result.open:
        who = f" by {result.by}" if result.by else ""
        raise Conflict(f"check {name} of {rollout.name} was answered already{who}: {result.outcome.value}")
    outcome = Outcome.PASS if passed else Outcome.FAIL
    return CheckReported(
        at=now, wave=asking.wave, number=asking.number, check=name, outcome=outcome, detail=remark, by=by
    )
