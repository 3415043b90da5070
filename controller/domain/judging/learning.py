"""What an event teaches about the noise of measurements, as rows of the gate's ledger."""

import hashlib
import json
from collections import defaultdict
from statistics import median

from controller.domain.record.events import Event, Moved, RunState
from controller.domain.record.journey import Side, Trigger
from controller.domain.record.policy import Task
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout
from controller.gate.ledger import Boot
from controller.gate.metrics import METRICS
from controller.gate.priors import PRIORS


def learnt(rollout: Rollout, attempt: Attempt, event: Event) -> tuple[Boot, ...]:
    """Return one row a metric when the event ends a leg's measurement; `attempt` is from before the event.

    The baseline's rows come with staging, which tells what the old kernel is: a release may be built twice.
    """
    if not isinstance(event, Moved):
        return ()
    old_kernel = attempt.old_kernel or (attempt.delivery.default_kernel if attempt.delivery is not None else "")
    if event.trigger is Trigger.STAGED:
        return _rows(rollout, attempt, 0, old_kernel)
    if attempt.leg and event.trigger in (Trigger.MEASURED, Trigger.NEXT_LEG):
        new_kernel = rollout.kernels[attempt.architecture].digest
        return _rows(rollout, attempt, attempt.leg, old_kernel if attempt.side is Side.OLD else new_kernel)
    return ()


def _rows(rollout: Rollout, attempt: Attempt, leg: int, kernel: str) -> tuple[Boot, ...]:
    tasks = {task.workload: task for task in rollout.policy.tasks}
    runs = [run for run in attempt.runs_of(leg) if run.state is RunState.OK and run.boot_id == attempt.boot_id]
    newest = {run.workload: run.command_id for run in runs}
    values: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        if run.command_id != newest[run.workload]:
            continue
        for name, value in run.values.items():
            if _workload_of(name) == run.workload:
                values[name].append(value)
    return tuple(
        Boot(
            host=attempt.host,
            stratum=attempt.stratum,
            metric=name,
            rollout=attempt.uid,
            kernel=kernel,
            order=order_digest(tasks[_workload_of(name)]),
            boot_id=attempt.boot_id,
            # Of the measurement's end, so that the legs of an attempt are in their order.
            at=attempt.since,
            value=median(own),
            runs=len(own),
        )
        for name, own in sorted(values.items())
        if kernel and _workload_of(name) in tasks
    )


def _workload_of(metric: str) -> str:
    """Return the workload that the metric belongs to; empty for what is recorded beside every workload."""
    if metric in METRICS:
        return METRICS[metric].workload
    return PRIORS[metric].workload if metric in PRIORS else ""


def order_digest(task: Task) -> str:
    """Return what tells orders apart that measure different things: 16 hexadecimal digits."""
    said = json.dumps([task.workload, task.preset, task.parameters], sort_keys=True, default=list)
    return hashlib.sha256(said.encode()).hexdigest()[:16]
