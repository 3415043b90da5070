"""An EFI system partition with systemd-boot on it, and firmware that boots from it: both Debian's own."""

import re
from pathlib import Path

import efi_variables
from boot_machine import programs
from grub_disk import switch_on
from systemd_boot_machine import VENDOR, SystemdBootMachine

from controller.adapters.kernels.debian import unpack
from controller.adapters.kernels.debian.suites import guest_packages
from controller.adapters.local.cache import Cache, no_progress
from controller.lab.full.firmware import prepare_firmware

_DISK_BYTES = 128 << 20
_PACKAGE = "systemd-boot-efi-amd64-signed"
_PROGRAM = "usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed"


def _program() -> Path:
    cache = Cache.from_environment()
    packages = guest_packages(cache)
    archives = packages.closure([_PACKAGE], "amd64", no_progress)

    def build(directory: Path) -> None:
        unpack(packages.fetch(archives, no_progress, label=_PACKAGE), directory, no_progress, label=_PACKAGE)

    return cache.publish("systemd-boot-efi/" + "-".join(sorted(one.sha256[:8] for one in archives)), build) / _PROGRAM


class UefiDisk:
    """A disk and its firmware's memory, which a machine has in its folders while it is up."""

    def __init__(self, up: SystemdBootMachine, directory: Path) -> None:
        self._up = up
        self._image, self._store = directory / "esp", directory / "variables"
        self._console = directory / "console"
        self._firmware = prepare_firmware(Cache.from_environment(), "x86_64")
        self._firmware.new_store(self._store)

    def install(self) -> None:
        """Put systemd-boot where the firmware looks for it, and let it say who it is."""
        program = _program()
        for place in ("systemd/systemd-bootx64.efi", "BOOT/BOOTX64.EFI"):
            self._up.run("install", "-D", str(program), f"{self._up.root}/efi/EFI/{place}")
        found = re.search(rb"#### LoaderInfo: (systemd-boot [^ ]+) ####", program.read_bytes())
        assert found is not None
        self._up.set("LoaderInfo", found[1].decode(), 6)

    def boot(self) -> list[str]:
        """Switch the machine on; return which kernels ran until it switched itself off."""
        self._write()
        ran = switch_on(
            [*self._firmware.drives(self._store), f"file={self._image},format=raw,if=virtio"], self._console
        )
        self._read()
        self._up.reboot(clears=False)
        return ran

    def _write(self) -> None:
        """Bring files and variables to the disk and to the firmware."""
        self._image.unlink(missing_ok=True)
        with self._image.open("wb") as disk:
            disk.truncate(_DISK_BYTES)
        self._mtool("mformat", "-F", "::")
        for name in ("EFI", "loader", "kernroll"):
            self._mtool("mcopy", "-s", "-Q", f"{self._up.root}/efi/{name}", "::/")
        efi_variables.replace(self._store, VENDOR, self._up.kept_variables())

    def _read(self) -> None:
        """Take back what the loader has changed: names of entries, and variables."""
        entries = f"{self._up.root}/efi/loader/entries"
        self._up.sh("rm -r /efi/loader/entries; mkdir /efi/loader/entries")
        self._mtool("mcopy", "-n", "::/loader/entries/*", entries)
        self._up.keep_variables(efi_variables.variables(self._store, VENDOR))

    def _mtool(self, name: str, *arguments: str) -> None:
        tool = programs("mtools", "mtools") / "usr/bin" / name
        done = self._up.run("env", "MTOOLS_SKIP_CHECK=1", str(tool), "-i", str(self._image), *arguments)
        assert done.returncode == 0, done.stderr
