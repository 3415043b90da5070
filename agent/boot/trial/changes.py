"""Everything that may be asked of a host's boot: through the loader, and written down in the ledger and the journal."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from agent.boot import choice, kernels, verbs
from agent.boot.host import Host
from agent.boot.packages import held
from agent.boot.trial import armed, book, ledger
from agent.boot.trial.ledger import Asked, Cause, Ledger, Trial
from agent.boot.values import BootError, BootState, Busy

# The boot deadline by default; metal spends minutes in its firmware.
BOOT_TIMEOUT_S: Final = 900.0
PROBATION_TIMEOUT_S: Final = 3600.0
# How much longer a kernel may run unblessed while its controller is away and its network works.
PATIENCE_S: Final = 24 * 3600.0
_NOT_REBOOTED: Final = (
    "{}; nothing is armed any more, and the host was not rebooted. Arm the kernel again, or `kernroll-boot disarm` and "
    "reboot into the default"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked, beside the verb."""

    # A digest by which the controller knows it, or a release; empty where a verb takes none.
    kernel: str = ""
    command_id: str = ""
    # Of `staged`.
    release: str = ""
    # Of `arm`.
    boot_timeout_s: float = BOOT_TIMEOUT_S
    probation_timeout_s: float = PROBATION_TIMEOUT_S
    patience_s: float = PATIENCE_S
    require_watchdog: bool = False
    armed_for_s: float = ledger.ARMED_FOR_S
    # Of `revert`: whether to boot it as well, unless it runs as the default already.
    reboot: bool = False


def _pin(host: Host, _wanted: Wanted) -> BootState:
    return verbs.pin(host, "")


def _rehearse(host: Host, _wanted: Wanted) -> BootState:
    return verbs.rehearse(host, "")


def _staged(host: Host, wanted: Wanted) -> BootState:
    state = choice.loader_of(host).read()
    state.of_release(wanted.release)
    kernels.name(host, wanted.kernel, wanted.release)
    book.write(host, replace(before := book.read(host), revision=before.revision + 1))
    return state


def _forget(host: Host, wanted: Wanted) -> BootState:
    state = choice.loader_of(host).read()
    kernels.forget(host, kernels.release_of(host, wanted.kernel, state))
    return state


def _arm(host: Host, wanted: Wanted) -> BootState:
    loader = choice.loader_of(host)
    release = kernels.release_of(host, wanted.kernel, state := loader.read())
    limits = (wanted.boot_timeout_s, wanted.probation_timeout_s, wanted.armed_for_s)
    if not (min(limits) > 0 and wanted.patience_s >= 0):
        raise BootError("deadlines must be above zero")
    before = book.read(host)
    if before.trial is not None and before.trial.boot_id == host.boot_id:
        raise BootError(f"{before.trial.release} is on trial in this boot: bless or revert it before another is armed")
    held.protect(host, [release, host.running_release])
    trial = Trial(
        kernel=kernels.kernel_of(host, release) if release == wanted.kernel else wanted.kernel,
        release=release,
        boot_timeout_s=wanted.boot_timeout_s,
        probation_timeout_s=wanted.probation_timeout_s,
        patience_s=wanted.patience_s,
        armed_s=host.uptime_s(),
        armed_for_s=wanted.armed_for_s,
        sealed=armed.seal(host, state, release),
    )
    # First what guards it: no kernel boots on trial without its deadline.
    book.change(host, before, ledger.armed(before, trial))
    try:
        state = verbs.arm(host, release, require_watchdog=wanted.require_watchdog)
    except BootError:
        book.change(host, now := book.read(host), ledger.disarmed(now))
        raise
    try:
        armed.watch(host)
    except BootError:
        _disarm(host, wanted)
        raise
    return state


def _disarm(host: Host, _wanted: Wanted) -> BootState:
    state = verbs.disarm(host, "")
    book.change(host, before := book.read(host), ledger.disarmed(before))
    return state


def _reboot(host: Host, wanted: Wanted) -> BootState:
    before, here = book.read(host), host.boot_id
    state = choice.loader_of(host).read()
    if wanted.command_id and any(one.command_id == wanted.command_id for one in before.boots):
        # It has been booted since; what was not written down any more is that this was done.
        return state
    if wanted.command_id and (booted := ledger.booted_unasked(before, here, wanted.command_id)) is not None:
        # The power failed before it was written down that this is asked for: what was armed runs already.
        book.change(host, before, booted)
        return state
    if before.withdrawn:
        raise BootError(_NOT_REBOOTED.format(before.withdrawn))
    cause = Cause.REQUESTED
    if before.trial is not None and not before.trial.boot_id:
        cause = Cause.TRIAL
        if found := armed.changed(host, before.trial):
            _withdraw(host, before, found)
            raise BootError(_NOT_REBOOTED.format(found))
    _go_down(host, before, Asked(cause=cause, command_id=wanted.command_id, boot_id=here, at=host.now()))
    return state


def _recheck(host: Host, _wanted: Wanted) -> BootState:
    """Look at what is armed; what is not as it was when it was armed is not booted."""
    before = book.read(host)
    if before.trial is None or before.trial.boot_id:
        armed.unwatch(host)
    elif found := armed.changed(host, before.trial):
        print(f"kernroll-boot: {found}: nothing is armed any more", file=sys.stderr)
        _withdraw(host, before, found)
    return choice.loader_of(host).read()


def _withdraw(host: Host, before: Ledger, why: str) -> None:
    # The loader first: while it holds the kernel, that is guarded.
    verbs.disarm(host, "")
    book.change(host, before, ledger.withdrawn(before, why))


def _go_down(host: Host, before: Ledger, asked: Asked) -> None:
    # Written down first: a host that comes back must know why it went.
    book.change(host, before, ledger.asked_to_boot(before, asked))
    host.reboot()


def _acknowledge(host: Host, _wanted: Wanted) -> BootState:
    before = _settled(host)
    book.change(host, before, ledger.acknowledged(before, host.uptime_s()))
    return choice.loader_of(host).read()


def _bless(host: Host, wanted: Wanted) -> BootState:
    before = _settled(host)
    ledger.require_going_on(before)
    running, release = host.running_release, host.running_release
    if wanted.kernel:
        release = kernels.release_of(host, wanted.kernel, choice.loader_of(host).read())
    if before.trial is not None and before.trial.boot_id and before.trial.release != running:
        raise BootError(f"{before.trial.release} was on trial, and {running} runs")
    state = verbs.bless(host, release)
    # The loader first: from then on the host comes back to it, guarded or not.
    book.change(host, before, ledger.blessed(before))
    return state


def _settled(host: Host) -> Ledger:
    """Return the ledger. Raises BootError while the host is about to go down, or a guard is missing."""
    before, here = book.read(host), host.boot_id
    if before.asked is not None and before.asked.boot_id == here:
        raise Busy(f"a reboot is under way (command {before.asked.command_id or 'without an id'})")
    if before.ending is not None and before.ending.boot_id == here:
        ending = replace(before.boots[-1], end=before.ending.end.value, line=before.ending.line)
        ledger.require_going_on(replace(before, boots=(*before.boots[:-1], ending)))
    return before


def _revert(host: Host, wanted: Wanted) -> BootState:
    loader, before, here = choice.loader_of(host), book.read(host), host.boot_id
    release = kernels.release_of(host, wanted.kernel, loader.read())
    if wanted.command_id and any(one.command_id == wanted.command_id for one in before.boots):
        return loader.read()
    state = verbs.revert(host, release)
    on_trial = before.trial is not None and before.trial.boot_id == here
    going = before.asked is not None and before.asked.boot_id == here
    if release == host.running_release and not on_trial and not going:
        book.change(host, before, ledger.disarmed(before))
    elif wanted.reboot:
        asked = Asked(cause=Cause.REVERT, command_id=wanted.command_id, boot_id=here, at=host.now())
        _go_down(host, before, asked)
    return state


# A verb -> what it does.
CHANGES: Final[dict[str, Callable[[Host, Wanted], BootState]]] = {
    "pin": _pin,
    "rehearse": _rehearse,
    "staged": _staged,
    "forget": _forget,
    "arm": _arm,
    "disarm": _disarm,
    "recheck": _recheck,
    "reboot": _reboot,
    "acknowledge": _acknowledge,
    "bless": _bless,
    "revert": _revert,
}
