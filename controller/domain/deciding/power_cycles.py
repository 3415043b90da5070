"""When a host's power is cut and given again: the last resort for one that neither boots nor falls back."""

from enum import Enum, auto

from controller.domain.deciding.measurement import Fired
from controller.domain.record.actions.power_cycles import CycleOutcome
from controller.domain.record.journey import Trigger
from controller.domain.state.attempt import Attempt
from controller.domain.state.snapshot import AttemptSnapshot


class Due(Enum):
    """What is to be done about a host's power now."""

    NOTHING = auto()  # nobody waits for it any more, or its end is recorded
    WAIT = auto()  # the host has not been silent for long enough: after a restart it may speak first
    SPARE = auto()  # the host is heard again
    UNKNOWN = auto()  # the order may have been given before, and nothing is known of it
    CYCLE = auto()


def power_cycle_due(snapshot: AttemptSnapshot, now: float) -> Fired | None:
    """Return that a host is given its time once more, after its power was cut; once in an attempt, and only unheard."""
    attempt = snapshot.attempt
    over = attempt.deadline is not None and attempt.deadline <= now
    wanted = snapshot.rollout.policy.power_cycles == 1 and attempt.power is None
    return Fired(Trigger.POWER_CYCLE) if over and wanted and attempt.silent_since is not None else None


def in_vain(attempt: Attempt) -> bool:
    """Whether the power could not be cut, so that there is nothing more to wait for in the step that asked for it."""
    power = attempt.power
    refused = power is not None and power.outcome is CycleOutcome.REFUSED
    return refused and power is not None and power.decided_at == attempt.since


def of_power(attempt: Attempt) -> str:
    """Return what became of the last resort, to stand behind a failure; empty where there was none."""
    power = attempt.power
    if power is None or power.outcome is CycleOutcome.SPARED:
        return ""
    if power.outcome is CycleOutcome.DONE:
        return ", nor after its power was cut and given again"
    if power.outcome is CycleOutcome.REFUSED:
        return f"; its power could not be cut: {power.detail}"
    if power.seen is None:
        return "; its power was not cut, because its management controller was not reached in time"
    return "; whether its power was cut is not known"


def due(attempt: Attempt, command_id: str, silence_timeout_s: float, now: float) -> Due:
    """Return what is to be done under this command, which is outstanding."""
    power = attempt.power
    if power is None or power.command_id != command_id or power.outcome is not None:
        return Due.NOTHING
    if power.seen is not None:
        return Due.UNKNOWN
    if attempt.silent_since is None:
        return Due.SPARE
    return Due.CYCLE if attempt.silent_since + silence_timeout_s <= now else Due.WAIT
