"""What a rollout would do, as views: waves, comparisons, claims, checks, and what the fleet can see."""

from dataclasses import dataclass

from controller.views.models import KernelView


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMemberView:
    """A host that is compared."""

    host: str
    # "treated", "control" (only reboots) or "crossover" (is compared with itself).
    role: str
    # The same for both hosts of a pair; empty outside matched pairs.
    pair: str
    # How often a crossover host boots old, new, new, old.
    cycles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWaveView:
    """One wave of a plan; `number` counts from 1."""

    number: int
    hosts: tuple[str, ...]
    bake_s: float
    # Those of the hosts that are compared, in their order.
    compared: tuple[PlannedMemberView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedComparisonView:
    """Who is compared in a stratum, and when that is looked at."""

    stratum: str
    # Treated hosts, pairs or cycles, and control hosts beside them.
    blocks: int
    controls: int
    # Blocks by the end of every wave that brings some.
    looks: tuple[int, ...]
    # The wave, from 1, after which it is decided.
    decided_after: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedClaimView:
    """What must be seen to promote."""

    metric: str
    unit: str
    at_least: float
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCheckView:
    """What else must pass at the end of every wave."""

    name: str
    kind: str
    dry_run: bool
    every_s: float
    # From the verdict of the wave.
    deadline_s: float
    # "pause" or "revert".
    on_fail: str
    on_timeout: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDesignView:
    """What one design takes for a cell's margin, and what it can see with the hosts there are."""

    # "two_arms", "matched_pairs" or "abba".
    design: str
    # Control hosts included.
    hosts_needed: int
    # Treated hosts, pairs or cycles: what it takes, and what the stratum's hosts make.
    blocks_needed: int
    blocks_there: int
    # The earliest look that can FAIL, in blocks; 0 when none can.
    first_fail: int
    # The smallest margin in percent that can be decided on; 0 when so few decide nothing.
    detectable: float
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCellView:
    """A performance metric in one stratum, before anything reboots."""

    stratum: str
    metric: str
    role: str
    # In percent: the tolerable change for the worse, and the deviation of a host's change between two boots.
    margin: float
    noise: float
    # Hosts the noise was learned from; 0 when it is the prior.
    noise_hosts: int
    # Hosts of the stratum in this rollout.
    hosts: int
    # Why it must not decide; empty when it may.
    suspended: str
    designs: tuple[PlannedDesignView, ...]
    # Measured runs of every boot, and the fewest that a block needs.
    runs: int
    fewest_runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """What a rollout would do."""

    name: str
    waves: tuple[PlannedWaveView, ...]
    kernels: tuple[KernelView, ...]
    claims: tuple[PlannedClaimView, ...]
    # Sentences; a plan with blockers cannot start.
    blockers: tuple[str, ...]
    notes: tuple[str, ...]
    # Decided the order of hosts.
    seed: str
    host_count: int
    # Old against old: every host keeps its kernel and only reboots.
    aa: bool = False
    # By stratum and metric.
    cells: tuple[PlannedCellView, ...] = ()
    # Asked at the end of every wave, in this order.
    checks: tuple[PlannedCheckView, ...] = ()
    # What bounds its speed, and how long it takes; sentences.
    pace: tuple[str, ...] = ()
    # "before_after", "two_arms", "matched_pairs" or "abba".
    design: str = "before_after"
    # One a stratum, where the design compares hosts.
    comparisons: tuple[PlannedComparisonView, ...] = ()
