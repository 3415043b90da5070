"""What a rollout's hosts measured, as a trial of the gate takes it."""

from collections.abc import Iterable, Iterator, Mapping

from controller.domain.attempt import Attempt, Run
from controller.gate.evidence import Outcome
from controller.gate.priors import PRIORS
from controller.gate.qualification import causes, unqualified
from controller.gate.trial import Arm, Measurement, MetricRole, TrialMetric


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
    workload = PRIORS[metric].workload
    for attempt in attempts:
        arm = (arms or {}).get(attempt.host, Arm.TREATED)
        runs = [run for run in attempt.runs if run.workload == workload]
        newest = {run.leg: run.command_id for run in runs}
        for run in runs:
            if run.command_id == newest[run.leg]:
                yield _measurement(attempt, run, metric, arm)


def _measurement(attempt: Attempt, run: Run, metric: str, arm: Arm) -> Measurement:
    outcome = Outcome(run.state.value)
    value = run.values.get(metric)
    if outcome is Outcome.OK and value is None:
        # It could not tell: nothing is known of this metric.
        outcome = Outcome.INFRASTRUCTURE
    return Measurement(
        host=attempt.host,
        stratum=attempt.stratum,
        arm=arm,
        position=run.leg + 1,
        cycle=1,
        pair="",
        boot=run.boot_id,
        run=f"{run.command_id}#{run.index}",
        metric=metric,
        value=value if outcome is Outcome.OK else None,
        outcome=outcome,
        warmup=run.warmup,
        time=None,
    )
