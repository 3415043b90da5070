"""Disks with /boot on a logical volume, where GRUB reads and cannot write, and real firmware that boots from them."""

import re
from pathlib import Path

import efi_variables
from boot_machine import programs
from firmware_machine import GRUB, PARTITION, SHELL, VENDOR, FirmwareMachine
from grub_disk import switch_on

from controller.adapters.local.cache import Cache
from controller.adapters.local.tools import run_tool
from controller.lab.full.firmware import prepare_firmware

_DISK_BYTES = 128 << 20
_SECTOR_BYTES = 512
_VOLUME_BYTES, _PHYSICAL_BYTES = 160 << 20, 176 << 20
# Where the first volume of a group begins, as pvcreate lays it out.
_VOLUME_AT = 1 << 20
_UUID = "2f1b6c4e-0000-4000-8000-000000000001"
_ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_MODULES = (
    "part_gpt lvm ext2 fat normal linux loadenv search search_fs_uuid test echo configfile serial terminal reboot"
)
_TIMEOUT_S = 300.0


class FirmwareDisks:
    """An EFI system partition, a logical volume and the firmware's memory; a machine has them while it is up."""

    def __init__(self, up: FirmwareMachine, directory: Path) -> None:
        self._up = up
        self._esp, self._physical = directory / "esp", directory / "physical"
        self._store, self._console = directory / "variables", directory / "console"
        self._firmware = prepare_firmware(Cache.from_environment(), "x86_64")
        self._firmware.new_store(self._store)

    def install(self) -> None:
        """Make the disks: a group with one volume, made by lvm itself, and GRUB where the first entry has it."""
        self._make_volume()
        size_kib = _VOLUME_BYTES // 1024
        place = ["-E", f"offset={_VOLUME_AT}", self._physical, f"{size_kib}k"]
        run_tool(["mke2fs", "-q", "-F", "-t", "ext4", "-U", _UUID, *place], timeout_s=_TIMEOUT_S, what="Making /boot")
        self._up.take(self._physical, _VOLUME_AT)
        self._up.sh(
            "mkdir -p /boot/grub; cp -r /usr/lib/grub/x86_64-efi /boot/grub/; grub-mkimage -O x86_64-efi "
            f"-p '(lvm/vg0-boot)/grub' -o /boot/grub/x86_64-efi/core.efi {_MODULES}\n"
            "cp /boot/grub/x86_64-efi/core.efi /efi/EFI/debian/grubx64.efi; grub-editenv /boot/grub/grubenv create"
        )
        self._up.remove(f"Boot{SHELL:04X}")
        self._up.order(GRUB)

    def boot(self) -> list[str]:
        """Switch the machine on; return which kernels ran until it switched itself off."""
        own = self._up.own()
        self._up.let_go()
        self._write()
        drives = [f"file={one},format=raw,if=virtio" for one in (self._esp, self._physical)]
        ran = switch_on([*self._firmware.drives(self._store), *drives], self._console)
        self._up.take(self._physical, _VOLUME_AT)
        self._read()
        self._up.reboot(clears=False)
        told = re.findall(r"TOLD (.*)", self._console.read_text(errors="replace"))[-1].strip()
        self._up.started_by(told)
        self._up.current(own[0] if "kernroll" in told else GRUB)
        return ran

    def _make_volume(self) -> None:
        tree = programs("lvm2", "lvm2")
        libraries = ":".join(str(one) for one in (*tree.glob("**/lib/*-linux-gnu"), *tree.glob("**/lib")))
        environment = {"LD_LIBRARY_PATH": libraries, "LVM_SYSTEM_DIR": str(self._physical.parent)}
        self._physical.write_bytes(b"")
        with self._physical.open("r+b") as disk:
            disk.truncate(_PHYSICAL_BYTES)
        attach = ["losetup", "--find", "--show", self._physical]
        device = run_tool(attach, timeout_s=_TIMEOUT_S, what="Attaching a disk").decode().strip()
        settings = (
            f'devices {{ scan="/dev" use_devicesfile=0 filter=["a|^{device}$|", "r|.*|"] }} '
            f'global {{ locking_dir="{self._physical.parent}/lock" event_activation=0 use_lvmpolld=0 }} '
            "activation { udev_sync=0 udev_rules=0 monitoring=0 } backup { backup=0 archive=0 }"
        )
        lvm = next(one for one in tree.glob("**/sbin/lvm") if one.is_file())
        size = f"{_VOLUME_BYTES}b"
        try:
            for command in (
                ["pvcreate", "-y", device],
                ["vgcreate", "vg0", device],
                ["lvcreate", "-an", "-Zn", "-Wn", "-y", "-L", size, "-n", "boot", "vg0"],
            ):
                # No volume is used here: the kernel need not know of any.
                words = [lvm, *command, "--driverloaded", "n", "--config", settings]
                run_tool(words, timeout_s=_TIMEOUT_S, what="Making a volume", environment=environment)
        finally:
            run_tool(["losetup", "--detach", device], timeout_s=_TIMEOUT_S, what="Letting go of a disk")

    def _write(self) -> None:
        """Bring files and variables to the disk and to the firmware."""
        self._esp.unlink(missing_ok=True)
        with self._esp.open("wb") as disk:
            disk.truncate(_DISK_BYTES)
        table = (
            f"label: gpt\nstart={PARTITION.start}, size={PARTITION.blocks}, type={_ESP_TYPE}, uuid={PARTITION.uuid}\n"
        )
        self._tool("fdisk", "sbin/sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(self._esp), stdin=table)
        place = f"{self._esp}@@{PARTITION.start * _SECTOR_BYTES}"
        self._tool("mtools", "bin/mformat", "-i", place, "-F", "-T", str(PARTITION.blocks), "::")
        self._tool("mtools", "bin/mcopy", "-i", place, "-s", "-Q", f"{self._up.root}/efi/EFI", "::/")
        kept = efi_variables.variables(self._store, VENDOR)
        others = {name: data for name, data in kept.items() if not name.startswith("Boot")}
        own = {name: data for name, data in self._up.variables().items() if name.startswith("Boot") and data[0] & 1}
        efi_variables.replace(self._store, VENDOR, {**others, **own})

    def _read(self) -> None:
        """Take back what the firmware has changed."""
        found = efi_variables.variables(self._store, VENDOR)
        for name in self._up.variables():
            self._up.remove(name)
        for name, data in found.items():
            if name.startswith("Boot"):
                self._up.set_variable(name, data[4:], data[0])

    def _tool(self, package: str, place: str, *arguments: str, stdin: str = "") -> None:
        tree = programs(package, package)
        tool = next(one for one in tree.glob(f"**/{place}") if one.is_file())
        libraries = ":".join(str(one) for one in tree.glob("**/lib/*-linux-gnu"))
        words = ["env", "MTOOLS_SKIP_CHECK=1", f"LD_LIBRARY_PATH={libraries}", str(tool), *arguments]
        done = self._up.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
