"""The UEFI firmware of machines, as Debian packages it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from controller.adapters.kernels.debian import unpack
from controller.adapters.kernels.debian.suites import guest_packages
from controller.adapters.local.cache import Cache, Progress, no_progress

# Package, program and store of each architecture's. Neither enforces Secure Boot.
_FIRMWARE = {
    "x86_64": ("ovmf", "usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd"),
    "arm64": ("qemu-efi-aarch64", "usr/share/AAVMF/AAVMF_CODE.no-secboot.fd", "usr/share/AAVMF/AAVMF_VARS.fd"),
}


@dataclass(frozen=True, slots=True)
class Firmware:
    """Files that QEMU takes as a machine's flash memory."""

    # The program, which no machine changes.
    code: Path
    # What the store of variables of a new machine is a copy of.
    variables: Path

    def drives(self, store: Path | str) -> list[str]:
        """Return what QEMU's -drive takes, twice, for a machine whose variables are in `store`."""
        flash = "if=pflash,format=raw"
        return [f"{flash},unit=0,readonly=on,file={self.code}", f"{flash},unit=1,file={store}"]

    def new_store(self, path: Path) -> None:
        """Write the store of a machine that has never been switched on."""
        draft = path.with_name(f".{path.name}.draft")
        shutil.copyfile(self.variables, draft)
        draft.replace(path)


def prepare_firmware(cache: Cache, architecture: str, progress: Progress = no_progress) -> Firmware:
    """Return the firmware of an architecture, fetched and unpacked on first use. Errors as in AptRoot.closure."""
    package, code, variables = _FIRMWARE[architecture]
    root = guest_packages(cache)
    # Its package is for all architectures, and needs none that a machine runs.
    archives = root.closure([package], "amd64", progress)

    def build(directory: Path) -> None:
        unpack(root.fetch(archives, progress, label=package), directory, progress, label=package)

    directory = cache.publish(f"firmware/{package}-" + "-".join(sorted(one.sha256[:8] for one in archives)), build)
    return Firmware(code=directory / code, variables=directory / variables)
