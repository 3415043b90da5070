"""What was promised of a rollout and what its hosts showed, in the gate's words."""

from collections import Counter

from controller.domain.judging.confounders import voided
from controller.domain.record.events import FailureKind
from controller.domain.record.journey import Side
from controller.domain.state.attempt import MOST_FINDINGS, Attempt
from controller.domain.state.rollout import Rollout
from controller.domain.state.runs import Run
from controller.gate.evidence import seen as gate
from controller.gate.evidence.seen import ClaimPlan, GatePlan, HostEvidence
from controller.gate.kernel_log import Finding, Severity
from controller.gate.verdict import Action

_MIB_PER_TIB = 2**20
_USUAL_PAGE_BYTES = 4096
# What the agent says of the device it mounted, in MiB.
_DEVICE_SIZE = "swap_mount.device_size"


def gate_plan(rollout: Rollout, treated: list[Attempt]) -> GatePlan:
    """Return the rollout's claims as the gate's plan."""
    policy = rollout.policy
    return GatePlan(
        claims=tuple(
            ClaimPlan(
                metric=claim.metric,
                at_least=claim.at_least,
                confidence=claim.confidence,
                on_refuted=Action.REVERT if claim.on_refuted == "revert" else Action.HOLD,
                extrapolate=claim.extrapolate,
                sigma_host=tuple(sorted(policy.sigma_host.get(claim.metric, {}).items())),
            )
            for claim in policy.claims
        ),
        required_hosts=dict(Counter(attempt.stratum for attempt in treated)),
        repetitions={task.workload: task.repetitions for task in policy.tasks},
        final=True,
        suspended={(cell.stratum, cell.metric): cell.why for cell in policy.suspended},
        known_lines=policy.known_lines,
        accept_missing_logs=policy.accept_missing_logs,
    )


def host_evidence(rollout: Rollout, attempt: Attempt) -> HostEvidence:
    """Return what was seen on one host, in the gate's words."""
    failure = attempt.failure
    broken_rig = failure is not None and not attempt.condemned
    aa = rollout.policy.aa
    lived = failure is None or broken_rig or failure.kind is FailureKind.WORKLOAD
    runs = [run for run in attempt.runs if not run.warmup or run.state != "ok"]
    void = voided(rollout, (attempt,)).get(attempt.host, "")
    if void:
        # A run that died stays: the host may have been changed, but something went wrong on it.
        runs = [run for run in runs if run.state != "ok"]
    return HostEvidence(
        host=attempt.host,
        stratum=attempt.stratum,
        runs=tuple(_gate_run(attempt, run, aa=aa) for run in runs),
        findings=_findings(attempt, Side.NEW),
        old_findings=_findings(attempt, Side.OLD),
        lost="" if lived or failure is None else failure.sentence,
        broken_rig=failure.sentence if failure is not None and broken_rig else void,
        device_tib=_device_tib(attempt),
        old_release=attempt.old_release,
        new_release=attempt.old_release if aa else rollout.kernels[attempt.architecture].release,
        page_size_bytes=attempt.page_size_bytes or _USUAL_PAGE_BYTES,
    )


def _findings(attempt: Attempt, side: Side) -> tuple[Finding, ...]:
    """Return what kernel logs show under one kernel; fatal lines that condemned it have ended the attempt before."""
    boots = Counter(one.boot_id for one in attempt.findings if attempt.ran_on(one.boot_id) is Side.OLD)
    # Where that is so nobody knows what else the old kernel wrote, so nothing serious is new.
    overflown = side is Side.NEW and max(boots.values(), default=0) >= MOST_FINDINGS
    return tuple(
        Finding(
            severity=Severity(one.severity),
            kind=one.signature.partition(":")[0],
            line=one.line,
            signature=one.signature,
            boot_id=one.boot_id,
        )
        for one in attempt.findings
        if attempt.ran_on(one.boot_id) is side
        and one.boot_id != attempt.drill_boot_id
        and not (overflown and one.severity == Severity.SERIOUS.value)
    )


def _gate_run(attempt: Attempt, run: Run, *, aa: bool) -> gate.Run:
    """Return a run; old against old, the second boot stands where the new kernel would."""
    old = run.leg == 0 if aa else attempt.legs[run.leg] is Side.OLD
    side = gate.Side.OLD if old else gate.Side.NEW
    return gate.Run(
        run_id=f"{run.command_id}#{run.index}",
        side=side,
        outcome=gate.Outcome(run.state.value),
        values=run.values,
        attempt=int(run.command_id.rpartition(".")[2] or 0),
        error=run.error,
        workload=run.workload,
        cases=run.cases,
    )


def _device_tib(attempt: Attempt) -> float | None:
    """Return the size of the device as measured; None when no run told it."""
    sizes = [run.values[_DEVICE_SIZE] for run in attempt.runs if _DEVICE_SIZE in run.values]
    return max(sizes) / _MIB_PER_TIB if sizes else None
