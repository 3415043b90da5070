"""What happened, in the order it was learnt: the event log is the truth that state, reports and audit are read from.

Every event is a frozen value whose class name is its type in the log. `at` is seconds since the Unix epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from controller.domain.delivery import BootEnd
from controller.domain.kernels import Kernel
from controller.domain.record.actions.power_cycles import PowerEvent
from controller.domain.record.actions.work import WorkTold
from controller.domain.record.control import ControlEvent
from controller.domain.record.fleet import FleetEvent
from controller.domain.record.journey import Role, Step, Trigger
from controller.domain.record.policy import Policy
from controller.domain.record.verdicts import WaveJudged


class FailureKind(StrEnum):
    """What kind of failure ended a host's journey."""

    PANIC = "panic"
    RESET = "reset"
    HANG = "hang"  # no healthy agent by the boot deadline: hang, no network, or an agent that never starts
    NOT_BLESSED = "not_blessed"
    FATAL_LOG = "fatal_log"
    UNASKED_REBOOT = "unasked_reboot"
    SILENCE = "silence"
    WORKLOAD = "workload"  # the workload found the kernel wanting
    WRONG_KERNEL = "wrong_kernel"
    LOST = "lost"
    DELIVERY = "delivery"  # staging, arming or blessing failed
    INFRASTRUCTURE = "infrastructure"  # the rig, not the kernel
    DEADLINE = "deadline"
    DRILL = "drill"  # the host did not come back by itself from a panic on purpose: nothing may be risked on it


# Failures that condemn the kernel: the rollout reverts on the first.
CONDEMNING = frozenset(
    {
        FailureKind.PANIC,
        FailureKind.RESET,
        FailureKind.HANG,
        FailureKind.NOT_BLESSED,
        FailureKind.FATAL_LOG,
        FailureKind.UNASKED_REBOOT,
        FailureKind.SILENCE,
        FailureKind.WORKLOAD,
        FailureKind.WRONG_KERNEL,
        FailureKind.LOST,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a host's journey ended badly."""

    kind: FailureKind
    # One sentence without the host's name.
    sentence: str
    # The console or kernel-log line that shows it; empty when there is none.
    line: str = ""


class RunState(StrEnum):
    """How one run of a workload ended."""

    OK = "ok"
    FAILED = "failed"
    DIED = "died"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    INFRASTRUCTURE = "infrastructure"


class CommandState(StrEnum):
    """How an agent's command ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    DIED = "died"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    UNSUPPORTED = "unsupported"
    REFUSED = "refused"
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedHost:
    """One host's place in the plan."""

    host: str
    stratum: str
    architecture: str
    role: Role = Role.TREATED
    # Whether it is part of the comparison that decides performance metrics.
    compared: bool = False
    # What joins a treated and a control host; empty outside matched pairs.
    pair: str = ""
    # How often a crossover host walks old, new, new, old.
    cycles: int = 1
    # Whether it is panicked on purpose before it is measured, to prove that it falls back.
    drill: bool = False
    # The delivery that gives it kernels and takes them back, by name; empty in plans from before there was a choice.
    delivered_by: str = ""
    # Where it has to be taken out of service before it goes down, by name; empty where nobody minds.
    place: str = ""


# --- of a rollout ---


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlanned:
    """The rollout exists: spec, kernels and order of hosts are fixed from here on."""

    at: float
    # Unique for ever, unlike the name; part of every command id.
    uid: str
    name: str
    spec_yaml: str
    salt: str
    kernels: Mapping[str, Kernel]
    waves: tuple[tuple[PlannedHost, ...], ...]
    # Soak time per wave.
    bake_s: tuple[float, ...]
    by: str
    # What the spec meant when it was planned: a later version may read the text differently.
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStarted:
    at: float
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsAdmitted:
    """The turn of these hosts has come: they may start."""

    at: float
    wave: int
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveOpened:
    """The wave before passed; this one (counted from 0) may admit hosts."""

    at: float
    wave: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPaused:
    at: float
    reason: str
    # The operator who asked; empty when the engine did.
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPromoted:
    at: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutCompleted:
    """Every host of an A/A rollout was measured; nothing was to be promoted."""

    at: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortStarted:
    """Nothing new starts; hosts in flight are brought back; finished hosts stay."""

    at: float
    reason: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertStarted:
    """Every touched host returns to its former kernel."""

    at: float
    reason: str
    by: str
    # The host and line that caused it; empty for an operator's request.
    host: str = ""
    line: str = ""
    # Whether all hosts return at once, without regard to the disruption budget.
    emergency: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEnded:
    """The terminal state after an abort or a revert, with the hosts that did not come back."""

    at: float
    state: str
    lost: tuple[str, ...] = ()


# --- of one host's attempt ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A decision: the host takes another step."""

    at: float
    trigger: Trigger
    step: Step
    # When the step must be over; None where nothing is waited for.
    deadline: float | None
    leg: int
    # Counts the repetitions of the current step's command.
    tries: int
    # Which of the leg's workloads is measured, from 0.
    task: int = 0
    # The command this step waits for; empty when it waits for none.
    command_id: str = ""
    failure: Failure | None = None
    # As heard last, told when the host starts.
    boot_id: str = ""
    release: str = ""
    page_size_bytes: int = 0
    # On the way into ARM: what the host is told to allow a boot.
    boot_timeout_s: float = 0.0
    # On the way out of a measurement under the new kernel: metrics on which this host got worse by more than ten
    # margins.
    far_worse: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostHeard:
    """A Hello under a boot that was not known, or after a silence."""

    at: float
    boot_id: str
    release: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSilent:
    """The agent's stream ended or its heartbeats stopped."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchResumed:
    """A controller has started: nobody listened to this host before, so what was not heard counts from now."""

    at: float
    # The step's deadline, put off so that the host can speak first; None where the step has none.
    deadline: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReported:
    at: float
    report_id: str
    command_id: str
    boot_id: str
    workload: str
    index: int
    warmup: bool
    state: RunState
    error: str
    # metric -> value; units are fixed per metric.
    values: Mapping[str, float]
    units: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, str] = field(default_factory=dict)
    release: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandReported:
    # When the controller learnt it: the pause before another try counts from here.
    at: float
    report_id: str
    command_id: str
    state: CommandState
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReported:
    """A delivery verb was carried out (error empty) or refused for good."""

    at: float
    command_id: str
    error: str = ""
    # The host's default and running kernel afterwards; empty when unknown.
    default_kernel: str = ""
    running_kernel: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceReported:
    """A host was taken out of service, or put back (error empty), or its place refused that."""

    at: float
    command_id: str
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnded:
    """The boot that this attempt asked for ended without being asked to."""

    at: float
    command_id: str
    end: BootEnd
    line: str
    # Whether the controller was away while this boot ran: nobody may have been there to bless it.
    unattended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FatalLogged:
    """The host's kernel log shows a line that condemns the kernel."""

    at: float
    report_id: str
    boot_id: str
    signature: str
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFinding:
    """What a kernel log shows that does not condemn the kernel at once, and what of it could not be read."""

    # Type and place without what differs from boot to boot.
    signature: str
    line: str
    boot_id: str
    # "serious", "unread", or "fatal" where the old kernel writes it too or an operator has excepted it.
    severity: str = "serious"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriousLogged:
    """The host's kernel log shows serious lines that it had not shown under this boot before."""

    at: float
    report_id: str
    findings: tuple[LogFinding, ...]
    # Signatures of this boot that further lines of the same report have completed: `findings` has them whole.
    replaced: tuple[str, ...] = ()


DecidedEvent = (
    RolloutPlanned
    | RolloutStarted
    | HostsAdmitted
    | WaveJudged
    | WaveOpened
    | RolloutPaused
    | RolloutPromoted
    | RolloutCompleted
    | AbortStarted
    | RevertStarted
    | RolloutEnded
)
RolloutEvent = DecidedEvent | ControlEvent
AttemptEvent = (
    Moved
    | HostHeard
    | HostSilent
    | WatchResumed
    | RunReported
    | CommandReported
    | DeliveryReported
    | PlaceReported
    | PowerEvent
    | TrialEnded
    | FatalLogged
    | SeriousLogged
    | WorkTold
)
Event = RolloutEvent | AttemptEvent | FleetEvent
