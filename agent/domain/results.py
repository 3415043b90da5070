"""What the agent reports: runs, outcomes and kernel log, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class RunStatus(StrEnum):
    """How one run ended."""

    OK = "ok"
    FAILED = "failed"  # ran, and found the kernel wanting
    DIED = "died"  # agent or workload was killed half-way; what was set up has been taken down since
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    INFRASTRUCTURE = "infrastructure"  # the rig, not the kernel


class OutcomeStatus(StrEnum):
    """How one command ended."""

    COMPLETED = "completed"
    FAILED = "failed"  # at least one run found the kernel wanting
    DIED = "died"  # the agent died half-way, restarted and cleaned up
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    UNSUPPORTED = "unsupported"  # this agent does not know the command or the workload
    REFUSED = "refused"  # stale epoch, busy, or no room for its reports
    INFRASTRUCTURE = "infrastructure"  # the rig, not the kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured number."""

    metric: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRun:
    """One run of a workload, measured under one boot."""

    workload: str
    # Counts from 0 inside one command, warm-ups included.
    index: int
    warmup: bool
    status: RunStatus
    # Empty when the run is OK.
    error: str = ""
    samples: tuple[Sample, ...] = ()
    # Raw text by name, for a reader who wants to see it again.
    evidence: Mapping[str, str] = field(default_factory=dict)
    duration_s: float = 0.0
    kernel_release: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOutcome:
    """How a command ended, and why."""

    status: OutcomeStatus
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRecord:
    """One record of /dev/kmsg."""

    # Monotonic within one boot.
    sequence: int
    monotonic_us: int
    # syslog level, 0 (emerg) to 7 (debug).
    level: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLog:
    """Records worth a controller's attention, and how many were overwritten unread."""

    records: tuple[KernelRecord, ...]
    lost_records: int
    # Why the log cannot be read, or not any more; empty when it can.
    unreadable: str = ""


ReportBody = WorkloadRun | CommandOutcome | KernelLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One reliable message. Its id is derived from what it reports, so that a second telling has the same id."""

    report_id: str
    # Empty when the report belongs to no command.
    command_id: str
    boot_id: str
    # Seconds since the Unix epoch.
    at: float
    body: ReportBody


def run_report_id(host: str, command_id: str, index: int) -> str:
    """Return the id of the report of one run."""
    return f"{host}/{command_id}/run/{index}"


def outcome_report_id(host: str, command_id: str) -> str:
    """Return the id of the report of a command's one final outcome."""
    return f"{host}/{command_id}/outcome"


def stale_report_id(host: str, command_id: str, epoch: int) -> str:
    """Return the id of the refusal of one stale telling: a later epoch may send the command again and be obeyed."""
    return f"{host}/{command_id}/stale/{epoch}"


def kernel_log_report_id(host: str, boot_id: str, log: KernelLog) -> str:
    """Return the id of a kernel log batch. Both ends are in it: after a crash a batch may begin alike and end later."""
    first = log.records[0].sequence if log.records else 0
    last = log.records[-1].sequence if log.records else 0
    unreadable = "/unreadable" if log.unreadable else ""
    return f"{host}/{boot_id}/kernel-log/{first}-{last}/{log.lost_records}{unreadable}"


def lost_records_report_id(host: str, boot_id: str, lost: int | str) -> str:
    """Return the id of the report that a boot's count of lost records is `lost`; with "", how all of them begin."""
    return f"{host}/{boot_id}/kernel-log-lost/{lost}"
