"""A rollout as operators see it: waves, every host's step, verdicts, and the one thing it waits for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from controller.domain.deciding.waves import tolerated_rigs
from controller.domain.fleet.closures import HeldUp
from controller.domain.kernels import Kernel
from controller.domain.record.events import Failure, FailureKind, PlannedHost
from controller.domain.record.journey import ENDED, MEASURING, Step
from controller.domain.record.verdicts import JudgedCell
from controller.domain.state.attempt import Attempt, planned_attempt
from controller.domain.state.rollout import Rollout, State
from controller.domain.state.tally import rig_broke
from controller.domain.state.trial_ends import trial_failure
from controller.views.models import (
    Epoch,
    HostProgressView,
    IntervalView,
    KernelView,
    LiveProgress,
    RolloutView,
    VerdictView,
    WaveView,
)
from controller.views.rollouts.checks import check_views, checked_state
from controller.views.rollouts.power_cycles import cut_hosts, power_cycled_text
from controller.views.rollouts.savings import host_saving
from controller.views.rollouts.waiting import NOBODY, blocking_reason, host_deadline, next_deadline

_UP = frozenset({Step.BAKE, Step.DONE})


def rollout_view(
    rollout: Rollout,
    attempts: Mapping[str, Attempt],
    live: Mapping[str, LiveProgress],
    now: float,
    *,
    waits: str = "",
    held_up: HeldUp = NOBODY,
) -> RolloutView:
    """Return the rollout as it stands at `now`. `attempts` and `live` are keyed by host; absent hosts are pending.

    `waits` says why the next host may not start, where there is a reason; `held_up` who else waits.
    """
    hosts = tuple(attempts[name] for name in sorted(attempts))
    too_many = sum(rig_broke(attempt, rollout) for attempt in hosts) > tolerated_rigs(rollout)
    deadline_name, deadline = next_deadline(rollout, hosts, held_up)
    return RolloutView(
        name=rollout.name,
        state=rollout.state.value,
        started_at=None if rollout.started_at is None else Epoch(rollout.started_at),
        ended_at=None if rollout.ended_at is None else Epoch(rollout.ended_at),
        waves=tuple(
            WaveView(
                number=number + 1,
                state=wave_state(
                    rollout, number, [attempts[p.host] for p in planned if p.host in attempts], too_many=too_many
                ),
                hosts=tuple(
                    _host(rollout, attempts.get(p.host) or _pending(rollout, p), live.get(p.host), held_up, now)
                    for p in planned
                ),
            )
            for number, planned in enumerate(rollout.waves)
        ),
        blocking_reason=blocking_reason(rollout, hosts, waits, held_up),
        next_deadline_name=deadline_name,
        next_deadline=None if deadline is None else Epoch(deadline),
        verdicts=verdict_views(rollout),
        revision=rollout.revision + sum(attempt.revision for attempt in hosts),
        terminal=rollout.ended,
        kernels=kernel_views(rollout.kernels),
        checks=check_views(rollout),
        power_cycles=sum(1 for _ in cut_hosts(hosts)),
    )


def kernel_views(kernels: Mapping[str, Kernel]) -> tuple[KernelView, ...]:
    """Return the kernels by architecture."""
    return tuple(
        KernelView(architecture=name, release=kernel.release, digest=kernel.digest, source=kernel.source)
        for name, kernel in sorted(kernels.items())
    )


def verdict_views(rollout: Rollout) -> tuple[VerdictView, ...]:
    """Return the newest cell of every stratum and metric, in that order."""
    newest: dict[tuple[str, str], JudgedCell] = {}
    for judged in rollout.judged:
        newest.update({(cell.stratum, cell.metric): cell for cell in judged.cells})
    return tuple(verdict_view(newest[key]) for key in sorted(newest))


def verdict_view(cell: JudgedCell) -> VerdictView:
    """Return one recorded cell."""
    interval = None
    if cell.low is not None and cell.estimate is not None and cell.high is not None:
        interval = IntervalView(low=cell.low, estimate=cell.estimate, high=cell.high)
    return VerdictView(
        stratum=cell.stratum,
        metric=cell.metric,
        verdict=cell.verdict,
        claim=cell.claim,
        sentence=cell.sentence,
        interval=interval,
        bound=cell.bound or 0.0,
        hosts=cell.hosts,
        unit=cell.unit,
        role=cell.role,
        controls=cell.controls,
        look=cell.look,
        looks=cell.looks,
        outliers=cell.outliers,
    )


def wave_state(rollout: Rollout, wave: int, attempts: Sequence[Attempt], *, too_many: bool) -> str:
    """Return the wave's state in one word; `wave` counts from 0 and `attempts` are its hosts.

    `too_many` says whether more rigs of the rollout failed than its error budget allows.
    """
    # What is measured again has not been decided.
    decided = [judged for judged in rollout.judged if judged.wave == wave and not judged.measure_again]
    decisions = [judged.decision for judged in decided]
    if decisions:
        return checked_state(rollout, wave) if decisions[-1] == "promote" else "failed"
    if wave < rollout.wave:
        return "passed"
    if any(_stops(rollout, attempt, too_many=too_many) for attempt in attempts):
        return "failed"
    if wave > rollout.wave or rollout.state is State.PLANNED:
        return "waiting"
    if rollout.ended:
        return "failed"
    # Hosts whose rig failed, or that were left out, are not waited for.
    going_on = [attempt for attempt in attempts if attempt.step not in (Step.SKIPPED, Step.REVERTED)]
    if going_on and all(attempt.step in _UP for attempt in going_on):
        return "baking"
    return "active" if rollout.admitted else "waiting"


def _stops(rollout: Rollout, attempt: Attempt, *, too_many: bool) -> bool:
    """Whether the host's failure stops its wave: it speaks against the kernel, or rigs fail beyond all tolerance."""
    if attempt.condemned:
        return attempt.stratum not in rollout.held
    drill = attempt.failure is not None and attempt.failure.kind is FailureKind.DRILL
    return (too_many or drill) and rig_broke(attempt, rollout)


def _pending(rollout: Rollout, planned: PlannedHost) -> Attempt:
    return planned_attempt(planned, rollout=rollout.name, uid=rollout.uid, wave=0, position=0)


def _host(
    rollout: Rollout, attempt: Attempt, live: LiveProgress | None, held_up: HeldUp, now: float
) -> HostProgressView:
    saving = host_saving(rollout, attempt)
    due = None if rollout.ended else host_deadline(attempt, rollout.policy.silence_timeout_s)
    deadline = None if due is None else due[0]
    waits = held_up.hosts.get(attempt.host)
    if waits is not None:
        deadline = waits.until
    return HostProgressView(
        host=attempt.host,
        stratum=attempt.stratum,
        role=attempt.role.value,
        step=attempt.step.value,
        detail=_detail(attempt, live) if waits is None else f"waits: {waits.why}",
        kernel_release=attempt.release,
        step_since=None if attempt.step is Step.PENDING else Epoch(attempt.since),
        deadline=None if deadline is None else Epoch(deadline),
        fraction=_fraction(attempt, live, now),
        saving=None if saving is None else saving.interval,
        saving_unit="" if saving is None else saving.unit,
        boots=len(attempt.boot_ids),
    )


def _detail(attempt: Attempt, live: LiveProgress | None) -> str:
    told = _told(attempt, live)
    if attempt.power is None or attempt.step not in (Step.FALLBACK, Step.REVERTING):
        return told
    return "; ".join(filter(None, (told, power_cycled_text(attempt.power.outcome, attempt.power.detail))))


def _told(attempt: Attempt, live: LiveProgress | None) -> str:
    if attempt.failure is not None:
        failure = whole_failure(attempt.failure, attempt)
        return f"{failure.sentence}: “{failure.line}”" if failure.line else failure.sentence
    if attempt.ended:
        return ""
    if attempt.silent_since is not None:
        # A host that was asked to restart is expected to be silent.
        return "restarting" if attempt.step in (Step.REBOOT, Step.VERIFY) else "not heard"
    told = live.step if live is not None and live.delivers != (attempt.step in MEASURING) else ""
    if attempt.step not in MEASURING:
        return told
    parts = (f"try {attempt.tries + 1}" if attempt.tries else "", told)
    return ": ".join(filter(None, parts))


def whole_failure(failure: Failure, attempt: Attempt) -> Failure:
    """Return the failure of a host; that of a lost host with what had happened to it before."""
    if failure.kind is not FailureKind.LOST or attempt.trial is None:
        return failure
    first = trial_failure(attempt.trial)
    return replace(failure, sentence=f"{first.sentence}, and it {failure.sentence}", line=failure.line or first.line)


def _fraction(attempt: Attempt, live: LiveProgress | None, now: float) -> float:
    if attempt.step in ENDED:
        return 1.0
    if attempt.step is Step.BAKE and attempt.deadline is not None:
        length = attempt.deadline - attempt.since
        return min(1.0, max(0.0, (now - attempt.since) / length)) if length > 0 else 1.0
    return min(1.0, max(0.0, live.fraction)) if live is not None and attempt.step in MEASURING else 0.0
