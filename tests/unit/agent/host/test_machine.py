"""Firmware, boot loader, hypervisor and swap devices, told from what kernels of real machines show."""

from pathlib import Path

import pytest

from agent.adapters.host.host import read_facts
from agent.adapters.wire.messages import facts_to_message
from agent.domain.host.facts import Platform, PlatformHints
from agent.domain.host.machine import BootHints, backend_of, boot_loader_of, firmware_of, virtualization_of

X86, ARM = "x86_64", "arm64"


@pytest.mark.parametrize(
    ("hints", "firmware", "boot_loader"),
    [
        # GRUB 2 on BIOS: type 7, version 2.
        (BootHints(architecture=X86, loader_type="114", command_line="BOOT_IMAGE=/vmlinuz ro"), "bios", "grub"),
        (
            BootHints(architecture=X86, efi=True, loader_type="114", loader_info="systemd-boot 257.7"),
            "uefi",
            "systemd-boot",
        ),
        (BootHints(architecture=X86, efi=True, loader_info="GRUB 2.12"), "uefi", "grub"),
        (BootHints(architecture=X86, loader_type="176"), "bios", "qemu"),
        (BootHints(architecture=X86, efi=True, loader_type="33"), "uefi", "efi-stub"),
        (BootHints(architecture=X86, loader_type="255"), "bios", ""),
        (BootHints(architecture=ARM, efi=True, command_line="BOOT_IMAGE=/boot/vmlinuz"), "uefi", "grub"),
        (BootHints(architecture=ARM, device_tree=True, u_boot=True), "devicetree", "u-boot"),
        (BootHints(architecture=ARM, device_tree=True), "devicetree", ""),
        (BootHints(architecture=ARM), "", ""),
    ],
)
def test_how_a_machine_boots(hints: BootHints, firmware: str, boot_loader: str) -> None:
    assert (firmware_of(hints), boot_loader_of(hints)) == (firmware, boot_loader)


@pytest.mark.parametrize(
    ("hints", "platform", "virtualization"),
    [
        (PlatformHints(dmi_vendor="Dell Inc."), Platform.METAL, "none"),
        (PlatformHints(cpuinfo="model name\t: QEMU TCG CPU version 2.5+"), Platform.EMULATED, "qemu"),
        (PlatformHints(clocksources="kvm-clock tsc", dmi_vendor="QEMU"), Platform.VM, "kvm"),
        (PlatformHints(clocksources="hyperv_clocksource_tsc_page"), Platform.VM, "microsoft"),
        (PlatformHints(hypervisor_type="xen"), Platform.VM, "xen"),
        (PlatformHints(dmi_vendor="VMware, Inc."), Platform.VM, "vmware"),
        (PlatformHints(dmi_vendor="innotek GmbH"), Platform.VM, "oracle"),
        (PlatformHints(dmi_vendor="Apple Inc.", dmi_product="Apple Virtualization"), Platform.VM, "apple"),
        (PlatformHints(dmi_vendor="Oracle Corporation", dmi_product="VirtualBox"), Platform.VM, "oracle"),
        (PlatformHints(dmi_vendor="Nutanix", dmi_product="AHV"), Platform.VM, "kvm"),
        (PlatformHints(dmi_vendor="Example", dmi_product="Virtual Server"), Platform.VM, ""),
        (PlatformHints(dmi_vendor="Scaleway", dmi_product="SCW-AMP2"), Platform.UNKNOWN, ""),
        (PlatformHints(device_tree="linux,dummy-virt"), Platform.UNKNOWN, "qemu"),
        (PlatformHints(), Platform.UNKNOWN, ""),
    ],
)
def test_what_runs_a_machine(hints: PlatformHints, platform: Platform, virtualization: str) -> None:
    assert virtualization_of(hints, platform) == virtualization


@pytest.mark.parametrize(
    ("path", "kind", "backend"),
    [
        ("/dev/zram0", "partition", "zram"),
        ("/dev/ram0", "partition", "brd"),
        ("/dev/nvme1n1p2", "partition", "nvme"),
        ("/dev/vda2", "partition", "disk"),
        ("/dev/loop3", "partition", "loop"),
        ("/dev/dm-1", "partition", "dm"),
        ("/dev/md127", "partition", "md"),
        ("/dev/kernroll-swap", "partition", "block"),
        ("/dev/zram0", "file", "file"),
        ("/swapfile", "file", "file"),
    ],
)
def test_what_a_host_swaps_to(path: str, kind: str, backend: str) -> None:
    assert backend_of(path, kind) == backend


def test_the_facts_of_a_machine_reach_the_hello(tmp_path: Path) -> None:
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    (proc / "sys/kernel/random").mkdir(parents=True)
    (proc / "sys/kernel/random/boot_id").write_text("b\n")
    (proc / "meminfo").write_text("MemTotal: 1024 kB\nMemFree: 512 kB\nMemAvailable: 512 kB\n")
    (proc / "cmdline").write_text("ro quiet\n")
    (proc / "swaps").write_text("Filename Type Size Used Priority\n/dev/zram0 partition 1024 0 100\n")
    variables = sys / "firmware/efi/efivars"
    variables.mkdir(parents=True)
    name = "LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    (variables / name).write_bytes(b"\x06\0\0\0" + "systemd-boot 257.7\0".encode("utf-16-le"))
    message = facts_to_message(read_facts(labels={}, platform_override=Platform.METAL, proc=proc, sys=sys))
    assert (message.firmware, message.boot_loader, message.virtualization) == ("uefi", "systemd-boot", "none")
    assert [(device.path, device.backend) for device in message.swap_devices] == [("/dev/zram0", "zram")]
