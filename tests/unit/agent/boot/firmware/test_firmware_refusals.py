"""What keeps a firmware from booting a kernel once: a host is made for each, and each is told with its remedy."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from firmware_host import NEW, OLD, FirmwareHost, Mounted, entry
from firmware_machine import GRUB, PARTITION, VARIABLES, active, program

from agent.boot.firmware import copies, loader, refusals, variables
from agent.boot.grub.loader import Grub
from agent.boot.grub.refusals import is_read_only
from agent.boot.values import BrokenHost

_OWN = active("kernroll trial", r"\EFI\kernroll\kernel.efi")
# An entry that names no partition, as firmware makes for a whole disk.
_OF_A_DISK = b"\1\0\0\0\4\0" + "disk\0".encode("utf-16-le") + b"\x7f\xff\4\0"


@pytest.fixture
def host(tmp_path: Path) -> FirmwareHost:
    return FirmwareHost(tmp_path)


def found(host: FirmwareHost, *more: str) -> dict[str, str]:
    """Return what is refused, by code."""
    told = [*refusals.of_firmware(host), *refusals.of_partition(host, host.state(*more))]
    told += refusals.of_staleness(host, "/boot/grub/grubenv")
    return {one.code: f"{one.cause}. {one.remedy}" for one in told}


def test_nothing_speaks_against_a_firmware_that_finds_its_partition(host: FirmwareHost) -> None:
    assert found(host) == {}


def no_variables(host: FirmwareHost) -> None:
    host.path(VARIABLES).rename(host.path("/gone"))
    host.mounts[0].target = "/boot/efi"
    host.path(VARIABLES).mkdir()


def no_order(host: FirmwareHost) -> None:
    host.gone("BootOrder")


def booted_by_hand(host: FirmwareHost) -> None:
    host.order(2)


def put_in_order(host: FirmwareHost) -> None:
    host.set("Boot0007", _OWN)
    host.order(7, GRUB)


def wanted_by_another(host: FirmwareHost) -> None:
    host.set("BootNext", b"\2\0")


def nothing_mounted(host: FirmwareHost) -> None:
    host.mounts.clear()


def another_mounted(host: FirmwareHost) -> None:
    host.mounts = [Mounted(partuuid="99999999-0000-4000-8000-000000000002")]


def several_mounted(host: FirmwareHost) -> None:
    host.set("Boot0001", _OF_A_DISK)
    host.mounts = [Mounted(), Mounted(target="/boot/efi", partuuid="99999999-0000-4000-8000-000000000002")]


def on_a_raid(host: FirmwareHost) -> None:
    host.set("Boot0001", _OF_A_DISK)
    host.mounts = [Mounted(device="9:1", partuuid=None)]


def read_only(host: FirmwareHost) -> None:
    host.mounts = [Mounted(options="ro")]


def no_program(host: FirmwareHost) -> None:
    host.put(f"/boot/vmlinuz-{OLD}", "\x1f\x8b packed".encode("latin-1"))


def of_another_processor(host: FirmwareHost) -> None:
    host.put(f"/boot/vmlinuz-{OLD}", program(0x1C2))


def not_there(host: FirmwareHost) -> None:
    host.path(f"/boot/vmlinuz-{OLD}").unlink()


def loads_nothing(host: FirmwareHost) -> None:
    host.put(f"/boot/config-{OLD}", "# CONFIG_EFI_GENERIC_STUB_INITRD_CMDLINE_LOADER is not set\n")


def no_room(host: FirmwareHost) -> None:
    with host.path(f"/boot/initrd.img-{OLD}").open("r+b") as file:
        free = os.statvfs(host.root)
        # Of no weight on the disk, and longer than that is.
        file.truncate(min(free.f_bavail * free.f_frsize, 1 << 42))


@pytest.mark.parametrize(
    ("spoil", "code", "told"),
    [
        (no_order, "order-missing", "BootOrder"),
        (booted_by_hand, "booted-out-of-order", "Boot0001"),
        (put_in_order, "trial-in-order", "would boot again"),
        (wanted_by_another, "next-of-another", "Boot0002 (Shell)"),
        (nothing_mounted, "esp-unusable", "mount it at /boot/efi"),
        (another_mounted, "esp-unusable", f"by-partuuid/{PARTITION.uuid}"),
        (several_mounted, "esp-unusable", "/efi, /boot/efi are EFI system partitions"),
        (on_a_raid, "esp-unusable", "a software RAID, say"),
        (read_only, "esp-read-only", "remount,rw /efi"),
        (no_program, "kernel-not-startable", "CONFIG_EFI_STUB"),
        (of_another_processor, "kernel-not-startable", "another kind of processor (0x1c2)"),
        (not_there, "kernel-not-startable", "cannot be read: No such file"),
        (loads_nothing, "kernel-not-startable", "takes no initial RAM disk from the firmware"),
        (no_room, "no-room-on-esp", "MODULES=dep"),
    ],
)
def test_each_is_told_by_its_cause_and_its_remedy(
    host: FirmwareHost, spoil: Callable[[FirmwareHost], None], code: str, told: str
) -> None:
    spoil(host)
    assert set(found(host)) == {code}
    assert told in found(host)[code]


def test_firmware_that_shows_no_variables_is_told(host: FirmwareHost) -> None:
    no_variables(host)
    assert "mount -t efivarfs" in next(refusals.of_firmware(host)).remedy


def test_firmware_that_verifies_or_is_of_another_width_is_told(host: FirmwareHost) -> None:
    host.set("SecureBoot", b"\1")
    host.put("/sys/firmware/efi/fw_platform_size", "32\n")
    told = found(host)
    assert set(told) == {"firmware-verifies", "firmware-of-other-width"}
    assert "signed for shim" in told["firmware-verifies"]
    assert "32 bits" in told["firmware-of-other-width"]


def test_a_host_that_a_trials_entry_booted_is_as_good_as_before(host: FirmwareHost) -> None:
    # Its entry is gone since it was blessed.
    host.set("BootCurrent", b"\7\0")
    host.put("/proc/cmdline", "root=/dev/vg0/root initrd=\\EFI\\kernroll\\initrd-0.img\n")
    assert found(host) == {}
    host.put("/proc/cmdline", "root=/dev/vg0/root\n")
    assert set(found(host)) == {"booted-out-of-order"}


@pytest.mark.parametrize("word", ["$extra", 'dyndbg="file', "a\\b", "x" * 2048, "ä=1"])
def test_words_that_only_grub_understands_are_refused(host: FirmwareHost, word: str) -> None:
    assert set(found(host, word)) == {"kernel-not-startable"}


def test_what_only_a_splash_screen_wants_is_left_out() -> None:
    line = copies.told(entry(NEW, "$vt_handoff", "panic=10"))
    assert line == "root=/dev/vg0/root panic=10 initrd=\\EFI\\kernroll\\initrd-0.img"


@pytest.mark.parametrize(
    ("file", "text", "code"),
    [
        ("md/degraded", "1", "environment-degraded"),
        ("md/degraded", "0", ""),
        ("slaves/dm-3/dm/name", "vg0-boot_corig", "environment-behind-cache"),
        ("slaves/dm-3/slaves/dm-2/dm/name", "vg0-boot_rimage_0", "environment-behind-cache"),
        ("slaves/dm-3/dm/name", "vg0-pool-tpool", "environment-behind-cache"),
        ("slaves/dm-3/dm/name", "vg0-my--cow", ""),
    ],
)
def test_a_disk_on_which_grub_may_read_a_former_default_is_told(
    host: FirmwareHost, file: str, text: str, code: str
) -> None:
    device = host.path("/boot/grub/grubenv").stat().st_dev
    host.put(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/{file}", f"{text}\n")
    assert set(found(host)) == ({code} if code else set())


@pytest.mark.parametrize(
    ("abstractions", "file_system", "is_so"),
    [
        ("lvm", "ext2", True),
        ("diskfilter mdraid1x", "xfs", True),
        ("lvm diskfilter mdraid1x raid5rec", "ext2", True),
        ("", "btrfs", True),
        ("", "ext2", False),
        ("", "zfs", False),
        ("lvm", "f2fs", False),
        ("cryptodisk luks", "ext2", False),
        ("lvm ldm", "ext2", False),
    ],
)
def test_where_grub_reads_what_the_host_wrote_and_cannot_clear_it(
    abstractions: str, file_system: str, is_so: bool
) -> None:
    assert is_read_only(abstractions, file_system, {}) == is_so
    # A GRUB that has a place of its own for its environment writes there.
    assert not is_read_only(abstractions, file_system, {"env_block": "512+1"})


def test_a_grub_whose_place_cannot_be_told_is_left_alone(host: FirmwareHost) -> None:
    class Unreadable(Grub):
        def cannot_clear(self) -> bool:
            raise BrokenHost("grub-probe failed with code 1: cannot find a device")

    assert not isinstance(loader.suited(host, Unreadable(host)), loader.FirmwareOnce)


def test_of_a_plain_partition_nobody_asks_grubs_own_tool(host: FirmwareHost) -> None:
    # Which this host does not have: it would fail.
    device = host.path("/boot/grub/grubenv").stat().st_dev
    host.put(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/partition", "2\n")
    assert isinstance(loader.suited(host, Grub(host)), Grub)
    host.put("/sys/dev/block/md/level", "raid1\n")
    with pytest.raises(AssertionError):
        loader.suited(host, Grub(host))


def test_a_number_that_the_order_names_is_not_free(host: FirmwareHost) -> None:
    assert variables.unused(host) == 0
    host.order(GRUB, 0, 3)
    assert variables.unused(host) == 4


def test_variables_that_cannot_be_read_are_told(host: FirmwareHost) -> None:
    host.set("BootOrder", b"\1\0\2")
    with pytest.raises(BrokenHost, match="3 bytes, which are no numbers"):
        variables.numbers(host, "BootOrder")


def test_a_findmnt_of_another_kind_is_told(host: FirmwareHost) -> None:
    host.says = "{"
    assert "it is too old, or no findmnt" in found(host)["esp-unusable"]
