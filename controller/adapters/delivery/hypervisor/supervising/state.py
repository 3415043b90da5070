"""Pure: the journal's records in, the VM's state out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from controller.adapters.delivery.hypervisor.records import (
    VERBS,
    Acknowledged,
    Armed,
    Blessed,
    BootEnded,
    BootEnding,
    BootStarted,
    Command,
    Defined,
    RebootAsked,
    Record,
    Reverted,
    Staged,
    StartResumed,
    SwitchedOff,
    SwitchedOn,
)
from controller.domain.delivery import BootRecord, DeliveryStatus
from controller.domain.errors import Permanent
from controller.domain.kernels import Kernel

BOOTS_KEPT = 20
# How many command ids are remembered; a repeat older than that would be carried out again.
COMMANDS_KEPT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The conditions of a one-time boot."""

    boot_timeout_s: float
    probation_timeout_s: float
    # None until a healthy agent was heard.
    acknowledged_at: float | None = None
    # A blessed trial has no deadline any more.
    blessed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """One start of a kernel, with what a status does not tell."""

    record: BootRecord
    # None for boots of the default kernel.
    trial: Trial | None = None
    # Why QEMU is being ended on our own decision; None while it may run on.
    ending: BootEnding | None = None

    @property
    def on_trial(self) -> bool:
        """Whether this boot falls back when it ends."""
        return self.trial is not None and not self.trial.blessed


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A cold boot that somebody asked for and that has not started yet."""

    command_id: str
    # A revert boots the default even when something is armed.
    revert: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VmState:
    """All that the journal says."""

    # How many records there are: grows with every change.
    revision: int = 0
    # Whether the machine is meant to run.
    on: bool = False
    default: str = ""
    # None when nothing is armed.
    armed: Armed | None = None
    # None when no boot was asked for.
    asked: Asked | None = None
    # Staged kernels by digest.
    kernels: Mapping[str, Kernel] = field(default_factory=dict)
    # Oldest first, at most BOOTS_KEPT.
    boots: tuple[Boot, ...] = ()
    # Verb by command id, oldest first, at most COMMANDS_KEPT.
    commands: Mapping[str, str] = field(default_factory=dict)

    @property
    def open_boot(self) -> Boot | None:
        """The boot that has not ended; None while the machine is down."""
        return self.boots[-1] if self.boots and self.boots[-1].record.end is None else None


def fold(records: Iterable[Record]) -> VmState:
    """Return the state after all records."""
    state = VmState()
    for record in records:
        state = apply(state, record)
    return state


def apply(state: VmState, record: Record) -> VmState:
    """Return the state after one more record; raise Permanent when the journal contradicts itself."""
    state = replace(state, revision=state.revision + 1)
    match record:
        case Defined():
            return replace(state, default=record.kernel.digest, kernels={record.kernel.digest: record.kernel})
        case SwitchedOn():
            return replace(state, on=True)
        case SwitchedOff():
            return replace(state, on=False, asked=None)
        case Staged() | Armed() | RebootAsked() | Acknowledged() | Blessed() | Reverted():
            return _command(_remember(state, record), record)
        case BootStarted():
            return _boot_started(state, record)
        case StartResumed():
            return _change(
                state, record.number, lambda boot: replace(boot, record=replace(boot.record, started_at=record.at))
            )
        case BootEnding():
            return _change(state, record.number, lambda boot: replace(boot, ending=record))
        case BootEnded():
            return _change(state, record.number, lambda boot: _ended(boot, record))
        case _:
            assert_never(record)


def status(state: VmState, host: str) -> DeliveryStatus:
    """Return what the delivery port shows of this state."""
    running = state.open_boot
    return DeliveryStatus(
        host=host,
        revision=state.revision,
        default=state.default,
        armed=state.armed.kernel if state.armed else None,
        running=running.record.kernel if running else None,
        boots=tuple(boot.record for boot in state.boots),
    )


def _remember(state: VmState, record: Command) -> VmState:
    commands = dict(state.commands)
    commands[record.command_id] = VERBS[type(record)]
    while len(commands) > COMMANDS_KEPT:
        del commands[next(iter(commands))]
    return replace(state, commands=commands)


def _command(state: VmState, record: Command) -> VmState:
    match record:
        case Staged():
            return replace(state, kernels={**state.kernels, record.kernel.digest: record.kernel})
        case Armed():
            return replace(state, armed=record)
        case RebootAsked():
            return replace(state, asked=Asked(command_id=record.command_id, revert=False))
        case Acknowledged():
            if record.number is None:
                return state
            return _change(state, record.number, lambda boot: _heard(boot, record.at))
        case Blessed():
            if record.number is None:
                return state
            state = _change(state, record.number, _blessed)
            return replace(state, default=state.boots[-1].record.kernel)
        case Reverted():
            asked = Asked(command_id=record.command_id, revert=True) if record.reboot else None
            return replace(state, default=record.kernel, armed=None, asked=asked)
        case _:
            assert_never(record)


def _boot_started(state: VmState, record: BootStarted) -> VmState:
    if state.open_boot is not None:
        raise Permanent(f"boot {record.number} was started while boot {state.open_boot.record.number} was running")
    trial = None
    if record.boot_timeout_s is not None and record.probation_timeout_s is not None:
        trial = Trial(boot_timeout_s=record.boot_timeout_s, probation_timeout_s=record.probation_timeout_s)
    boot = Boot(
        record=BootRecord(
            number=record.number,
            kernel=record.kernel,
            command_id=record.command_id,
            cause=record.cause,
            started_at=record.at,
        ),
        trial=trial,
    )
    boots = (*state.boots, boot)[-BOOTS_KEPT:]
    return replace(state, boots=boots, asked=None, armed=None if trial else state.armed)


def _change(state: VmState, number: int, change: Callable[[Boot], Boot]) -> VmState:
    boot = state.open_boot
    if boot is None or boot.record.number != number:
        raise Permanent(f"something is recorded of boot {number}, which is not running")
    return replace(state, boots=(*state.boots[:-1], change(boot)))


def _ended(boot: Boot, record: BootEnded) -> Boot:
    ended = replace(boot.record, end=record.end, console_line=record.console_line, ended_at=record.at)
    return replace(boot, record=ended)


def _heard(boot: Boot, at: float) -> Boot:
    return replace(boot, trial=replace(_trial_of(boot), acknowledged_at=at))


def _blessed(boot: Boot) -> Boot:
    return replace(boot, trial=replace(_trial_of(boot), blessed=True))


def _trial_of(boot: Boot) -> Trial:
    if boot.trial is None:
        raise Permanent(f"boot {boot.record.number} is acknowledged or blessed, and was no trial")
    return boot.trial
