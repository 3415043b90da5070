"""Pure: what a command means in the present state. Returns the record that carries it out, or refuses it."""

from controller.adapters.delivery.hypervisor.records import (
    VERBS,
    Acknowledged,
    Armed,
    Blessed,
    Command,
    RebootAsked,
    Reverted,
    Staged,
)
from controller.adapters.delivery.hypervisor.supervising.decision import deadline
from controller.adapters.delivery.hypervisor.supervising.state import Asked, Boot, VmState
from controller.domain.delivery import BootCause, BootEnd
from controller.domain.errors import Conflict, InvalidInput, Permanent, Temporary
from controller.domain.kernels import Kernel

_AUTOMATIC = (BootCause.FALLBACK, BootCause.RESTART)
_ENDED_HOW = {
    BootEnd.PANIC: "the kernel panicked",
    BootEnd.RESET: "the machine reset or powered off by itself",
    BootEnd.NOT_ACKNOWLEDGED: "no healthy agent was heard before the boot deadline",
    BootEnd.NOT_BLESSED: "it was not blessed before the probation deadline",
    BootEnd.REPLACED: "another boot was asked for",
    BootEnd.STOPPED: "the machine was switched off",
}


def carried_out(state: VmState, command_id: str, verb: type[Command]) -> bool:
    """Return whether this command was carried out before; raise Conflict when its id was used for something else."""
    if not command_id:
        raise InvalidInput("a command needs a command id")
    known = state.commands.get(command_id)
    if known is not None and known != VERBS[verb]:
        raise Conflict(f"command id {command_id} was already used for {known}, so it cannot be used for {VERBS[verb]}")
    return known is not None


def stage(state: VmState, command_id: str, kernel: Kernel, *, now: float) -> Staged | None:
    """Record that a kernel's files are there; None when that was done before."""
    if carried_out(state, command_id, Staged):
        return None
    architecture = state.kernels[state.default].architecture
    if kernel.architecture != architecture:
        raise Permanent(
            f"kernel {kernel.release} is for {kernel.architecture}, the host is {architecture}: "
            "choose a kernel of the host's architecture"
        )
    return Staged(at=now, command_id=command_id, kernel=kernel)


def arm(
    state: VmState, command_id: str, kernel: str, *, boot_timeout_s: float, probation_timeout_s: float, now: float
) -> Armed | None:
    """Arm a staged kernel for one boot; None when that was done before."""
    if carried_out(state, command_id, Armed):
        return None
    _require_staged(state, kernel)
    if not (boot_timeout_s > 0 and probation_timeout_s > 0):
        raise InvalidInput("boot and probation timeouts must be above zero")
    return Armed(
        at=now,
        command_id=command_id,
        kernel=kernel,
        boot_timeout_s=boot_timeout_s,
        probation_timeout_s=probation_timeout_s,
    )


def reboot(state: VmState, command_id: str, *, now: float) -> RebootAsked | None:
    """Ask for a cold boot; None when that was done before."""
    if carried_out(state, command_id, RebootAsked):
        return None
    _require_on(state)
    return RebootAsked(at=now, command_id=command_id)


def acknowledge(state: VmState, command_id: str, *, now: float) -> Acknowledged | None:
    """Record that a healthy agent was heard; None when that was done before. Raise Permanent when the trial is over."""
    if carried_out(state, command_id, Acknowledged):
        return None
    trial = _trial(state, now)
    fresh = trial is not None and trial.trial is not None and trial.trial.acknowledged_at is None
    return Acknowledged(at=now, command_id=command_id, number=trial.record.number if trial and fresh else None)


def bless(state: VmState, command_id: str, *, now: float) -> Blessed | None:
    """Make the running kernel the default; None when that was done before. Raise Permanent when the trial is over."""
    if carried_out(state, command_id, Blessed):
        return None
    trial = _trial(state, now)
    return Blessed(at=now, command_id=command_id, number=trial.record.number if trial else None)


def revert(state: VmState, command_id: str, kernel: str, *, now: float) -> Reverted | None:
    """Return to a staged kernel; None when that was done before."""
    if carried_out(state, command_id, Reverted):
        return None
    _require_on(state)
    _require_staged(state, kernel)
    running = state.open_boot
    settled = running is not None and running.ending is None and not running.on_trial and state.asked is None
    runs_already = settled and running is not None and running.record.kernel == kernel
    return Reverted(at=now, command_id=command_id, kernel=kernel, reboot=not runs_already)


def _require_staged(state: VmState, kernel: str) -> None:
    if kernel not in state.kernels:
        raise Permanent(f"kernel {kernel[:12]} is not staged on this host: stage it first")


def _require_on(state: VmState) -> None:
    if not state.on:
        raise Temporary("the machine is switched off: switch it on with `kernroll lab up`", retry_after_s=30.0)


def _trial(state: VmState, now: float) -> Boot | None:
    """Return the trial that is running, None when the running boot is settled; refuse when the last trial failed."""
    _require_on(state)
    if state.asked is not None:
        raise Temporary(f"a reboot is under way ({_describe(state.asked)})", retry_after_s=2.0)
    for boot in reversed(state.boots):
        if boot.record.cause in _AUTOMATIC:
            continue
        if not boot.on_trial:
            break
        if boot.record.end is not None or boot.ending is not None:
            raise Permanent(_over(boot))
        until = deadline(boot)
        if until is not None and now >= until:
            # The supervisor was away when the time was up and is about to end this boot.
            raise Permanent(f"the trial of kernel {boot.record.kernel[:12]} is over: its deadline has passed")
        return boot
    else:
        # Only restarts are on record: whatever was on trial before them is long over.
        raise Permanent("no boot that was asked for is on record any more: the machine keeps restarting by itself")
    if state.open_boot is None:
        raise Temporary("the machine is down and about to boot again", retry_after_s=2.0)
    return None


def _over(boot: Boot) -> str:
    end = boot.record.end or (boot.ending.end if boot.ending else None)
    line = boot.record.console_line or (boot.ending.console_line if boot.ending else "")
    how = _ENDED_HOW[end] if end else "it ended"
    return f"the trial of kernel {boot.record.kernel[:12]} (boot {boot.record.number}) is over: {how}" + (
        f': "{line}"' if line else ""
    )


def _describe(asked: Asked) -> str:
    return f"{'revert' if asked.revert else 'reboot'} command {asked.command_id}"
