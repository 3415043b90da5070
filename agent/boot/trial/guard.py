"""Keeps a boot's deadlines: a unit of its own that needs neither the agent nor the network, nor a controller.

At a deadline it restarts the machine, which then boots its default. One deadline is moved, once: that of a kernel under
which the agent runs and the network works while the controller is away, for that says nothing against the kernel.
"""

import sys
from typing import Final

from agent.boot import choice, kernels, rehearsal, verbs
from agent.boot.host import Host
from agent.boot.trial import book, ledger
from agent.boot.trial.crash import panic_line
from agent.boot.trial.ledger import Deadline, End, Ending, Ledger, Seen
from agent.boot.trial.network import Standing, standing
from agent.boot.values import BootError, BrokenHost
from agent.boot.watchdog import devices

# How often it looks whether somebody has acknowledged or blessed.
_LOOK_S: Final = 2.0
# Whoever is at work meanwhile has ended by then, or was ended.
_LONGEST_CHANGE_S: Final = 300.0
_AGENT: Final = "kernroll-agent.service"


def begin(host: Host) -> Ledger:
    """Write down this boot, and how the one before ended; return the ledger."""
    with host.alone(wait_s=_LONGEST_CHANGE_S):
        return _begin(host)


def _begin(host: Host) -> Ledger:
    before, armed = book.read(host), _armed(host)
    since = before.boots[-1].started_at if before.boots else 0.0
    seen = Seen(
        boot_id=host.boot_id,
        kernel=_running_kernel(host, before),
        release=host.running_release,
        now=host.now(),
        panic_line=panic_line(host, since),
        still_armed=armed,
        reset_by=devices.reset_by(host),
        watchdog=devices.read(host).held,
    )
    after = ledger.begun(before, seen)
    try:
        book.change(host, before, after)
    except BrokenHost as error:
        # A disk that cannot be written to is the more reason to keep the deadline of the kernel under which it is so.
        print(f"kernroll-boot: {error}", file=sys.stderr)
        return after
    _finish_rehearsal(host)
    if armed and after.trial is None and before.trial is not None:
        # Armed for a boot that is over: it must not be the next one.
        verbs.disarm(host, "")
    elif not armed and after.trial is None:
        _tidy(host)
    return after


def _tidy(host: Host) -> None:
    """Nothing is armed and nothing on trial: what a boot that is over needed goes."""
    try:
        known = rehearsal.read(host)
        if known is None or not known.is_pending:
            choice.loader_of(host).clear_next()
    except BootError as error:
        print(f"kernroll-boot: {error}", file=sys.stderr)


def _finish_rehearsal(host: Host) -> None:
    """This may be the boot that a rehearsal waits for."""
    try:
        known = rehearsal.read(host)
        if known is not None and known.is_pending and known.boot_id != host.boot_id:
            verbs.rehearse(host, "")
    except BootError as error:
        print(f"kernroll-boot: {error}", file=sys.stderr)


def _armed(host: Host) -> bool:
    """Whether the loader would boot something once. One that cannot be read keeps nobody from guarding this boot."""
    try:
        state = choice.loader_of(host).read()
        # What somebody else gives the firmware to boot once was never armed here.
        return bool(state.next) and (state.one_shot == "loader" or state.entry(state.next) is not None)
    except BootError as error:
        print(f"kernroll-boot: {error}", file=sys.stderr)
        return False


def _running_kernel(host: Host, before: Ledger) -> str:
    """Return the running kernel's name; that on trial when it is of that release, whatever else has the same."""
    running = host.running_release
    if before.trial is not None and before.trial.release == running:
        return before.trial.kernel
    return kernels.kernel_of(host, running)


def keep(host: Host, since: Ledger) -> None:
    """Return when nothing is on trial in this boot any more, or the machine is told to restart.

    `since` is the ledger as this boot began, and counts as long as it could not be written down.
    """
    while (pause_s := look(host, since)) is not None:
        host.pause(pause_s)


def look(host: Host, since: Ledger) -> float | None:
    """Do what is due; return after how many seconds to look again, None when there is nothing to guard any more."""
    due = ledger.deadline(_now(host, since), host.boot_id)
    if due is None:
        return None
    left_s = due.at_s - host.uptime_s()
    if left_s > 0:
        return min(left_s, _LOOK_S)
    if not _moved(host, due):
        with host.alone(wait_s=_LONGEST_CHANGE_S):
            ended = not _blessed(host) and _ended(host, since, due)
        if ended:
            host.restart_at_once()
            return None
    return 0.0


def _now(host: Host, since: Ledger) -> Ledger:
    kept = book.read(host)
    return kept if kept.revision >= since.revision else since


def stop(host: Host) -> None:
    """Somebody stops the guard, as a shutdown does: the boot ends without the kernel being at fault."""
    with host.alone(wait_s=_LONGEST_CHANGE_S):
        before = book.read(host)
        book.change(host, before, ledger.ended_by(before, Ending(end=End.STOPPED, boot_id=host.boot_id)))


def _moved(host: Host, due: Deadline) -> bool:
    """Move the deadline when the controller is away, and everything on this host is as it should be."""
    if not due.movable or not _agent_runs(host) or (found := standing(host)) is not Standing.CONTROLLER_AWAY:
        return False
    with host.alone(wait_s=_LONGEST_CHANGE_S):
        before = book.read(host)
        if ledger.deadline(before, host.boot_id) == due:
            print(f"kernroll-boot: {found}: the kernel on trial gets more time", file=sys.stderr)
            book.change(host, before, ledger.extended(before))
    # Else somebody was heard meanwhile.
    return True


def _agent_runs(host: Host) -> bool:
    try:
        return host.run("systemctl", "is-active", _AGENT).strip() == "active"
    except BrokenHost:
        return False


def _blessed(host: Host) -> bool:
    """Whether the running kernel is the default already, and only writing that down was interrupted."""
    try:
        state = choice.loader_of(host).read()
        entry = state.entry(state.default)
    except BootError:
        return False
    before = book.read(host)
    trial = before.trial
    if entry is None or trial is None or entry.release != host.running_release or not _differs(before, trial.kernel):
        return False
    book.change(host, before, ledger.blessed(before))
    return True


def _differs(before: Ledger, kernel: str) -> bool:
    """Whether the boot before ran another kernel: one that tries its own is the default all the time."""
    return len(before.boots) > 1 and before.boots[-2].kernel != kernel


def _ended(host: Host, since: Ledger, due: Deadline) -> bool:
    """Write down that the boot ends at its deadline, unless somebody was heard meanwhile; return whether it does."""
    before = _now(host, since)
    if ledger.deadline(before, host.boot_id) != due:
        return False
    try:
        book.change(host, before, ledger.ended_by(before, Ending(end=due.end, boot_id=host.boot_id)))
    except BrokenHost as error:
        print(f"kernroll-boot: {error}", file=sys.stderr)
    print(f"kernroll-boot: {due.end.value} after {due.at_s:.0f} s: restarting into the default", file=sys.stderr)
    return True
