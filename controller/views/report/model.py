"""What a before/after report says, as values; units are in the names or beside the numbers."""

from dataclasses import dataclass

from controller.views.models import CheckView, Epoch, IntervalView, KernelView, VerdictView

# Grows when a field changes its meaning; new fields do not change it.
SCHEMA = "kernroll.report/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeOutput:
    """What `free -m` printed, column by column, in MiB."""

    columns: tuple[str, ...]
    # The line's name ("Mem", "Swap") with its numbers; a short line has fewer numbers than columns.
    lines: tuple[tuple[str, tuple[str, ...]], ...]
    # The "used" number of memory.
    used_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeTable:
    """The cover letter's table for one stratum: `free -m` around swapon on both kernels, from one host."""

    stratum: str
    host: str
    device_tib: float
    old_release: str
    new_release: str
    # The run whose cost is the median of its kernel's runs on this host.
    old_before: FreeOutput
    old_after: FreeOutput
    new_before: FreeOutput
    new_after: FreeOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumCost:
    """One claimed metric in one stratum, on both kernels: the mean of the hosts' means."""

    stratum: str
    metric: str
    unit: str
    title: str
    hosts: int
    old_runs: int
    new_runs: int
    old_release: str
    new_release: str
    old: float
    new: float
    # Median over all runs; None when it was not measured.
    old_swapon_s: float | None
    new_swapon_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceResult:
    """One performance metric in one stratum, on both kernels; told, not judged."""

    stratum: str
    workload: str
    metric: str
    unit: str
    higher_is_better: bool
    # Hosts that measured both kernels, and all their runs.
    hosts: int
    old_runs: int
    new_runs: int
    # Means over the runs.
    old: float
    new: float
    # Coefficient of variation over the runs, in percent; None for fewer than two.
    old_cv: float | None
    new_cv: float | None
    # Of the means, in percent; None when the old one is zero.
    change: float | None
    # Hosts that are left out because their baseline scatters too much, and why; all are shown where none is fit.
    unqualified: tuple[tuple[str, str], ...]
    # What was run, by name: "command", "server_command", "config", "built", …
    told: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostResult:
    """One host: what it ran, what it showed, and where it ended."""

    host: str
    stratum: str
    role: str
    # Counts from 1.
    wave: int
    step: str
    old_release: str
    new_release: str
    old_kernel_digest: str
    # Boots heard of, the one it began under included.
    boots: int
    boot_ids: tuple[str, ...]
    metric: str
    unit: str
    # Every judged value, in the order measured.
    old_values: tuple[float, ...]
    new_values: tuple[float, ...]
    # None until both kernels were measured.
    saving: IntervalView | None
    old_swapon_s: float | None
    new_swapon_s: float | None
    # Runs by how they ended, warm-ups apart: "ok", "died", ...
    runs: tuple[tuple[str, int], ...]
    warmups: int
    # Values far from their host's others, for example "new run 2: 590.1 MiB/TiB"; named, never left out.
    outliers: tuple[str, ...]
    # What the host is; 0 and empty when it is not known any more.
    platform: str
    page_size_bytes: int
    memory_bytes: int
    cpu_count: int
    kernel_command_line: str
    agent_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureResult:
    """A host whose journey ended badly."""

    host: str
    stratum: str
    kind: str
    sentence: str
    # The console or kernel-log line; empty when there is none.
    line: str
    condemns_kernel: bool
    # When it failed; of a host that was not heard by then, when it was heard last.
    failed_at: Epoch | None
    # Seconds from then until the host answered on its old kernel; None when it did not.
    back_after_s: float | None
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetResult:
    """A claimed saving added up over the measured hosts' swap."""

    metric: str
    saving: IntervalView
    unit: str
    swap_tib: float
    hosts: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of the timeline."""

    at: Epoch
    # Seconds since the rollout was planned.
    offset_s: float
    # Empty for what concerns the whole rollout.
    host: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything, rebuilt from the event log and the hosts' facts."""

    schema: str
    rollout: str
    state: str
    reason: str
    planned_by: str
    seed: str
    planned_at: Epoch
    started_at: Epoch | None
    ended_at: Epoch | None
    # Old against old: the hosts kept their kernel, and "new" is their second boot.
    aa: bool
    kernels: tuple[KernelView, ...]
    # Of every interval below, two-sided.
    confidence: float
    # What is appended to the hosts' own command line under the new kernel, by architecture.
    command_lines: tuple[tuple[str, str], ...]
    free_tables: tuple[FreeTable, ...]
    costs: tuple[StratumCost, ...]
    performance: tuple[PerformanceResult, ...]
    verdicts: tuple[VerdictView, ...]
    # How performance was compared: "before_after" (not at all), "two_arms", "matched_pairs" or "abba".
    design: str
    # Hosts that were measured twice, far outside the others, and left out; observations that decide nothing.
    quarantined: tuple[str, ...]
    remarks: tuple[str, ...]
    fleet: tuple[FleetResult, ...]
    # Sentences that set the measurements against the sizes of the kernel's structures.
    structure_sizes: tuple[str, ...]
    hosts: tuple[HostResult, ...]
    failures: tuple[FailureResult, ...]
    lost: tuple[str, ...]
    timeline: tuple[Moment, ...]
    # What else had to pass at the end of every wave.
    checks: tuple[CheckView, ...] = ()
    # What changed on hosts between their kernels beside the kernel, one sentence a change.
    confounders: tuple[str, ...] = ()
