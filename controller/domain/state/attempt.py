"""One host's attempt within a rollout: its state, and how each event changes it."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, assert_never

from controller.domain.delivery import BootEnd
from controller.domain.record.events import (
    CONDEMNING,
    AttemptEvent,
    CommandReported,
    DeliveryReported,
    Failure,
    FailureKind,
    FatalLogged,
    HostHeard,
    HostSilent,
    LogFinding,
    Moved,
    PlaceReported,
    PlannedHost,
    RunReported,
    SeriousLogged,
    TrialEnded,
    WatchResumed,
)
from controller.domain.record.journey import (
    ENDED,
    HOLDS_SLOT,
    IN_FLIGHT,
    MEASURING,
    MUST_BE_HEARD,
    Role,
    Side,
    Step,
    Trigger,
    legs_of,
)

if TYPE_CHECKING:
    # What it does, and all that a type checker knows of it.
    from dataclasses import replace
else:
    from controller.domain.values import replace
from controller.domain.record.actions.power_cycles import PowerCycleBegun, PowerCycled
from controller.domain.record.actions.work import WorkTold
from controller.domain.record.names import Key, step_command, uncordoning
from controller.domain.state.power_cycles import PowerCycle, asked, begun, ended, was_cut
from controller.domain.state.runs import Run, run_of
from controller.domain.state.trial_ends import trial_failure

# Before a rig that broke, or an agent that was busy, is tried again.
RETRY_PAUSE_S = 10.0
# Serious lines of one boot that are kept; a kernel that shows more has been condemned by fewer.
MOST_FINDINGS = 100
# What stays of an attempt that begins anew: what its plan fixed, the way back that it has proved, and its last resort.
_OF_PLANNED_HOST = tuple(one.name for one in fields(PlannedHost))
_PLANNED = (
    *_OF_PLANNED_HOST,
    "rollout",
    "uid",
    "wave",
    "position",
    "drill_s",
    "drilled_at",
    "commands",
    "drained_by",
    "power",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Everything that decides one host's next step."""

    rollout: str
    uid: str
    host: str
    stratum: str
    architecture: str
    role: Role
    # Counted from 0, with the host's place among the wave's hosts.
    wave: int
    position: int
    # As planned: `events.PlannedHost`.
    compared: bool = False
    pair: str = ""
    cycles: int = 1
    delivered_by: str = ""
    place: str = ""
    step: Step = Step.PENDING
    since: float = 0.0
    deadline: float | None = None
    # When the measurement under way began; None outside one.
    leg_since: float | None = None
    leg: int = 0
    tries: int = 0
    # Which of the leg's workloads is measured, from 0.
    task: int = 0
    # Whether it is to be panicked on purpose first; the boot in which that was asked, empty before; how long the way
    # back took and when it had come back, None and 0 before.
    drill: bool = False
    drill_boot_id: str = ""
    drill_s: float | None = None
    drilled_at: float = 0.0
    # How often the host has begun its journey anew.
    round: int = 0
    # How often the host was being returned to its old kernel.
    reverts: int = 0
    # What ran when the newest revert was carried out (from then on the old kernel is the default and nothing is
    # armed): a digest, empty when the machine was down. None until it is carried out.
    ran_at_revert: str | None = None
    revision: int = 0
    # The command the step waits for; empty when it waits for none.
    command_id: str = ""
    # Every command that was ever given: what is told of them belongs into the log, however late.
    commands: frozenset[str] = frozenset()
    command: CommandReported | None = None
    delivery: DeliveryReported | None = None
    place_answer: PlaceReported | None = None
    # The command that took the host out of service, until it is back; empty while it serves.
    drained_by: str = ""
    # The reboot command of the newest trial, and how that boot ended if it did.
    trial_command_id: str = ""
    trial: TrialEnded | None = None
    # The kernel the host started with: release from its Hello, digest from the delivery adapter once staged.
    old_release: str = ""
    old_kernel: str = ""
    # The boot before the newest reboot, and the newest one heard.
    boot_id_before: str = ""
    boot_id: str = ""
    release: str = ""
    # Of the newest boot heard; 0 when the agent did not say.
    page_size_bytes: int = 0
    # Whether the reboot of the present leg began, and the boot id it was verified under.
    trial_started: bool = False
    verified_boot_id: str = ""
    # Every boot id heard since the attempt started, in order.
    boot_ids: tuple[str, ...] = ()
    # None while the host is heard.
    silent_since: float | None = None
    runs: tuple[Run, ...] = ()
    fatal: FatalLogged | None = None
    # Serious kernel-log lines, each once a boot, at most `MOST_FINDINGS` of a boot.
    findings: tuple[LogFinding, ...] = ()
    failure: Failure | None = None
    failed_at: float = 0.0
    # When the host was heard last before it failed, or failed while it was heard; None where nothing has failed.
    gone_since: float | None = None
    # Allowed from the start of a boot to a healthy agent, as told to the host when the kernel was armed.
    boot_timeout_s: float = 0.0
    # Whether it was measured once more than its legs ask for.
    remeasured: bool = False
    # Metrics on which it got worse by more than ten margins, and when that was learnt.
    far_worse: tuple[str, ...] = ()
    far_worse_at: float = 0.0
    # That its power was to be cut, at most once however often it begins anew; None while that was never decided.
    power: PowerCycle | None = None

    @property
    def legs(self) -> tuple[Side, ...]:
        """The kernels this host boots, in order."""
        return legs_of(self.role, self.cycles)

    @property
    def side(self) -> Side:
        """The kernel of the present leg."""
        return self.legs[self.leg]

    @property
    def ended(self) -> bool:
        """Whether nothing more happens unless the rollout asks."""
        return self.step in ENDED

    @property
    def in_flight(self) -> bool:
        """Whether the host has started and not ended."""
        return self.step in IN_FLIGHT

    @property
    def holds_slot(self) -> bool:
        """Whether the host counts against the disruption budget."""
        return self.step in HOLDS_SLOT

    @property
    def changed_kernel(self) -> bool:
        """Whether the host has, or may have, another default kernel than before this attempt."""
        return self.step is Step.LOST or (self.step is Step.DONE and self.legs[-1] is Side.NEW)

    @property
    def condemned(self) -> bool:
        """Whether this host's failure speaks against the kernel."""
        return self.failure is not None and self.failure.kind in CONDEMNING

    @property
    def unheard(self) -> bool:
        """Whether the host counts as done and is not heard now: nothing may be concluded from it."""
        return self.step is Step.DONE and self.silent_since is not None

    def wake_times(self, silence_timeout_s: float) -> tuple[float, ...]:
        """Return when time alone may change something: the step's deadline, the end of the tolerated silence."""
        times = [] if self.deadline is None else [self.deadline]
        if self.silent_since is not None and self.step in MUST_BE_HEARD:
            times.append(self.silent_since + silence_timeout_s)
        if self.command is not None:
            times.append(self.command.at + RETRY_PAUSE_S)
        return tuple(times)

    @property
    def retried_at(self) -> float | None:
        """When a measurement that the rig spoilt is tried again, or None: any other answer moves on at once."""
        return self.command.at + RETRY_PAUSE_S if self.command is not None and self.step in MEASURING else None

    def ran_on(self, boot_id: str) -> Side:
        """Return which kernel a boot ran; one that this attempt did not hear of counts as the old kernel's."""
        if not self.boot_ids or boot_id == self.boot_ids[0]:
            return Side.OLD
        measured = {run.boot_id: self.legs[run.leg] for run in self.runs}
        if boot_id in measured:
            return measured[boot_id]
        return self.side if self.trial_started and boot_id in (self.verified_boot_id, self.boot_id) else Side.OLD

    def runs_of(self, leg: int) -> tuple[Run, ...]:
        """Return the leg's runs, warm-ups left out."""
        return tuple(run for run in self.runs if run.leg == leg and not run.warmup)


def planned_attempt(planned: PlannedHost, *, rollout: str, uid: str, wave: int, position: int) -> Attempt:
    """Return the attempt as the plan creates it."""
    own = {name: getattr(planned, name) for name in _OF_PLANNED_HOST}
    return Attempt(**own, rollout=rollout, uid=uid, wave=wave, position=position)


def command_id(attempt: Attempt, step: Step, leg: int, tries: int, task: int = 0) -> str:
    """Name a step's command: the same decision always has the same name, whoever makes it and however often."""
    key, drill = Key(attempt.uid, attempt.host), attempt.drill_s is not None
    return step_command(key, step, leg, tries, task=task, of_round=attempt.round, drill=drill)


def evolve(attempt: Attempt, event: AttemptEvent) -> Attempt:
    """Return the attempt after the event. Events that concern an earlier command change nothing but the revision."""
    state = replace(attempt, revision=attempt.revision + 1)
    match event:
        case Moved():
            return _moved(state, event)
        case HostHeard():
            return _heard(state, event)
        case HostSilent():
            return state if state.silent_since is not None else replace(state, silent_since=event.at)
        case WatchResumed():
            return replace(state, silent_since=event.at, deadline=event.deadline)
        case RunReported():
            return _run_reported(state, event)
        case CommandReported():
            return replace(state, command=event) if event.command_id == state.command_id else state
        case DeliveryReported():
            if event.command_id != state.command_id:
                return state
            if state.step is Step.REVERTING and not event.error:
                return replace(state, delivery=event, ran_at_revert=event.running_kernel)
            return replace(state, delivery=event)
        case PlaceReported():
            if not event.error and event.command_id == uncordoning(state.drained_by):
                state = replace(state, drained_by="")
            return replace(state, place_answer=event) if event.command_id == state.command_id else state
        case PowerCycleBegun():
            return replace(state, power=begun(state.power, event))
        case PowerCycled():
            power, deadline = ended(state.power, event, state.since, state.deadline)
            return replace(state, power=power, deadline=deadline)
        case TrialEnded():
            return _trial_ended(state, event)
        case FatalLogged():
            same_boot = state.fatal is not None and state.fatal.boot_id == event.boot_id
            return state if same_boot else replace(state, fatal=event)
        case SeriousLogged():
            boots = {one.boot_id for one in event.findings}
            kept = (one for one in state.findings if one.signature not in event.replaced or one.boot_id not in boots)
            return replace(state, findings=(*kept, *event.findings))
        case WorkTold():
            return replace(state, deadline=event.deadline_of(state.command_id, state.deadline))
        case _:
            assert_never(event)


def _moved(state: Attempt, event: Moved) -> Attempt:
    """Apply a decision: the answers of the step that was left are forgotten."""
    if event.trigger is Trigger.AGAIN:
        return _anew(state, event)
    changes = replace(
        state,
        step=event.step,
        since=event.at,
        deadline=event.deadline,
        leg_since=_measuring_since(state, event),
        leg=event.leg,
        tries=event.tries,
        task=event.task,
        command_id=event.command_id,
        commands=state.commands | {event.command_id} if event.command_id else state.commands,
        command=None,
        delivery=None,
        place_answer=None,
        drained_by=event.command_id if event.step is Step.DRAIN else state.drained_by,
        failure=event.failure or state.failure,
        failed_at=state.failed_at if event.failure is None else event.at,
        gone_since=state.gone_since if event.failure is None else _gone_since(state, event.at),
        boot_timeout_s=event.boot_timeout_s or state.boot_timeout_s,
        remeasured=state.remeasured or event.step is Step.REMEASURE,
        far_worse=event.far_worse or state.far_worse,
        far_worse_at=event.at if event.far_worse else state.far_worse_at,
    )
    if event.trigger is Trigger.START:
        return replace(
            changes,
            old_release=event.release,
            release=event.release,
            boot_id=event.boot_id,
            boot_ids=(event.boot_id,),
            page_size_bytes=event.page_size_bytes,
            silent_since=None,
        )
    if event.trigger is Trigger.STAGED and state.delivery is not None:
        changes = replace(changes, old_kernel=state.old_kernel or state.delivery.default_kernel)
    if event.step is Step.REBOOT:
        changes = replace(changes, boot_id_before=state.boot_id, trial_command_id=event.command_id, trial=None)
    if event.trigger is Trigger.REBOOTED:
        changes = replace(changes, trial_started=True, verified_boot_id="")
    if event.trigger is Trigger.VERIFIED:
        changes = replace(changes, verified_boot_id=state.boot_id)
    if event.trigger is Trigger.POWER_CYCLE:
        changes = replace(changes, power=asked(Key(state.uid, state.host), event))
    if event.trigger is Trigger.DRILL:
        changes = replace(changes, drill_boot_id=state.boot_id)
    if event.trigger is Trigger.DRILLED:
        # How that boot ended is no failure, and what is told of it later concerns nobody.
        took_s = event.at - state.since
        changes = replace(
            changes, drill_s=took_s, drilled_at=event.at, trial=None, gone_since=None, trial_command_id=""
        )
    if event.step is Step.REVERTING:
        changes = replace(changes, boot_id_before=state.boot_id, reverts=state.reverts + 1, ran_at_revert=None)
    return changes


def _anew(state: Attempt, event: Moved) -> Attempt:
    """Return the attempt as it was planned: what the earlier rounds measured counts no more."""
    planned = {name: getattr(state, name) for name in _PLANNED}
    return Attempt(**planned, since=event.at, round=state.round + 1, revision=state.revision)


def _measuring_since(state: Attempt, event: Moved) -> float | None:
    if event.trigger in (Trigger.RETRY, Trigger.NEXT_TASK):
        return state.leg_since
    return event.at if event.step in MEASURING else None


def _heard(state: Attempt, event: HostHeard) -> Attempt:
    known = state.boot_ids if event.boot_id in state.boot_ids else (*state.boot_ids, event.boot_id)
    return replace(state, boot_id=event.boot_id, release=event.release, boot_ids=known, silent_since=None)


def _run_reported(state: Attempt, event: RunReported) -> Attempt:
    # One run is evidence once, however many reports tell of it.
    told = {(run.command_id, run.index) for run in state.runs}
    if event.command_id != state.command_id or (event.command_id, event.index) in told:
        return state
    return replace(state, runs=(*state.runs, run_of(event, state.leg)))


def _trial_ended(state: Attempt, event: TrialEnded) -> Attempt:
    """Remember how the trial boot ended; a failure that was only guessed before gets its proper name."""
    if event.command_id != state.trial_command_id or event.end in (BootEnd.REPLACED, BootEnd.STOPPED):
        return state
    failure = state.failure
    guessed = failure is not None and failure.kind in (FailureKind.HANG, FailureKind.WRONG_KERNEL)
    by_us = event.end is BootEnd.RESET and was_cut(state.power)
    open_to_it = state.step is Step.FALLBACK or (guessed and state.step is Step.REVERTING)
    if state.trial is None and open_to_it and not by_us:
        failure = on_running_kernel(state, trial_failure(event))
    failed_at = state.failed_at if failure == state.failure else event.at
    return replace(state, trial=event, failure=failure, failed_at=failed_at, gone_since=_gone_since(state, event.at))


def _gone_since(state: Attempt, at: float) -> float:
    """Return since when a host that fails at this time is not what it should be; of several failures the first."""
    if state.gone_since is not None:
        return state.gone_since
    return at if state.silent_since is None else min(at, state.silent_since)


def on_running_kernel(attempt: Attempt, failure: Failure) -> Failure:
    """Return the failure as it counts: what happens under the old kernel never speaks against the new one."""
    # The leg is counted up on the way into ARM, where the kernel of the leg before still runs.
    leg = attempt.leg - 1 if attempt.step is Step.ARM and attempt.leg else attempt.leg
    if attempt.legs[leg] is Side.NEW or failure.kind not in CONDEMNING:
        return failure
    return replace(failure, kind=FailureKind.INFRASTRUCTURE, sentence=f"{failure.sentence} (on the old kernel)")
