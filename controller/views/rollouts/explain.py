"""Why a rollout stands where it stands: one sentence, the evidence for it, and the command to run next."""

from collections.abc import Mapping, Sequence
from typing import assert_never

from controller.domain.fleet.closures import HeldUp
from controller.domain.record.events import FailureKind
from controller.domain.record.journey import Step
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout, State
from controller.views.models import ExplanationView
from controller.views.rollouts.checks import check_lines, manual_awaited, ways_past
from controller.views.rollouts.confounders import confounder_lines
from controller.views.rollouts.power_cycles import power_lines
from controller.views.rollouts.status import verdict_views, whole_failure
from controller.views.rollouts.waiting import NOBODY, blocking_reason, reason_text
from controller.words import are, count_text, duration_text, names_text, time_text

# How the console or kernel log is called in evidence, where the line does not come from the console.
_LOG_KINDS = frozenset({FailureKind.FATAL_LOG, FailureKind.INFRASTRUCTURE})


def explain(
    rollout: Rollout,
    attempts: Mapping[str, Attempt],
    name: str,
    waits: str = "",
    *,
    held_up: HeldUp = NOBODY,
) -> ExplanationView:
    """Return why the rollout, called `name` by whoever asks, is in its state. `attempts` are its hosts by name.

    `waits` says why the next host may not start, where there is a reason; `held_up` who else waits.
    """
    hosts = tuple(attempts[host] for host in sorted(attempts))
    failed = _failed(rollout, hosts)
    return ExplanationView(
        sentence=_sentence(rollout, hosts, failed, blocking_reason(rollout, hosts, waits, held_up)),
        evidence=(
            *_host_evidence(rollout, failed),
            *_verdict_evidence(rollout),
            *_drills(hosts),
            *power_lines(hosts),
            *check_lines(rollout),
            *confounder_lines(rollout, hosts),
            *_standing(rollout, hosts),
            *_ways_out(rollout, name),
        ),
        next_command=_next_command(rollout, failed, name),
    )


def _failed(rollout: Rollout, hosts: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """Return the hosts that failed: the one that caused a revert first, then those that speak against the kernel."""
    failed = [attempt for attempt in hosts if attempt.failure is not None]
    return tuple(sorted(failed, key=lambda a: (a.host != rollout.cause_host, not a.condemned, a.host)))


def _sentence(rollout: Rollout, hosts: Sequence[Attempt], failed: Sequence[Attempt], blocking: str) -> str:
    cause = failed[0] if failed else None
    match rollout.state:
        case State.PLANNED:
            return _stop(blocking)
        case State.RUNNING | State.AWAITING_APPROVAL:
            return _stop(f"{rollout.name} is {rollout.state.value.replace('_', ' ')}: {blocking}")
        case State.PAUSED:
            failed_host = cause is not None and rollout.reason.startswith(f"{cause.host}:")
            why = _signal(rollout, cause) if failed_host else reason_text(rollout.reason)
            # What an operator asked for says so itself.
            return _stop(f"{rollout.name} is {why if why.startswith('paused by ') else f'paused because {why}'}")
        case State.PROMOTED:
            return _stop(f"{rollout.name} was promoted: {reason_text(rollout.reason)}")
        case State.COMPLETED:
            return _stop(f"{rollout.name} is completed: {reason_text(rollout.reason)}")
        case State.ABORTING | State.ABORTED | State.REVERTING | State.REVERTED | State.REVERT_INCOMPLETE:
            caused = rollout.cause_host and cause is not None
            told = reason_text(rollout.reason)
            if told.startswith(f"{rollout.state} by "):
                return _stop(f"{rollout.name} was {told.removesuffix('.')}{_returned(hosts)}")
            why = f" because {_signal(rollout, cause)}" if caused else f": {told.removesuffix('.')}"
            return _stop(f"{rollout.name} {_VERBS[rollout.state]}{why}{_returned(hosts)}")
        case _:
            assert_never(rollout.state)


_VERBS: dict[State, str] = {
    State.ABORTING: "is being aborted",
    State.ABORTED: "was aborted",
    State.REVERTING: "is being reverted",
    State.REVERTED: "was reverted",
    State.REVERT_INCOMPLETE: "was reverted, but not completely",
}


def _signal(rollout: Rollout, attempt: Attempt | None) -> str:
    """Name host, signal and line, for example: x86-a (x86_64/vm) on 7.1.13: the kernel panicked: “…”."""
    if attempt is None or attempt.failure is None:
        return reason_text(rollout.reason)
    kernel = rollout.kernels.get(attempt.architecture)
    under = f", {attempt.stratum}, on {kernel.release}" if kernel is not None and attempt.condemned else ""
    failure = whole_failure(attempt.failure, attempt)
    line = f": “{failure.line}”" if failure.line else ""
    return f"{attempt.host}{under}: {failure.sentence}{line}"


def _returned(hosts: Sequence[Attempt]) -> str:
    lost = [attempt.host for attempt in hosts if attempt.step is Step.LOST]
    if lost:
        return f"; not back: {names_text(lost)}"
    back = [attempt.host for attempt in hosts if attempt.step is Step.REVERTED]
    moving = [attempt.host for attempt in hosts if attempt.in_flight]
    if moving:
        return f"; {names_text(moving)} {are(len(moving))} on the way back"
    return f"; {names_text(back)} {are(len(back))} back on the old kernel" if back else ""


def _stop(sentence: str) -> str:
    return sentence if sentence.endswith((".", "”")) else f"{sentence}."


def _host_evidence(rollout: Rollout, failed: Sequence[Attempt]) -> list[str]:
    lines: list[str] = []
    for attempt in failed:
        assert attempt.failure is not None
        failure = whole_failure(attempt.failure, attempt)
        lines.append(f"{attempt.host} ({attempt.stratum}): {failure.sentence} [{failure.kind}].")
        if failure.line:
            where = "kernel log" if failure.kind in _LOG_KINDS else "console"
            lines.append(f"{attempt.host} {where}: {failure.line}")
        if attempt.trial is not None:
            lines.append(
                f"{attempt.host}: the trial boot ended at {time_text(attempt.trial.at)} ({attempt.trial.end})."
            )
        if attempt.step is Step.REVERTED and attempt.release:
            gone = attempt.gone_since
            took = "" if gone is None else f" after {duration_text(attempt.since - gone)}"
            lines.append(
                f"{attempt.host}: back on {attempt.release}{took}; {count_text(len(attempt.boot_ids), 'boot')} heard."
            )
    if rollout.lost:
        lines.append(f"Not back: {names_text(rollout.lost)}.")
    return lines


def _verdict_evidence(rollout: Rollout) -> list[str]:
    return [verdict.sentence for verdict in verdict_views(rollout) if verdict.sentence]


def _drills(hosts: Sequence[Attempt]) -> list[str]:
    """Tell which hosts proved that they come back by themselves."""
    return [
        f"{host.host} was panicked on purpose and came back by itself in {duration_text(host.drill_s)}."
        for host in hosts
        if host.drill_s is not None
    ]


def _standing(rollout: Rollout, hosts: Sequence[Attempt]) -> list[str]:
    counts = {step: sum(attempt.step is step for attempt in hosts) for step in Step}
    parts = [f"{count} {step}" for step, count in counts.items() if count]
    return [f"Hosts: {', '.join(parts)}."] if parts else []


def _ways_out(rollout: Rollout, name: str) -> list[str]:
    """Say how a pause ends, because it does not end by itself and holds its hosts until then."""
    if rollout.state is not State.PAUSED:
        return []
    if rollout.held_wave:
        on = f"`kernroll rollout promote {name} --skip --remark WHY` goes on although the gate held the wave"
    elif past := ways_past(rollout, name):
        on = past
    elif "does not speak against the kernel" in rollout.reason:
        on = f"`kernroll rollout retry {name}` tries the hosts that failed again, `kernroll rollout resume {name}` "
        on += "goes on without them"
    else:
        on = f"`kernroll rollout resume {name}` goes on"
    return [
        f"It waits for a person: {on}, `kernroll rollout abort {name}` leaves finished hosts on the new kernel, "
        f"`kernroll rollout revert {name}` returns them."
    ]


def _next_command(rollout: Rollout, failed: Sequence[Attempt], name: str) -> str:
    match rollout.state:
        case State.AWAITING_APPROVAL:
            return f"kernroll rollout approve {name}"
        case State.RUNNING if check := manual_awaited(rollout):
            return f"kernroll rollout check {name} {check} --pass"
        case State.PLANNED | State.RUNNING | State.ABORTING | State.REVERTING:
            return f"kernroll rollout status {name} --watch"
        case State.PROMOTED:
            return f"kernroll rollout report {name}"
        case State.COMPLETED:
            return "kernroll gate ledger"
        case State.PAUSED if rollout.reason.startswith("paused by "):
            return f"kernroll rollout resume {name}"
        case State.PAUSED if not failed:
            return f"kernroll rollout report {name}"
        case State.ABORTED if not failed:
            return f"kernroll rollout report {name}"
        case State.PAUSED | State.ABORTED | State.REVERTED | State.REVERT_INCOMPLETE:
            host = rollout.lost[0] if rollout.lost else failed[0].host if failed else ""
            return f"kernroll hosts show {host}" if host else f"kernroll rollout report {name}"
        case _:
            assert_never(rollout.state)
