"""What a rollout's hosts measured, as a trial of the gate takes it."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from statistics import median

from controller.domain.record.events import RunState
from controller.domain.record.journey import LEGS, Role
from controller.domain.record.policy import Policy
from controller.domain.state.attempt import Attempt
from controller.domain.state.runs import Run
from controller.gate.evidence.seen import Outcome
from controller.gate.precautions import is_far_worse
from controller.gate.priors import PRIORS
from controller.gate.qualification import causes, unqualified
from controller.gate.statistics.contrasts import log_margin
from controller.gate.trial.model import Arm, Measurement, TrialMetric
from controller.gate.verdict import MetricRole


def trial_metrics(margins: Mapping[str, float]) -> tuple[TrialMetric, ...]:
    """Return the metrics with their margins. Guards: each is judged for itself and shares its error with no other."""
    return tuple(
        TrialMetric(
            name=name,
            unit=PRIORS[name].unit,
            role=MetricRole.GUARD,
            higher_is_better=PRIORS[name].higher_is_better,
            margin=margin,
        )
        for name, margin in sorted(margins.items())
    )


def decided_metrics(margins: Mapping[str, float]) -> tuple[TrialMetric, ...]:
    """Return the metrics with their margins, each with what it may do to a decision."""
    return tuple(replace(metric, role=MetricRole(PRIORS[metric.name].role.value)) for metric in trial_metrics(margins))


def unfit_hosts(attempts: Iterable[Attempt], metric: str) -> Mapping[str, str]:
    """Return the hosts whose baseline scatters too much for the metric to be told on them: host -> why."""
    prior, found = PRIORS[metric], {}
    for attempt in attempts:
        baseline = [run for run in attempt.runs_of(0) if run.workload == prior.workload]
        newest = baseline[-1].command_id if baseline else ""
        runs = [run.values for run in baseline if run.command_id == newest and metric in run.values]
        if why := unqualified([values[metric] for values in runs], prior.cv):
            found[attempt.host] = f"{why}: {cause}" if (cause := causes(runs)) else why
    return found


def measurements(
    attempts: Iterable[Attempt], metric: str, arms: Mapping[str, Arm] | None = None
) -> Iterator[Measurement]:
    """Yield the hosts' runs of the metric's workload; a host without an arm in `arms` counts as treated.

    Where a workload was measured again, the newest command counts: it was made because the one before could not.
    """
    for attempt in attempts:
        arm = (arms or {}).get(attempt.host, Arm.TREATED)
        for run in _newest(attempt, metric):
            yield _measurement(attempt, run, metric, arm, (run.leg + 1, 1, None))


def far_worse(attempt: Attempt, policy: Policy) -> tuple[str, ...]:
    """Return the metrics on which the leg just measured is worse than the baseline by more than ten margins.

    Only with a design; before and after alone, the hour may have done it.
    """
    if policy.design == "before_after" or not attempt.compared:
        return ()
    return tuple(
        metric.name
        for metric in decided_metrics(policy.margins)
        if metric.role is not MetricRole.NEGATIVE_CONTROL
        and metric.margin is not None
        and is_far_worse(own_change(attempt, metric), log_margin(metric.margin))
    )


def own_change(attempt: Attempt, metric: TrialMetric) -> float:
    """Return the host's change from the baseline to its present leg in log units, + is worse; NaN without values."""
    sides: dict[int, list[float]] = {0: [], attempt.leg: []}
    for run in _newest(attempt, metric.name):
        if run.leg in sides and not run.warmup and run.values.get(metric.name, 0.0) > 0:
            sides[run.leg].append(run.values[metric.name])
    if not all(sides.values()) or not attempt.leg:
        return math.nan
    change = math.log(median(sides[attempt.leg]) / median(sides[0]))
    return -change if metric.higher_is_better else change


def compared_runs(attempts: Iterable[Attempt], metric: str) -> Iterator[Measurement]:
    """Yield the runs of hosts that are compared, by the roles of their plan; each complete as of its wave.

    What a host runs after its last cycle is not compared. A host that never tells the metric has not missed runs: it
    does not measure it.
    """
    for attempt in attempts:
        if not any(metric in run.values for run in attempt.runs):
            continue
        arm = Arm.CONTROL if attempt.role is Role.CONTROL else Arm.TREATED
        walk = len(LEGS[attempt.role])
        for run in _newest(attempt, metric):
            cycle, position = divmod(run.leg, walk)
            if cycle < attempt.cycles:
                # Looks are at the ends of waves.
                yield _measurement(attempt, run, metric, arm, (position + 1, cycle + 1, float(attempt.wave)))


def _newest(attempt: Attempt, metric: str) -> Iterator[Run]:
    workload = PRIORS[metric].workload
    runs = [run for run in attempt.runs if run.workload == workload]
    newest = {run.leg: run.command_id for run in runs}
    return (run for run in runs if run.command_id == newest[run.leg])


# Looked up for every run of a fleet.
_OUTCOMES = {state: Outcome(state.value) for state in RunState}
# Position, cycle, and when it was complete.
_Place = tuple[int, int, float | None]


def _measurement(attempt: Attempt, run: Run, metric: str, arm: Arm, place: _Place) -> Measurement:
    outcome = _OUTCOMES[run.state]
    value = run.values.get(metric)
    if outcome is Outcome.OK and value is None:
        # It could not tell: nothing is known of this metric.
        outcome = Outcome.INFRASTRUCTURE
    return Measurement(
        host=attempt.host,
        stratum=attempt.stratum,
        arm=arm,
        position=place[0],
        cycle=place[1],
        pair=attempt.pair,
        boot=run.boot_id,
        run=f"{run.command_id}#{run.index}",
        metric=metric,
        value=value if outcome is Outcome.OK else None,
        outcome=outcome,
        warmup=run.warmup,
        time=place[2],
    )
