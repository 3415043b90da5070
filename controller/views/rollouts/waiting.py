"""What a rollout waits for: the one reason as a sentence, and the next thing that time alone changes."""

from collections.abc import Sequence
from typing import assert_never

from controller.domain.deciding.waves import wave_deadline
from controller.domain.fleet.closures import HeldUp
from controller.domain.record.journey import MUST_BE_HEARD, Step
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import Rollout, State
from controller.views.rollouts.checks import awaited_deadline, awaited_text
from controller.words import are, names_text

# Steps from the beginning of the journey to its end: the wave waits for the hosts that are furthest behind.
_ORDER = tuple(Step)

# What hosts in a step are doing, for one host and for several.
_DOING: dict[Step, tuple[str, str]] = {
    Step.BASELINE: ("measures the old kernel", "measure the old kernel"),
    Step.HELD: ("is measured and about to be taken down", "are measured and about to be taken down"),
    Step.DRAIN: ("is taken out of service", "are taken out of service"),
    Step.STAGE: ("receives the kernel", "receive the kernel"),
    Step.ARM: ("arms the kernel for one boot", "arm the kernel for one boot"),
    Step.REBOOT: ("is about to restart", "are about to restart"),
    Step.VERIFY: ("boots the kernel on trial", "boot the kernel on trial"),
    Step.DRILL: ("proves its way back after a panic", "prove their way back after a panic"),
    Step.PROBATION: ("measures the kernel on trial", "measure the kernel on trial"),
    Step.BLESS: ("makes the kernel its default", "make the kernel their default"),
    Step.UNCORDON: ("is put back into service", "are put back into service"),
    Step.BAKE: ("bakes", "bake"),
    Step.REMEASURE: ("is measured once more", "are measured once more"),
    Step.FALLBACK: ("returns to its old kernel by itself", "return to their old kernel by themselves"),
    Step.REVERTING: ("is being returned to its old kernel", "are being returned to their old kernel"),
    Step.LOST: ("did not come back", "did not come back"),
}

# What a step's deadline is called.
_DEADLINES: dict[Step, str] = {
    Step.BASELINE: "the baseline must be measured",
    Step.DRAIN: "it must be out of service",
    Step.STAGE: "the kernel must have arrived",
    Step.ARM: "the kernel must be armed",
    Step.REBOOT: "the restart must have begun",
    Step.VERIFY: "a healthy agent must answer",
    Step.DRILL: "it must be back on its old kernel by itself",
    Step.PROBATION: "probation ends",
    Step.BLESS: "the kernel must be the default",
    Step.UNCORDON: "it must be back in service",
    Step.BAKE: "baking ends",
    Step.REMEASURE: "it must be measured once more",
    Step.FALLBACK: "it must be back on its old kernel by itself",
    Step.REVERTING: "it must be back on its old kernel",
}

NOBODY = HeldUp()

_ENDED: dict[State, str] = {
    State.PROMOTED: "promoted",
    State.COMPLETED: "completed",
    State.ABORTED: "aborted",
    State.REVERTED: "reverted",
    State.REVERT_INCOMPLETE: "revert incomplete",
}


# The gate's sentences begin with what it asks for, which the rollout's own state says already.
_ACTIONS = ("PROMOTE: ", "HOLD: ", "REVERT: ")


def reason_text(reason: str) -> str:
    """Return a rollout's reason without the gate's leading word."""
    for action in _ACTIONS:
        reason = reason.removeprefix(action)
    return reason


def blocking_reason(rollout: Rollout, attempts: Sequence[Attempt], waits: str = "", held_up: HeldUp = NOBODY) -> str:
    """Return the one thing the rollout waits for or ended with. `attempts` are its hosts by name.

    `waits` says why the next host may not start, where the engine knows a reason; `held_up` who else waits.
    """
    match rollout.state:
        case State.PLANNED:
            return "planned, and not started yet"
        case State.RUNNING:
            return _running(rollout, attempts, waits, held_up)
        case State.AWAITING_APPROVAL:
            return _approval(rollout)
        case State.PAUSED:
            flying = _slowest([a for a in attempts if a.in_flight], held_up)
            return _joined("paused", rollout.reason, flying or waits)
        case State.ABORTING | State.REVERTING:
            flying = _slowest([a for a in attempts if a.in_flight], held_up)
            return _joined(rollout.state.value, rollout.reason, flying or waits)
        case State.PROMOTED | State.COMPLETED | State.ABORTED | State.REVERTED | State.REVERT_INCOMPLETE:
            lost = f"{names_text(rollout.lost)} did not come back" if rollout.lost else ""
            return _joined(_ENDED[rollout.state], rollout.reason, lost)
        case _:
            assert_never(rollout.state)


def _joined(word: str, reason: str, more: str) -> str:
    told = reason_text(reason)
    # What an operator asked for begins with the state's word already: "reverted by operator: …".
    text = told if told.startswith(f"{word} ") else f"{word}: {told}" if told else word
    return f"{text.removesuffix('.')}; {more}" if more else text


def _approval(rollout: Rollout) -> str:
    needed = rollout.approvals_needed
    given = names_text(sorted(one.by for one in rollout.approvals)) if rollout.approvals else "nobody yet"
    of = "1 approval" if needed == 1 else f"{needed} approvals"
    return f"wave {rollout.wave + 1} of {len(rollout.waves)} awaits {of}; approved by {given}"


def _running(rollout: Rollout, attempts: Sequence[Attempt], waits: str, held_up: HeldUp) -> str:
    wave = [attempt for attempt in attempts if attempt.wave == rollout.wave or rollout.rest_opened]
    silent = [a.host for a in wave if a.silent_since is not None and a.step in MUST_BE_HEARD]
    if silent:
        return f"{names_text(silent)} {are(len(silent))} not heard"
    flying = [a for a in wave if a.in_flight]
    where = f"wave {rollout.wave + 1} of {len(rollout.waves)}"
    if flying and all(a.step is Step.BAKE for a in flying) and not any(a.step is Step.PENDING for a in wave):
        return f"{where} bakes"
    if flying:
        return _slowest(flying, held_up)
    pending = [a.host for a in wave if a.step is Step.PENDING]
    if pending and waits:
        return waits
    if pending and not rollout.admitted:
        return f"{where} is about to begin"
    if pending:
        verb = "waits" if len(pending) == 1 else "wait"
        limit = rollout.policy.max_in_flight
        return f"{names_text(pending)} {verb} for a free slot" + (f" of the {limit} in flight" if limit else "")
    if waits:
        return waits
    return awaited_text(rollout) or f"{where} {'has passed' if rollout.passed else 'is about to be judged'}"


def _slowest(flying: Sequence[Attempt], held_up: HeldUp) -> str:
    """Say what the hosts that are furthest behind are doing; nothing when none is under way."""
    if not flying:
        return ""
    step = min((attempt.step for attempt in flying), key=_ORDER.index)
    hosts = [attempt.host for attempt in flying if attempt.step is step]
    if stopped := _waiting([host for host in hosts if host in held_up.hosts], held_up):
        return stopped
    one, several = _DOING[step]
    return f"{names_text(hosts)} {one if len(hosts) == 1 else several}"


def _waiting(hosts: Sequence[str], held_up: HeldUp) -> str:
    """Say what measured hosts wait for: the first of them, with those that wait for the same."""
    if not hosts:
        return ""
    why = held_up.hosts[hosts[0]].why
    same = [host for host in hosts if held_up.hosts[host].why == why]
    return f"{names_text(same)} {'is measured and waits' if len(same) == 1 else 'are measured and wait'}: {why}"


def next_deadline(rollout: Rollout, attempts: Sequence[Attempt], held_up: HeldUp = NOBODY) -> tuple[str, float | None]:
    """Return what happens next by itself and when, in seconds since the epoch; ("", None) when nothing does."""
    if rollout.ended:
        return "", None
    if rollout.state is State.AWAITING_APPROVAL:
        return "without approval the rollout pauses", rollout.approval_deadline
    if (awaited := awaited_deadline(rollout)) is not None:
        return awaited
    silence_s = rollout.policy.silence_timeout_s
    due = [(*first, a.host) for a in attempts if a.in_flight and (first := host_deadline(a, silence_s)) is not None]
    due += [(one.until, "it may be taken down", host) for host, one in held_up.hosts.items() if one.until]
    if held_up.starts_at is not None:
        due.append((held_up.starts_at, "hosts may start", ""))
    ends = wave_deadline(rollout) if rollout.state is State.RUNNING else None
    if ends is not None:
        due.append((ends, f"wave {rollout.wave + 1} must have ended, else the rollout pauses", ""))
    time, text, host = min(due, key=lambda one: (one[0], one[2]), default=(None, "", ""))
    return f"{host}: {text}" if host else text, time


def host_deadline(attempt: Attempt, silence_timeout_s: float) -> tuple[float, str] | None:
    """Return when time alone changes something for a host, in seconds since the epoch, and what; None for never."""
    due = [] if attempt.deadline is None else [(attempt.deadline, _DEADLINES[attempt.step])]
    if attempt.silent_since is not None and attempt.step in MUST_BE_HEARD:
        due.append((attempt.silent_since + silence_timeout_s, "it must be heard again"))
    if attempt.retried_at is not None:
        due.append((attempt.retried_at, "it is tried again"))
    return min(due, default=None)
