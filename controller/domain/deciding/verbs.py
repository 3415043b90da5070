"""What operators can ask of a rollout: every verb in every state either becomes events or is refused with a reason."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controller.domain.caller import Caller
from controller.domain.deciding.checks import override_checks, pending_checks
from controller.domain.errors import Conflict, InvalidInput, NotFound
from controller.domain.record.control import (
    ApprovalGiven,
    GateOverridden,
    HostsLeftOut,
    HostsRetried,
    RestOpened,
    RevertHastened,
    RolloutResumed,
    Verb,
)
from controller.domain.record.events import AbortStarted, Event, RevertStarted, RolloutPaused
from controller.domain.record.journey import Step
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout, State

_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One operator's wish, with who asks and why."""

    verb: Verb
    by: Caller
    remark: str = ""
    # For retry and skip; empty for retry means every host whose rig failed.
    hosts: tuple[str, ...] = ()
    # For promote: all waves at once, or past a wave that the gate held.
    full: bool = False
    skip: bool = False
    # For revert: without regard to the disruption budget.
    emergency: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A rollout that something is asked of."""

    rollout: Rollout
    attempts: Mapping[str, Attempt]
    request: Request
    now: float


_Answer = Callable[[Case], tuple[Event, ...]]


def decide_verb(rollout: Rollout, attempts: Mapping[str, Attempt], request: Request, now: float) -> tuple[Event, ...]:
    """Return the events that the request becomes; the same in, the same out.

    Raises Conflict when the rollout's state does not allow it (the text says what does), NotFound for a host that is
    not in the rollout, InvalidInput for options that do not go together or a remark that is missing.
    """
    _check_options(request)
    answer = ANSWERS[request.verb, rollout.state]
    if isinstance(answer, str):
        name = rollout.name
        raise Conflict(f"{name} is {_STATE_WORDS[rollout.state]} and cannot be {_DONE[request.verb]}: {answer}")
    return answer(Case(rollout=rollout, attempts=attempts, request=request, now=now))


_STATE_WORDS = {state: state.value.replace("_", " ") for state in State} | {
    State.AWAITING_APPROVAL: "awaiting approval",
    State.ABORTING: "being aborted",
    State.REVERTING: "being reverted",
}
_DONE = {
    Verb.PAUSE: "paused",
    Verb.RESUME: "resumed",
    Verb.PROMOTE: "promoted",
    Verb.APPROVE: "approved",
    Verb.RETRY: "retried",
    Verb.SKIP: "changed",
    Verb.ABORT: "aborted",
    Verb.REVERT: "reverted",
}


def _check_options(request: Request) -> None:
    if request.full and request.skip:
        raise InvalidInput("promote takes either full (all waves at once) or skip (past a held wave), not both")
    if (request.full or request.skip) and not request.remark.strip():
        what = "full" if request.full else "skip"
        raise InvalidInput(f"promote --{what} goes past the gate and needs a remark that says why (--remark)")
    if request.verb is Verb.SKIP and not request.hosts:
        raise InvalidInput("skip needs the hosts that are to be left out")


# --- what becomes of each ---


def _pause(case: Case) -> tuple[Event, ...]:
    return (RolloutPaused(at=case.now, reason=_told("paused", case.request), by=case.request.by.name),)


def _resume(case: Case) -> tuple[Event, ...]:
    rollout, request = case.rollout, case.request
    if rollout.held_wave:
        raise Conflict(
            f"the gate held wave {rollout.wave + 1} of {rollout.name}, and its hosts are measured: "
            f"`kernroll rollout promote {rollout.name} --skip --remark WHY` goes on in spite of it, "
            f"`kernroll rollout revert {rollout.name}` returns its hosts"
        )
    return (RolloutResumed(at=case.now, by=request.by.name, remark=request.remark),)


def _promote_running(case: Case) -> tuple[Event, ...]:
    rollout, request = case.rollout, case.request
    if request.full:
        return _open_rest(case)
    if pending := pending_checks(rollout):
        return _past_checks(case, pending)
    raise Conflict(
        f"wave {rollout.wave + 1} of {rollout.name} is not judged yet, and no wave is left before its soak time and "
        "its verdict; `--full` opens all waves at once"
    )


def _promote_paused(case: Case) -> tuple[Event, ...]:
    rollout, request = case.rollout, case.request
    if request.full:
        return _open_rest(case)
    if request.skip and (pending := pending_checks(rollout)):
        return _past_checks(case, pending)
    if request.skip and not rollout.held_wave:
        raise Conflict(f"the gate has not held wave {rollout.wave + 1} of {rollout.name}: there is nothing to skip")
    if request.skip:
        return (GateOverridden(at=case.now, wave=rollout.wave, by=request.by.name, remark=request.remark),)
    return _resume(case)


def _past_checks(case: Case, pending: tuple[str, ...]) -> tuple[Event, ...]:
    rollout, request = case.rollout, case.request
    if not request.skip:
        raise Conflict(
            f"wave {rollout.wave + 1} of {rollout.name} awaits {', '.join(pending)}: "
            f"`kernroll rollout promote {rollout.name} --skip --remark WHY` goes on without"
        )
    return (override_checks(rollout, request.by.name, request.remark, case.now),)


def _promote_awaiting(case: Case) -> tuple[Event, ...]:
    return _open_rest(case) if case.request.full else _approve(case)


def _open_rest(case: Case) -> tuple[Event, ...]:
    rollout, request = case.rollout, case.request
    if rollout.wave + 1 == len(rollout.waves) and not rollout.held_wave:
        raise Conflict(f"{rollout.name} is in its last wave already")
    if not any(judged.decision == "promote" for judged in rollout.judged) and not rollout.held_wave:
        raise Conflict(
            f"no wave of {rollout.name} has a verdict yet: all waves at once would be a rollout without a canary"
        )
    overridden = GateOverridden(at=case.now, wave=rollout.wave, by=request.by.name, remark=request.remark)
    past_gate: tuple[Event, ...] = (overridden,) if rollout.held_wave else ()
    if pending_checks(rollout):
        past_gate = (override_checks(rollout, request.by.name, request.remark, case.now),)
    opened = RestOpened(at=case.now, by=request.by.name, remark=request.remark)
    return (*past_gate, opened) if rollout.wave + 1 < len(rollout.waves) else past_gate


def _approve(case: Case) -> tuple[Event, ...]:
    rollout, request = case.rollout, case.request
    if any(given.by == request.by.name for given in rollout.approvals):
        needed = rollout.approvals_needed
        raise Conflict(
            f"{request.by.name} has approved wave {rollout.wave + 1} of {rollout.name} already; "
            f"it needs {needed} different persons"
        )
    return (ApprovalGiven(at=case.now, wave=rollout.wave, by=request.by.name, remark=request.remark),)


def _retry(case: Case) -> tuple[Event, ...]:
    rollout, request = case.rollout, case.request
    hosts = request.hosts or tuple(name for name in sorted(case.attempts) if _may_begin_again(case.attempts[name]))
    refused = [why for host in hosts if (why := _retry_refusal(rollout, _attempt(case, host)))]
    if refused:
        raise Conflict(f"nothing is tried again: {_listed(refused)}")
    if not hosts:
        raise Conflict(f"no host of {rollout.name} has a rig that failed: there is nothing to try again")
    retried = HostsRetried(at=case.now, hosts=hosts, by=request.by.name, remark=request.remark)
    if rollout.state is not State.PAUSED:
        return (retried,)
    return (retried, RolloutResumed(at=case.now, by=request.by.name, remark=request.remark))


def _may_begin_again(attempt: Attempt) -> bool:
    ended = attempt.step in (Step.SKIPPED, Step.REVERTED)
    return ended and attempt.failure is not None and not attempt.condemned


def _retry_refusal(rollout: Rollout, attempt: Attempt) -> str:
    """Return why the host cannot begin again; empty when it can."""
    host = attempt.host
    if attempt.stratum in rollout.held:
        return f"{host}'s stratum {attempt.stratum} is held back"
    if attempt.condemned and attempt.failure is not None:
        return f"{host} speaks against the kernel ({attempt.failure.sentence})"
    if host in rollout.left_out:
        return f"{host} was left out by an operator"
    if attempt.step in (Step.SKIPPED, Step.REVERTED):
        return ""
    if attempt.step is Step.DONE:
        return f"{host} has finished, on the new kernel"
    return (
        f"{host} is under way ({attempt.step.value})" if attempt.step is not Step.PENDING else f"{host} has not begun"
    )


def _skip(case: Case) -> tuple[Event, ...]:
    request = case.request
    begun = [
        f"{host} has begun ({case.attempts[host].step.value})"
        for host in request.hosts
        if _attempt(case, host).step is not Step.PENDING
    ]
    if begun:
        raise Conflict(f"only hosts whose turn has not come can be left out: {_listed(begun)}")
    return (HostsLeftOut(at=case.now, hosts=request.hosts, by=request.by.name, remark=request.remark),)


def _abort(case: Case) -> tuple[Event, ...]:
    return (AbortStarted(at=case.now, reason=_told("aborted", case.request), by=case.request.by.name),)


def _revert(case: Case) -> tuple[Event, ...]:
    request = case.request
    reason = _told("reverted", request)
    return (RevertStarted(at=case.now, reason=reason, by=request.by.name, emergency=request.emergency),)


def _hasten(case: Case) -> tuple[Event, ...]:
    rollout, request = case.rollout, case.request
    if not request.emergency:
        raise Conflict(f"{rollout.name} is being reverted already; `--emergency` returns all its hosts at once")
    if rollout.emergency:
        raise Conflict(f"{rollout.name} is being reverted without regard to the budget already")
    return (RevertHastened(at=case.now, by=request.by.name, remark=request.remark),)


def _attempt(case: Case, host: str) -> Attempt:
    found = case.attempts.get(host)
    if found is None:
        raise NotFound(f"{host} is not in rollout {case.rollout.name}; `kernroll rollout status` lists its hosts")
    return found


def _told(done: str, request: Request) -> str:
    return f"{done} by {request.by.name}" + (f": {request.remark}" if request.remark else "")


def _listed(sentences: list[str]) -> str:
    more = f"; and {len(sentences) - _NAMED} more" if len(sentences) > _NAMED else ""
    return "; ".join(sentences[:_NAMED]) + more


# --- verb by state ---

_NOT_STARTED = "it has not started yet"
_GOES_BACK = "its hosts are on their way back; wait for the end"
_OVER = "it has ended"
_TOOK_BACK = "it has ended and all its hosts are back"
_OLD_AGAINST_OLD = "it changed no kernel, so there is nothing to return"

_Row = dict[Verb, _Answer | str]


def _refusing(sentence: str, but: _Row | None = None) -> _Row:
    row: _Row = dict.fromkeys(Verb, sentence)
    return row | (but or {})


_RUNNING: _Row = {
    Verb.PAUSE: _pause,
    Verb.RESUME: "it is running already",
    Verb.PROMOTE: _promote_running,
    Verb.APPROVE: "no approval is awaited",
    Verb.RETRY: _retry,
    Verb.SKIP: _skip,
    Verb.ABORT: _abort,
    Verb.REVERT: _revert,
}
_PAUSED: _Row = _RUNNING | {
    Verb.PAUSE: "it is paused already",
    Verb.RESUME: _resume,
    Verb.PROMOTE: _promote_paused,
    Verb.APPROVE: "no approval is awaited while it is paused; resume it first",
}
_AWAITING: _Row = _RUNNING | {
    Verb.RESUME: "it is not paused; `kernroll rollout approve` lets the wave begin",
    Verb.PROMOTE: _promote_awaiting,
    Verb.APPROVE: _approve,
}
_TRIES_AGAIN = "`kernroll rollout revert` tries the lost hosts once more"

# What a verb does in a state: a function, or the sentence that refuses it. Every pair is there.
ANSWERS: dict[tuple[Verb, State], _Answer | str] = {
    (verb, state): row[verb]
    for state, row in {
        State.PLANNED: _refusing(_NOT_STARTED),
        State.RUNNING: _RUNNING,
        State.PAUSED: _PAUSED,
        State.AWAITING_APPROVAL: _AWAITING,
        State.ABORTING: _refusing(_GOES_BACK, {Verb.REVERT: _revert}),
        State.REVERTING: _refusing(_GOES_BACK, {Verb.REVERT: _hasten}),
        State.PROMOTED: _refusing(_OVER, {Verb.REVERT: _revert}),
        State.ABORTED: _refusing(_OVER, {Verb.REVERT: _revert}),
        State.REVERT_INCOMPLETE: _refusing(_OVER, {Verb.REVERT: _revert, Verb.RETRY: _TRIES_AGAIN}),
        State.COMPLETED: _refusing(_OVER, {Verb.REVERT: _OLD_AGAINST_OLD}),
        State.REVERTED: _refusing(_TOOK_BACK),
    }.items()
    for verb in Verb
}
