"""A machine that is reached by ssh, boots as Fedora does, and has rpm, dnf and the running kernel's package.

All is real but kernel-install, which does what Fedora's does as far as files go.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bls_machine import MACHINE_ID, bls_machine
from boot_machine import OTHER, RUNNING
from crafted_rpms import Rpm, build, rpm_kernel, rpm_tree
from project import ROOT
from ssh_machine import SshMachine, ssh_machine

from controller.adapters.plays.bundle import boot_program

# The default becomes the new kernel, where nobody has said that it must not.
_KERNEL_INSTALL = f"""\
#!/bin/sh
set -eu
release=$2 entry={MACHINE_ID}-$2
if [ "$1" = remove ]; then
  rm -f "/boot/loader/entries/$entry.conf" "/boot/vmlinuz-$release" "/boot/initramfs-$release.img"
  exit 0
fi
cp "$3" "/boot/vmlinuz-$release"
echo ram disk > "/boot/initramfs-$release.img"
cat > "/boot/loader/entries/$entry.conf" <<END
title Fedora Linux ($release)
version $release
linux /vmlinuz-$release
initrd /initramfs-$release.img
options root=/dev/sda2 ro panic=10
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
"""
_PARTS = ("kernroll_host", "kernroll_timers", "kernroll_rpm", "kernroll_deb")


@contextmanager
def rpm_machine(directories: pytest.TempPathFactory) -> Iterator[SshMachine]:
    """Yield one; what its files are now it can be brought back to (`machine.restore()`)."""
    directory = directories.mktemp("ssh")
    # What every scriptlet needs, and no kernel brings.
    system = build(directory / "system", Rpm(name="system", files={"/opt/system": b""}, fields="Provides: /bin/sh"))
    own = rpm_kernel(directory / "own", RUNNING)
    with bls_machine(directories.mktemp("machine")) as machine, ssh_machine(machine, directory) as made:
        done = machine.run("cp", "-a", f"{rpm_tree()}/usr/.", f"{machine.root}/usr/")
        assert done.returncode == 0, done.stderr
        machine.run("cp", "-a", f"{rpm_tree()}/etc/dnf", f"{machine.root}/etc/")
        (directory / "kernroll-boot").write_bytes(boot_program())
        for source, target in (
            (directory / "kernroll-boot", "usr/local/sbin/kernroll-boot"),
            (system, "opt/system.rpm"),
            (own.path, "opt/own.rpm"),
        ):
            machine.run("cp", str(source), f"{machine.root}/{target}")
        made.put("/usr/bin/kernel-install", _KERNEL_INSTALL)
        for release in (OTHER, RUNNING):
            machine.sh(f"rm -f /boot/loader/entries/*{release}.conf /boot/vmlinuz-{release} /boot/initrd.img-{release}")
        machine.sh("chmod +x /usr/local/sbin/kernroll-boot; " + _DATABASE + "rpm --install /opt/own.rpm")
        machine.sh("mkdir -p /opt/parts/ansible/module_utils; touch /opt/parts/ansible/__init__.py")
        machine.sh("touch /opt/parts/ansible/module_utils/__init__.py")
        for part in _PARTS:
            text = (ROOT / f"playbooks/module_utils/{part}.py").read_text(encoding="utf-8")
            made.put(f"/opt/parts/ansible/module_utils/{part}.py", text)
        machine.keep()
        yield made


def refusal(ssh: SshMachine, call: str) -> str:
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
    return ssh.machine.tool("python3", "-c", script).strip()


def copied(ssh: SshMachine, path: Path) -> str:
    """Copy a package to the machine, and return where it lies there."""
    done = ssh.machine.run("cp", str(path), f"{ssh.machine.root}/opt/{path.name}")
    assert done.returncode == 0, done.stderr
    return f"/opt/{path.name}"
