"""What a rollout does next: admit hosts, judge a finished wave, promote, pause, or bring every host back."""

from controller.domain.events import (
    Event,
    Failure,
    HostsAdmitted,
    RevertStarted,
    RolloutCompleted,
    RolloutEnded,
    RolloutPaused,
    RolloutPromoted,
    WaveOpened,
)
from controller.domain.journey import HOLDS_SLOT, Step
from controller.domain.judgement import judge_wave
from controller.domain.rollout import Rollout, State, Tally
from controller.domain.snapshot import NOTHING, Decision, RolloutSnapshot

CONTROLLER = "controller"


def advance_rollout(snapshot: RolloutSnapshot, now: float) -> Decision:
    """Return the rollout's next move, or nothing. Walks hosts only when a wave has just finished."""
    rollout, tally = snapshot.rollout, snapshot.tally
    match rollout.state:
        case State.RUNNING:
            return _react_to_failures(rollout, tally, now) or _finish_wave(snapshot, now) or _admit(rollout, tally, now)
        case State.PAUSED:
            # Hosts in flight go on while paused, so a kernel can still be condemned.
            return _react_to_failures(rollout, tally, now) or NOTHING
        case State.ABORTING:
            return _condemned(rollout, tally, now) or _finish_abort(snapshot, now)
        case State.REVERTING:
            return _finish_revert(snapshot, now)
        case _:
            return NOTHING


def _react_to_failures(rollout: Rollout, tally: Tally, now: float) -> Decision | None:
    """Revert on the first failure that condemns the kernel; pause on the first that does not."""
    condemned = _condemned(rollout, tally, now)
    if condemned is not None or rollout.state is State.PAUSED or not tally.failures:
        return condemned
    host, failure, _ = tally.failures[0]
    return _events(RolloutPaused(at=now, reason=f"{_blame(host, failure)}; this does not speak against the kernel"))


def _condemned(rollout: Rollout, tally: Tally, now: float) -> Decision | None:
    for host, failure, condemns in tally.failures:
        if not condemns:
            continue
        reason = _blame(host, failure)
        if rollout.policy.on_stratum_failure == "hold":
            # Paused is held already, and an abort that the operator asked for goes on.
            return _events(RolloutPaused(at=now, reason=reason)) if rollout.state is State.RUNNING else None
        return _events(RevertStarted(at=now, reason=reason, by=CONTROLLER, host=host, line=failure.line))
    return None


def _blame(host: str, failure: Failure) -> str:
    line = f": “{failure.line}”" if failure.line else ""
    return f"{host}: {failure.sentence}{line}"


def _finish_wave(snapshot: RolloutSnapshot, now: float) -> Decision | None:
    """Judge the open wave once all its hosts are done, and open the next or end the rollout."""
    rollout, tally = snapshot.rollout, snapshot.tally
    size = len(rollout.waves[rollout.wave])
    if tally.count(rollout.wave, Step.DONE) < size:
        return None
    # Nothing is concluded while a finished host is away: it speaks again, or its silence condemns the kernel.
    if tally.unheard:
        return None
    final = rollout.wave + 1 == len(rollout.waves)
    judged = judge_wave(rollout, snapshot.attempts, now)
    match judged.decision:
        case "revert" if rollout.policy.on_stratum_failure == "hold":
            return _events(judged, RolloutPaused(at=now, reason=judged.sentence))
        case "revert":
            reverting = RevertStarted(at=now, reason=judged.sentence, by=CONTROLLER)
            return _events(judged, reverting)
        case "hold":
            return _events(judged, RolloutPaused(at=now, reason=judged.sentence))
        case _ if final and rollout.policy.aa:
            return _events(judged, RolloutCompleted(at=now, reason=judged.sentence))
        case _ if final:
            return _events(judged, RolloutPromoted(at=now, reason=judged.sentence))
        case _:
            return _events(judged, WaveOpened(at=now, wave=rollout.wave + 1))


def _admit(rollout: Rollout, tally: Tally, now: float) -> Decision:
    """Let further hosts of the open wave start, as many as the disruption budget allows.

    Hosts that were admitted and have not started yet hold a slot as well: they are about to.
    """
    size = len(rollout.waves[rollout.wave])
    about_to_start = rollout.admitted - (size - tally.count(rollout.wave, Step.PENDING))
    free = rollout.policy.max_in_flight - tally.slots - about_to_start
    count = min(size, rollout.admitted + max(0, free))
    if count == rollout.admitted:
        return NOTHING
    return _events(HostsAdmitted(at=now, wave=rollout.wave, count=count))


def _finish_abort(snapshot: RolloutSnapshot, now: float) -> Decision:
    if not _settled(snapshot, done_may_stay=True):
        return NOTHING
    lost = _lost(snapshot)
    state = State.REVERT_INCOMPLETE if lost else State.ABORTED
    return _events(RolloutEnded(at=now, state=state, lost=lost))


def _finish_revert(snapshot: RolloutSnapshot, now: float) -> Decision:
    if not _settled(snapshot, done_may_stay=False):
        return NOTHING
    lost = _lost(snapshot)
    state = State.REVERT_INCOMPLETE if lost else State.REVERTED
    return _events(RolloutEnded(at=now, state=state, lost=lost))


def _settled(snapshot: RolloutSnapshot, *, done_may_stay: bool) -> bool:
    """Whether no host moves any more."""
    tally = snapshot.tally
    if tally.count_all(Step.PENDING) or tally.in_flight:
        return False
    return done_may_stay or not tally.count_all(Step.DONE)


def _lost(snapshot: RolloutSnapshot) -> tuple[str, ...]:
    if not snapshot.tally.count_all(Step.LOST):
        return ()
    return tuple(sorted(a.host for a in snapshot.attempts.values() if a.step is Step.LOST))


def _events(*events: Event) -> Decision:
    return Decision(events=events)


def holds_budget(rollout: Rollout, tally: Tally) -> bool:
    """Invariant: a running rollout never holds more slots than its budget has."""
    started = sum(tally.count_all(step) for step in HOLDS_SLOT)
    assert started == tally.slots, "the tally's slots disagree with its steps"
    return rollout.state is not State.RUNNING or tally.slots <= rollout.policy.max_in_flight
