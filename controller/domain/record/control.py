"""What operators ask and decide about a rollout, and what paces it: verbs, and events of a rollout's own stream.

Every event here tells itself: `told` is what reports and logs say of it, one clause without a full stop.
"""

from dataclasses import dataclass
from enum import StrEnum

from controller.domain.record.checks import Outcome
from controller.words import duration_text, names_text


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
class RolloutResumed:
    """An operator lets a paused rollout go on; hosts whose rig failed until now are left out of their wave."""

    at: float
    by: str
    remark: str = ""

    @property
    def told(self) -> str:
        """What is said of it."""
        return f"resumed by {self.by}{_why(self.remark)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAwaited:
    """The open wave may begin only when enough persons have approved it."""

    at: float
    wave: int
    # Without enough approvals the rollout pauses then.
    deadline: float

    @property
    def told(self) -> str:
        """What is said of it."""
        allowed = duration_text(self.deadline - self.at)
        return f"wave {self.wave + 1} awaits approval; without it the rollout pauses after {allowed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGiven:
    at: float
    wave: int
    by: str
    remark: str = ""

    @property
    def told(self) -> str:
        """What is said of it."""
        return f"wave {self.wave + 1} approved by {self.by}{_why(self.remark)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOverridden:
    """An operator goes on although the gate held the wave: the only way past it, and it stays on record."""

    at: float
    wave: int
    by: str
    remark: str

    @property
    def told(self) -> str:
        """What is said of it."""
        return f"{self.by} went on although the gate held wave {self.wave + 1}{_why(self.remark)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestOpened:
    """An operator opens all waves that are left at once; they are judged together, and the budget still holds."""

    at: float
    by: str
    remark: str

    @property
    def told(self) -> str:
        """What is said of it."""
        return f"{self.by} opened all waves that are left{_why(self.remark)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsRecalled:
    """These finished or baking hosts may be returned now."""

    at: float
    hosts: tuple[str, ...]

    @property
    def told(self) -> str:
        """What is said of it."""
        return f"the turn of {names_text(self.hosts)} to return has come"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsRetried:
    """These hosts, whose rig failed, begin their journey again."""

    at: float
    hosts: tuple[str, ...]
    by: str
    remark: str = ""

    @property
    def told(self) -> str:
        """What is said of it."""
        return f"{self.by} had {names_text(self.hosts)} begin again{_why(self.remark)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsLeftOut:
    """These hosts, whose turn has not come, stay on their kernel."""

    at: float
    hosts: tuple[str, ...]
    by: str
    remark: str = ""

    @property
    def told(self) -> str:
        """What is said of it."""
        return f"{self.by} left {names_text(self.hosts)} out{_why(self.remark)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumHeld:
    """The kernel failed in one stratum: its hosts return and no further one starts; the others go on."""

    at: float
    stratum: str
    reason: str
    # What caused it; empty when the gate did.
    host: str = ""
    line: str = ""

    @property
    def told(self) -> str:
        """What is said of it."""
        return f"{self.stratum} is held and goes back{_why(self.reason)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertHastened:
    """An operator lifts the disruption budget from a way back that is under way."""

    at: float
    by: str
    remark: str = ""

    @property
    def told(self) -> str:
        """What is said of it."""
        return f"{self.by} lifted the disruption budget from the way back{_why(self.remark)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedCheck:
    """A check by name, and when its answer must be there."""

    name: str
    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksAsked:
    """The open wave passed its judgement; its checks are asked, anew after a resume."""

    at: float
    wave: int
    # How often this wave's checks were asked, this time included.
    number: int
    # In the order of the rollout file.
    checks: tuple[AwaitedCheck, ...]

    @property
    def told(self) -> str:
        """What is said of it."""
        again = f" (time {self.number})" if self.number > 1 else ""
        return f"wave {self.wave + 1} asks its checks{again}: {names_text([check.name for check in self.checks])}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReported:
    """A check has answered, or could not be asked, or its time is over."""

    at: float
    wave: int
    # Of the asking.
    number: int
    check: str
    outcome: Outcome
    # A sentence without a full stop; may be empty.
    detail: str = ""
    # The value that decided; None where there is none.
    value: float | None = None
    # The person who reported; empty when a program did.
    by: str = ""

    @property
    def told(self) -> str:
        """What is said of it."""
        who = f" (by {self.by})" if self.by else ""
        told = f"check {self.check} of wave {self.wave + 1}: {self.outcome.replace('_', ' ')}{who}"
        return f"{told}{_why(self.detail)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksOverridden:
    """An operator goes on although checks of the wave have not passed: it stays on record."""

    at: float
    wave: int
    # Those that had not passed.
    checks: tuple[str, ...]
    by: str
    remark: str

    @property
    def told(self) -> str:
        """What is said of it."""
        return f"{self.by} went on without {names_text(self.checks)}{_why(self.remark)}"


ControlEvent = (
    RolloutResumed
    | ApprovalAwaited
    | ApprovalGiven
    | GateOverridden
    | RestOpened
    | HostsRecalled
    | HostsRetried
    | HostsLeftOut
    | StratumHeld
    | RevertHastened
    | ChecksAsked
    | CheckReported
    | ChecksOverridden
)
# After these nothing but the rollout itself is looked at.
RolloutOnly = (
    ApprovalAwaited | ApprovalGiven | GateOverridden | RestOpened | ChecksAsked | CheckReported | ChecksOverridden
)


def _why(remark: str) -> str:
    return f": {remark}" if remark else ""
