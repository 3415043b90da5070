"""The view models, values only: what the command line, the API, JSON and reports show.

Field names are those of protos/kernroll/v1/operator.proto, so that both convert without a table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NewType

from controller.domain.hosts.host import HostFacts
from controller.domain.hosts.loaders import BootRefusal, HostWatchdog

# Seconds since the Unix epoch. Fields of this type are written as RFC 3339 in JSON.
Epoch = NewType("Epoch", float)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalView:
    """An estimate with its interval."""

    low: float
    estimate: float
    high: float


@dataclass(frozen=True, slots=True)
class LiveProgress:
    """The newest thing that was said about a host's work; kept in memory only."""

    # For example "run 2 of 4: reading /proc/meminfo".
    step: str
    # 0 to 1.
    fraction: float
    # Whether it is of a kernel's delivery; otherwise it is an agent's measurement.
    delivers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelView:
    """The kernel of one architecture."""

    architecture: str
    release: str
    digest: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProgressView:
    """One host's place in its journey."""

    host: str
    stratum: str
    role: str
    step: str
    # What the agent is doing, or why the host stopped; may be empty.
    detail: str
    # uname -r as last heard; empty before the host's turn.
    kernel_release: str
    # None before the host's turn.
    step_since: Epoch | None
    # None when the step waits for nothing.
    deadline: Epoch | None
    # How much of the present step is done, 0 to 1.
    fraction: float
    # None until both kernels were measured here.
    saving: IntervalView | None
    # Empty without a saving.
    saving_unit: str
    # Boots heard of since the host's turn began, the one it began under included.
    boots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveView:
    """One wave."""

    # Counts from 1, as people do.
    number: int
    # "waiting", "active", "baking", "checking" (its checks are awaited), "passed" or "failed"; a wave that was judged
    # or checked and did not pass has failed.
    state: str
    hosts: tuple[HostProgressView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictView:
    """The newest verdict on one metric in one stratum."""

    stratum: str
    metric: str
    verdict: str
    # "confirmed", "refuted", "open", or empty when no claim was judged.
    claim: str
    sentence: str
    # None when there was nothing to estimate from.
    interval: IntervalView | None
    # What was claimed, or the margin; 0 when there is none.
    bound: float
    hosts: int
    unit: str
    # "critical"; "guard" and "negative_control", which can hold; "told": decides nothing.
    role: str = "critical"
    # Of two arms the control hosts beside `hosts`; the look that decided, from 1, of how many; 0 without looks.
    controls: int = 0
    look: int = 0
    looks: int = 0
    # Hosts (pairs, cycles) far outside the others.
    outliers: tuple[str, ...] = ()

    @property
    def worth_a_line(self) -> bool:
        """Whether a short view shows it: what decides, and what is told with an answer."""
        return self.role == "critical" or self.verdict not in ("NEED_MORE_DATA", "INCONCLUSIVE")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckView:
    """What is known of one check of one wave."""

    # Counts from 1.
    wave: int
    name: str
    # "prometheus", "alerts", "webhook" or "manual".
    kind: str
    # "awaited", "passed", "failed", "inconclusive", "timed_out", "skipped" (an operator went on without it) or
    # "unanswered" (nobody waits for it any more).
    state: str
    # What it said last; may be empty.
    detail: str
    # The value that decided, and what it must keep ("at most 0.01"); None and empty where there is none.
    value: float | None
    bound: str
    # The person who reported; empty when a program did.
    by: str
    # Whether it is only reported.
    dry_run: bool
    # How often the wave's checks were asked: once, and again after every resume.
    tries: int
    # None until it said something.
    reported_at: Epoch | None
    # None when it is not awaited any more.
    deadline: Epoch | None
    # Without a full stop.
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """A whole rollout."""

    name: str
    state: str
    # None until it starts, and until it ends.
    started_at: Epoch | None
    ended_at: Epoch | None
    waves: tuple[WaveView, ...]
    # The one thing the rollout waits for or ended with, as a sentence.
    blocking_reason: str
    # What happens next by itself, and when; empty and None when nothing does.
    next_deadline_name: str
    next_deadline: Epoch | None
    verdicts: tuple[VerdictView, ...]
    # Grows with every recorded change of the rollout or one of its hosts.
    revision: int
    terminal: bool
    kernels: tuple[KernelView, ...]
    # Of every wave that was asked about, the newest time.
    checks: tuple[CheckView, ...] = ()
    # Hosts whose power was cut and given again, or may have been: once each.
    power_cycles: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFactsView(HostFacts):
    """What a host is, as its agent described it last."""

    hostname: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BootKernelView:
    """A kernel that a host boots."""

    digest: str
    # As `uname -r` would say; empty when the host does not tell it.
    release: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBootRecordView:
    """One start of a kernel on a host."""

    # Counts from 1.
    number: int
    kernel: BootKernelView
    # "initial", "trial", "requested", "fallback", "restart" or "revert".
    cause: str
    # "panic", "reset", "not_acknowledged", "not_blessed", "replaced" or "stopped"; empty while it runs.
    end: str
    # The most telling line of its end; may be empty.
    line: str
    # The delivery command that asked for it; empty for boots nobody asked for.
    command_id: str
    started_at: Epoch
    # None while it runs, and where nobody knows.
    ended_at: Epoch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBootView:
    """What a host that starts from its own disk says of its boot."""

    # "grub" or "systemd-boot".
    loader: str
    # What boots when nothing is armed, and what runs; None where the host does not tell it.
    default_kernel: BootKernelView | None
    running_kernel: BootKernelView | None
    # What boots once; None when nothing does.
    armed_kernel: BootKernelView | None
    # Whether a newly installed kernel leaves the default alone.
    pinned: bool
    # When it was proven that the host comes back by itself, None when it is not; by what it boots, empty then.
    proven_at: Epoch | None
    boots_by: str
    # Why the newest rehearsal was not passed; empty while it may be, or when it was.
    rehearsal_failed: str
    # What speaks against giving the host a kernel.
    refusals: tuple[BootRefusal, ...]
    # Why the host itself took back what was armed; empty where it did not.
    withdrawn: str
    # None where its kernroll-boot does not tell.
    watchdog: HostWatchdog | None
    # The newest, oldest first; none in lists of hosts.
    boots: tuple[HostBootRecordView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """One enrolled host."""

    name: str
    stratum: str
    connected: bool
    # None when it was never heard.
    last_seen: Epoch | None
    facts: HostFactsView
    # The active rollout that holds this host, and the host's step in it; empty when none does.
    rollout: str
    step: str
    # As they hold: the agent's, under what inventories say, under what operators set by hand.
    labels: Mapping[str, str]
    # Why no rollout takes the host, for example "by olga: memory errors"; empty when one may.
    quarantine: str
    # What an operator has to know, for example that two machines use this name; empty when all is well.
    attention: str = ""
    # Reports that the agent holds and the controller has not acknowledged; 0 while it is away.
    spooled_reports: int = 0
    # None for a host that does not start from its own disk, or has no kernroll-boot.
    boot: HostBootView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerCellView:
    """What is known of one cell's noise."""

    stratum: str
    metric: str
    # Boots measured, and hosts with two neighbouring boots under one kernel.
    boots: int
    hosts: int
    # The deviation of one host's change that plans take, in `unit` ("%" or the metric's own).
    noise: float
    unit: str
    # Hosts it was learned from; 0 when it is the prior.
    noise_hosts: int
    # Old-vs-old judgements, and those that called the old kernel worse.
    judgements: int
    false_reverts: int
    # Why it must not decide; empty when it may.
    suspended: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerView:
    """What old-vs-old measurements have taught, by stratum and metric."""

    cells: tuple[LedgerCellView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationView:
    """Why a rollout stands where it stands."""

    # Names host, signal and console line where there are any.
    sentence: str
    evidence: tuple[str, ...]
    # The command to run next.
    next_command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportView:
    """The before/after report in its four forms."""

    # Mailing-list plain text, at most 78 columns.
    text: str
    markdown: str
    # A JSON document.
    json: str
    # The tests alone, in the form of a cover letter.
    letter: str


@dataclass(frozen=True, slots=True)
class JoinTokenView:
    """A join token; whoever has it can enroll hosts until it is used up or expires."""

    token: str


@dataclass(frozen=True, slots=True)
class CertificateView:
    """An operator's certificate that was renewed."""

    # Where it was written.
    file: str
    not_after: Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLineView:
    """One line of the log."""

    at: Epoch
    # Seconds since the rollout was planned.
    offset_s: float
    # Empty for what concerns the whole rollout.
    host: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutLogView:
    """A rollout's log, oldest first."""

    name: str
    lines: tuple[LogLineView, ...]
    # Older ones that are not shown.
    left_out: int
    # What is under way on hosts at this moment, by host's name.
    under_way: tuple[LogLineView, ...]
