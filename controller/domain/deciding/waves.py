"""What a rollout does next: admit hosts, judge a finished wave, promote, pause, or bring hosts back."""

import math
from typing import assert_never

from controller.domain.deciding.checks import check_wave, checks_text
from controller.domain.fleet.closures import Closed, closed
from controller.domain.fleet.denials import everywhere
from controller.domain.hosts.boot_times import BootTimes
from controller.domain.judging.condemned import CONTROLLER
from controller.domain.judging.waves import failed_strata, judge_wave
from controller.domain.record.control import ApprovalAwaited, HostsRecalled, StratumHeld
from controller.domain.record.events import (
    Event,
    FailureKind,
    HostsAdmitted,
    RevertStarted,
    RolloutCompleted,
    RolloutEnded,
    RolloutPaused,
    RolloutPromoted,
    WaveOpened,
)
from controller.domain.record.journey import Step
from controller.domain.record.verdicts import WaveJudged
from controller.domain.state.rollout import Rollout, State
from controller.domain.state.snapshot import NOTHING, Decision, RolloutSnapshot
from controller.domain.state.tally import FailedHost, Tally
from controller.domain.state.turns import Next, next_turns
from controller.gate.precautions import CATASTROPHE_HOSTS

# What nothing else bounds.
_NO_LIMIT = 2**31
# A sentence names so many hosts.
_NAMED = 5


def advance_rollout(snapshot: RolloutSnapshot, now: float) -> Decision:
    """Return the rollout's next move, or nothing. Walks hosts only when a wave has just finished."""
    rollout, tally = snapshot.rollout, snapshot.tally
    match rollout.state:
        case State.RUNNING:
            return (
                _react_to_failures(rollout, tally, now)
                or _recall(snapshot, now)
                or _finish_wave(snapshot, now)
                or _await_approval(rollout, now)
                or _overdue(rollout, now)
                or _admit(snapshot, now)
            )
        case State.PAUSED:
            # Hosts in flight go on while paused, so a kernel can still be condemned.
            return _condemned(rollout, tally, now) or _recall(snapshot, now) or NOTHING
        case State.AWAITING_APPROVAL:
            return _condemned(rollout, tally, now) or _recall(snapshot, now) or _unapproved(rollout, now)
        case State.ABORTING:
            return _condemned(rollout, tally, now) or _recall(snapshot, now) or _finish_abort(snapshot, now)
        case State.REVERTING:
            return _recall(snapshot, now) or _finish_revert(snapshot, now)
        case State.PLANNED | State.PROMOTED | State.COMPLETED:
            return NOTHING
        case State.ABORTED | State.REVERTED | State.REVERT_INCOMPLETE:
            return NOTHING
        case _:
            assert_never(rollout.state)


# --- failures ---


def _react_to_failures(rollout: Rollout, tally: Tally, now: float) -> Decision | None:
    """Revert on the first failure that condemns the kernel; pause when more rigs fail than the error budget allows."""
    condemned = _condemned(rollout, tally, now) or _drill_failed(rollout, tally, now)
    if condemned is not None:
        return condemned
    if why := _catastrophe(rollout, tally):
        return _events(RolloutPaused(at=now, reason=why))
    if tally.broken <= tolerated_rigs(rollout):
        return None
    newest = [one for one in tally.failures if not one.condemns and one.at > rollout.excused_at]
    blame = _blame(newest[0]) if newest else "rigs failed"
    more = f" and {tally.broken - 1} more" if tally.broken > 1 else ""
    return _events(RolloutPaused(at=now, reason=f"{blame}{more}; this does not speak against the kernel"))


def _drill_failed(rollout: Rollout, tally: Tally, now: float) -> Decision | None:
    """A host that did not come back by itself ends the assumption that others would: no error budget covers that."""
    newest = (one for one in tally.failures if one.failure.kind is FailureKind.DRILL and one.at > rollout.excused_at)
    failed = next(newest, None)
    if failed is None:
        return None
    return _events(RolloutPaused(at=now, reason=f"{_blame(failed)}; no further host is risked without a person"))


def _slow_drill(snapshot: RolloutSnapshot, now: float) -> Decision | None:
    """Pause when the way back took longer than promised. Walks the hosts, once a wave has finished."""
    rollout = snapshot.rollout
    slo_s = rollout.policy.revert_slo_s
    if slo_s is None:
        return None
    for attempt in snapshot.attempts.values():
        if attempt.drill_s is not None and attempt.drill_s > slo_s and attempt.drilled_at > rollout.excused_at:
            took = f"{attempt.host} took {attempt.drill_s:.0f} s to come back from a panic on purpose"
            return _events(RolloutPaused(at=now, reason=f"{took}; drill.revert_slo allows {slo_s:.0f} s"))
    return None


def tolerated_rigs(rollout: Rollout) -> int:
    """Return how many rigs may fail before the rollout pauses."""
    policy = rollout.policy
    open_hosts = sum(len(wave) for wave in rollout.waves[: rollout.wave + 1])
    # 1e-9 forgives binary fractions.
    return max(policy.error_budget_hosts, math.floor(policy.error_budget_share * open_hosts + 1e-9))


def _catastrophe(rollout: Rollout, tally: Tally) -> str:
    """Return why the wave must stop before its end; empty when nothing is that bad, or a person went on all the same.

    A pause costs time and no error, so it needs no look: two hosts of a stratum beyond ten margins are enough.
    """
    for (stratum, metric), hosts in sorted(tally.far_worse.items()):
        newest = max(at for _, at in hosts)
        if len(hosts) < CATASTROPHE_HOSTS or newest <= rollout.excused_at or stratum in rollout.held:
            continue
        names = ", ".join(sorted(host for host, _ in hosts)[:_NAMED])
        others = " and others" if len(hosts) > _NAMED else ""
        return f"{stratum} {metric}: {names}{others} got worse by more than ten margins; look at them first"
    return ""


def _condemned(rollout: Rollout, tally: Tally, now: float) -> Decision | None:
    """React to the first failure that speaks against the kernel, in a stratum that is not held for it already."""
    failed = next((one for one in tally.failures if one.condemns), None)
    if failed is None:
        return None
    reason, line = _blame(failed), failed.failure.line
    if rollout.policy.on_stratum_failure == "hold":
        held = StratumHeld(at=now, stratum=failed.stratum, reason=reason, host=failed.host, line=line)
        if _others_left(rollout, {failed.stratum}) or rollout.state is State.ABORTING:
            return _events(held)
    return _events(RevertStarted(at=now, reason=reason, by=CONTROLLER, host=failed.host, line=line))


def _others_left(rollout: Rollout, failed: set[str]) -> bool:
    """Whether some stratum can go on without those that failed and those that are held."""
    return bool(rollout.strata - failed - set(rollout.held))


def _blame(failed: FailedHost) -> str:
    line = f": “{failed.failure.line}”" if failed.failure.line else ""
    return f"{failed.host}: {failed.failure.sentence}{line}"


# --- waves ---


def _finish_wave(snapshot: RolloutSnapshot, now: float) -> Decision | None:
    """Judge the open wave once all its hosts have ended, and open the next or end the rollout."""
    rollout, tally = snapshot.rollout, snapshot.tally
    moving_back = snapshot.returns.waiting or snapshot.returns.called
    if tally.open_hosts(rollout.wave) or snapshot.retrying or moving_back:
        return None
    # Nothing is concluded while a finished host is away: it speaks again, or its silence condemns the kernel.
    if tally.unheard or not rollout.approved:
        return None
    if (slow := _slow_drill(snapshot, now)) is not None:
        return slow
    if rollout.passed:
        reason = f"{_override_text(rollout)}{checks_text(rollout)}"
        return check_wave(rollout, now) or _events(_go_on(rollout, reason, now))
    if _measured_again(snapshot):
        return None
    judged = judge_wave(rollout, snapshot.attempts, now)
    match judged.decision:
        case "measure_again":
            return _events(judged)
        case "revert":
            return _events(judged, *_failed(rollout, judged, now))
        case "hold":
            return _events(judged, RolloutPaused(at=now, reason=judged.sentence))
        case "promote" if rollout.policy.checks:
            # They are asked about a verdict that is on record.
            return _events(judged)
        case "promote":
            return _events(judged, _go_on(rollout, judged.sentence, now))
        case unknown:
            raise AssertionError(f"{rollout.name}: a wave was judged {unknown!r}")


def _measured_again(snapshot: RolloutSnapshot) -> bool:
    """Whether a host is being measured once more, or is about to be."""
    hosts = (snapshot.attempts[host] for host in snapshot.rollout.measure_again)
    return any(one.step is Step.REMEASURE or (one.step is Step.DONE and not one.remeasured) for one in hosts)


def _failed(rollout: Rollout, judged: WaveJudged, now: float) -> tuple[Event, ...]:
    """Return what follows a wave that failed: the whole rollout goes back, or the strata that failed do."""
    failed = failed_strata(rollout, judged)
    if rollout.policy.on_stratum_failure == "hold" and failed and _others_left(rollout, set(failed)):
        return tuple(StratumHeld(at=now, stratum=stratum, reason=why) for stratum, why in failed.items())
    return (RevertStarted(at=now, reason=judged.sentence, by=CONTROLLER),)


def _go_on(rollout: Rollout, reason: str, now: float) -> Event:
    if rollout.wave + 1 < len(rollout.waves):
        return WaveOpened(at=now, wave=rollout.wave + 1)
    held = "".join(f" {stratum} was held back: {why.rstrip('.')}." for stratum, why in sorted(rollout.held.items()))
    if rollout.policy.aa:
        return RolloutCompleted(at=now, reason=f"{reason}{held}")
    return RolloutPromoted(at=now, reason=f"{reason}{held}")


def _override_text(rollout: Rollout) -> str:
    """Return what let the wave pass, from the record."""
    overridden = next((one for one in rollout.overridden if one.wave == rollout.wave), None)
    if overridden is None:
        return rollout.judged[-1].sentence
    return f"{overridden.by} went on although the gate held wave {rollout.wave + 1}: {overridden.remark}"


def _await_approval(rollout: Rollout, now: float) -> Decision | None:
    if rollout.approved:
        return None
    deadline = now + rollout.policy.approval_timeout_s
    return _events(ApprovalAwaited(at=now, wave=rollout.wave, deadline=deadline))


def _unapproved(rollout: Rollout, now: float) -> Decision:
    deadline = rollout.approval_deadline
    if deadline is None or now < deadline:
        return Decision(wake_at=deadline)
    needed = rollout.approvals_needed
    got = len({given.by for given in rollout.approvals})
    reason = f"wave {rollout.wave + 1} had {got} of {needed} approvals when the time for them was over"
    return _events(RolloutPaused(at=now, reason=reason))


def wave_deadline(rollout: Rollout) -> float | None:
    """Return when the open wave must have ended; None where the plan said nothing."""
    waves = rollout.policy.waves
    return rollout.wave_since + waves[rollout.wave].max_duration_s if waves else None


def _overdue(rollout: Rollout, now: float) -> Decision | None:
    deadline = wave_deadline(rollout)
    if deadline is None or now < deadline:
        return None
    reason = f"wave {rollout.wave + 1} has not ended within its max_duration"
    return _events(RolloutPaused(at=now, reason=reason))


# --- turns ---


def _admit(snapshot: RolloutSnapshot, now: float) -> Decision:
    """Let further hosts of the open waves start, as many as the disruption budget allows."""
    rollout = snapshot.rollout
    deadline = wave_deadline(rollout)
    waits = starts_closed(snapshot, now)
    if waits is not None:
        times = [time for time in (waits.until, deadline) if time is not None]
        return Decision(wake_at=min(times, default=None))
    found = starts(snapshot)
    if not found.hosts:
        return Decision(wake_at=deadline)
    return Decision(events=(HostsAdmitted(at=now, wave=rollout.wave, hosts=found.hosts),), wake_at=deadline)


def starts_closed(snapshot: RolloutSnapshot, now: float) -> Closed | None:
    """Return why no waiting host may start now; the slowest stratum decides what must fit into a window."""
    rollout = snapshot.rollout
    if not snapshot.starts.waiting:
        return None
    denied = "" if rollout.policy.aa else next(everywhere(snapshot.fleet.denials, rollout.kernels.values()), "")
    if denied:
        return Closed(why=denied.rstrip("."))
    needed_s = 0.0
    if rollout.policy.windows:
        known = ((snapshot.boots.get(stratum, BootTimes()), stratum) for stratum in rollout.strata)
        needed_s = max(boots.expected_s(rollout.policy.boot_timeout_s, stratum) for boots, stratum in known)
    return closed(snapshot.fleet, rollout.policy.windows, needed_s, now)


def why_waiting(snapshot: RolloutSnapshot, now: float) -> str:
    """Return why the next host may not start, or return, now; empty when only a free slot is missing."""
    if snapshot.rollout.state is State.RUNNING and snapshot.starts.waiting:
        waits = starts_closed(snapshot, now)
        return starts(snapshot).waits if waits is None else waits.why
    return _returns(snapshot).waits


def starts(snapshot: RolloutSnapshot) -> Next:
    """Return which hosts may start now, and why the next one waits."""
    rollout = snapshot.rollout
    # Hosts that were admitted and have not started yet hold a slot as well: they are about to.
    return next_turns(
        snapshot.starts,
        snapshot.occupancy,
        rollout.policy.max_unavailable,
        last_wave=rollout.wave,
        count=_free(rollout, snapshot.tally.slots + len(snapshot.starts.called)),
    )


def _recall(snapshot: RolloutSnapshot, now: float) -> Decision | None:
    """Let further finished hosts return, within the budget: hosts that are away or lost must not stand in the way."""
    found = _returns(snapshot)
    return _events(HostsRecalled(at=now, hosts=found.hosts)) if found.hosts else None


def _returns(snapshot: RolloutSnapshot) -> Next:
    """Return which finished hosts may return now, and why the next one waits."""
    rollout, tally = snapshot.rollout, snapshot.tally
    if rollout.emergency or not snapshot.returns.waiting:
        return Next(hosts=())
    moving = tally.slots - tally.count_all(Step.LOST) + len(snapshot.returns.called)
    return next_turns(
        snapshot.returns,
        snapshot.occupancy,
        rollout.policy.max_unavailable,
        last_wave=len(rollout.waves),
        count=_free(rollout, moving),
        foreign=False,
    )


def _free(rollout: Rollout, moving: int) -> int:
    limit = rollout.policy.max_in_flight
    return _NO_LIMIT if limit is None else max(0, limit - moving)


# --- ends ---


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
    if done_may_stay:
        return not snapshot.returns.waiting and not snapshot.returns.called
    return not tally.count_all(Step.DONE)


def _lost(snapshot: RolloutSnapshot) -> tuple[str, ...]:
    if not snapshot.tally.count_all(Step.LOST):
        return ()
    return tuple(sorted(a.host for a in snapshot.attempts.values() if a.step is Step.LOST))


def _events(*events: Event) -> Decision:
    return Decision(events=events)
