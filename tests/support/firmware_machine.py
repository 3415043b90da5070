"""A machine whose GRUB lies where it cannot write, and whose firmware boots what BootNext names: files and real tools.

Its EFI system partition is a folder, and so are the firmware's variables: efibootmgr is told to mind neither.
"""

import json
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boot_machine import OTHER, RUNNING, machine_process, programs, require_debian
from grub_machine import PROBE, GrubMachine

from agent.boot.firmware import option
from agent.boot.firmware.option import Partition

VENDOR = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
VARIABLES = "/sys/firmware/efi/efivars"
PARTITION = Partition(uuid="0f3a9c1e-5b7d-4e21-8a46-1f2e3d4c5b6a", number=1, start=2048, blocks=204_800)
GRUB, SHELL = 1, 2
_DEFAULTS = """\
GRUB_TIMEOUT=5
GRUB_CMDLINE_LINUX="root=/dev/vg0/root panic=10"
"""
# Answers for the partition that the tree does not have.
_FINDMNT = """\
#!/bin/sh
cat /etc/findmnt.json
"""
_EFIBOOTMGR = f"""\
#!/bin/sh
export EFIVARFS_PATH={VARIABLES}/
exec /usr/bin/efibootmgr.real "$@"
"""
# Only in the machine's namespace can its files be seen.
_READ = """\
import json, pathlib, sys
found = pathlib.Path(sys.argv[1]).glob("*-" + sys.argv[2])
print(json.dumps({one.name[: -len(sys.argv[2]) - 1]: one.read_bytes().hex() for one in found}))
"""


def program(machine: int = 0x8664) -> bytes:
    """Return what a firmware takes for a program: a PE header, and bytes that make two kernels differ."""
    return b"MZ".ljust(60, b"\0") + struct.pack("<I4sH", 64, b"PE\0\0", machine).ljust(512, b"k")


class FirmwareMachine(GrubMachine):
    """One such machine. Commands run in its namespace."""

    def mount(self) -> None:
        """The kernel says how it was started; in the beginning by GRUB."""
        self.started_by("BOOT_IMAGE=/vmlinuz root=/dev/vg0/root panic=10")

    def started_by(self, command_line: str) -> None:
        """Let the running kernel say that it was started with this command line."""
        self.sh(f"mkdir -p /run; printf '%s\\n' '{command_line}' > /run/cmdline")
        place = f"{self.root}/proc/cmdline"
        if self.run("sh", "-c", f"mountpoint -q {place} || mount --bind {self.root}/run/cmdline {place}").returncode:
            raise AssertionError("the machine's command line cannot be said")

    def put_kernel(self, release: str, more: bytes = b"") -> None:
        """Install a kernel that the firmware takes for a program."""
        self._bytes(f"/tmp/{release}", program() + release.encode() + more)
        self.install(release, self.root / "tmp" / release)

    def booted(self, *, clears: bool) -> None:
        """See BootMachine: what BootNext names is cleared and started; without it, or by another firmware, GRUB is."""
        pending = self.variables().get("BootNext")
        self.started_by("BOOT_IMAGE=/vmlinuz root=/dev/vg0/root panic=10")
        self.current(GRUB)
        if pending is None or not clears:
            return
        number = int.from_bytes(pending[4:], "little")
        self.remove("BootNext")
        data = self.variables()[f"Boot{number:04X}"]
        if "kernroll" in option.read(data[4:]).file:
            self.started_by(arguments(data))
        self.current(number)

    def prove(self) -> None:
        """See BootMachine; and in the end it is booted as it is every day."""
        super().prove()
        self.reboot()

    def ignores(self) -> None:
        """Reboot by a firmware that forgets BootNext and starts GRUB all the same."""
        self.remove("BootNext")
        self.reboot()

    def current(self, number: int) -> None:
        """Let the firmware say by which entry it booted the machine."""
        self.set_variable("BootCurrent", number.to_bytes(2, "little"), 6)

    def order(self, *numbers: int) -> None:
        """Set the order in which the firmware boots."""
        self.set_variable("BootOrder", b"".join(one.to_bytes(2, "little") for one in numbers))

    def variables(self) -> dict[str, bytes]:
        """Return the firmware's own variables by name: attributes and data."""
        done = self.run(sys.executable, "-c", _READ, str(self.root) + VARIABLES, VENDOR)
        assert done.returncode == 0, done.stderr
        return {name: bytes.fromhex(data) for name, data in json.loads(done.stdout).items()}

    def set_variable(self, name: str, data: bytes, attributes: int = 7) -> None:
        """Set one as the firmware would show it."""
        self._bytes(f"{VARIABLES}/{name}-{VENDOR}", attributes.to_bytes(4, "little") + data)

    def remove(self, name: str) -> None:
        """Remove one."""
        self.sh(f"rm -f {VARIABLES}/{name}-{VENDOR}")

    def mounted(self, *places: tuple[str, str], options: str = "rw") -> None:
        """Say which file systems are mounted: where, and on which partition."""
        listed = [{"target": place, "maj:min": "8:1", "partuuid": one, "options": options} for place, one in places]
        self.sh(f"printf '%s' '{json.dumps({'filesystems': listed})}' > /etc/findmnt.json")

    def copies(self) -> list[str]:
        """Return the names of what lies on the EFI system partition for one boot."""
        return self.sh("ls /efi/EFI/kernroll 2>/dev/null || true").split()

    def own(self) -> list[int]:
        """Return the numbers of the firmware's entries that start copies."""
        entries = {name: data for name, data in self.variables().items() if name[4:].isalnum() and len(name) == 8}
        found = [name for name, data in entries.items() if "kernroll" in option.read(data[4:]).file]
        return [int(name[4:], 16) for name in found if name.startswith("Boot")]

    def _bytes(self, name: str, data: bytes) -> None:
        write = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes(bytes.fromhex(sys.stdin.read()))"
        done = self.run(sys.executable, "-c", write, str(self.root) + name, stdin=data.hex())
        assert done.returncode == 0, done.stderr


def arguments(variable: bytes) -> str:
    """Return what an entry tells its program."""
    length = struct.unpack_from("<H", variable, 8)[0]
    label = variable.index(b"\0\0", 10) + 2
    label += (label - 10) % 2
    return variable[label + length :].decode("utf-16-le").rstrip("\0")


def firmware_tree() -> Path:
    """Return Debian's GRUB and efibootmgr, unpacked into the cache."""
    return programs("grub", "grub-common", "grub2-common", "grub-pc-bin", "grub-efi-amd64-bin", "efibootmgr")


@contextmanager
def firmware_machine(directory: Path) -> Iterator[FirmwareMachine]:
    """Yield a machine that runs RUNNING and has OTHER; its /boot lies on a logical volume, and GRUB booted it."""
    with bare_machine(directory) as machine:
        machine.sh(f"cat > /etc/default/grub <<'END'\n{_DEFAULTS}END\ngrub-editenv /boot/grub/grubenv create")
        machine.install_grub()
        for release in (RUNNING, OTHER):
            machine.put_kernel(release)
        yield machine


@contextmanager
def bare_machine(directory: Path) -> Iterator[FirmwareMachine]:
    """Yield a machine without a kernel."""
    require_debian()
    with machine_process(directory, firmware_tree(), "sbin/grub-probe", PROBE) as pid:
        machine = FirmwareMachine(directory, pid)
        sizes = f"echo {PARTITION.number} > partition; echo {PARTITION.start} > start; echo {PARTITION.blocks} > size"
        machine.sh(
            f"echo lvm > /etc/grub-probe.abstraction\nmkdir -p {VARIABLES} /efi/EFI/debian /sys/dev/block/8:1\n"
            f"cp /usr/lib/grub/x86_64-efi/monolithic/grubx64.efi /efi/EFI/debian/\ncd /sys/dev/block/8:1; {sizes}\n"
            "[ -e /usr/bin/efibootmgr ] || cp /usr/sbin/efibootmgr /usr/bin/\n"
            f"mv /usr/bin/efibootmgr /usr/bin/efibootmgr.real\ncat > /usr/bin/efibootmgr <<'END'\n{_EFIBOOTMGR}END\n"
            f"cat > /usr/bin/findmnt <<'END'\n{_FINDMNT}END\nchmod +x /usr/bin/findmnt /usr/bin/efibootmgr"
        )
        machine.mount()
        machine.mounted(("/efi", PARTITION.uuid))
        for number, label, file in ((GRUB, "debian", r"\EFI\debian\grubx64.efi"), (SHELL, "Shell", r"\shell.efi")):
            machine.set_variable(f"Boot{number:04X}", active(label, file))
        machine.order(GRUB, SHELL)
        machine.current(GRUB)
        yield machine


def active(label: str, file: str) -> bytes:
    """Return an entry that the firmware takes from its order."""
    return b"\1" + option.made(label, PARTITION, file, "")[1:]
