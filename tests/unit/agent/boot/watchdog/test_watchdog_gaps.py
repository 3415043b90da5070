"""What is missing for a hang to end by a watchdog: a host is made for each, and each is told with its remedy."""

import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from watched_host import COVERED, NEW, RUNNING, MenuOf, WatchedHost, entry, watched_host

from agent.boot.values import Entry, Refusal
from agent.boot.watchdog import devices, gaps


@pytest.fixture
def host(tmp_path: Path) -> WatchedHost:
    return watched_host(tmp_path)


def found(host: WatchedHost, running: Entry | None = None) -> list[Refusal]:
    menu = MenuOf(entries=(running or entry(RUNNING), entry(NEW)))
    return list(gaps.of_running(host, menu))


def test_nothing_is_missing_where_systemd_keeps_a_watchdog_open_that_is_there_early(host: WatchedHost) -> None:
    assert found(host) == []
    assert asdict(devices.read(host)) == {
        "devices": (
            {
                "name": "watchdog0",
                "identity": "iTCO_wdt",
                "state": "active",
                "timeout_s": 30,
                "nowayout": False,
                "module": "iTCO_wdt",
                "did_reset": False,
            },
        ),
        "held": "watchdog0",
    }


def no_device(host: WatchedHost) -> None:
    host.path("/sys/class/watchdog").rename(host.path("/sys/class/gone"))


def not_set(host: WatchedHost) -> None:
    host.opens()
    host.put("/sys/class/watchdog/watchdog0/state", "inactive")
    host.sets("0")


def too_late(host: WatchedHost) -> None:
    """systemd#17838: the driver came after PID 1, which has not tried again."""
    not_set(host)
    host.sets("1min 30s")


def of_another(host: WatchedHost) -> None:
    host.opens()


def in_software(host: WatchedHost) -> None:
    host.has_watchdog("watchdog1", module="", shown={"identity": "Software Watchdog"})
    host.opens("/dev/watchdog1")


def unreadable(host: WatchedHost) -> None:
    host.path("/proc/1/fd").rename(host.path("/proc/1/hidden"))


def silent(host: WatchedHost) -> None:
    not_set(host)
    del host.printed["systemctl"]


def unheard_of(host: WatchedHost) -> None:
    not_set(host)
    host.sets("a while")


def of_no_class(host: WatchedHost) -> None:
    host.opens("/dev/watchdog7")


def driverless(host: WatchedHost) -> None:
    host.path("/sys/class/watchdog/watchdog0/device/driver").unlink()


def not_in_the_image(host: WatchedHost) -> None:
    host.lists("softdog", "iTCO_vendor_support")


def unlisted(host: WatchedHost) -> None:
    del host.printed["lsinitramfs"]


@pytest.mark.parametrize(
    ("change", "code", "cause", "remedy"),
    [
        (
            no_device,
            "watchdog-missing",
            "stays so until somebody comes",
            r"/etc/modules-load\.d/.*RuntimeWatchdogSec=30",
        ),
        (not_set, "watchdog-not-set", r"there is watchdog0 \(iTCO_wdt\)", r"RuntimeWatchdogSec=30 .* daemon-reexec"),
        (
            too_late,
            "watchdog-not-open",
            "its driver came later than systemd",
            "initramfs-tools/modules .*daemon-reexec",
        ),
        (of_another, "watchdog-of-another", "something else than systemd", r"fuser /dev/watchdog0"),
        (in_software, "watchdog-in-software", "timer of the kernel itself", "WatchdogDevice="),
        (unreadable, "watchdog-unknown", r"/proc/1/fd cannot be read", "wdctl"),
        (silent, "watchdog-unknown", r"RuntimeWatchdogSec is set to", "wdctl"),
        (unheard_of, "watchdog-unknown", r"RuntimeWatchdogSec is set to", "wdctl"),
        (of_no_class, "watchdog-unknown", "what the watchdog watchdog7 is", "wdctl"),
        (driverless, "watchdog-unknown", r"which module drives watchdog0 \(iTCO_wdt\)", "wdctl"),
        (not_in_the_image, "watchdog-late", f"neither part of {RUNNING} nor in its initial RAM disk", "force_drivers"),
        (unlisted, "watchdog-unknown", "before the root file system is there cannot be told", "lsinitramfs"),
    ],
)
def test_what_is_missing_is_told_with_its_remedy(
    host: WatchedHost, change: Callable[[WatchedHost], None], code: str, cause: str, remedy: str
) -> None:
    change(host)
    (one,) = found(host)
    assert one.code == code
    assert re.search(cause, one.cause)
    assert re.search(remedy, one.remedy)


@pytest.mark.parametrize(
    ("arguments", "configured", "codes"),
    [
        (COVERED, "", []),
        ((), "", ["watchdog-no-open-timeout"]),
        (("watchdog.open_timeout=0",), "", ["watchdog-no-open-timeout"]),
        # The last one counts, as everywhere on a command line.
        ((*COVERED, "watchdog.open_timeout=0"), "", ["watchdog-no-open-timeout"]),
        ((), "CONFIG_WATCHDOG_OPEN_TIMEOUT=0\n", ["watchdog-no-open-timeout"]),
        ((), "CONFIG_WATCHDOG_OPEN_TIMEOUT=120\n", []),
        (("watchdog.open_timeout=0",), "CONFIG_WATCHDOG_OPEN_TIMEOUT=120\n", ["watchdog-no-open-timeout"]),
    ],
)
def test_a_watchdog_of_the_firmware_is_not_fed_for_ever(
    host: WatchedHost, arguments: tuple[str, ...], configured: str, codes: list[str]
) -> None:
    if configured:
        host.put(f"/boot/config-{RUNNING}", f"CONFIG_WATCHDOG=y\n{configured}")
    told = found(host, entry(RUNNING, arguments))
    assert [one.code for one in told] == codes
    assert all("add watchdog.open_timeout=300 to the menu" in one.remedy for one in told)


def test_a_driver_that_is_part_of_the_kernel_is_early(host: WatchedHost) -> None:
    not_in_the_image(host)
    host.has_kernel(RUNNING, "drivers/watchdog/iTCO-wdt")
    assert found(host) == []


def test_a_watchdog_beside_its_device_is_known_by_what_its_driver_is_called(tmp_path: Path) -> None:
    """As i6300esb shows itself on a real machine: the watchdog has no device of its own."""
    host = watched_host(tmp_path)
    host.has_watchdog(module="", shown={"identity": "i6300ESB timer"})
    host.put("/sys/module/i6300esb/drivers/pci:i6300ESB timer")
    shutil.rmtree(host.path("/sys/class/watchdog/watchdog0/device"))
    assert [one.module for one in devices.read(host).devices] == ["i6300esb"]


def test_a_driver_that_is_part_of_the_running_kernel_has_the_name_of_its_module(tmp_path: Path) -> None:
    host = WatchedHost(tmp_path)
    host.has_watchdog(module="sp5100_tco", built_in=True)
    host.opens("/dev/watchdog")
    assert devices.read(host).guarding == devices.Device(
        name="watchdog0", identity="sp5100_tco", state="active", timeout_s=30, nowayout=False, module="sp5100_tco"
    )


@pytest.mark.parametrize(
    ("image", "builtin_known", "codes"),
    [
        ("", True, ["watchdog-late"]),
        ("", False, ["watchdog-unknown"]),
        ("/efi/EFI/Linux/{}.efi", True, ["watchdog-unknown"]),
        ("/boot/initramfs-{}.img", True, []),
    ],
)
def test_a_kernel_without_an_initial_ram_disk_of_its_own(
    host: WatchedHost, image: str, builtin_known: bool, codes: list[str]
) -> None:
    if not builtin_known:
        host.path(f"/lib/modules/{RUNNING}/modules.builtin").unlink()
    assert [one.code for one in found(host, entry(RUNNING, image=image))] == codes


def test_the_other_distributions_lister_is_asked(host: WatchedHost) -> None:
    del host.printed["lsinitramfs"]
    host.printed["lsinitrd"] = "-rw-r--r-- 1 root root 9000 Jan 1 1970 usr/lib/modules/1.0/kernel/iTCO_wdt.ko.zst\n"
    assert found(host) == []


def test_the_kernel_that_is_to_be_armed_is_looked_at_and_not_the_running_one(host: WatchedHost) -> None:
    menu = MenuOf(entries=(entry(RUNNING), entry(NEW, ())))
    assert found(host) == []
    assert [one.code for one in gaps.of_kernel(host, menu, entry(NEW, ()))] == ["watchdog-no-open-timeout"]
    host.opens()
    assert [one.code for one in gaps.of_kernel(host, menu, entry(NEW))] == ["watchdog-of-another"]


def test_a_running_kernel_that_is_in_no_menu_is_told(host: WatchedHost) -> None:
    (one,) = gaps.of_running(host, MenuOf(entries=(entry(NEW),)))
    assert "which entry boots the running kernel" in one.cause


def test_a_kernel_that_shows_little_of_its_watchdog_is_read_all_the_same(tmp_path: Path) -> None:
    """Without CONFIG_WATCHDOG_SYSFS there is the device and nothing in it."""
    host = WatchedHost(tmp_path)
    host.path("/sys/class/watchdog/watchdog0").mkdir(parents=True)
    host.opens("/dev/watchdog0")
    assert devices.read(host).guarding == devices.Device(name="watchdog0")
    assert devices.reset_by(host) == ""


@pytest.mark.parametrize(("status", "name"), [("32", "iTCO_wdt"), ("0x20", "iTCO_wdt"), ("0", ""), ("64", "")])
def test_only_a_watchdog_that_says_so_has_reset_the_machine(host: WatchedHost, status: str, name: str) -> None:
    host.put("/sys/class/watchdog/watchdog0/bootstatus", f"{status}\n")
    assert devices.reset_by(host) == name


@pytest.mark.parametrize(
    ("span", "seconds"),
    [("30s", 30.0), ("1min 30s", 90.0), ("500ms", 0.5), ("0", 0.0), ("infinity", 0.0), ("soon", None)],
)
def test_spans_are_read_as_systemctl_prints_them(host: WatchedHost, span: str, seconds: float | None) -> None:
    host.sets(span)
    assert devices.configured_s(host) == seconds
