"""A machine that boots by systemd-boot, as far as files and tools go: Debian's own bootctl and kernel-install.

Its ESP is a folder, and so are the firmware's variables: bootctl is told to mind neither.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boot_machine import OTHER, RUNNING, BootMachine, machine_process, programs, require_debian

VENDOR = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_VARIABLES = "/sys/firmware/efi/efivars"
NON_VOLATILE, VOLATILE = 7, 6
TOKEN = "kernroll"
_BOOTCTL = """\
#!/bin/sh
export SYSTEMD_RELAX_ESP_CHECKS=1 SYSTEMD_RELAX_XBOOTLDR_CHECKS=1 SYSTEMD_IGNORE_CHROOT=1 SYSTEMD_ESP_PATH=/efi
[ ! -e /etc/bootctl.fails ] || { echo "no EFI system partition" >&2; exit 1; }
[ ! -e /etc/bootctl.extended ] || export SYSTEMD_XBOOTLDR_PATH=/boot
exec /usr/bin/bootctl.real "$@"
"""
# Only in the machine's namespace can its files be seen.
_READ = """\
import json, pathlib, sys
found = pathlib.Path(sys.argv[1]).glob("*-" + sys.argv[2])
print(json.dumps({one.name[: -len(sys.argv[2]) - 1]: one.read_bytes().hex() for one in found}))
"""


class SystemdBootMachine(BootMachine):
    """One such machine. Commands run in its namespace."""

    def mount(self) -> None:
        """Entries name files as seen from the partition's own root, which kernel-install takes from the mounts."""
        done = self.run("mount", "-t", "tmpfs", "esp", f"{self.root}/efi")
        assert done.returncode == 0, done.stderr

    def offer(self, release: str) -> None:
        """See BootMachine."""
        self.sh(f"kernel-install add {release} /boot/vmlinuz-{release} /boot/initrd.img-{release}")

    def booted(self, *, clears: bool) -> None:
        """See BootMachine."""
        selected = self.variable("LoaderEntryOneShot") or self.variable("LoaderEntryDefault")
        if selected:
            self.set("LoaderEntrySelected", selected, VOLATILE)
        if clears:
            self.sh(f"rm -f {_VARIABLES}/LoaderEntryOneShot-{VENDOR}")

    def forget(self) -> None:
        """See BootMachine."""
        self.sh(f"rm -f {_VARIABLES}/LoaderEntryDefault-{VENDOR}")

    def entry_of(self, release: str) -> str:
        """See BootMachine."""
        return f"{TOKEN}-{release}.conf"

    def variable(self, name: str) -> str:
        """Return a variable's text; empty when it is not set."""
        path = self.path_of(name)
        done = self.run("cat", str(path)) if self.run("test", "-e", str(path)).returncode == 0 else None
        return "" if done is None else done.stdout.encode()[4:].decode("utf-16-le").rstrip("\0")

    def set(self, name: str, text: str, attributes: int = NON_VOLATILE) -> None:
        """Set a variable as the firmware would show it."""
        self._write(name, attributes.to_bytes(4, "little") + f"{text}\0".encode("utf-16-le"))

    def kept_variables(self) -> dict[str, bytes]:
        """Return what outlives a reboot, by name: attributes and data."""
        done = self.run(sys.executable, "-c", _READ, str(self.root) + _VARIABLES, VENDOR)
        assert done.returncode == 0, done.stderr
        found = {name: bytes.fromhex(data) for name, data in json.loads(done.stdout).items()}
        return {name: data for name, data in found.items() if data[0] & 1}

    def keep_variables(self, wanted: dict[str, bytes]) -> None:
        """Let exactly these be what outlives a reboot."""
        for name in self.kept_variables():
            self.sh(f"rm {_VARIABLES}/{name}-{VENDOR}")
        for name, data in wanted.items():
            self._write(name, data)

    def _write(self, name: str, data: bytes) -> None:
        octal = "".join(f"\\{one:03o}" for one in data)
        self.sh(f"printf '{octal}' > {_VARIABLES}/{name}-{VENDOR}")

    def path_of(self, name: str) -> Path:
        """Return where a variable's file is, in the machine's namespace."""
        return self.root / f"{_VARIABLES}/{name}-{VENDOR}".lstrip("/")


def systemd_boot_tree() -> Path:
    """Return Debian's systemd-boot, unpacked into the cache."""
    return programs("systemd-boot", "systemd-boot", "systemd")


@contextmanager
def systemd_boot_machine(directory: Path) -> Iterator[SystemdBootMachine]:
    """Yield a machine that runs RUNNING and has OTHER, with entries as kernel-install writes them."""
    with bare_machine(directory) as machine:
        for release in (RUNNING, OTHER):
            machine.install(release)
        yield machine


@contextmanager
def bare_machine(
    directory: Path, arguments: str = "root=/dev/sda2 panic=10", info: str = "systemd-boot 257.13-1~deb13u1"
) -> Iterator[SystemdBootMachine]:
    """Yield a machine without a kernel."""
    require_debian()
    with machine_process(directory, systemd_boot_tree(), "bin/bootctl", _BOOTCTL) as pid:
        machine = SystemdBootMachine(directory, pid)
        machine.mount()
        machine.sh(
            f"mkdir -p {_VARIABLES} /efi/EFI/systemd /efi/loader/entries; rmdir /boot/grub\n"
            "cp /usr/lib/systemd/boot/efi/systemd-boot*.efi /efi/EFI/systemd/\n"
            "printf 'timeout 3\\n' > /efi/loader/loader.conf\n"
            f"echo {TOKEN} > /etc/kernel/entry-token; echo '{arguments}' > /etc/kernel/cmdline\n"
            "printf 'layout=bls\\nBOOT_ROOT=/efi\\n' > /etc/kernel/install.conf\n"
            "printf 'ID=debian\\nPRETTY_NAME=Debian\\n' > /etc/os-release\n"
            "echo 0123456789abcdef0123456789abcdef > /etc/machine-id"
        )
        machine.set("LoaderInfo", info, VOLATILE)
        yield machine
