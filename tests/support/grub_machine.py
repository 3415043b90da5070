"""A machine that boots by GRUB, as far as files and tools go: Debian's own GRUB in a root of its own, and no disk.

Everything is real but `grub-probe`, which answers for the disk that the root does not have.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boot_machine import OTHER, RUNNING, BootMachine, machine_process, programs, require_debian

_DEFAULTS = """\
GRUB_TIMEOUT=5
GRUB_CMDLINE_LINUX="panic=10"
"""
PROBE = """\
#!/bin/sh
[ ! -e /etc/grub-probe.fails ] || { echo "cannot find a device for /boot" >&2; exit 1; }
case "$*" in
  *target=abstraction*) cat /etc/grub-probe.abstraction 2>/dev/null || true ;;
  *target=device*) echo /dev/sda1 ;;
  *target=fs_uuid*) echo 2f1b6c4e-0000-4000-8000-000000000001 ;;
  *target=partuuid*) echo 5d2c1a00-01 ;;
  *target=fs*) cat /etc/grub-probe.fs 2>/dev/null || echo ext2 ;;
  *target=compatibility_hint*) echo hd0,msdos1 ;;
  *target=hints_string*) echo --hint-bios=hd0,msdos1 ;;
  *target=partmap*) echo msdos ;;
  *) exit 1 ;;
esac
"""


class GrubMachine(BootMachine):
    """One such machine. Commands run in its namespace."""

    def install_grub(self) -> None:
        """Put GRUB's modules and image below /boot, as grub-install does for a BIOS."""
        self.sh(
            "mkdir -p /boot/grub; cp -r /usr/lib/grub/i386-pc /boot/grub/; "
            "grub-mkimage -O i386-pc -p '(hd0,msdos1)/grub' -o /boot/grub/i386-pc/core.img biosdisk part_msdos ext2"
        )

    def offer(self, release: str) -> None:
        """See BootMachine."""
        self.sh("update-grub")

    def let_go(self) -> None:
        """Let go of the disk, so that a machine can boot from it."""
        done = self.run("umount", str(self.root / "boot"))
        assert done.returncode == 0, done.stderr

    def take(self, disk: Path, partition_bytes: int) -> None:
        """Take the disk's partition as /boot."""
        done = self.run("mount", "-o", f"loop,offset={partition_bytes}", str(disk), str(self.root / "boot"))
        assert done.returncode == 0, done.stderr

    def environment(self) -> dict[str, str]:
        """Return GRUB's own reading of its environment."""
        lines = self.tool("grub-editenv", "list").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def set(self, *assignments: str) -> None:
        """Set variables of the environment."""
        self.tool("grub-editenv", "/boot/grub/grubenv", "set", *assignments)

    def booted(self, *, clears: bool) -> None:
        """See BootMachine."""
        if clears:
            self.tool("grub-editenv", "/boot/grub/grubenv", "unset", "next_entry")

    def forget(self) -> None:
        """See BootMachine."""
        self.sh("rm -r /etc/default/grub.d; update-grub; grub-editenv /boot/grub/grubenv unset saved_entry")

    def entry_of(self, release: str) -> str:
        """See BootMachine."""
        top = "gnulinux-advanced-2f1b6c4e-0000-4000-8000-000000000001"
        return f"{top}>gnulinux-{release}-advanced-2f1b6c4e-0000-4000-8000-000000000001"


def grub_tree() -> Path:
    """Return Debian's GRUB, unpacked into the cache."""
    return programs("grub", "grub-common", "grub2-common", "grub-pc-bin")


@contextmanager
def grub_machine(directory: Path) -> Iterator[GrubMachine]:
    """Yield a machine that runs RUNNING and has OTHER, with a configuration as Debian generates it."""
    with bare_machine(directory) as machine:
        machine.sh(f"cat > /etc/default/grub <<'END'\n{_DEFAULTS}END\ngrub-editenv /boot/grub/grubenv create")
        machine.install_grub()
        for release in (RUNNING, OTHER):
            machine.install(release)
        yield machine


@contextmanager
def bare_machine(directory: Path) -> Iterator[GrubMachine]:
    """Yield a machine without a kernel."""
    require_debian()
    with machine_process(directory, grub_tree(), "sbin/grub-probe", PROBE) as pid:
        yield GrubMachine(directory, pid)
