"""A trial from anywhere: the plan fixed before it, one run's value, and what was decided.

The rollout engine has its own words for its evidence (`evidence`); these are for measurements that somebody brings.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from controller.gate.evidence.seen import Outcome
from controller.gate.kernel_log import KnownLine
from controller.gate.statistics.cells import ALPHA_PROMOTE, ALPHA_REVERT, Design
from controller.gate.verdict import Action, Cell, MetricRole, Verdict

# A boot's value is the median of its runs; with fewer than this one odd run decides it.
FEWEST_RUNS: Final = 4


class Arm(StrEnum):
    """What happens to a host between its first and its second measurement."""

    TREATED = "treated"  # it changes kernel
    CONTROL = "control"  # it only reboots


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialClaim:
    """A saving that a nearly deterministic metric must show, with its errors declared beforehand, in its unit."""

    at_least: float
    confidence: float = 0.99
    # Standard deviation of one run, and of one host's own saving.
    sigma_run: float
    sigma_host: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialMetric:
    """One metric of the plan."""

    name: str
    unit: str
    role: MetricRole
    # False as well for a metric that has no better direction (negative controls).
    higher_is_better: bool = False
    # Tolerable change for the worse as a share: 0.03 is a ratio of 1.03. None for a claim.
    margin: float | None
    # Standard deviation of one contrast as a share, known beforehand; None judges ranks in one look.
    sigma: float | None = None
    claim: TrialClaim | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """When one stratum is looked at, fixed beforehand by time: a look sees what was complete by then."""

    stratum: str
    # In the time of the measurements, ascending.
    until: tuple[float, ...]
    # Blocks planned by then; control hosts beside them, for two arms only.
    blocks: tuple[int, ...]
    controls: tuple[int, ...] = ()
    # (metric, standard deviation of one contrast as a share) where one is known beforehand: few blocks of a steady
    # metric can be decided by it alone.
    sigmas: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPlan:
    """Everything that is fixed before the first look."""

    design: Design
    metrics: tuple[TrialMetric, ...]
    # Empty: those of the runs. A stratum named here and without runs is missing data, not success.
    strata: tuple[str, ...] = ()
    alpha_revert: float = ALPHA_REVERT
    alpha_promote: float = ALPHA_PROMOTE
    # Blocks enrolled at each look, ascending; empty takes those that sigma asks for, or one look without a sigma.
    looks: tuple[int, ...] = ()
    # In place of `looks`, per stratum; looks up to `due` have come.
    calendars: tuple[Calendar, ...] = ()
    due: float = math.inf
    # The most blocks a stratum may have; None for no limit.
    budget_blocks: int | None = None
    # Measured runs that a host needs on each kernel.
    runs: int = FEWEST_RUNS
    # Hosts that are left out, and told.
    quarantined: tuple[str, ...] = ()
    # (stratum, metric) -> why the cell must not decide.
    suspended: Mapping[tuple[str, str], str] = field(default_factory=dict)
    # Strata that share the error of a false revert, judged here or not; None for those that are.
    family_strata: int | None = None
    # True: no more data will come, so what is undecided is INCONCLUSIVE instead of NEED_MORE_DATA.
    final: bool = True
    # Lines of kernel logs that count nowhere.
    known_lines: tuple[KnownLine, ...] = ()
    # Why logs that could not be read do not hold; empty: they hold.
    accept_missing_logs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One metric of one run."""

    host: str
    stratum: str
    arm: Arm
    # 1 and 2 for first and second; 1 to 4 for old, new, new, old.
    position: int
    # Repetition of the whole walk on one host, from 1.
    cycle: int
    # What joins a treated and a control host; empty outside matched pairs.
    pair: str
    boot: str
    run: str
    metric: str
    # None unless the run ended well.
    value: float | None
    outcome: Outcome
    warmup: bool
    # Seconds since the Unix epoch; None when not told. Decides the order of enrolment only.
    time: float | None
    # Lines of the kernel log of the run's boot, as far as they were brought.
    kernel_log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumVerdict:
    """What the cells of one stratum amount to."""

    stratum: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialDecision:
    """What the measurements ask for."""

    action: Action
    verdict: Verdict
    sentence: str
    strata: tuple[StratumVerdict, ...]
    # By stratum; completion first, then by metric.
    cells: tuple[Cell, ...]
    # Observations that decide nothing.
    remarks: tuple[str, ...]
    # (stratum, why it should stop now whatever the verdict): hosts that got worse beyond any doubt.
    warnings: tuple[tuple[str, str], ...] = ()
