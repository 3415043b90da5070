"""A machine that boots by GRUB, as far as files and tools go: Debian's own GRUB in a root of its own, and no disk.

Everything is real but `grub-probe`, which answers for the disk that the root does not have.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from project import ROOT

from controller.adapters.kernels.debian import unpack
from controller.adapters.kernels.debian.suites import has_host_packages, host_packages
from controller.adapters.local.cache import Cache, no_progress

RUNNING = os.uname().release
OTHER = "7.1.13+deb13-amd64"
_DEFAULTS = """\
GRUB_TIMEOUT=5
GRUB_CMDLINE_LINUX="panic=10"
"""
_TIMEOUT_S = 300.0

# In a mount namespace of its own: nothing of it is left when the shell ends.
_BUILD = """
set -eu
root=$1 grub=$2
mount --make-rprivate /
mount -t tmpfs grub-machine "$root"
cd "$root"
mkdir -p usr etc/default etc/apt/apt.conf.d boot/grub dev proc sys/kernel tmp run/lock var/lib upper work
mkdir -p etc/systemd/system/sysinit.target.wants
touch etc/systemd/system/sysinit.target.wants/kernroll-guard.service
mount -t overlay grub-machine -o lowerdir="$grub/usr:/usr",upperdir="$root/upper",workdir="$root/work" usr
for folder in bin sbin lib lib64; do
  ln -s usr/$folder $folder
  # Where packages are older than the merge of both.
  if [ -d "$grub/$folder" ]; then cp -a "$grub/$folder/." usr/$folder/; fi
done
mount --rbind /dev dev
mount -t proc proc proc
cp -a "$grub/etc/grub.d" etc/
rm -f usr/sbin/grub-probe
cat > usr/sbin/grub-probe
chmod +x usr/sbin/grub-probe
echo ready
exec sleep infinity
"""
_PROBE = """\
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


class GrubMachine:
    """One such machine. Commands run in its namespace."""

    def __init__(self, root: Path, pid: int) -> None:
        self.root = root
        self._pid = pid

    def command(self, *command: str) -> list[str]:
        """Return the command that runs a program of ours so that it sees the machine's files below `root`."""
        return ["nsenter", f"--mount=/proc/{self._pid}/ns/mnt", f"--wd={ROOT}", *command]

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program of ours that sees the machine's files below `root`."""
        return subprocess.run(
            self.command(*command),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )

    def tool(self, *command: str) -> str:
        """Run a program of the machine's and return what it printed."""
        done = self.run("chroot", str(self.root), *command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sh(self, script: str) -> str:
        """Run a few lines of shell on the machine."""
        return self.tool("sh", "-euc", script)

    def boot(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run kernroll-boot for the machine."""
        return self.run(sys.executable, "-m", "agent.boot.main", "--root", str(self.root), *arguments)

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Run kernroll-boot, which must succeed, and return what it says."""
        done = self.boot(*arguments, "--output", "json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def refusals(self) -> dict[str, str]:
        """Return what `kernroll-boot check` says, by code, causes and remedies in one sentence each."""
        done = self.boot("check", "--output", "json")
        found = {one["code"]: f"{one['cause']}. {one['remedy']}" for one in json.loads(done.stdout)["refusals"]}
        assert done.returncode == bool(found), done.stderr
        return found

    def install_grub(self) -> None:
        """Put GRUB's modules and image below /boot, as grub-install does for a BIOS."""
        self.sh(
            "mkdir -p /boot/grub; cp -r /usr/lib/grub/i386-pc /boot/grub/; "
            "grub-mkimage -O i386-pc -p '(hd0,msdos1)/grub' -o /boot/grub/i386-pc/core.img biosdisk part_msdos ext2"
        )

    def install(self, release: str, image: Path = Path("/bin/true"), ram_disk: Path = Path("/bin/true")) -> None:
        """Put a kernel there as a package does: its files, then update-grub."""
        boot = self.root / "boot"
        done = self.run("cp", str(image), f"{boot}/vmlinuz-{release}")
        assert done.returncode == 0, done.stderr
        done = self.run("cp", str(ram_disk), f"{boot}/initrd.img-{release}")
        assert done.returncode == 0, done.stderr
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

    def keep(self) -> None:
        """Remember the files as they are now."""
        self.sh("mkdir /kept; cp -a /boot /etc /sys /var /kept/")

    def restore(self) -> None:
        """Bring the files back that were kept; programs stay as they are."""
        self.run("umount", "-q", f"{self.root}/boot")
        self.sh("rm -rf /boot /etc /sys /var /run/lock; mkdir /run/lock; cp -a /kept/. /")

    def reboot(self, *, clears: bool = True) -> None:
        """Give the machine another boot id, and clear what was armed as GRUB would."""
        if clears:
            self.tool("grub-editenv", "/boot/grub/grubenv", "unset", "next_entry")
        self.sh("mkdir -p /run; cat /proc/sys/kernel/random/uuid > /run/boot-id")
        place = f"{self.root}/proc/sys/kernel/random/boot_id"
        done = self.run("mount", "--bind", f"{self.root}/run/boot-id", place)
        assert done.returncode == 0, done.stderr

    def prove(self) -> None:
        """Pin the running kernel and rehearse."""
        self.ask("pin")
        self.ask("rehearse")
        self.reboot()
        assert self.ask("rehearse")["rehearsal"]["passed_at"]

    def entry_of(self, release: str) -> str:
        """Return the id of a kernel's entry, as GRUB takes it."""
        top = "gnulinux-advanced-2f1b6c4e-0000-4000-8000-000000000001"
        return f"{top}>gnulinux-{release}-advanced-2f1b6c4e-0000-4000-8000-000000000001"


def grub_tree() -> Path:
    """Return Debian's GRUB, unpacked into the cache; nothing is installed on this machine."""
    cache = Cache.from_environment()
    packages = host_packages(cache)
    names = ["grub-common", "grub2-common", "grub-pc-bin"]
    archives = packages.closure(names, packages.architectures[0], no_progress)

    def build(directory: Path) -> None:
        unpack(packages.fetch(archives, no_progress, label="GRUB"), directory, no_progress, label="GRUB")

    return cache.publish("grub/" + "-".join(sorted(one.sha256[:8] for one in archives)), build)


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
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if not has_host_packages():
        pytest.skip("needs Debian")
    command = ["unshare", "--mount", "bash", "-c", _BUILD, "grub-machine", str(directory), str(grub_tree())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(_PROBE)
        process.stdin.close()
        if process.stdout.readline() != "ready\n":
            pytest.skip("no mount namespaces here")
        yield GrubMachine(directory, process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=_TIMEOUT_S)
        process.stdout.close()
