"""What is missing for a kernel that hangs to be ended by a watchdog; each with its remedy."""

from collections.abc import Iterator
from typing import Final

from agent.boot.host import Host
from agent.boot.port import Loader
from agent.boot.values import BootError, Entry, Refusal
from agent.boot.watchdog import devices, early
from agent.boot.watchdog.devices import Device, Watchdogs

_SETS: Final = "write [Manager] and RuntimeWatchdogSec=30 to /etc/systemd/system.conf.d/watchdog.conf"
_LOADS: Final = (
    "name its driver (iTCO_wdt, sp5100_tco, ipmi_watchdog, i6300esb, …) in /etc/modules-load.d/watchdog.conf, because "
    "distributions keep watchdog drivers from being loaded by themselves"
)
_EARLY: Final = (
    "add it to /etc/initramfs-tools/modules and run update-initramfs -u -k all, or with dracut to force_drivers in "
    "/etc/dracut.conf.d and run dracut -f --regenerate-all"
)


def of_running(host: Host, loader: Loader) -> Iterator[Refusal]:
    """Yield what is missing as the host runs now, and in the entry by which its kernel boots."""
    found = devices.read(host)
    now = list(_open(host, found))
    yield from now
    if not now and found.guarding is not None:
        try:
            entry = loader.read().of_release(host.running_release)
        except BootError as error:
            yield _unknown(f"which entry boots the running kernel ({error})")
            return
        yield from of_entry(host, loader, entry, found.guarding)


def of_kernel(host: Host, loader: Loader, entry: Entry) -> Iterator[Refusal]:
    """Yield what is missing now, and what would be missing under the kernel that an entry boots."""
    found = devices.read(host)
    yield from _open(host, found)
    if found.guarding is not None:
        yield from of_entry(host, loader, entry, found.guarding)


def of_entry(host: Host, loader: Loader, entry: Entry, device: Device) -> Iterator[Refusal]:
    """Yield what is missing from an entry: the driver early enough, and an end to waiting for somebody to open it."""
    if not device.module:
        yield _unknown(f"which module drives {_told(device)}")
    else:
        match early.has_driver(host, entry, device.module):
            case False:
                yield Refusal(
                    code="watchdog-late",
                    cause=f"{device.module} is neither part of {entry.release} nor in its initial RAM disk: a hang "
                    "before the root file system is there does not end",
                    remedy=_EARLY,
                )
            case None:
                yield Refusal(
                    code="watchdog-unknown",
                    cause=f"whether {entry.release} has {device.module} before the root file system is there cannot be "
                    "told",
                    remedy="install the distribution's own lister (lsinitramfs of initramfs-tools-core, or lsinitrd of "
                    "dracut), and see what it says of the initial RAM disk",
                )
            case True:
                pass
    waits_s = early.open_timeout_s(host, entry)
    if not waits_s:
        told = "is not on the command line" if waits_s is None else "is 0, which sets no limit,"
        yield Refusal(
            code="watchdog-no-open-timeout",
            cause=f"watchdog.open_timeout= {told} for {entry.release}: a watchdog that runs since the firmware is fed "
            "by the kernel until somebody opens it, also when nobody ever does",
            remedy=loader.adds_argument.format("watchdog.open_timeout=300"),
        )


def _open(host: Host, found: Watchdogs) -> Iterator[Refusal]:
    """Yield why no watchdog is kept open that would end a hang of the running kernel."""
    if not found.devices:
        yield Refusal(
            code="watchdog-missing",
            cause="the kernel shows no watchdog, so that a kernel that hangs stays so until somebody comes",
            remedy=f"{_LOADS}, and {_SETS}; a virtual machine needs such a device",
        )
    elif found.held is None:
        yield _unknown("whether PID 1 keeps a watchdog open (/proc/1/fd cannot be read)")
    elif found.held:
        if found.guarding is None:
            yield _unknown(f"what the watchdog {found.held} is, which PID 1 keeps open")
        elif found.guarding.is_software:
            yield Refusal(
                code="watchdog-in-software",
                cause=f"{_told(found.guarding)} is a timer of the kernel itself, and stops with it",
                remedy=f"take the machine's own: {_LOADS}; name it by WatchdogDevice= where there are several",
            )
    else:
        yield _not_open(host, found)


def _not_open(host: Host, found: Watchdogs) -> Refusal:
    named = ", ".join(_told(one) for one in found.devices)
    others = [one for one in found.devices if one.state == "active"]
    wanted_s = devices.configured_s(host)
    if others:
        return Refusal(
            code="watchdog-of-another",
            cause=f"{_told(others[0])} is kept open by something else than systemd, which may not start under another "
            "kernel, or feed it while nothing else runs",
            remedy=f"stop that program (fuser /dev/{others[0].name}), {_SETS}, and systemctl daemon-reexec",
        )
    if wanted_s is None:
        return _unknown("what RuntimeWatchdogSec is set to (systemctl show does not say), and nobody keeps one open")
    if not wanted_s:
        return Refusal(
            code="watchdog-not-set",
            cause=f"there is {named}, and systemd is not told to use it",
            remedy=f"{_SETS}, and systemctl daemon-reexec",
        )
    return Refusal(
        code="watchdog-not-open",
        cause=f"systemd is told to use a watchdog and keeps none open, although there is {named}: its driver came "
        "later than systemd",
        remedy=f"{_EARLY}; systemctl daemon-reexec opens it in this boot",
    )


def _unknown(what: str) -> Refusal:
    return Refusal(
        code="watchdog-unknown",
        cause=f"{what} cannot be told",
        remedy="see what `wdctl`, systemctl show -p RuntimeWatchdogUSec and `kernroll-boot status` say",
    )


def _told(device: Device) -> str:
    return f"{device.name} ({device.identity})" if device.identity else device.name
