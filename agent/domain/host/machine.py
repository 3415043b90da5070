"""What a machine is made of, told from what its kernel shows: firmware, boot loader, hypervisor, swap devices.

An empty text means that the kernel does not show it. Nothing here decides a stratum.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.domain.host.facts import Platform, PlatformHints, hypervisor_named
from agent.domain.numbers import is_number


@dataclass(frozen=True, slots=True, kw_only=True)
class BootHints:
    """What the kernel shows that bears on how the machine was booted."""

    # /sys/firmware/efi exists.
    efi: bool = False
    # /sys/firmware/devicetree exists.
    device_tree: bool = False
    # The architecture by the project's name.
    architecture: str = ""
    # The EFI variable LoaderInfo, for example "systemd-boot 257" or "GRUB 2.12".
    loader_info: str = ""
    # /proc/sys/kernel/bootloader_type, x86_64 only: the loader's number, then its version in the lower four bits.
    loader_type: str = ""
    # /proc/device-tree/chosen/u-boot,version exists.
    u_boot: bool = False
    # The kernel's command line.
    command_line: str = ""


# Documentation/arch/x86/boot.rst, type_of_loader.
_X86_LOADERS: Mapping[int, str] = {
    0x0: "lilo",
    0x1: "loadlin",
    0x2: "efi-stub",
    0x3: "syslinux",
    0x4: "ipxe",
    0x5: "elilo",
    0x7: "grub",
    0x8: "u-boot",
    0x9: "xen",
    0xA: "gujin",
    0xB: "qemu",
    0xC: "arcturus",
    0xD: "kexec",
}


def firmware_of(hints: BootHints) -> str:
    """Return "uefi", "bios" or "devicetree"."""
    if hints.efi:
        return "uefi"
    if hints.architecture == "x86_64":
        return "bios"
    return "devicetree" if hints.device_tree else ""


def boot_loader_of(hints: BootHints) -> str:
    """Return what loaded the kernel, for example "grub", "systemd-boot", "u-boot" or "qemu"."""
    if words := hints.loader_info.split():
        return words[0].lower()
    if hints.architecture == "x86_64" and is_number(hints.loader_type) and int(hints.loader_type):
        return _X86_LOADERS.get(int(hints.loader_type) >> 4, "")
    if hints.u_boot:
        return "u-boot"
    # Only GRUB tells the kernel where it lay, where there is no number for the loader.
    return "grub" if "BOOT_IMAGE=" in hints.command_line else ""


def virtualization_of(hints: PlatformHints, platform: Platform) -> str:
    """Return what runs the machine, in systemd's words: "none", "kvm", "qemu", "xen", "vmware", "microsoft", …"""
    if platform is Platform.METAL:
        return "none"
    if hints.hypervisor_type:
        return hints.hypervisor_type
    if "QEMU TCG" in hints.cpuinfo:
        return "qemu"
    if "kvm-clock" in hints.clocksources:
        return "kvm"
    if "hyperv_clocksource" in hints.clocksources:
        return "microsoft"
    return hypervisor_named(hints) or ("qemu" if "linux,dummy-virt" in hints.device_tree else "")


_BACKENDS = (
    (re.compile(r"/dev/zram[0-9]+"), "zram"),
    (re.compile(r"/dev/ram[0-9]+"), "brd"),
    (re.compile(r"/dev/nvme[0-9]+n[0-9]+(p[0-9]+)?"), "nvme"),
    (re.compile(r"/dev/pmem[0-9]+\w*"), "pmem"),
    (re.compile(r"/dev/loop[0-9]+(p[0-9]+)?"), "loop"),
    (re.compile(r"/dev/(dm-[0-9]+|mapper/.+)"), "dm"),
    (re.compile(r"/dev/md[0-9]+\w*"), "md"),
    (re.compile(r"/dev/nbd[0-9]+(p[0-9]+)?"), "nbd"),
    (re.compile(r"/dev/mmcblk[0-9]+(p[0-9]+)?"), "mmc"),
    (re.compile(r"/dev/(sd|vd|xvd|hd)[a-z]+[0-9]*"), "disk"),
)


def backend_of(path: str, kind: str) -> str:
    """Return what a line of /proc/swaps swaps to, for example "zram"; `kind` is its second column.

    A device of no known name is "block".
    """
    if kind == "file":
        return "file"
    return next((name for pattern, name in _BACKENDS if pattern.fullmatch(path)), "block")
