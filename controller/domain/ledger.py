"""What an event teaches about the noise of measurements, as rows of the gate's ledger."""

from collections import defaultdict
from statistics import median

from controller.domain.attempt import Attempt
from controller.domain.events import Event, Moved, RunState
from controller.domain.journey import Trigger
from controller.gate.ledger import Boot
from controller.gate.metrics import METRICS
from controller.gate.priors import PRIORS

# Moves that end a measurement with a result.
_MEASURED = frozenset({Trigger.MEASURED, Trigger.NEXT_TASK, Trigger.NEXT_LEG})


def learnt(attempt: Attempt, event: Event) -> tuple[Boot, ...]:
    """Return one row a metric when the event ends a measurement of this host; `attempt` is from before the event.

    Baselines and measurements on a new kernel alike: a release tells them apart.
    """
    if not isinstance(event, Moved) or event.trigger not in _MEASURED:
        return ()
    values: dict[str, list[float]] = defaultdict(list)
    for run in attempt.runs_of(attempt.leg):
        if run.command_id == attempt.command_id and run.state is RunState.OK and run.boot_id == attempt.boot_id:
            for name, value in run.values.items():
                if name in METRICS or name in PRIORS:
                    values[name].append(value)
    return tuple(
        Boot(
            host=attempt.host,
            stratum=attempt.stratum,
            metric=name,
            rollout=attempt.uid,
            release=attempt.release,
            boot_id=attempt.boot_id,
            at=event.at,
            value=median(own),
            runs=len(own),
        )
        for name, own in sorted(values.items())
    )
