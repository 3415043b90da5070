"""A rollout: its states as a table, its own events, and the tally kept of its hosts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import assert_never

from controller.domain.attempt import Attempt
from controller.domain.events import (
    AbortStarted,
    Failure,
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
    WaveJudged,
    WaveOpened,
)
from controller.domain.journey import Step
from controller.domain.kernels import Kernel
from controller.domain.policy import Policy


class State(StrEnum):
    """Where a rollout stands."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"  # admits no host; hosts in flight finish their journey
    PROMOTED = "promoted"
    COMPLETED = "completed"  # an A/A rollout has measured every host; no kernel was changed
    ABORTING = "aborting"
    ABORTED = "aborted"
    REVERTING = "reverting"
    REVERTED = "reverted"
    REVERT_INCOMPLETE = "revert_incomplete"  # some hosts did not come back; they are listed


_MOST_FAILURES = 100

ENDED_STATES = frozenset({State.PROMOTED, State.COMPLETED, State.ABORTED, State.REVERTED, State.REVERT_INCOMPLETE})

# state -> the states that may follow.
FOLLOWING: dict[State, frozenset[State]] = {
    State.PLANNED: frozenset({State.RUNNING, State.ABORTED}),
    State.RUNNING: frozenset({State.PAUSED, State.PROMOTED, State.COMPLETED, State.ABORTING, State.REVERTING}),
    State.PAUSED: frozenset({State.RUNNING, State.ABORTING, State.REVERTING}),
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
    state: State = State.PLANNED
    # The open wave, and how many of its hosts may have started.
    wave: int = 0
    admitted: int = 0
    judged: tuple[WaveJudged, ...] = ()
    reason: str = ""
    # The host and line that caused a revert; empty when an operator asked.
    cause_host: str = ""
    cause_line: str = ""
    lost: tuple[str, ...] = ()
    # When the newest revert was asked for; None when there was none.
    revert_asked_at: float | None = None
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

    def admits(self, attempt: Attempt) -> bool:
        """Whether the attempt's turn has come."""
        return attempt.wave < self.wave or (attempt.wave == self.wave and attempt.position < self.admitted)


def planned_rollout(event: RolloutPlanned, policy: Policy) -> Rollout:
    """Return the rollout as its first event creates it."""
    return Rollout(
        name=event.name,
        uid=event.uid,
        spec_yaml=event.spec_yaml,
        salt=event.salt,
        policy=policy,
        kernels=event.kernels,
        waves=event.waves,
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
            return replace(_to(state, State.RUNNING), started_at=event.at)
        case HostsAdmitted():
            return replace(state, admitted=event.count)
        case WaveJudged():
            return replace(state, judged=(*state.judged, event))
        case WaveOpened():
            return replace(state, wave=event.wave, admitted=0)
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
            return replace(changed, cause_host=event.host, cause_line=event.line, revert_asked_at=event.at)
        case RolloutEnded():
            return replace(_to(state, State(event.state)), lost=event.lost, ended_at=event.at)
        case _:
            assert_never(event)


def _to(rollout: Rollout, state: State) -> Rollout:
    assert state in FOLLOWING[rollout.state], f"{rollout.name}: {rollout.state} cannot become {state}"
    return replace(rollout, state=state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts over a rollout's hosts, kept up to date move by move so that no decision walks the fleet."""

    # (wave, step) -> hosts there.
    hosts: Mapping[tuple[int, Step], int] = field(default_factory=dict)
    in_flight: int = 0
    # Hosts that count against the disruption budget.
    slots: int = 0
    ended: int = 0
    # Hosts that are done and not heard now.
    unheard: int = 0
    # Failures that condemn the kernel first, each kind in the order it was learnt, at most 100:
    # (host, failure, condemns the kernel).
    failures: tuple[tuple[str, Failure, bool], ...] = ()

    def count(self, wave: int, *steps: Step) -> int:
        """Return how many hosts of the wave stand in one of the steps."""
        return sum(self.hosts.get((wave, step), 0) for step in steps)

    def count_all(self, *steps: Step) -> int:
        """Return how many hosts of all waves stand in one of the steps."""
        return sum(number for (_, step), number in self.hosts.items() if step in steps)


def tally_moved(tally: Tally, before: Attempt | None, after: Attempt) -> Tally:
    """Return the tally after one host changed; costs the same whatever the size of the fleet."""
    hosts = tally.hosts
    if before is None or before.step is not after.step:
        counts = dict(hosts)
        if before is not None:
            counts[before.wave, before.step] -= 1
        counts[after.wave, after.step] = counts.get((after.wave, after.step), 0) + 1
        hosts = counts
    failures = tally.failures
    failed_before = None if before is None else before.failure
    if after.failure is not None and after.failure != failed_before:
        failures = _with_failure(failures, (after.host, after.failure, after.condemned))
    return Tally(
        hosts=hosts,
        in_flight=tally.in_flight + after.in_flight - (before is not None and before.in_flight),
        slots=tally.slots + after.holds_slot - (before is not None and before.holds_slot),
        ended=tally.ended + after.ended - (before is not None and before.ended),
        unheard=tally.unheard + after.unheard - (before is not None and before.unheard),
        failures=failures,
    )


def _with_failure(
    failures: tuple[tuple[str, Failure, bool], ...], failure: tuple[str, Failure, bool]
) -> tuple[tuple[str, Failure, bool], ...]:
    """Return the list with a host's newest failure. However many rigs break, one that condemns is never left out."""
    others = [entry for entry in failures if entry[0] != failure[0]]
    condemning = [entry for entry in (*others, failure) if entry[2]]
    forgiven = [entry for entry in (*others, failure) if not entry[2]]
    return (*condemning, *forgiven)[:_MOST_FAILURES]
