"""The machine's watchdogs as the kernel shows them, and which of them systemd keeps open."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.boot.host import Host
from agent.boot.values import BrokenHost

_CLASS: Final = "/sys/class/watchdog"
_NAME: Final = re.compile(r"watchdog[0-9]{1,3}")
# Where there is one device only it has this name too.
_FIRST, _FIRST_NUMBERED = "watchdog", "watchdog0"
# WDIOF_CARDRESET of linux/watchdog.h: the watchdog reset the machine the last time.
_CARD_RESET: Final = 0x20
_SPAN: Final = re.compile(r"([0-9.]+)(us|ms|s|min|h|d|w|month|y)")
_DAY_S: Final = 86_400.0
_UNITS_S: Final = {
    **{"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": _DAY_S},
    **{"w": 7 * _DAY_S, "month": 30 * _DAY_S, "y": 365 * _DAY_S},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One watchdog. Texts are empty and numbers None where the kernel does not show them (CONFIG_WATCHDOG_SYSFS)."""

    # "watchdog0".
    name: str
    # As its driver calls it: "iTCO_wdt".
    identity: str = ""
    # "active" while somebody has it open, else "inactive".
    state: str = ""
    # After how long without a sign of life it resets the machine.
    timeout_s: int | None = None
    # Whether it goes on once it was opened, whatever becomes of who opened it.
    nowayout: bool | None = None
    # The module that drives it; empty where it cannot be told.
    module: str = ""
    # Whether the hardware says that it reset the machine the last time; many never say so.
    did_reset: bool = False

    @property
    def is_software(self) -> bool:
        """Whether it is a timer of the kernel itself, which hangs with it."""
        return self.module == "softdog" or self.identity == "Software Watchdog"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdogs:
    """All of them."""

    devices: tuple[Device, ...] = ()
    # The name of the one that PID 1 keeps open, empty when it keeps none; None where that cannot be told.
    held: str | None = None

    @property
    def guarding(self) -> Device | None:
        """The one that PID 1 keeps open."""
        return next((one for one in self.devices if one.name == self.held), None)


def read(host: Host) -> Watchdogs:
    """Return them as they are now; costs nothing but reading some small files."""
    try:
        names = sorted(one.name for one in host.path(_CLASS).iterdir() if _NAME.fullmatch(one.name))
    except OSError:
        names = []
    return Watchdogs(devices=tuple(_device(host, one) for one in names), held=_held(host))


def reset_by(host: Host) -> str:
    """Return the identity of a watchdog that says that it reset the machine; empty when none does."""
    return next((one.identity or one.name for one in read(host).devices if one.did_reset), "")


def configured_s(host: Host) -> float | None:
    """Return after which silence systemd lets the machine be reset; 0 when never, None when it does not say."""
    try:
        told = host.run("systemctl", "show", "--property=RuntimeWatchdogUSec")
    except BrokenHost:
        return None
    key, found, value = told.strip().partition("=")
    if not found or key != "RuntimeWatchdogUSec":
        return None
    if value in ("0", "infinity"):
        return 0.0
    parts = [_SPAN.fullmatch(one) for one in value.split()]
    if not parts or not all(parts):
        return None
    return sum(float(one[1]) * _UNITS_S[one[2]] for one in parts if one)


def _device(host: Host, name: str) -> Device:
    timeout, nowayout, status = (_line(host, name, one) for one in ("timeout", "nowayout", "bootstatus"))
    return Device(
        name=name,
        identity=_line(host, name, "identity"),
        state=_line(host, name, "state"),
        timeout_s=_number(timeout),
        nowayout=None if nowayout == "" else nowayout != "0",
        module=_module(host, name) or _module_of_same_name(host, _line(host, name, "identity")),
        did_reset=bool((_number(status) or 0) & _CARD_RESET),
    )


def _line(host: Host, device: str, name: str) -> str:
    try:
        return (host.text(f"{_CLASS}/{device}/{name}") or "").strip()
    except BrokenHost:
        # Some drivers answer some questions with an error.
        return ""


def _number(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None


def _module(host: Host, device: str) -> str:
    driver = host.path(f"{_CLASS}/{device}/device/driver")
    if (module := _target(driver / "module")) or not driver.exists():
        return module
    # What is part of the kernel is named by the module that it could have been.
    return _module_of_same_name(host, driver.resolve().name)


def _module_of_same_name(host: Host, wanted: str) -> str:
    """Return the module that has a driver of this name.

    Some drivers register their watchdog beside the device that it belongs to, and it is the driver that says who it is:
    i6300esb does both, and "i6300ESB timer" is what its watchdog and its PCI driver are called.
    """
    for one in sorted(host.path("/sys/module").glob("*/drivers/*")):
        if one.name.rpartition(":")[2] == wanted:
            return one.parent.parent.name
    return ""


def _target(link: Path) -> str:
    try:
        return link.readlink().name
    except OSError:
        return ""


def _held(host: Host) -> str | None:
    """Return what PID 1 has open, by its own list of files: what systemd is told to open is another thing."""
    try:
        opened = [_target(one) for one in sorted(host.path("/proc/1/fd").iterdir())]
    except OSError:
        return None
    found = [one for one in opened if one == _FIRST or _NAME.fullmatch(one)]
    return "" if not found else _FIRST_NUMBERED if found[0] == _FIRST else found[0]
