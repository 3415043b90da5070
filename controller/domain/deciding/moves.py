"""What a host's move records and asks of the world: `rules` says when, this module says what."""

from dataclasses import replace
from typing import assert_never

from controller.domain.deciding.measurement import Fired
from controller.domain.deciding.rules import boot_closed, fired_trigger
from controller.domain.hosts.host import Host
from controller.domain.judging.runs import far_worse
from controller.domain.record.deadlines import BLESS_TIMEOUT_S, GRACE_S, PANIC_TIMEOUT_S, step_limits
from controller.domain.record.effects import (
    AcknowledgeBoot,
    ArmKernel,
    BlessKernel,
    CancelCommand,
    CyclePower,
    DrainHost,
    Effect,
    RebootHost,
    RevertKernel,
    RunWorkload,
    StageKernel,
    UncordonHost,
)
from controller.domain.record.events import Event, HostSilent, LogFinding, Moved, SeriousLogged, WatchResumed
from controller.domain.record.journey import ENDED, IN_SERVICE, MEASURING, Side, Step, Trigger, next_step
from controller.domain.record.names import Key, acknowledging, cancelling, power_cycling, uncordoning
from controller.domain.record.policy import Policy, Task
from controller.domain.state.attempt import Attempt, command_id
from controller.domain.state.snapshot import NOTHING, AttemptSnapshot, Decision

# What a host is told that is to prove its way back.
_PANIC = Task(workload="panic_drill", parameters={"confirm": True}, repetitions=1, warmups=0, timeout_s=PANIC_TIMEOUT_S)
# Moves within one measurement of a leg.
_SAME_LEG = frozenset({Trigger.RETRY, Trigger.NEXT_TASK})


def advance_attempt(snapshot: AttemptSnapshot, now: float) -> Decision:
    """Return the host's next move, or nothing. Same snapshot and time, same answer."""
    fired = fired_trigger(snapshot, now)
    if fired is not None:
        return _move(snapshot, fired, now)
    if snapshot.attempt.step is not Step.HELD:
        return NOTHING
    waits = boot_closed(snapshot, now)
    return NOTHING if waits is None else Decision(wake_at=waits.until)


def _move(snapshot: AttemptSnapshot, fired: Fired, now: float) -> Decision:
    attempt = snapshot.attempt
    target = next_step(attempt.step, fired.trigger)
    if fired.trigger is Trigger.DRILLED:
        # What follows are commands of their own, although the host is armed a second time.
        attempt = replace(attempt, drill_s=now - attempt.since)
        snapshot = replace(snapshot, attempt=attempt)
    leg = attempt.leg + 1 if fired.trigger in (Trigger.NEXT_LEG, Trigger.DRAINED) else attempt.leg
    tries = _tries(attempt, fired, target)
    task = _task(attempt, fired)
    name = _command_id(attempt, target, leg, tries, task)
    if target is Step.ARM:
        allowed_s = snapshot.boots.timeout_s(snapshot.rollout.policy.boot_timeout_s, attempt.stratum)
        attempt = replace(attempt, boot_timeout_s=allowed_s)
        snapshot = replace(snapshot, attempt=attempt)
    own = (*_entry_effects(snapshot, target, leg, (name, task)), *_back_in_service(attempt, target))
    effects = (*own, *_power_cycle(attempt, fired))
    waits = any(effect.command_id == name for effect in effects)
    starting = fired.trigger is Trigger.START and snapshot.host is not None
    moved = Moved(
        at=now,
        trigger=fired.trigger,
        step=target,
        # All tries and workloads of a leg share one deadline: the host's own does not move either.
        deadline=attempt.deadline if fired.trigger in _SAME_LEG else _entry_deadline(snapshot, target, now, waits),
        leg=leg,
        tries=tries,
        task=task,
        command_id=name if waits else "",
        failure=fired.failure,
        boot_timeout_s=attempt.boot_timeout_s if target is Step.ARM else 0.0,
        boot_id=snapshot.host.boot_id if starting and snapshot.host else "",
        release=snapshot.host.kernel_release if starting and snapshot.host else "",
        page_size_bytes=snapshot.host.page_size_bytes if starting and snapshot.host else 0,
        far_worse=_far_worse(snapshot, fired),
    )
    events: tuple[Event, ...] = (moved,)
    known = _known_of_boot(snapshot.host) if starting and snapshot.host else ()
    if known:
        events = (*events, SeriousLogged(at=now, report_id="", findings=known))
    if starting and snapshot.host and not snapshot.host.connected:
        events = (*events, HostSilent(at=now))
    return Decision(events=events, effects=(*_cancellation(attempt, target), *effects))


def _command_id(attempt: Attempt, target: Step, leg: int, tries: int, task: int) -> str:
    """Name the command of a step; a host is put back into service under one name, wherever its way ends."""
    if target is Step.UNCORDON and attempt.drained_by:
        return uncordoning(attempt.drained_by)
    return command_id(attempt, target, leg, tries, task)


def _back_in_service(attempt: Attempt, target: Step) -> tuple[Effect, ...]:
    """Whatever becomes of a host that was drained: where it is to serve again, it is uncordoned, until that is done."""
    if not attempt.drained_by or target not in IN_SERVICE:
        return ()
    name = uncordoning(attempt.drained_by)
    return (UncordonHost(command_id=name, host=attempt.host, drained_by=attempt.drained_by),)


def _power_cycle(attempt: Attempt, fired: Fired) -> tuple[Effect, ...]:
    if fired.trigger is not Trigger.POWER_CYCLE:
        return ()
    return (CyclePower(command_id=power_cycling(Key(attempt.uid, attempt.host)), host=attempt.host),)


def _known_of_boot(host: Host) -> tuple[LogFinding, ...]:
    """Return what the old kernel wrote before the host's turn came: a new kernel that writes it too is no worse."""
    told = {"serious": host.serious, "fatal": host.fatal, "unread": host.unread}
    return tuple(
        LogFinding(signature=signature, line=line, boot_id=host.boot_id, severity=severity)
        for severity, lines in told.items()
        for signature, line in sorted(lines.items())
    )


def _far_worse(snapshot: AttemptSnapshot, fired: Fired) -> tuple[str, ...]:
    """Return on which metrics a measurement under the new kernel, now complete, is worse beyond any doubt."""
    attempt = snapshot.attempt
    complete = attempt.step is Step.PROBATION and fired.trigger in (Trigger.MEASURED, Trigger.NEXT_LEG)
    return far_worse(attempt, snapshot.rollout.policy) if complete and attempt.side is Side.NEW else ()


def _task(attempt: Attempt, fired: Fired) -> int:
    """Return which workload is measured next; every leg begins with the first."""
    if fired.trigger is Trigger.NEXT_TASK:
        return attempt.task + 1
    return attempt.task if fired.trigger is Trigger.RETRY else 0


def _tries(attempt: Attempt, fired: Fired, target: Step) -> int:
    """Return the number that makes the step's command id unlike any before it."""
    if target is Step.REVERTING:
        return attempt.reverts
    if fired.trigger is Trigger.CLEARED:
        return attempt.tries
    return attempt.tries + 1 if fired.trigger in (Trigger.RETRY, Trigger.CLOSED) else 0


def resumed(attempt: Attempt, policy: Policy, now: float) -> WatchResumed:
    """Return what a starting controller records for a host: it may speak before a deadline of the past counts.

    A host whose power is still to be cut has its time after that.
    """
    deadline, power = attempt.deadline, attempt.power
    if deadline is not None and attempt.step is not Step.BAKE:
        cut = power is not None and power.outcome is None and power.decided_at == attempt.since
        allowed_s = power.allowed_s if power is not None and cut else 0.0
        deadline = max(deadline, now + policy.silence_timeout_s + GRACE_S + allowed_s)
    return WatchResumed(at=now, deadline=deadline)


def _cancellation(attempt: Attempt, target: Step) -> tuple[Effect, ...]:
    """Stop a measurement that nobody waits for any more."""
    measuring = attempt.step in MEASURING and attempt.command is None and attempt.command_id
    if not measuring or target in MEASURING or target is Step.FALLBACK:
        return ()
    name = cancelling(attempt.command_id)
    return (CancelCommand(command_id=name, host=attempt.host, target_command_id=attempt.command_id),)


def _entry_deadline(snapshot: AttemptSnapshot, target: Step, now: float, waits: bool) -> float | None:
    """Return when the step must be over; `waits` says whether it waits for a command at all."""
    attempt, policy = snapshot.attempt, snapshot.rollout.policy
    if target in ENDED or target in (Step.PENDING, Step.HELD):
        return None
    if target in (Step.DRAIN, Step.UNCORDON) and not waits:
        return None
    if target is Step.BAKE:
        return now + policy.bake_s[snapshot.attempt.wave]
    return now + step_limits(policy, attempt.boot_timeout_s)[target]


def _entry_effects(snapshot: AttemptSnapshot, target: Step, leg: int, command: tuple[str, int]) -> tuple[Effect, ...]:
    """What entering a step asks of the world; the effect that carries the step's own name is the one waited for.

    `command` is that name and the number of the workload.
    """
    name, task_number = command
    attempt, policy = snapshot.attempt, snapshot.rollout.policy
    host = attempt.host
    new = snapshot.rollout.kernels[attempt.architecture].digest
    kernel = attempt.old_kernel if attempt.legs[leg] is Side.OLD else new
    match target:
        case Step.BASELINE | Step.PROBATION | Step.REMEASURE:
            limit_s = policy.baseline_timeout_s if target is Step.BASELINE else policy.probation_timeout_s
            task = policy.tasks[task_number]
            measure = RunWorkload(command_id=name, host=host, task=task, timeout_s=min(task.timeout_s, limit_s))
            if target is not Step.PROBATION or task_number:
                return (measure,)
            acknowledge = acknowledging(command_id(attempt, Step.VERIFY, leg, 0))
            return (AcknowledgeBoot(command_id=acknowledge, host=host), measure)
        case Step.DRILL:
            acknowledge = acknowledging(command_id(attempt, Step.VERIFY, leg, 0))
            panic = RunWorkload(command_id=name, host=host, task=_PANIC, timeout_s=PANIC_TIMEOUT_S)
            return (AcknowledgeBoot(command_id=acknowledge, host=host), panic)
        case Step.DRAIN:
            return (DrainHost(command_id=name, host=host),) if attempt.place else ()
        case Step.STAGE:
            return (StageKernel(command_id=name, host=host, kernel=new),)
        case Step.ARM:
            # On the way in from staging the old kernel's digest has just become known.
            old = attempt.old_kernel or (attempt.delivery.default_kernel if attempt.delivery else "")
            return (
                ArmKernel(
                    command_id=name,
                    host=host,
                    kernel=old if attempt.legs[leg] is Side.OLD else kernel,
                    boot_timeout_s=attempt.boot_timeout_s,
                    probation_timeout_s=policy.probation_timeout_s + BLESS_TIMEOUT_S + GRACE_S,
                    require_watchdog=policy.require_watchdog,
                ),
            )
        case Step.REBOOT:
            return (RebootHost(command_id=name, host=host),)
        case Step.BLESS:
            return (BlessKernel(command_id=name, host=host),)
        case Step.REVERTING:
            return (RevertKernel(command_id=name, host=host, kernel=attempt.old_kernel),)
        case Step.PENDING | Step.HELD | Step.VERIFY | Step.UNCORDON | Step.BAKE | Step.DONE:
            return ()
        case Step.FALLBACK | Step.REVERTED | Step.LOST | Step.SKIPPED:
            return ()
        case _:
            assert_never(target)
