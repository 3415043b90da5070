"""The numbers that decide a rollout's steps, as its plan recorded them: resolved, in seconds, nothing left to ask."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.domain.record.checks import Check
from controller.domain.record.windows import Window
from controller.gate.kernel_log import KnownLine


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A saving the author of the kernel claims."""

    metric: str
    unit: str
    at_least: float
    # Two-sided confidence of the interval.
    confidence: float = 0.99
    # Whether the report multiplies the saving by the fleet's swap.
    extrapolate: bool = True
    # "pause" or "revert".
    on_refuted: str = "pause"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One workload of a leg."""

    # By the contract's names, as are its parameters: texts, numbers, truth values, lists, and mappings of those.
    workload: str
    preset: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    repetitions: int
    warmups: int
    # All runs of one leg together.
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendedCell:
    """A cell that must not decide, because it failed old against old more often than promised."""

    stratum: str
    metric: str
    # A sentence without a full stop.
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceBound:
    """How many hosts of one place may be unavailable at the same time."""

    # "fleet", or a label whose every value is a place.
    key: str
    # Exactly one of the two; the share is rounded down and is at least one host.
    count: int | None = None
    share: float | None = None

    def allowed(self, known: int) -> int:
        """Return the number for a place of `known` hosts."""
        if self.count is not None:
            return self.count
        assert self.share is not None, "a bound has a count or a share"
        # 1e-9 forgives binary fractions.
        return max(1, math.floor(self.share * known + 1e-9))


@dataclass(frozen=True, slots=True, kw_only=True)
class WavePolicy:
    """What holds for one wave beside its soak time."""

    max_duration_s: float
    # Persons who must approve it.
    approvals: int = 0


# A wave whose plan said nothing.
LONGEST_WAVE_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the engine may do, how long it waits, and what it does when a verdict is in."""

    # None: only `max_unavailable` bounds it.
    max_in_flight: int | None
    stage_timeout_s: float
    # None: by platform, then learned.
    boot_timeout_s: float | None
    probation_timeout_s: float
    baseline_timeout_s: float
    silence_timeout_s: float
    revert_timeout_s: float
    # How often a leg is measured again after the rig broke.
    infrastructure_retries: int
    # How often a leg is measured again after a run died or timed out; the next one is an outcome.
    died_retries: int
    # Run one after the other on every kernel; at least one.
    tasks: tuple[Task, ...]
    # One entry per wave.
    bake_s: tuple[float, ...]
    claims: tuple[Claim, ...]
    # "revert" or "hold".
    on_stratum_failure: str
    # How performance metrics are decided: "before_after" (not at all), "two_arms", "matched_pairs", "abba".
    design: str = "before_after"
    # Stratum -> metric -> standard deviation of one contrast as a share, by what was known when it was planned.
    contrast_sigmas: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    # Whether every host keeps its kernel and only reboots: old against old, to learn the noise.
    aa: bool = False
    # Performance metric -> tolerable change for the worse, as a share.
    margins: Mapping[str, float] = field(default_factory=dict)
    suspended: tuple[SuspendedCell, ...] = ()
    # Metric that can carry a claim -> stratum -> standard deviation of one host's saving, in the metric's unit, where
    # the ledger has seen enough hosts.
    sigma_host: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    max_unavailable: tuple[PlaceBound, ...] = ()
    # Hosts whose rig may fail before the rollout pauses: so many, or the share of the open waves, whatever is more.
    error_budget_hosts: int = 0
    error_budget_share: float = 0.0
    approval_timeout_s: float = 7 * 86_400.0
    # When hosts may be taken down; empty: always.
    windows: tuple[Window, ...] = ()
    # One entry per wave.
    waves: tuple[WavePolicy, ...] = ()
    # Longest way back of a host that was panicked on purpose; None where none is.
    revert_slo_s: float | None = None
    # Asked at the end of every wave.
    checks: tuple[Check, ...] = ()
    # Labels that strata are split by, in order. None in logs from before this was kept.
    strata_labels: tuple[str, ...] | None = None
    # Whether what a host measured counts although more than its kernel changed: "show" or "void".
    confounders: str = "show"
    # Lines of kernel logs that are held against no kernel.
    known_lines: tuple[KnownLine, ...] = ()
    # How often the power of a host that neither boots nor falls back may be cut: 0, or once in an attempt.
    power_cycles: int = 0
    # Whether a kernel is armed only where a watchdog would end a hang of it; asked of hosts that start from their disk.
    require_watchdog: bool = False
    # Why kernel logs with holes, or none, do not hold a wave; empty: they hold it.
    accept_missing_logs: str = ""
