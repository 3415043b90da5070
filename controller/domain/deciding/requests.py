"""What operators can ask of a rollout, in words alone: the command line needs no more, and starts at once."""

from dataclasses import dataclass
from enum import StrEnum

from controller.domain.caller import Caller


class Verb(StrEnum):
    """What an operator can ask."""

    PAUSE = "pause"  # admit no further host; hosts in flight finish
    RESUME = "resume"  # go on after a pause
    PROMOTE = "promote"  # go on to the next wave: past an approval, a hold (--skip), or all waves at once (--full)
    APPROVE = "approve"  # one of the approvals that the open wave needs
    RETRY = "retry"  # send hosts whose rig failed on their way again
    SKIP = "skip"  # leave hosts out whose turn has not come
    ABORT = "abort"  # start nothing new, bring hosts in flight back, leave finished ones
    REVERT = "revert"  # return every touched host


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One operator's wish, with who asks and why."""

    verb: Verb
    by: Caller
    remark: str = ""
    # For retry and skip; empty for retry means every host whose rig failed.
    hosts: tuple[str, ...] = ()
    # For promote: all waves at once, or past a wave that the gate held.
    full: bool = False
    skip: bool = False
    # For revert: without regard to the disruption budget.
    emergency: bool = False
