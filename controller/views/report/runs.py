"""The measured runs of a rollout, found again in the event log."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from controller.domain.bounds import numbers
from controller.domain.record.events import Event, RunReported, RunState
from controller.domain.record.journey import Side
from controller.domain.record.names import key_of_stream
from controller.domain.state.attempt import Attempt
from controller.gate.metrics import Metric

SWAPON_TIME = "swap_mount.swapon_time"
DEVICE_SIZE = "swap_mount.device_size"
# A value this many declared errors from the median of its kernel on its host is named an outlier.
_OUTLIER_ERRORS = 4.0
_MIB_PER_TIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRuns:
    """One host's runs in the order they were reported."""

    old: tuple[RunReported, ...] = ()
    new: tuple[RunReported, ...] = ()

    def of(self, side: Side) -> tuple[RunReported, ...]:
        """Return the runs on one kernel."""
        return self.old if side is Side.OLD else self.new

    def good(self, side: Side, metric: str) -> tuple[RunReported, ...]:
        """Return the runs on one kernel that ended well and measured the metric, warm-ups left out."""
        return tuple(run for run in self._ended_well(side) if metric in numbers(run.values))

    def untold(self, side: Side, metric: str) -> tuple[RunReported, ...]:
        """Return the runs whose value of the metric is no number that could be told."""
        return tuple(
            run for run in self._ended_well(side) if metric in run.values and metric not in numbers(run.values)
        )

    def _ended_well(self, side: Side) -> Iterator[RunReported]:
        return (run for run in self.of(side) if run.state is RunState.OK and not run.warmup)

    def values(self, side: Side, metric: str) -> tuple[float, ...]:
        """Return the metric's values on one kernel."""
        return tuple(run.values[metric] for run in self.good(side, metric))

    def median(self, side: Side, metric: str) -> float | None:
        """Return the metric's median on one kernel; None without a value."""
        values = self.values(side, metric)
        return median(values) if values else None

    @property
    def device_tib(self) -> float | None:
        """Return the size of the measured device; None when no run told it."""
        sizes = self.values(Side.NEW, DEVICE_SIZE) or self.values(Side.OLD, DEVICE_SIZE)
        return sizes[0] / _MIB_PER_TIB if sizes else None


def host_runs(
    attempts: Mapping[str, Attempt], events: Sequence[tuple[str, Event]], *, aa: bool = False
) -> dict[str, HostRuns]:
    """Return every host's runs. A run belongs to the leg in which its attempt counted it; late ones count nowhere.

    Old against old (`aa`), the second boot stands where the new kernel would.
    """
    sides = {
        (host, run.command_id, run.index): (Side.NEW if run.leg else Side.OLD) if aa else attempt.legs[run.leg]
        for host, attempt in attempts.items()
        for run in attempt.runs
    }
    found: dict[str, dict[Side, dict[tuple[str, int], RunReported]]] = {host: {} for host in attempts}
    for stream, event in events:
        host = key_of_stream(stream).host
        if not isinstance(event, RunReported) or host not in found:
            continue
        side = sides.get((host, event.command_id, event.index))
        if side is not None:
            found[host].setdefault(side, {})[event.command_id, event.index] = event
    return {
        host: HostRuns(old=tuple(of_side.get(Side.OLD, {}).values()), new=tuple(of_side.get(Side.NEW, {}).values()))
        for host, of_side in found.items()
    }


def outliers(runs: HostRuns, metric: Metric) -> Iterable[str]:
    """Yield the values that are far from the others of their kernel on their host, and those that cannot be told."""
    allowed = _OUTLIER_ERRORS * metric.sigma_run / min(1.0, runs.device_tib or 1.0)
    for side in Side:
        for run in runs.untold(side, metric.name):
            yield f"{side} kernel, run {run.index}: {run.values[metric.name]:g} cannot be told and is left out"
        middle = runs.median(side, metric.name)
        for run in runs.good(side, metric.name):
            value = run.values[metric.name]
            if middle is not None and abs(value - middle) > allowed:
                yield f"{side} kernel, run {run.index}: {value:.1f} {metric.unit} (median {middle:.1f})"


def typical(runs: Sequence[RunReported], metric: str) -> RunReported | None:
    """Return the run whose value is the (lower) median; the earliest of equals, None without a run."""
    ordered = sorted(runs, key=lambda run: run.values[metric])
    return ordered[(len(ordered) - 1) // 2] if ordered else None
