"""A machine that is reached by ssh, boots as Fedora does, and has rpm, dnf and the running kernel's package.

All is real but kernel-install, which does what Fedora's does as far as files go.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bls_machine import BlsMachine, bls_machine
from boot_machine import OTHER, RUNNING
from boot_program_put import put_boot_program
from crafted_rpms import Rpm, build, rpm_kernel, rpm_tree
from project import ROOT
from ssh_machine import SshMachine, ssh_machine

# The default becomes the new kernel, where nobody has said that it must not.
_KERNEL_INSTALL = """\
#!/bin/sh
set -eu
release=$2 entry=$(cat /etc/kernel/entry-token)-$2
if [ "$1" = remove ]; then
  rm -f "/boot/loader/entries/$entry.conf" "/boot/vmlinuz-$release" "/boot/initramfs-$release.img"
  exit 0
fi
cp "$3" "/boot/vmlinuz-$release"
cp /opt/ram-disk "/boot/initramfs-$release.img"
cat > "/boot/loader/entries/$entry.conf" <<END
title Fedora Linux ($release)
version $release
linux /vmlinuz-$release
initrd /initramfs-$release.img
options $(cat /etc/kernel/cmdline)
grub_users \\$grub_users
grub_arg --unrestricted
grub_class fedora
END
if grep -qx UPDATEDEFAULT=yes /etc/sysconfig/kernel; then
  grub2-editenv /boot/grub2/grubenv set "saved_entry=$entry"
fi
"""
_DATABASE = """
mkdir -p /etc/rpm /var/lib/rpm /sys/module /var/log /var/cache /opt
echo '%_dbpath /var/lib/rpm' > /etc/rpm/macros
rpm --initdb
rpm --install /opt/system.rpm
mkdir -p /opt/parts/ansible/module_utils
touch /opt/parts/ansible/__init__.py /opt/parts/ansible/module_utils/__init__.py
"""
_PARTS = ("kernroll_host", "kernroll_timers", "kernroll_rpm", "kernroll_deb")


@contextmanager
def rpm_machine(directories: pytest.TempPathFactory) -> Iterator[SshMachine]:
    """Yield one; what its files are now it can be brought back to (`machine.restore()`)."""
    directory = directories.mktemp("ssh")
    with bls_machine(directories.mktemp("machine")) as machine, ssh_machine(machine, directory) as made:
        settle_rpm(machine, directory)
        put_boot_program(machine, directory)
        # Its kernels were put there by hand so far.
        for release in (OTHER, RUNNING):
            machine.sh(f"rm /boot/loader/entries/*{release}.conf /boot/vmlinuz-{release} /boot/initrd.img-{release}")
        install_rpm(machine, rpm_kernel(directory / "own", RUNNING).path)
        machine.keep()
        yield made


def settle_rpm(machine: BlsMachine, directory: Path, ram_disk: bytes = b"ram disk\n") -> None:
    """Give a machine rpm and dnf, a database, kernel-install, and the module's parts that know rpm."""
    # What every scriptlet needs, and no kernel brings.
    system = build(directory / "system", Rpm(name="system", files={"/opt/system": b""}, fields="Provides: /bin/sh"))
    for source, target in (("usr/.", "usr/"), ("etc/dnf", "etc/")):
        done = machine.run("cp", "-a", f"{rpm_tree()}/{source}", f"{machine.root}/{target}")
        assert done.returncode == 0, done.stderr
    machine.sh("mkdir -p /opt /etc/kernel")
    put(machine, "/opt/system.rpm", system.read_bytes())
    put(machine, "/opt/ram-disk", ram_disk)
    put(machine, "/usr/bin/kernel-install", _KERNEL_INSTALL.encode())
    put(machine, "/etc/kernel/entry-token", f"{machine.token}\n".encode())
    put(machine, "/etc/kernel/cmdline", f"{machine.arguments}\n".encode())
    machine.sh(_DATABASE)
    for part in _PARTS:
        text = (ROOT / f"playbooks/module_utils/{part}.py").read_bytes()
        put(machine, f"/opt/parts/ansible/module_utils/{part}.py", text)


def put(machine: BlsMachine, path: str, content: bytes) -> None:
    """Write a file on the machine."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        done = machine.run("install", "-m", "755", file.name, f"{machine.root}{path}")
    assert done.returncode == 0, done.stderr


def install_rpm(machine: BlsMachine, path: Path) -> None:
    """Let rpm itself install a package."""
    put(machine, f"/opt/{path.name}", path.read_bytes())
    machine.sh(f"rpm --install --oldpackage /opt/{path.name}")


def refusal(machine: BlsMachine, call: str) -> str:
    """Call a function of kernroll_rpm on the machine, as the module does, and return why it is refused; empty when not.

    A play takes seconds, and this none.
    """
    script = (
        "import sys; sys.path.insert(0, '/opt/parts')\n"
        "import os; os.makedirs('/var/lib/kernroll-stage', exist_ok=True)\n"
        "from ansible.module_utils import kernroll_rpm\n"
        "from ansible.module_utils.kernroll_host import Refused\n"
        "try:\n"
        f"    print(kernroll_rpm.{call} or '')\n"
        "except Refused as error:\n"
        "    print(error)\n"
    )
    return machine.tool("python3", "-c", script).strip()


def copied(machine: BlsMachine, path: Path) -> str:
    """Copy a package to the machine, and return where it lies there."""
    put(machine, f"/opt/{path.name}", path.read_bytes())
    return f"/opt/{path.name}"
