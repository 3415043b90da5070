"""That a host's power was to be cut and given again: decided, begun, ended."""

from dataclasses import dataclass, replace

from controller.domain.record.actions.power_cycles import (
    MAY_HAVE_BEEN_CUT,
    CycleOutcome,
    PowerCycleBegun,
    PowerCycled,
    PowerSeen,
)
from controller.domain.record.events import Moved
from controller.domain.record.names import Key, power_cycling


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCycle:
    """The one time that a host's power is cut in an attempt."""

    command_id: str
    # When it was decided, and how long the host has to come back from when it is done.
    decided_at: float
    allowed_s: float
    # What its management controller said just before the order; None before it is given.
    seen: PowerSeen | None = None
    # None until it is known.
    outcome: CycleOutcome | None = None
    detail: str = ""


def was_cut(cycle: PowerCycle | None) -> bool:
    """Whether the host has, or may have, lost its power by us: its boot did not end by itself then."""
    return cycle is not None and cycle.seen is not None and cycle.outcome is not CycleOutcome.REFUSED


def asked(key: Key, event: Moved) -> PowerCycle:
    """Return what a host's move decides."""
    allowed_s = 0.0 if event.deadline is None else event.deadline - event.at
    return PowerCycle(command_id=power_cycling(key), decided_at=event.at, allowed_s=allowed_s)


def begun(cycle: PowerCycle | None, event: PowerCycleBegun) -> PowerCycle | None:
    """Return it as the order is given."""
    return None if cycle is None else replace(cycle, seen=event.seen)


def ended(
    cycle: PowerCycle | None, event: PowerCycled, since: float, deadline: float | None
) -> tuple[PowerCycle | None, float | None]:
    """Return how it ended, and the deadline of the host's step: it has its time from when its power was cut.

    `since` is when the host came into that step: one that has left the step in which it was decided keeps its deadline.
    """
    if cycle is None:
        return None, deadline
    if event.outcome in MAY_HAVE_BEEN_CUT and since == cycle.decided_at and deadline is not None:
        deadline = max(deadline, event.at + cycle.allowed_s)
    return replace(cycle, outcome=event.outcome, detail=event.detail), deadline
