"""What a simulated host measures: true values per metric, the new kernel's true effect, and noise around both."""

from collections.abc import Iterator, Mapping
from typing import Final

from controller.domain.record.policy import Task
from controller.domain.spec.document import RolloutSpec
from controller.domain.spec.margins import performance_metrics
from controller.gate.metrics import METRICS
from controller.gate.priors import HOST_KERNEL_SD, PRIORS
from controller.sim.faults.fields import Effect
from controller.sim.universe import normal

# What usual machines show under the old kernel, where the gate's own numbers are absolute.
_USUAL: Final[Mapping[str, float]] = {"swap_mount.cost": 819.0, "swap_mount.memfree_cost": 819.0}
_USUAL_OTHERWISE: Final = 100.0
# Where the fault file says nothing, a claim is true and a little more.
_TRUE_CLAIM: Final = 1.1
# What the machine adds to a metric that the gate knows by its measurement error, in the metric's unit. Well below the
# declared error, which is wide on purpose.
_SIGMA_SHARE: Final = 0.25
_HOST_SIGMA: Final = 0.005
_DEVICE: Final = ("swap_mount", "swap_mount.device_size", 2.0**20)

# How long one run usually takes; never more than half of what its workload is allowed.
_RUN_S: Final[Mapping[str, float]] = {"swap_mount": 20.0, "kernel_build": 300.0, "valkey_get": 90.0}
_RUN_OTHERWISE_S: Final = 60.0
_SHARE_OF_TIMEOUT: Final = 0.5


def run_duration_s(task: Task, allowed_s: float) -> float:
    """Return how long one run of a workload takes, so that all of them fit well into what they are allowed."""
    runs = task.warmups + task.repetitions
    usual_s = _RUN_S.get(task.workload, _RUN_OTHERWISE_S)
    return min(usual_s, _SHARE_OF_TIMEOUT * min(task.timeout_s, allowed_s) / runs)


class Measures:
    """The truth about one rollout's metrics."""

    def __init__(self, spec: RolloutSpec, effects: tuple[Effect, ...], seed: str) -> None:
        self._seed = seed
        self._effects = effects
        self._claims = {claim.metric: claim.saves_at_least for claim in spec.claims}
        self._metrics: dict[str, list[str]] = {}
        for name, workload in _measured(spec):
            self._metrics.setdefault(workload, []).append(name)

    def change(self, metric: str, stratum: str) -> float:
        """Return the new kernel's true effect on a metric, as a share of the old value."""
        for effect in self._effects:
            if effect.metric == metric and (not effect.strata or stratum in effect.strata):
                return effect.change
        if metric in self._claims:
            return -_TRUE_CLAIM * self._claims[metric] / _usual(metric)
        return 0.0

    def regressions(self, spec_margins: Mapping[str, float], strata: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """Return the (stratum, metric) pairs where the kernel is truly worse than its margin or its claim allows."""
        found = []
        for stratum in strata:
            for metric, saving in self._claims.items():
                if -self.change(metric, stratum) * _usual(metric) < saving:
                    found.append((stratum, metric))
            for metric, margin in spec_margins.items():
                worse = self.change(metric, stratum) * (-1 if PRIORS[metric].higher_is_better else 1)
                if worse > margin:
                    found.append((stratum, metric))
        return tuple(found)

    def values(self, workload: str, host: tuple[str, str], *, new: bool, run: str, noise: float) -> dict[str, float]:
        """Return one run's figures; `host` is its name and stratum, `run` names the run among all runs."""
        name, stratum = host
        values = {_DEVICE[1]: _DEVICE[2]} if workload == _DEVICE[0] else {}
        for metric in self._metrics.get(workload, ()):
            usual = _usual(metric)
            true = usual * (1 + _HOST_SIGMA * normal(self._seed, name, metric))
            if new:
                # The change is that of a usual host: what sets one host apart from others stays, and a little more.
                own = _host_sigma(metric) * normal(self._seed, name, metric, "new")
                true += usual * self.change(metric, stratum) + own
            values[metric] = max(0.0, true + noise * _sigma(metric) * normal(self._seed, name, metric, run))
        return values


def _measured(spec: RolloutSpec) -> Iterator[tuple[str, str]]:
    yield from ((prior.name, prior.workload) for prior in performance_metrics(spec))
    yield from ((metric.name, metric.workload) for metric in METRICS.values())


def _usual(metric: str) -> float:
    return _USUAL.get(metric, _USUAL_OTHERWISE)


def _sigma(metric: str) -> float:
    if metric in METRICS:
        return _SIGMA_SHARE * METRICS[metric].sigma_run
    return _usual(metric) * PRIORS[metric].cv / 2


def _host_sigma(metric: str) -> float:
    """Return how much the kernel's effect differs between hosts, in the metric's unit."""
    if metric in METRICS:
        return _SIGMA_SHARE * METRICS[metric].sigma_host
    return _usual(metric) * HOST_KERNEL_SD / 2
