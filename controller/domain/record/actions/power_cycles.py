"""What is written down of a host whose power was cut and given again.

What its management controller said, that the controller was asked, and how that ended.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# What a management controller says of a host: so many lines are kept, the newest, each cut at so many characters.
MOST_SAYINGS: Final = 20
SAYING_CHARACTERS: Final = 300


class CycleOutcome(StrEnum):
    """How it ended that a host's power was to be cut and given again."""

    DONE = "done"  # the management controller has taken the order
    REFUSED = "refused"  # nothing was done: refused, or the management controller was not reached
    UNKNOWN = "unknown"  # the order was sent and no answer is known: it may have been carried out, and is not repeated
    SPARED = "spared"  # the host was heard again before, so that nothing was done


# Outcomes after which the host has, or may have, lost its power: it is given its time once more.
MAY_HAVE_BEEN_CUT: Final = frozenset({CycleOutcome.DONE, CycleOutcome.UNKNOWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSeen:
    """What a management controller says of its host."""

    # As people are told it, without user and password: "redfish://HOST/PATH" or "ipmi://HOST".
    controller: str
    # None: it does not say.
    on: bool | None
    # Faults, the newest entries of its log, and the like; oldest first, at most `MOST_SAYINGS`.
    says: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCycleBegun:
    """From now on the order may have been given: written down before, so that it is never given twice."""

    at: float
    command_id: str
    # What the management controller said just before.
    seen: PowerSeen


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCycled:
    """How it ended."""

    at: float
    command_id: str
    outcome: CycleOutcome
    # Why, without a full stop; empty when it was done.
    detail: str = ""


PowerEvent = PowerCycleBegun | PowerCycled
