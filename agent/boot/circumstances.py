"""What of the host, beside its loader, keeps it from coming back by itself, or from having room for another kernel."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.boot.host import Host
from agent.boot.port import Loader
from agent.boot.values import BootState, BrokenHost, Refusal
from agent.boot.watchdog import devices, early

# Another kernel and its initial RAM disk may be larger than those that are there.
_ROOM: Final = 1.5
_PANIC: Final = re.compile(r"panic=(-?\d+)$")
# What a crash kernel does when it cannot write its dump: these wait for somebody.
_KDUMP_WAITS: Final = frozenset({"shell", "halt", "poweroff"})
_KDUMP_ACTION: Final = re.compile(r"^[ \t]*(?:failure_action|default)[ \t]+(\S+)", re.MULTILINE)
_KDUMP_COMMAND: Final = re.compile(r"^[ \t]*KDUMP_FAIL_CMD=(.*)$", re.MULTILINE)
_MIB: Final = 1 << 20


def refusals(host: Host, loader: Loader, state: BootState) -> Iterator[Refusal]:
    """Yield them."""
    yield from _panics(loader, state)
    yield from _room(host, state)
    yield from _kdump(host)
    yield from _other_reboots(host)
    yield from _unguarded(host)


def _panics(loader: Loader, state: BootState) -> Iterator[Refusal]:
    stop = sorted(
        {one.release for one in state.entries if one.release and not one.recovery and not _restarts(one.arguments)}
    )
    if stop:
        yield Refusal(
            code="stops-at-a-panic",
            cause=f"{', '.join(stop)} would stop at a panic and stay there: panic= is not on the command line",
            remedy=loader.adds_argument.format("panic=10"),
        )


def _restarts(arguments: tuple[str, ...]) -> bool:
    """Whether a kernel with this command line restarts at a panic; the last word of a kind counts."""
    found = [int(match[1]) for one in arguments if (match := _PANIC.match(one))]
    return bool(found) and found[-1] != 0


def _room(host: Host, state: BootState) -> Iterator[Refusal]:
    """A kernel's package puts its files into /boot, and a loader may want copies of them elsewhere."""
    usual = (f"/boot/{name}-{host.running_release}" for name in ("vmlinuz", "initrd.img", "System.map", "config"))
    loaded = (name for one in state.entries if one.release == host.running_release for name in one.files)
    sizes: dict[Path, int] = {}
    for path in {host.path(name) for name in (*usual, *loaded)}:
        if path.is_file():
            mount = _mount_of(path, host.root)
            sizes[mount] = sizes.get(mount, 0) + path.stat().st_size
    for mount, size in sorted(sizes.items()):
        place, needed = os.statvfs(mount), int(_ROOM * size)
        free = place.f_bavail * place.f_frsize
        if free < needed:
            name = Path("/") / mount.relative_to(host.root)
            yield Refusal(
                code="no-room-in-boot",
                cause=f"{name} has {free // _MIB} MiB left, and another kernel may need {-(-needed // _MIB)} MiB",
                remedy="remove kernels that nobody boots, but neither the running one nor the default",
            )


def _mount_of(path: Path, root: Path) -> Path:
    """Return the highest folder of the file system on which a file lies."""
    device, found = path.stat().st_dev, path.parent
    while found != root and found.parent.stat().st_dev == device:
        found = found.parent
    return found


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
    if actions and actions[-1] in _KDUMP_WAITS and not _ends_by_watchdog(host):
        yield Refusal(
            code="kdump-waits",
            cause=f"a crash kernel is loaded: at a panic it runs, panic= does not count, and where it cannot write its "
            f"dump it ends in “{actions[-1]}” and stays there",
            remedy="set failure_action reboot in /etc/kdump.conf and restart kdump",
        )


def _ends_by_watchdog(host: Host) -> bool:
    """Whether a watchdog that is open now resets a crash kernel that waits in its initial RAM disk.

    Only where that kernel cannot feed it, nor close it as it halts: it has the driver neither built in nor with it.
    Debian's crash kernel starts the host's own services, with the host's own settings of the watchdog.
    """
    device, release = devices.read(host).guarding, host.running_release
    if device is None or device.is_software or not device.module:
        return False
    image = f"/boot/initramfs-{release}kdump.img"
    return (
        early.is_built_in(host, release, device.module) is False and early.in_image(host, image, device.module) is False
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
