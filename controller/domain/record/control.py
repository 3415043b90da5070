"""What operators decide about a rollout, and what paces it: events of a rollout's own stream."""

from dataclasses import dataclass

from controller.domain.record.checks import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutResumed:
    """An operator lets a paused rollout go on; hosts whose rig failed until now are left out of their wave."""

    at: float
    by: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAwaited:
    """The open wave may begin only when enough persons have approved it."""

    at: float
    wave: int
    # Without enough approvals the rollout pauses then.
    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGiven:
    at: float
    wave: int
    by: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOverridden:
    """An operator goes on although the gate held the wave: the only way past it, and it stays on record."""

    at: float
    wave: int
    by: str
    remark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestOpened:
    """An operator opens all waves that are left at once; they are judged together, and the budget still holds."""

    at: float
    by: str
    remark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsRecalled:
    """These finished or baking hosts may be returned now."""

    at: float
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsRetried:
    """These hosts, whose rig failed, begin their journey again."""

    at: float
    hosts: tuple[str, ...]
    by: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsLeftOut:
    """These hosts, whose turn has not come, stay on their kernel."""

    at: float
    hosts: tuple[str, ...]
    by: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumHeld:
    """The kernel failed in one stratum: its hosts return and no further one starts; the others go on."""

    at: float
    stratum: str
    reason: str
    # What caused it; empty when the gate did.
    host: str = ""
    line: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertHastened:
    """An operator lifts the disruption budget from a way back that is under way."""

    at: float
    by: str
    remark: str = ""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksOverridden:
    """An operator goes on although checks of the wave have not passed: it stays on record."""

    at: float
    wave: int
    # Those that had not passed.
    checks: tuple[str, ...]
    by: str
    remark: str


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
