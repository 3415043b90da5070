"""Pure: the VM's state and what is seen of QEMU in, the next action out."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, assert_never

from controller.adapters.delivery.hypervisor.records import BootEnded, BootEnding, BootStarted, StartResumed
from controller.adapters.delivery.hypervisor.supervising.state import Boot, VmState
from controller.domain.delivery import BootCause, BootEnd

# A boot that lasted this long was healthy: the wait before the next unasked restart starts over.
HEALTHY_AFTER_S = 300.0
RESTART_WAIT_MAX_S = 60.0


class Qemu(Enum):
    """What is seen of a boot's QEMU."""

    NEVER_STARTED = "never_started"
    RUNNING = "running"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the world looks like for the open boot."""

    qemu: Qemu
    # The kernel's panic message; empty when there is none.
    panic_line: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Write the record, then start QEMU."""

    record: BootStarted | StartResumed


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Write the record. A hang or reset has no console line yet: whoever can read the console fills it in."""

    record: BootEnding | BootEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """End QEMU of the open boot."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to do before `until` (seconds since the epoch; None: no deadline) unless something is seen or asked."""

    until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """The machine is off and down: the supervisor is done."""


Action: TypeAlias = Start | Write | End | Wait | Leave


def decide(state: VmState, seen: Observation | None, now: float) -> Action:
    """Return the next action; `seen` describes the open boot and is None when there is none."""
    boot = state.open_boot
    if boot is None:
        if not state.on:
            return Leave()
        return _next_start(state, now)
    assert seen is not None, "an open boot must be observed"
    match seen.qemu:
        case Qemu.NEVER_STARTED:
            return _never_started(state, boot, now)
        case Qemu.GONE:
            return Write(record=_how_it_ended(boot, seen, now))
        case Qemu.RUNNING:
            return _running(state, boot, seen, now)
        case _:
            assert_never(seen.qemu)


def deadline(boot: Boot) -> float | None:
    """Return when a boot on trial falls back unless something is heard, in epoch seconds; None when it never does."""
    if boot.trial is None or boot.trial.blessed:
        return None
    if boot.trial.acknowledged_at is None:
        return boot.record.started_at + boot.trial.boot_timeout_s
    return boot.trial.acknowledged_at + boot.trial.probation_timeout_s


def restart_wait_s(boots: tuple[Boot, ...]) -> float:
    """Return how long to wait before the next unasked restart: 1, 2, 4 … 60 s while boots keep ending early."""
    early = 0
    for boot in reversed(boots):
        record = boot.record
        lasted_s = (record.ended_at or record.started_at) - record.started_at
        if boot.on_trial or record.end not in (BootEnd.PANIC, BootEnd.RESET) or lasted_s >= HEALTHY_AFTER_S:
            break
        early += 1
    return float(min(RESTART_WAIT_MAX_S, 2 ** max(0, early - 1)))


def _running(state: VmState, boot: Boot, seen: Observation, now: float) -> Action:
    number = boot.record.number
    if boot.ending is not None:
        return End(number=number)
    if seen.panic_line:
        return Write(record=BootEnding(at=now, number=number, end=BootEnd.PANIC, console_line=seen.panic_line))
    if not state.on:
        return Write(record=BootEnding(at=now, number=number, end=BootEnd.STOPPED))
    if state.asked is not None:
        return Write(record=BootEnding(at=now, number=number, end=BootEnd.REPLACED))
    until = deadline(boot)
    if until is not None and now >= until:
        heard = boot.trial is not None and boot.trial.acknowledged_at is not None
        end = BootEnd.NOT_BLESSED if heard else BootEnd.NOT_ACKNOWLEDGED
        return Write(record=BootEnding(at=now, number=number, end=end))
    return Wait(until=until)


def _never_started(state: VmState, boot: Boot, now: float) -> Action:
    number = boot.record.number
    if boot.ending is not None:
        return Write(
            record=BootEnded(at=now, number=number, end=boot.ending.end, console_line=boot.ending.console_line)
        )
    if not state.on or state.asked is not None:
        end = BootEnd.REPLACED if state.on else BootEnd.STOPPED
        return Write(record=BootEnded(at=now, number=number, end=end))
    return Start(record=StartResumed(at=now, number=number))


def _how_it_ended(boot: Boot, seen: Observation, now: float) -> BootEnded:
    if boot.ending is not None:
        end, line = boot.ending.end, boot.ending.console_line
    elif seen.panic_line:
        end, line = BootEnd.PANIC, seen.panic_line
    else:
        end, line = BootEnd.RESET, ""
    return BootEnded(at=now, number=boot.record.number, end=end, console_line=line)


def _next_start(state: VmState, now: float) -> Start | Wait:
    last = state.boots[-1] if state.boots else None
    number = last.record.number + 1 if last else 1
    if state.asked is not None:
        trial = None if state.asked.revert else state.armed
        if trial is not None:
            return Start(
                record=BootStarted(
                    at=now,
                    number=number,
                    kernel=trial.kernel,
                    command_id=state.asked.command_id,
                    cause=BootCause.TRIAL,
                    boot_timeout_s=trial.boot_timeout_s,
                    probation_timeout_s=trial.probation_timeout_s,
                )
            )
        cause = BootCause.REVERT if state.asked.revert else BootCause.REQUESTED
        return _start_default(state, number, cause, now)
    if last is None or last.record.end in (BootEnd.STOPPED, BootEnd.REPLACED):
        return _start_default(state, number, BootCause.INITIAL, now)
    if last.on_trial:
        return _start_default(state, number, BootCause.FALLBACK, now)
    not_before = (last.record.ended_at or now) + restart_wait_s(state.boots)
    # A clock that was set back must not keep the machine down for longer than the longest wait.
    if not_before - RESTART_WAIT_MAX_S > now or now >= not_before:
        return _start_default(state, number, BootCause.RESTART, now)
    return Wait(until=not_before)


def _start_default(state: VmState, number: int, cause: BootCause, now: float) -> Start:
    command_id = state.asked.command_id if state.asked else ""
    return Start(record=BootStarted(at=now, number=number, kernel=state.default, command_id=command_id, cause=cause))
