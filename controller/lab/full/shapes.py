"""The kinds of machine there are: how each boots, and what that needs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from controller.domain.errors import InvalidInput
from controller.lab.accelerator import cpu_model

DEFAULT_SHAPE = "x86_64-bios-grub"
# The disks' serial numbers, by which the machine finds them: NVMe names change from boot to boot.
ROOT_SERIAL = "kernroll-root"
SWAP_SERIAL = "kernroll-swap"
SEED_SERIAL = "kernroll-seed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a machine boots."""

    # "x86_64" or "arm64".
    architecture: str
    # Whether its firmware is UEFI, else a BIOS.
    uefi: bool
    # Debian packages: the boot loader, and the release's own kernel.
    loader: tuple[str, ...]
    kernel: str
    # Which of the files loader-* in `guest` installs the boot loader.
    setup: str
    # QEMU's machine, and the serial port that is the console.
    machine: str
    console: str
    # What an emulated processor is better off without: each of these makes the machine load modules at boot.
    left_out: str


_BIOS_GRUB = Shape(
    architecture="x86_64",
    uefi=False,
    loader=("grub-pc",),
    kernel="linux-image-cloud-amd64",
    setup="loader-bios-grub",
    machine="q35,sata=off",
    console="ttyS0",
    left_out=",svm=off,aes=off,pclmulqdq=off,sha-ni=off",
)
_UEFI_GRUB = replace(_BIOS_GRUB, uefi=True, loader=("grub-efi-amd64", "dosfstools"), setup="loader-uefi-grub")
SHAPES: Mapping[str, Shape] = {
    "x86_64-bios-grub": _BIOS_GRUB,
    "x86_64-uefi-grub": _UEFI_GRUB,
    "x86_64-uefi-systemd-boot": replace(
        _UEFI_GRUB, loader=("systemd-boot", "dosfstools"), setup="loader-uefi-systemd-boot"
    ),
    "arm64-uefi-grub": Shape(
        architecture="arm64",
        uefi=True,
        loader=("grub-efi-arm64", "dosfstools"),
        kernel="linux-image-cloud-arm64",
        setup="loader-uefi-grub",
        machine="virt",
        console="ttyAMA0",
        left_out="",
    ),
}


def processor(shape: Shape, accelerator: str) -> str:
    """Return what QEMU is told of the processor."""
    return cpu_model(shape.architecture, accelerator) + (shape.left_out if accelerator == "tcg" else "")


def shape_named(name: str) -> Shape:
    """Return the shape of this name. Raises InvalidInput for an unknown one."""
    if name not in SHAPES:
        raise InvalidInput(f"there is no machine shaped {name}; there are {', '.join(SHAPES)}")
    return SHAPES[name]
