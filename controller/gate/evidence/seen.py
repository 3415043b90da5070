"""What the gate judges: the plan fixed beforehand, and what was seen on each host."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from controller.gate.evidence.selftests import NO_CASES, Cases
from controller.gate.kernel_log import Finding, KnownLine
from controller.gate.verdict import Action


class Side(StrEnum):
    """Which kernel a run was made on."""

    OLD = "old"
    NEW = "new"


class Outcome(StrEnum):
    """How a run ended. Everything but INFRASTRUCTURE and CANCELLED is an outcome of the kernel, never missing data."""

    OK = "ok"
    FAILED = "failed"  # the workload found the kernel wanting
    DIED = "died"
    TIMED_OUT = "timed_out"
    LOST = "lost"  # the host did not come back from it
    CANCELLED = "cancelled"  # on request; says nothing
    INFRASTRUCTURE = "infrastructure"  # the rig, not the kernel; says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a workload. Leave warm-ups out, unless they did not end OK."""

    # Unique within the host; the same run may be listed more than once.
    run_id: str
    side: Side
    outcome: Outcome
    # metric -> value, in the metric's unit.
    values: Mapping[str, float] = field(default_factory=dict)
    # Counts how often this side was measured on this host: a later attempt replaces what died before it.
    attempt: int = 0
    # What the agent said of a run that is not OK.
    error: str = ""
    # Only runs of the same workload make each other good.
    workload: str = ""
    # What a run of the kernel's selftests told of them; none in other runs.
    cases: Cases = NO_CASES


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEvidence:
    """Everything seen on one host that changed kernel."""

    host: str
    stratum: str
    runs: tuple[Run, ...] = ()
    # What the kernel log showed under the new and under the old kernel, and what of it was not read.
    findings: tuple[Finding, ...] = ()
    old_findings: tuple[Finding, ...] = ()
    # Why the host does not run the new kernel as it should (panic, hang, silence): a sentence without the host's name.
    # Empty: it lives.
    lost: str = ""
    # Why the rig could not measure this host; empty when it could.
    broken_rig: str = ""
    # Capacity that the metrics per TiB were measured on; None takes 1 TiB.
    device_tib: float | None = None
    # Swap the host has in production, for the fleet total; None takes the measured device.
    swap_tib: float | None = None
    # uname -r before and after, for the comparison with structure sizes; may be empty.
    old_release: str = ""
    new_release: str = ""
    page_size_bytes: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimPlan:
    """A claimed saving: `metric` falls by `at_least` or more."""

    metric: str
    at_least: float
    confidence: float = 0.99
    # What a refuted claim asks for: HOLD or REVERT.
    on_refuted: Action = Action.HOLD
    # Whether the fleet total is told.
    extrapolate: bool = True
    # Replaces the metric's declared error of a run, in its unit.
    sigma_run: float | None = None
    # (stratum, deviation of one host's saving in the unit) where a ledger has seen enough hosts.
    sigma_host: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePlan:
    """What must be shown, fixed before the first look."""

    claims: tuple[ClaimPlan, ...]
    # Stratum -> hosts that must have finished; a stratum without evidence is judged as missing.
    required_hosts: Mapping[str, int]
    # Workload -> runs needed on each side of every host; one where nothing is said.
    repetitions: Mapping[str, int] = field(default_factory=dict)
    # True once no more data will come: what is missing then is INCONCLUSIVE, not NEED_MORE_DATA.
    final: bool = True
    # (stratum, metric) -> why the cell must not decide.
    suspended: Mapping[tuple[str, str], str] = field(default_factory=dict)
    # Lines of kernel logs that count nowhere.
    known_lines: tuple[KnownLine, ...] = ()
    # Why kernel logs with holes, or none, do not hold; empty: they hold.
    accept_missing_logs: str = ""
