"""A rollout: its states as a table, and how each of its events changes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import assert_never

from controller.domain.kernels import Kernel
from controller.domain.record.control import (
    ApprovalAwaited,
    ApprovalGiven,
    CheckReported,
    ChecksAsked,
    ChecksOverridden,
    ControlEvent,
    GateOverridden,
    HostsLeftOut,
    HostsRecalled,
    HostsRetried,
    RestOpened,
    RevertHastened,
    RolloutResumed,
    StratumHeld,
)
from controller.domain.record.events import (
    AbortStarted,
    HostsAdmitted,
    PlannedHost,
    RevertStarted,
    RolloutCompleted,
    RolloutEnded,
    RolloutEvent,
    RolloutPaused,
    RolloutPlanned,
    RolloutPromoted,
    RolloutStarted,
    WaveOpened,
)
from controller.domain.record.policy import Policy
from controller.domain.record.verdicts import WaveJudged
from controller.domain.state import askings as checked
from controller.domain.state.askings import Asking


class State(StrEnum):
    """Where a rollout stands."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"  # admits no host; hosts in flight finish their journey; a person decides what comes next
    AWAITING_APPROVAL = "awaiting_approval"  # the open wave begins when enough persons have approved it
    PROMOTED = "promoted"
    COMPLETED = "completed"  # an A/A rollout has measured every host; no kernel was changed
    ABORTING = "aborting"
    ABORTED = "aborted"
    REVERTING = "reverting"
    REVERTED = "reverted"
    REVERT_INCOMPLETE = "revert_incomplete"  # some hosts did not come back; they are listed


ENDED_STATES = frozenset({State.PROMOTED, State.COMPLETED, State.ABORTED, State.REVERTED, State.REVERT_INCOMPLETE})

# state -> the states that may follow.
FOLLOWING: dict[State, frozenset[State]] = {
    State.PLANNED: frozenset({State.RUNNING, State.ABORTED}),
    State.RUNNING: frozenset(
        {
            State.PAUSED,
            State.AWAITING_APPROVAL,
            State.PROMOTED,
            State.COMPLETED,
            State.ABORTING,
            State.REVERTING,
        }
    ),
    State.PAUSED: frozenset({State.RUNNING, State.ABORTING, State.REVERTING}),
    State.AWAITING_APPROVAL: frozenset({State.RUNNING, State.PAUSED, State.ABORTING, State.REVERTING}),
    State.ABORTING: frozenset({State.ABORTED, State.REVERTING, State.REVERT_INCOMPLETE}),
    State.REVERTING: frozenset({State.REVERTED, State.REVERT_INCOMPLETE}),
    State.PROMOTED: frozenset({State.REVERTING}),
    State.COMPLETED: frozenset(),
    State.ABORTED: frozenset({State.REVERTING}),
    State.REVERTED: frozenset(),
    State.REVERT_INCOMPLETE: frozenset({State.REVERTING}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Everything that decides a rollout's next move, apart from its hosts."""

    name: str
    uid: str
    spec_yaml: str
    salt: str
    policy: Policy
    kernels: Mapping[str, Kernel]
    waves: tuple[tuple[PlannedHost, ...], ...]
    # Of all hosts in the waves.
    strata: frozenset[str]
    state: State = State.PLANNED
    # The open wave, since when, and how many hosts were admitted to it.
    wave: int = 0
    wave_since: float = 0.0
    admitted: int = 0
    # Whether all waves were opened at once.
    rest_opened: bool = False
    # The first of those waves.
    rest_from: int = 0
    judged: tuple[WaveJudged, ...] = ()
    # Hosts far outside the others, that the gate wants measured once more.
    measure_again: frozenset[str] = frozenset()
    reason: str = ""
    # The host that caused a revert; empty when an operator asked.
    cause_host: str = ""
    lost: tuple[str, ...] = ()
    # When the newest revert was asked for; None when there was none.
    revert_asked_at: float | None = None
    # Whether hosts return without regard to the disruption budget.
    emergency: bool = False
    # Rigs that failed until then are forgiven: their hosts are left out of their waves.
    excused_at: float = 0.0
    # Host -> how often it was to begin again.
    retries: Mapping[str, int] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    # Stratum -> why its hosts return while the others go on.
    held: Mapping[str, str] = field(default_factory=dict)
    # Who approved the open wave, and until when approvals are awaited.
    approvals: tuple[ApprovalGiven, ...] = ()
    approval_deadline: float | None = None
    # Waves that an operator let pass although the gate held them.
    overridden: tuple[GateOverridden, ...] = ()
    # The newest asking of the checks about every wave, oldest first.
    askings: tuple[Asking, ...] = ()
    planned_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    revision: int = 0

    @property
    def ended(self) -> bool:
        """Whether the rollout came to its end; only an operator's revert goes on from there."""
        return self.state in ENDED_STATES

    @property
    def host_count(self) -> int:
        """Hosts in all waves."""
        return sum(len(wave) for wave in self.waves)

    @property
    def approved(self) -> bool:
        """Whether the open wave has the approvals that it needs."""
        return len({given.by for given in self.approvals}) >= self.approvals_needed

    @property
    def approvals_needed(self) -> int:
        """How many persons must approve what is open: opening several waves at once takes what the strictest takes."""
        first = self.rest_from if self.rest_opened else self.wave
        return max((wave.approvals for wave in self.policy.waves[first : self.wave + 1]), default=0)

    @property
    def passed(self) -> bool:
        """Whether the open wave was judged and may be left: by the gate, or by an operator who said why."""
        judged = bool(self.judged) and self.judged[-1].wave == self.wave and self.judged[-1].decision == "promote"
        return judged or any(one.wave == self.wave for one in self.overridden)

    @property
    def asking(self) -> Asking | None:
        """The asking of the checks about the open wave; None before the first and after a resume made it void."""
        newest = checked.asking_of(self.askings, self.wave)
        return None if newest is None or newest.dismissed else newest

    @property
    def held_wave(self) -> bool:
        """Whether the gate held the open wave, and nobody has gone on in spite of it."""
        judged = bool(self.judged) and self.judged[-1].wave == self.wave and self.judged[-1].decision == "hold"
        return judged and not self.passed


def planned_rollout(event: RolloutPlanned) -> Rollout:
    """Return the rollout as its first event creates it."""
    return Rollout(
        name=event.name,
        uid=event.uid,
        spec_yaml=event.spec_yaml,
        salt=event.salt,
        policy=event.policy,
        kernels=event.kernels,
        waves=event.waves,
        strata=frozenset(planned.stratum for wave in event.waves for planned in wave),
        planned_at=event.at,
        revision=1,
    )


def evolve_rollout(rollout: Rollout, event: RolloutEvent) -> Rollout:
    """Return the rollout after the event."""
    state = replace(rollout, revision=rollout.revision + 1)
    match event:
        case RolloutPlanned():
            raise AssertionError(f"rollout {rollout.name} is planned already")
        case RolloutStarted():
            return replace(_to(state, State.RUNNING), started_at=event.at, wave_since=event.at)
        case HostsAdmitted():
            return replace(state, admitted=state.admitted + len(event.hosts))
        case WaveJudged():
            again = state.measure_again | set(event.measure_again)
            return replace(state, judged=(*state.judged, event), measure_again=again)
        case WaveOpened():
            return replace(state, wave=event.wave, wave_since=event.at, admitted=0, approvals=())
        case RolloutPaused():
            return replace(_to(state, State.PAUSED), reason=event.reason)
        case RolloutPromoted():
            return replace(_to(state, State.PROMOTED), reason=event.reason, ended_at=event.at)
        case RolloutCompleted():
            return replace(_to(state, State.COMPLETED), reason=event.reason, ended_at=event.at)
        case AbortStarted():
            return replace(_to(state, State.ABORTING), reason=event.reason)
        case RevertStarted():
            changed = replace(_to(state, State.REVERTING), reason=event.reason, ended_at=None)
            return replace(
                changed,
                cause_host=event.host,
                revert_asked_at=event.at,
                emergency=event.emergency,
            )
        case RolloutEnded():
            return replace(_to(state, State(event.state)), lost=event.lost, ended_at=event.at)
        case _:
            return _controlled(state, event)


def _controlled(rollout: Rollout, event: ControlEvent) -> Rollout:
    """Return the rollout after an operator's decision or one about pace; its revision is counted already."""
    match event:
        case RolloutResumed():
            running = _to(rollout, State.RUNNING)
            askings = checked.dismissed(running.askings, running.wave)
            return replace(running, reason="", excused_at=event.at, wave_since=event.at, askings=askings)
        case ApprovalAwaited():
            return replace(_to(rollout, State.AWAITING_APPROVAL), approval_deadline=event.deadline)
        case ApprovalGiven():
            given = replace(rollout, approvals=(*rollout.approvals, event))
            if given.state is not State.AWAITING_APPROVAL or not given.approved:
                return given
            return replace(_to(given, State.RUNNING), approval_deadline=None, wave_since=event.at)
        case GateOverridden():
            running = rollout if rollout.state is State.RUNNING else _to(rollout, State.RUNNING)
            return replace(running, reason="", overridden=(*rollout.overridden, event))
        case RestOpened():
            running = rollout if rollout.state is State.RUNNING else _to(rollout, State.RUNNING)
            last = len(rollout.waves) - 1
            # No single person goes past waves that several must approve.
            first = rollout.wave + 1 if rollout.approved else rollout.wave
            opened = replace(running, reason="", rest_opened=True, rest_from=first, approvals=())
            return replace(opened, wave=last, wave_since=event.at, approval_deadline=None)
        case HostsRecalled():
            return rollout
        case HostsRetried():
            counts = {host: rollout.retries.get(host, 0) + 1 for host in event.hosts}
            return replace(rollout, retries={**rollout.retries, **counts})
        case HostsLeftOut():
            return replace(rollout, left_out=rollout.left_out | set(event.hosts))
        case StratumHeld():
            return replace(rollout, held={**rollout.held, event.stratum: event.reason})
        case RevertHastened():
            return replace(rollout, emergency=True)
        case ChecksAsked():
            return replace(rollout, askings=checked.asked(rollout.askings, event))
        case CheckReported():
            return replace(rollout, askings=checked.reported(rollout.askings, event))
        case ChecksOverridden():
            running = rollout if rollout.state is State.RUNNING else _to(rollout, State.RUNNING)
            return replace(running, reason="", askings=checked.overridden(rollout.askings, event))
        case _:
            assert_never(event)


def _to(rollout: Rollout, state: State) -> Rollout:
    assert state in FOLLOWING[rollout.state], f"{rollout.name}: {rollout.state} cannot become {state}"
    return replace(rollout, state=state)
