"""When a host moves: per step, a rule that looks at what is known and names a trigger."""

from collections.abc import Callable
from dataclasses import replace

from controller.domain.deciding.measurement import Fired, measured
from controller.domain.deciding.power_cycles import in_vain, of_power, power_cycle_due
from controller.domain.fleet.closures import Closed, closed
from controller.domain.fleet.decided import Denial
from controller.domain.fleet.denials import denial_of, denied, subject
from controller.domain.record.events import CommandState, Failure, FailureKind, PlaceReported
from controller.domain.record.journey import MUST_BE_HEARD, SERVING, Side, Step, Trigger
from controller.domain.state.attempt import Attempt, on_running_kernel
from controller.domain.state.rollout import State
from controller.domain.state.snapshot import AttemptSnapshot
from controller.domain.state.trial_ends import trial_failure

_Rule = Callable[[AttemptSnapshot, float], Fired | None]


def fired_trigger(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    """Return why the host moves now, or None when it stays."""
    fired = _demanded(snapshot) or _RULES[snapshot.attempt.step](snapshot, now)
    if fired is None or fired.failure is None:
        return fired
    return replace(fired, failure=on_running_kernel(snapshot.attempt, fired.failure))


def _demanded(snapshot: AttemptSnapshot) -> Fired | None:
    """What the rollout asks of this host, before anything the host itself shows."""
    attempt, rollout = snapshot.attempt, snapshot.rollout
    held, back = attempt.stratum in rollout.held, _goes_back(snapshot)
    if attempt.step is Step.PENDING:
        rule = _denial(snapshot)
        out = attempt.host in rollout.left_out or attempt.host in snapshot.fleet.quarantined
        # Denied on every host, the kernel may yet be allowed; denied on this one, it goes on without it.
        out = out or (rule is not None and bool(rule.where))
        return Fired(Trigger.SKIP) if back or out else None
    if attempt.step in (Step.REVERTED, Step.SKIPPED):
        again = rollout.retries.get(attempt.host, 0) > attempt.round and not back and not rollout.ended
        return Fired(Trigger.AGAIN) if again else None
    if attempt.step in (Step.FALLBACK, Step.REVERTING) or not back:
        return None
    if attempt.step in SERVING:
        # It works on the kernel it has made its default: it waits for its turn, so that the fleet stays up. An abort
        # leaves finished hosts where they are.
        stays = attempt.step is Step.DONE and rollout.state is not State.REVERTING and not held
        turn = snapshot.recalled or rollout.emergency
        return Fired(Trigger.REVERT) if turn and not stays else None
    if attempt.step is Step.REMEASURE and rollout.state is State.ABORTING and not held:
        # It has finished as well; an abort lets it be measured to the end.
        return None
    if attempt.in_flight:
        return Fired(Trigger.REVERT)
    # A host that was lost before this revert was asked for gets another try; one lost since then had it.
    asked_at = rollout.revert_asked_at if rollout.state is State.REVERTING else None
    lost_before = attempt.step is Step.LOST and asked_at is not None and attempt.since < asked_at
    return Fired(Trigger.REVERT) if lost_before else None


def _pending(snapshot: AttemptSnapshot, _now: float) -> Fired | None:
    running = snapshot.rollout.state is State.RUNNING
    return Fired(Trigger.START) if running and snapshot.admitted and snapshot.host is not None else None


def _baseline(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    attempt = snapshot.attempt
    if attempt.fatal is not None:
        sentence = "the kernel log shows a fatal line under the old kernel"
        failure = Failure(kind=FailureKind.INFRASTRUCTURE, sentence=sentence, line=attempt.fatal.line)
        return Fired(Trigger.FAIL, failure)
    if _silent(snapshot, now):
        sentence = "not heard for too long while still on its old kernel"
        return Fired(Trigger.SILENT, Failure(kind=FailureKind.INFRASTRUCTURE, sentence=sentence))
    return measured(snapshot, now) or _deadline(attempt, now, "the baseline measurement")


def _held(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    # Measuring disturbs little; what follows takes the host down, so it waits for the next window.
    return None if boot_closed(snapshot, now) is not None else Fired(Trigger.CLEARED)


def _drain(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    attempt, answer = snapshot.attempt, snapshot.attempt.place_answer
    if boot_closed(snapshot, now) is not None:
        # Draining takes its time, and it may not go down any more: meanwhile it serves.
        return Fired(Trigger.CLOSED)
    if attempt.command_id and answer is None:
        return _deadline(attempt, now, "taking it out of service")
    if answer is not None and answer.error:
        return Fired(Trigger.FAIL, _of_place("could not be taken out of service", answer))
    return Fired(Trigger.DRAINED)


def boot_closed(snapshot: AttemptSnapshot, now: float) -> Closed | None:
    """Return why the host may not be taken down now; None when it may."""
    policy, rule = snapshot.rollout.policy, _denial(snapshot)
    if rule is not None:
        return Closed(why=denied(rule, snapshot.rollout.kernels[snapshot.attempt.architecture]))
    needed_s = snapshot.boots.expected_s(policy.boot_timeout_s, snapshot.attempt.stratum)
    return closed(snapshot.fleet, policy.windows, needed_s, now)


def _stage(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    attempt = snapshot.attempt
    answer = attempt.delivery
    if answer is not None and not answer.error and not answer.default_kernel:
        sentence = "it does not say which kernel it boots by default, so there would be no way back"
        return Fired(Trigger.FAIL, Failure(kind=FailureKind.DELIVERY, sentence=sentence))
    if answer is not None and not answer.error and answer.running_kernel != answer.default_kernel:
        sentence = "it does not run its default kernel; reboot it, or bless the kernel it runs, before the rollout"
        return Fired(Trigger.FAIL, Failure(kind=FailureKind.DELIVERY, sentence=sentence))
    return _delivered(attempt, Trigger.STAGED) or _deadline(attempt, now, "staging the kernel")


def _arm(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    attempt = snapshot.attempt
    return (
        _fell_back(attempt)
        or _fatal(snapshot)
        or _delivered(attempt, Trigger.ARMED)
        or _deadline(attempt, now, "arming the kernel")
    )


def _reboot(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    attempt = snapshot.attempt
    return (
        _fell_back(attempt) or _delivered(attempt, Trigger.REBOOTED) or _deadline(attempt, now, "starting the reboot")
    )


def _verify(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    attempt = snapshot.attempt
    fired = _fell_back(attempt) or _fatal(snapshot)
    if fired is not None:
        return fired
    heard_since = attempt.boot_id != attempt.boot_id_before and attempt.silent_since is None
    if heard_since and attempt.release == _target_release(snapshot):
        to_drill = attempt.drill and attempt.drill_s is None and attempt.side is Side.NEW
        return Fired(Trigger.DRILL if to_drill else Trigger.VERIFIED)
    if heard_since:
        sentence = f"answered under {attempt.release} instead of {_target_release(snapshot)}"
        # Whatever it booted, the kernel may still be armed.
        return Fired(Trigger.FATAL, Failure(kind=FailureKind.WRONG_KERNEL, sentence=sentence))
    if attempt.deadline is not None and attempt.deadline <= now:
        sentence = "no healthy agent answered by the boot deadline"
        return Fired(Trigger.DEADLINE, Failure(kind=FailureKind.HANG, sentence=sentence))
    return None


def _drill(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    """The host was told to panic: by itself it must come back on the kernel that it had before."""
    attempt, answer = snapshot.attempt, snapshot.attempt.command
    back = attempt.boot_id != attempt.drill_boot_id and attempt.silent_since is None
    if back and attempt.release == attempt.old_release:
        return Fired(Trigger.DRILLED)
    sentence = ""
    if back:
        sentence = f"came back from a panic on purpose under {attempt.release}, which was armed for one boot only"
    elif answer is not None and answer.state not in (CommandState.DIED, CommandState.CANCELLED):
        sentence = f"could not be panicked on purpose: {answer.detail or answer.state.value}"
    elif attempt.deadline is not None and attempt.deadline <= now:
        stayed = attempt.boot_id == attempt.drill_boot_id and attempt.silent_since is None
        what = "was still up" if stayed else "did not come back by itself within"
        sentence = f"{what} {now - attempt.since:.0f} s {'after' if stayed else 'of'} being told to panic"
    return Fired(Trigger.FAIL, Failure(kind=FailureKind.DRILL, sentence=sentence)) if sentence else None


def _probation(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    attempt = snapshot.attempt
    return (
        _fell_back(attempt)
        or _fatal(snapshot)
        or _rebooted_unasked(attempt)
        or _gone_silent(snapshot, now)
        or measured(snapshot, now)
        or _deadline(attempt, now, "the measurement under the new kernel", FailureKind.WORKLOAD)
    )


def _bless(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    attempt = snapshot.attempt
    return (
        _fell_back(attempt)
        or _fatal(snapshot)
        or _rebooted_unasked(attempt)
        or _gone_silent(snapshot, now)
        or _delivered(attempt, Trigger.BLESSED)
        or _deadline(attempt, now, "blessing the kernel")
    )


def _blessed_trouble(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    """What can go wrong once the kernel is the default: the host no longer falls back by itself."""
    attempt = snapshot.attempt
    if attempt.trial is not None:
        return Fired(Trigger.FATAL, trial_failure(attempt.trial))
    return _fatal(snapshot) or _rebooted_unasked(attempt) or _gone_silent(snapshot, now)


def _uncordon(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    attempt, answer = snapshot.attempt, snapshot.attempt.place_answer
    trouble = _blessed_trouble(snapshot, now)
    if trouble is not None:
        return trouble
    if attempt.command_id and answer is None:
        return _deadline(attempt, now, "putting it back into service")
    if answer is not None and answer.error:
        return Fired(Trigger.FAIL, _of_place("could not be put back into service", answer))
    return Fired(Trigger.UNCORDONED)


def _bake(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    attempt = snapshot.attempt
    trouble = _blessed_trouble(snapshot, now)
    over = attempt.deadline is not None and attempt.deadline <= now and not _goes_back(snapshot)
    # A soak time that ends in silence is not over well: the host speaks first, or its silence lasts too long.
    return trouble or (Fired(Trigger.BAKED) if over and attempt.silent_since is None else None)


def _done(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    attempt, rollout = snapshot.attempt, snapshot.rollout
    if rollout.ended:
        return None
    wanted = rollout.state is State.RUNNING and attempt.host in rollout.measure_again and not attempt.remeasured
    return _blessed_trouble(snapshot, now) or (Fired(Trigger.REMEASURE) if wanted else None)


def _remeasure(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    """What condemns the kernel does so here as well; a rig that will not measure leaves what was measured first."""
    trouble = _blessed_trouble(snapshot, now)
    if trouble is not None:
        return trouble
    fired = measured(snapshot, now) or _deadline(snapshot.attempt, now, "measuring once more")
    over = fired is not None and fired.trigger in (Trigger.MEASURED, Trigger.FAIL, Trigger.DEADLINE)
    return Fired(Trigger.REMEASURED) if over else fired


def _fallback(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    attempt = snapshot.attempt
    new_boot = attempt.boot_id not in (attempt.boot_id_before, attempt.verified_boot_id)
    if new_boot and attempt.release == attempt.old_release and attempt.silent_since is None:
        return Fired(Trigger.RETURNED)
    if in_vain(attempt):
        return Fired(Trigger.DEADLINE)
    return power_cycle_due(snapshot, now) or _deadline(attempt, now, "", kind=None)


def _reverting(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    attempt = snapshot.attempt
    if _on_old_kernel(snapshot):
        return Fired(Trigger.RETURNED)
    if attempt.delivery is not None and attempt.delivery.error:
        sentence = f"could not be returned to its old kernel: {attempt.delivery.error}"
        return Fired(Trigger.FAIL, Failure(kind=FailureKind.LOST, sentence=sentence))
    if in_vain(attempt) or (attempt.deadline is not None and attempt.deadline <= now):
        sentence = f"did not come back on its old kernel by the revert deadline{of_power(attempt)}"
        lost = Fired(Trigger.DEADLINE, Failure(kind=FailureKind.LOST, sentence=sentence))
        return power_cycle_due(snapshot, now) or lost
    return None


def _lost(snapshot: AttemptSnapshot, _now: float) -> Fired | None:
    return Fired(Trigger.RETURNED) if _on_old_kernel(snapshot) and not snapshot.rollout.ended else None


def _nothing(_snapshot: AttemptSnapshot, _now: float) -> Fired | None:
    return None


_RULES: dict[Step, _Rule] = {
    Step.PENDING: _pending,
    Step.BASELINE: _baseline,
    Step.HELD: _held,
    Step.DRAIN: _drain,
    Step.STAGE: _stage,
    Step.ARM: _arm,
    Step.REBOOT: _reboot,
    Step.VERIFY: _verify,
    Step.DRILL: _drill,
    Step.PROBATION: _probation,
    Step.BLESS: _bless,
    Step.UNCORDON: _uncordon,
    Step.BAKE: _bake,
    Step.REMEASURE: _remeasure,
    Step.DONE: _done,
    Step.FALLBACK: _fallback,
    Step.REVERTING: _reverting,
    Step.REVERTED: _nothing,
    Step.LOST: _lost,
    Step.SKIPPED: _nothing,
}


# --- what rules ask ---


def _denial(snapshot: AttemptSnapshot) -> Denial | None:
    """Return the rule that keeps the rollout's kernel from the host; None when it may have it, or keeps its own."""
    fleet, host, attempt = snapshot.fleet, snapshot.host, snapshot.attempt
    kernel = snapshot.rollout.kernels.get(attempt.architecture)
    if not fleet.denials or host is None or kernel is None or snapshot.rollout.policy.aa:
        return None
    if Side.NEW not in attempt.legs:
        return None
    asked = subject(host, fleet, rollout=snapshot.rollout.name, step=attempt.step.value)
    return denial_of(fleet.denials, kernel, asked)


def _goes_back(snapshot: AttemptSnapshot) -> bool:
    """Whether the rollout, or the host's stratum, is on its way back."""
    ending = snapshot.rollout.state in (State.REVERTING, State.ABORTING)
    return ending or snapshot.attempt.stratum in snapshot.rollout.held


def _silent(snapshot: AttemptSnapshot, now: float) -> bool:
    attempt = snapshot.attempt
    if attempt.silent_since is None or attempt.step not in MUST_BE_HEARD:
        return False
    return attempt.silent_since + snapshot.rollout.policy.silence_timeout_s <= now


def _gone_silent(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    if not _silent(snapshot, now):
        return None
    allowed = snapshot.rollout.policy.silence_timeout_s
    sentence = f"not heard for {allowed:.0f} s under the new kernel"
    return Fired(Trigger.SILENT, Failure(kind=FailureKind.SILENCE, sentence=sentence))


def _fell_back(attempt: Attempt) -> Fired | None:
    if attempt.trial is None:
        return None
    return Fired(Trigger.FELL_BACK, trial_failure(attempt.trial))


def _fatal(snapshot: AttemptSnapshot) -> Fired | None:
    """A condemning kernel-log line, if it was written under the boot on trial."""
    attempt = snapshot.attempt
    fatal = attempt.fatal
    if fatal is None or fatal.boot_id == attempt.boot_id_before or fatal.boot_id not in attempt.boot_ids:
        return None
    if fatal.boot_id == attempt.drill_boot_id:
        # It panicked because it was told to.
        return None
    sentence = f"the kernel log shows {fatal.signature}"
    return Fired(Trigger.FATAL, Failure(kind=FailureKind.FATAL_LOG, sentence=sentence, line=fatal.line))


def _rebooted_unasked(attempt: Attempt) -> Fired | None:
    if not attempt.verified_boot_id or attempt.boot_id == attempt.verified_boot_id:
        return None
    sentence = f"rebooted without being asked to, now under {attempt.release}"
    return Fired(Trigger.FATAL, Failure(kind=FailureKind.UNASKED_REBOOT, sentence=sentence))


def _of_place(what: str, answer: PlaceReported) -> Failure:
    return Failure(kind=FailureKind.INFRASTRUCTURE, sentence=f"{what}: {answer.error}")


def _delivered(attempt: Attempt, trigger: Trigger) -> Fired | None:
    if attempt.delivery is None:
        return None
    if attempt.delivery.error:
        return Fired(Trigger.FAIL, Failure(kind=FailureKind.DELIVERY, sentence=attempt.delivery.error))
    return Fired(trigger)


def _deadline(attempt: Attempt, now: float, what: str, kind: FailureKind | None = FailureKind.DEADLINE) -> Fired | None:
    if attempt.deadline is None or attempt.deadline > now:
        return None
    if kind is None:
        return Fired(Trigger.DEADLINE)
    # Repetitions and further workloads share their deadline with what came before them.
    waited = attempt.deadline - (attempt.since if attempt.leg_since is None else attempt.leg_since)
    return Fired(Trigger.DEADLINE, Failure(kind=kind, sentence=f"{what} took longer than {waited:.0f} s"))


def _target_release(snapshot: AttemptSnapshot) -> str:
    attempt = snapshot.attempt
    if attempt.side is Side.OLD:
        return attempt.old_release
    return snapshot.rollout.kernels[attempt.architecture].release


def _on_old_kernel(snapshot: AttemptSnapshot) -> bool:
    """Whether the host answers under its old kernel, in a boot that nothing will take from it any more.

    What was heard before the revert may be of a machine that has begun to reboot since: it counts only if the revert
    found the old kernel running.
    """
    attempt = snapshot.attempt
    if attempt.ran_at_revert is None or attempt.silent_since is not None or attempt.release != attempt.old_release:
        return False
    return attempt.ran_at_revert == attempt.old_kernel or attempt.boot_id != attempt.boot_id_before
