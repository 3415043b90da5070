"""A host in a folder that boots by a firmware of ours: its variables, its partition and its kernels are files."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from firmware_machine import GRUB, PARTITION, SHELL, VARIABLES, VENDOR, active, program

from agent.boot.host import Host
from agent.boot.values import BootState, BrokenHost, Entry

OLD, NEW = "7.0.13-old", "7.1.13-new"


@dataclass
class Mounted:
    """A file system, as findmnt tells it."""

    target: str = "/efi"
    device: str = "8:1"
    partuuid: str | None = PARTITION.uuid
    options: str = "rw,relatime"


@dataclass
class FirmwareHost(Host):
    """One that the first entry booted, with two kernels."""

    root: Path
    mounts: list[Mounted] = field(default_factory=lambda: [Mounted()])
    # What findmnt says instead.
    says: str = ""

    def __post_init__(self) -> None:
        for number, label, file in ((GRUB, "debian", r"\EFI\debian\grubx64.efi"), (SHELL, "Shell", r"\shell.efi")):
            self.set(f"Boot{number:04X}", active(label, file))
        self.order(GRUB, SHELL)
        self.set("BootCurrent", b"\1\0")
        self.put("/sys/firmware/efi/fw_platform_size", "64\n")
        for name, number in (("partition", 1), ("start", PARTITION.start), ("size", PARTITION.blocks)):
            self.put(f"/sys/dev/block/8:1/{name}", f"{number}\n")
        self.put("/boot/grub/grubenv", "")
        self.put("/proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vg0/root panic=10\n")
        self.path("/efi/EFI").mkdir(parents=True)
        for release in (OLD, NEW):
            self.put(f"/boot/vmlinuz-{release}", program() + release.encode())
            self.put(f"/boot/initrd.img-{release}", "ram disk\n")

    def put(self, name: str, content: str | bytes) -> None:
        """Let a file have this content."""
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def set(self, name: str, value: bytes) -> None:
        """Let a variable have this value."""
        self.put(f"{VARIABLES}/{name}-{VENDOR}", b"\7\0\0\0" + value)

    def gone(self, name: str) -> None:
        """Let a variable not be set."""
        self.path(f"{VARIABLES}/{name}-{VENDOR}").unlink()

    def order(self, *numbers: int) -> None:
        """Set the order in which the firmware boots."""
        self.set("BootOrder", b"".join(one.to_bytes(2, "little") for one in numbers))

    def run(self, *command: str) -> str:
        """See Host."""
        # Without --list it nests what is mounted below another.
        assert command[:2] == ("findmnt", "--list")
        if not self.mounts:
            raise BrokenHost("findmnt failed with code 1: it said nothing")
        listed = [
            {"target": one.target, "maj:min": one.device, "partuuid": one.partuuid, "options": one.options}
            for one in self.mounts
        ]
        return self.says or json.dumps({"filesystems": listed})

    @property
    def running_release(self) -> str:
        """See Host."""
        return OLD

    def state(self, *more: str) -> BootState:
        """Return what its loader offers, with further words on the command lines."""
        return BootState(
            loader="grub", entries=tuple(entry(one, *more) for one in (OLD, NEW)), default=OLD, next="", pinned=True
        )


def entry(release: str, *more: str) -> Entry:
    """Return a kernel's entry."""
    files = (f"/boot/vmlinuz-{release}", f"/boot/initrd.img-{release}")
    return Entry(id=release, title=release, release=release, arguments=("root=/dev/vg0/root", *more), files=files)
