"""What simulated rollouts came to: one run in full, and many runs as shares."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Of many breaches or reasons a person reads this many.
_SHOWN = 8
# A reason names the host first; runs are counted by what follows.
_HOST_END = ": "


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedWaveView:
    """One wave as it went: seconds since the rollout's start."""

    hosts: int
    opened_s: float
    # None: it was never judged.
    judged_s: float | None = None
    # What the gate decided: "promote", "hold" or "revert"; empty when it was not asked.
    decision: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationView:
    """One simulated rollout."""

    seed: str
    hosts: int
    # The rollout's last state, and why.
    state: str
    reason: str
    # Virtual seconds from the start to the end, or to where nothing happens any more.
    duration_s: float
    waves: tuple[SimulatedWaveView, ...] = ()
    # Step -> hosts that stand there at the end.
    steps: Mapping[str, int] = field(default_factory=dict)
    # Boots since the start.
    boots: int = 0
    # Most hosts that were down at the same time.
    most_unavailable: int = 0
    # Seconds that hosts spent on a new kernel that is truly worse there, all hosts together.
    bad_kernel_host_s: float = 0.0
    # Events in the log.
    events: int = 0
    # What happened to the controller and what operators did: kind -> how often.
    incidents: Mapping[str, int] = field(default_factory=dict)
    # (stratum, metric) where the new kernel is truly worse than its margin or its claim allows.
    true_regressions: tuple[tuple[str, str], ...] = ()
    # Hosts on which the new kernel is broken: panics, hangs, oopses, kills workloads.
    broken_hosts: int = 0
    # What must never happen and did, one sentence each.
    breaches: tuple[str, ...] = ()

    @property
    def kernel_is_bad(self) -> bool:
        """Whether the new kernel truly should not be promoted."""
        return bool(self.true_regressions) or self.broken_hosts > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonView:
    """A reason why runs stopped, without the host it names, and how many there were."""

    state: str
    reason: str
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionView:
    """Many runs of the same rollout."""

    runs: int
    # Last state -> runs.
    states: Mapping[str, int]
    reasons: tuple[ReasonView, ...]
    # Runs that ended without promotion although nothing is wrong with the kernel, and how many kernels were right.
    good_kernels: int
    good_kernels_turned_down: int
    # Runs that promoted although the kernel is truly worse than allowed, and how many were.
    bad_kernels: int
    bad_kernels_promoted: int
    # Median and worst over the runs.
    duration_median_s: float
    duration_longest_s: float
    most_unavailable: int
    bad_kernel_host_median_s: float
    bad_kernel_host_most_s: float
    events: int
    # Seed -> the first sentence of what must never happen and did.
    breaches: Mapping[str, str]


def distribution(runs: Sequence[SimulationView]) -> DistributionView:
    """Return what many runs have in common; raises ValueError for none."""
    if not runs:
        raise ValueError("no run, no distribution")
    good = [run for run in runs if not run.kernel_is_bad]
    bad = [run for run in runs if run.kernel_is_bad]
    reasons = Counter((run.state, _without_host(run.reason)) for run in runs if run.state != "promoted")
    return DistributionView(
        runs=len(runs),
        states=dict(Counter(run.state for run in runs).most_common()),
        reasons=tuple(
            ReasonView(state=state, reason=reason, runs=count) for (state, reason), count in reasons.most_common(_SHOWN)
        ),
        good_kernels=len(good),
        good_kernels_turned_down=sum(run.state != "promoted" for run in good),
        bad_kernels=len(bad),
        bad_kernels_promoted=sum(run.state == "promoted" for run in bad),
        duration_median_s=_median([run.duration_s for run in runs]),
        duration_longest_s=max(run.duration_s for run in runs),
        most_unavailable=max(run.most_unavailable for run in runs),
        bad_kernel_host_median_s=_median([run.bad_kernel_host_s for run in runs]),
        bad_kernel_host_most_s=max(run.bad_kernel_host_s for run in runs),
        events=sum(run.events for run in runs),
        breaches={run.seed: run.breaches[0] for run in runs if run.breaches},
    )


def _without_host(reason: str) -> str:
    """Return a reason without the host that it blames first."""
    host, separator, rest = reason.partition(_HOST_END)
    return rest if separator and " " not in host else reason


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
