"""A host's own measured saving, by the gate's benefit criterion."""

from dataclasses import dataclass
from functools import lru_cache

from controller.domain.judging.host_evidence import gate_plan, host_evidence
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout
from controller.gate.evidence.seen import ClaimPlan, HostEvidence, Outcome, Run, Side
from controller.gate.hosts.benefit import Saving
from controller.gate.hosts.claims import host_savings
from controller.gate.metrics import METRICS
from controller.views.models import IntervalView

# Measured and told when the rollout claims nothing.
DEFAULT_METRIC = "swap_mount.cost"

# One run as a value that can be looked up: its id, side, outcome, attempt, and the metric's value.
_RunKey = tuple[str, Side, Outcome, int, float | None]


@dataclass(frozen=True, slots=True)
class HostSaving:
    """A host's saving and the unit it is in."""

    interval: IntervalView
    unit: str


def claims_of(rollout: Rollout) -> tuple[ClaimPlan, ...]:
    """Return what is to be told of savings: the rollout's claims, else the default metric with nothing claimed."""
    claims = gate_plan(rollout, []).claims
    return claims or (ClaimPlan(metric=DEFAULT_METRIC, at_least=0.0),)


def host_saving(rollout: Rollout, attempt: Attempt) -> HostSaving | None:
    """Return what the host saves on the first claimed metric; None until both kernels were measured on it."""
    if not attempt.runs:
        return None
    claim = claims_of(rollout)[0]
    evidence = host_evidence(rollout, attempt)
    keys = tuple(
        (run.run_id, run.side, run.outcome, run.attempt, run.values.get(claim.metric)) for run in evidence.runs
    )
    saving = _saving(claim, attempt.stratum, evidence.device_tib, keys)
    return None if saving is None else HostSaving(interval=interval_view(saving), unit=METRICS[claim.metric].unit)


# A watched rollout asks again for every host after every change of one.
@lru_cache(maxsize=65_536)
def _saving(claim: ClaimPlan, stratum: str, device_tib: float | None, keys: tuple[_RunKey, ...]) -> Saving | None:
    runs = tuple(
        Run(
            run_id=run_id,
            side=side,
            outcome=outcome,
            attempt=attempt,
            values={} if value is None else {claim.metric: value},
        )
        for run_id, side, outcome, attempt, value in keys
    )
    return host_savings(claim, [HostEvidence(host="", stratum=stratum, runs=runs, device_tib=device_tib)]).get("")


def interval_view(saving: Saving) -> IntervalView:
    """Return the saving as readers see it."""
    return IntervalView(low=saving.low, estimate=saving.estimate, high=saving.high)
