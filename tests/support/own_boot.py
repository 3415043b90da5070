"""The boot side of a host that starts from its own disk, as its kernroll-boot would tell it."""

from typing import Any

from controller.domain.delivery import BootCause, BootEnd, BootRecord, DeliveryStatus
from controller.domain.hosts.loaders import BootRefusal, HostBoot, HostWatchdog

OLD, NEW = "a" * 64, "b" * 64
MENU_WAITS = BootRefusal(code="menu-waits", cause="the menu waits", remedy="Set GRUB_TIMEOUT")
WATCHDOG_LATE = BootRefusal(code="watchdog-late", cause="the driver comes late", remedy="add it to the RAM disk")
WATCHDOG = HostWatchdog(devices=("watchdog0 iTCO_wdt",), open="watchdog0 iTCO_wdt", timeout_s=30, gaps=(WATCHDOG_LATE,))
BOOT_COUNTER = BootRefusal(code="boot-counter", cause="boots are counted", remedy="Remove GRUB's boot counter")


def own_boot(host: str = "a", **changed: Any) -> HostBoot:
    """Return one that is proven and had a trial that panicked."""
    trial = BootRecord(
        number=8,
        kernel=NEW,
        command_id="u/a/1.reboot.0",
        cause=BootCause.TRIAL,
        end=BootEnd.PANIC,
        console_line="Kernel panic - not syncing",
        started_at=1_772_366_000.0,
        ended_at=1_772_366_030.0,
    )
    first = BootRecord(number=7, kernel="c" * 64, command_id="", cause=BootCause.INITIAL, end=BootEnd.REPLACED)
    back = BootRecord(number=9, kernel=OLD, command_id="", cause=BootCause.FALLBACK, started_at=1_772_366_060.0)
    known: dict[str, Any] = {
        "loader": "grub",
        "delivery": DeliveryStatus(
            host=host, revision=4, default=OLD, armed=None, running=OLD, boots=(first, trial, back)
        ),
        "pinned": True,
        "proven_at": 1_772_365_000.0,
        "boots_by": "loader 537087644082, firmware SeaBIOS 1.16",
        "refusals": (MENU_WAITS, BOOT_COUNTER),
        "watchdog": WATCHDOG,
        "releases": {OLD: "7.0.13-old", NEW: "7.1.13-new"},
    }
    return HostBoot(**{**known, **changed})
