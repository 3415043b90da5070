"""A machine as far as files and tools go, in a mount namespace of its own: a boot loader's programs, and no disk."""

import json
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
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
_TIMEOUT_S = 300.0

# In a mount namespace of its own: nothing of it is left when the shell ends.
_BUILD = """
set -eu
root=$1 programs=$2
mount --make-rprivate /
mount -t tmpfs boot-machine "$root"
cd "$root"
mkdir -p usr etc/default etc/apt/apt.conf.d etc/kernel boot/grub dev efi proc sys/kernel tmp run/lock var/lib upper work
mkdir -p etc/systemd/system/sysinit.target.wants
touch etc/systemd/system/sysinit.target.wants/kernroll-guard.service
mount -t overlay boot-machine -o lowerdir="$programs/usr:/usr",upperdir="$root/upper",workdir="$root/work" usr
for folder in bin sbin lib lib64; do
  ln -s usr/$folder $folder
  # Where packages are older than the merge of both.
  if [ -d "$programs/$folder" ]; then cp -a "$programs/$folder/." usr/$folder/; fi
done
mount --rbind /dev dev
mount -t proc proc proc
[ ! -e "$programs/etc/grub.d" ] || cp -a "$programs/etc/grub.d" etc/
# A tool stands in for another of its name, which it finds beside it.
mv "usr/$3" "usr/$3.real"
cat > "usr/$3"
chmod +x "usr/$3"
echo ready
exec sleep infinity
"""


class BootMachine(ABC):
    """One such machine. Commands run in its namespace."""

    def __init__(self, root: Path, pid: int) -> None:
        self.root = root
        self.pid = pid

    def command(self, *command: str) -> list[str]:
        """Return the command that runs a program of ours so that it sees the machine's files below `root`."""
        return ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", f"--wd={ROOT}", *command]

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

    def install(self, release: str, image: Path = Path("/bin/true"), ram_disk: Path = Path("/bin/true")) -> None:
        """Put a kernel there as a package does: its files, then the loader's own tool."""
        for name, source in (("vmlinuz", image), ("initrd.img", ram_disk)):
            done = self.run("cp", str(source), f"{self.root}/boot/{name}-{release}")
            assert done.returncode == 0, done.stderr
        self.offer(release)

    def keep(self, name: str = "kept") -> None:
        """Remember the files as they are now."""
        self.sh(f"mkdir /{name}; cp -a /boot /efi /etc /sys /var /{name}/")

    def restore(self, name: str = "kept") -> None:
        """Bring the files back that were kept; programs stay as they are."""
        for place in ("boot", "efi", "sys/firmware/efi/efivars"):
            self.run("umount", "-q", f"{self.root}/{place}")
        self.sh("rm -rf /boot /efi /etc /sys /var /run/lock; mkdir /run/lock /efi")
        self.mount()
        self.sh(f"cp -a /{name}/. /")

    def reboot(self, *, clears: bool = True) -> None:
        """Give the machine another boot id, and clear what was armed as its loader would."""
        self.booted(clears=clears)
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

    def mount(self) -> None:  # noqa: B027 -- most have nothing of the kind
        """Mount what is a file system of its own for the loader's tools."""

    @abstractmethod
    def offer(self, release: str) -> None:
        """Let the loader's own tool find a kernel whose files are in /boot."""

    @abstractmethod
    def booted(self, *, clears: bool) -> None:
        """Do what the loader does to its own memory while it boots the machine."""

    @abstractmethod
    def forget(self) -> None:
        """Make it a machine that nobody has pinned."""

    @abstractmethod
    def entry_of(self, release: str) -> str:
        """Return the id of a kernel's entry, as the loader takes it."""


def programs(name: str, *packages: str) -> Path:
    """Return packages of Debian, unpacked into the cache; nothing is installed on this machine."""
    cache = Cache.from_environment()
    root = host_packages(cache)
    archives = root.closure(packages, root.architectures[0], no_progress)

    def build(directory: Path) -> None:
        unpack(root.fetch(archives, no_progress, label=name), directory, no_progress, label=name)

    return cache.publish(f"{name}/" + "-".join(sorted(one.sha256[:8] for one in archives)), build)


@contextmanager
def machine_process(directory: Path, tree: Path, replaced: str, script: str) -> Iterator[int]:
    """Yield the process in whose namespace the machine is; the script stands in for one of its tools."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    command = ["unshare", "--mount", "bash", "-c", _BUILD, "boot-machine", str(directory), str(tree), replaced]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(script)
        process.stdin.close()
        if process.stdout.readline() != "ready\n":
            pytest.skip("no mount namespaces here")
        yield process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=_TIMEOUT_S)
        process.stdout.close()


def require_debian() -> None:
    """Skip where there are no packages to take the programs from."""
    if not has_host_packages():
        pytest.skip("needs Debian")
