"""What of the host, beside its loader, keeps it from coming back by itself, or from having room for another kernel."""

import os
import re
from collections.abc import Iterator
from typing import Final

from agent.boot.host import Host
from agent.boot.values import BootState, BrokenHost, Refusal

# Another kernel and its initial RAM disk may be larger than those that are there.
_ROOM: Final = 1.5
_PANIC: Final = re.compile(r"panic=(-?\d+)$")
# What a crash kernel does when it cannot write its dump: these wait for somebody.
_KDUMP_WAITS: Final = frozenset({"shell", "halt", "poweroff"})
_KDUMP_ACTION: Final = re.compile(r"^[ \t]*(?:failure_action|default)[ \t]+(\S+)", re.MULTILINE)
_KDUMP_COMMAND: Final = re.compile(r"^[ \t]*KDUMP_FAIL_CMD=(.*)$", re.MULTILINE)
_MIB: Final = 1 << 20


def refusals(host: Host, state: BootState) -> Iterator[Refusal]:
    """Yield them."""
    yield from _panics(state)
    yield from _room(host)
    yield from _kdump(host)
    yield from _other_reboots(host)
    yield from _unguarded(host)


def _panics(state: BootState) -> Iterator[Refusal]:
    stop = sorted(
        {one.release for one in state.entries if one.release and not one.recovery and not _restarts(one.arguments)}
    )
    if stop:
        yield Refusal(
            code="stops-at-a-panic",
            cause=f"{', '.join(stop)} would stop at a panic and stay there: panic= is not on the command line",
            remedy="add panic=10 to GRUB_CMDLINE_LINUX in /etc/default/grub and run update-grub",
        )


def _restarts(arguments: tuple[str, ...]) -> bool:
    """Whether a kernel with this command line restarts at a panic; the last word of a kind counts."""
    found = [int(match[1]) for one in arguments if (match := _PANIC.match(one))]
    return bool(found) and found[-1] != 0


def _room(host: Host) -> Iterator[Refusal]:
    files = [
        path
        for name in ("vmlinuz", "initrd.img", "System.map", "config")
        if (path := host.path(f"/boot/{name}-{host.running_release}")).is_file()
    ]
    needed = int(_ROOM * sum(path.stat().st_size for path in files))
    place = os.statvfs(host.path("/boot"))
    free = place.f_bavail * place.f_frsize
    if free < needed:
        yield Refusal(
            code="no-room-in-boot",
            cause=f"/boot has {free // _MIB} MiB left, and another kernel may need {-(-needed // _MIB)} MiB",
            remedy="remove kernels that nobody boots, but neither the running one nor the default",
        )


def _kdump(host: Host) -> Iterator[Refusal]:
    if (host.text("/sys/kernel/kexec_crash_loaded") or "").strip() != "1":
        return
    command = _KDUMP_COMMAND.findall(host.text("/etc/default/kdump-tools") or "")
    if command and command[-1].strip("\"' ") not in ("", "reboot -f", "/sbin/reboot -f", "/usr/sbin/reboot -f"):
        yield Refusal(
            code="kdump-waits",
            cause=f"a crash kernel is loaded: at a panic it runs, panic= does not count, and where it cannot write its "
            f"dump it runs {command[-1].strip()}",
            remedy='set KDUMP_FAIL_CMD="reboot -f" in /etc/default/kdump-tools and restart it',
        )
    actions = _KDUMP_ACTION.findall(host.text("/etc/kdump.conf") or "")
    if actions and actions[-1] in _KDUMP_WAITS:
        yield Refusal(
            code="kdump-waits",
            cause=f"a crash kernel is loaded: at a panic it runs, panic= does not count, and where it cannot write its "
            f"dump it ends in “{actions[-1]}” and stays there",
            remedy="set failure_action reboot in /etc/kdump.conf and restart kdump",
        )


def _other_reboots(host: Host) -> Iterator[Refusal]:
    if not host.has("apt-config"):
        return
    try:
        told = host.run("apt-config", "dump", "--format=%v%n", "Unattended-Upgrade::Automatic-Reboot").strip()
    except BrokenHost:
        # Then it does not read its settings either.
        return
    if told.lower() in ("true", "yes", "1", "on"):
        yield Refusal(
            code="reboots-by-itself",
            cause="unattended-upgrades may reboot the host at any time, in the middle of a trial too",
            remedy='set Unattended-Upgrade::Automatic-Reboot "false"; in /etc/apt/apt.conf.d/50unattended-upgrades',
        )


def _unguarded(host: Host) -> Iterator[Refusal]:
    if not any(host.root.glob("etc/systemd/system/*.wants/kernroll-guard.service")):
        yield Refusal(
            code="no-guard",
            cause="kernroll-guard.service is not enabled: nothing would bring the host back from a kernel that "
            "comes up and does not answer",
            remedy="install the unit and systemctl enable --now kernroll-guard, or `kernroll hosts enroll` again",
        )
