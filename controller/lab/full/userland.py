"""The userland of a machine: Debian packages, installed and configured by Debian's own tools inside their tree."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from controller.adapters.kernels.debian import DEBIAN_ARCHITECTURES, AptRoot, Archive, unpack
from controller.adapters.kernels.debian.suites import guest_packages, host_architecture
from controller.adapters.local.cache import Cache, Progress
from controller.adapters.local.tools import run_tool
from controller.domain.errors import Permanent
from controller.lab.bytecode import merge_usr
from controller.lab.full.shapes import Shape

GUEST_FILES = Path(__file__).parent / "guest"
# Where the machine's own building blocks lie until it is finished.
WORK = "kernroll"
# What an ordinary host has; each counts as asked for, so that apt keeps it.
PACKAGES = (
    "ca-certificates",
    "dbus",
    "e2fsprogs",
    "init",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "linux-base",
    "login",
    "mount",
    "openssh-server",
    "passwd",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
    "tiny-initramfs",
    "udev",
    "unattended-upgrades",
    "util-linux",
)
_NEWEST = "linux-base"
# Every machine's root file system; they never see each other's disks.
ROOT_UUID = "2f1b6c4e-0000-4000-8000-000000000002"
# Likewise their EFI system partition, which has a number of 32 bits.
SYSTEM_ID = "4B524F4C"

_CONFIGURE_TIMEOUT_S = 1800.0
# GRUB is installed only where the disk is, and there as the firmware finds it without an entry of its own.
_DEBCONF = """\
grub-pc grub-pc/install_devices_empty boolean true
grub-efi-amd64 grub2/force_efi_extra_removable boolean true
grub-efi-amd64 grub2/update_nvram boolean false
grub-efi-arm64 grub2/force_efi_extra_removable boolean true
grub-efi-arm64 grub2/update_nvram boolean false
"""
# A mount namespace with devices of its own: nothing that a package's script does reaches this machine's disks.
_CHROOT = """
set -eu
root=$1
mount --make-rprivate /
mount -t tmpfs -o mode=755 dev "$root/dev"
for node in null:3 zero:5 full:7 random:8 urandom:9; do
  mknod -m 666 "$root/dev/${node%:*}" c 1 "${node#*:}"
done
mknod -m 666 "$root/dev/tty" c 5 0
ln -s /proc/self/fd "$root/dev/fd"
mount -t proc proc "$root/proc"
mount -t tmpfs run "$root/run"
mount -t tmpfs tmp "$root/tmp"
exec chroot "$root" /bin/sh /kernroll/configure
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The package files of a machine, by the step in which they are installed."""

    steps: Mapping[str, Sequence[Archive]]

    @property
    def lines(self) -> list[str]:
        """What is in it, one line a package."""
        return sorted({f"{one.package} {one.version}" for archives in self.steps.values() for one in archives})


def full_packages(cache: Cache) -> AptRoot:
    """Return the apt root of machines whose package database is whole: nothing is treated as installed."""
    return replace(guest_packages(cache), assumed=())


def choose(root: AptRoot, shape: Shape, progress: Progress) -> Contents:
    """Ask the mirror for everything a machine of this shape is made of. Errors as in AptRoot.closure."""
    architecture = DEBIAN_ARCHITECTURES[shape.architecture]
    # Kernels of backports need this package of theirs; hosts that have backports configured find it there.
    newest = [f"{_NEWEST}/{root.suites[-1]}"]
    wanted = [
        ("essential", [f"?and(?essential,?architecture({architecture}))", "apt"]),
        ("packages", [*(one for one in PACKAGES if one != _NEWEST), *newest]),
        ("kernel", [shape.kernel, "tiny-initramfs", *newest]),
        ("loader", [*shape.loader, *newest]),
    ]
    steps: dict[str, list[Archive]] = {}
    known: set[str] = set()
    for step, packages in wanted:
        found = root.closure(packages, architecture, progress)
        steps[step] = [one for one in found if one.package not in known]
        known |= {one.package for one in found}
    return Contents(steps=steps)


def build_userland(
    cache: Cache, root: AptRoot, shape: Shape, contents: Contents, tree: Path, *, progress: Progress
) -> None:
    """Build the machine's tree: what boots, but for a boot loader. Raises Permanent, also without being root.

    Of another architecture than this machine's nothing is run here: the packages are unpacked only, and the machine
    configures them itself the first time it is switched on.
    """
    if os.geteuid() != 0:
        raise Permanent("Making a machine writes files of many owners and makes devices: it takes root.")
    merge_usr(tree)
    work = tree / WORK
    for step, archives in contents.steps.items():
        files = root.fetch(archives, progress, label=f"a {shape.architecture} machine's {step}")
        (work / step).mkdir(parents=True)
        for archive, file in zip(archives, files, strict=True):
            os.link(file, work / step / f"{archive.package}_.deb")
        if step == "essential" or not is_native(shape):
            unpack(files, tree, progress, label=f"a machine's {step} packages")
    _write_settings(shape, tree)
    for name in ("configure", "settle", "plain.conf", "trigger.conf"):
        shutil.copyfile(GUEST_FILES / name, work / name)
    (work / "wanted").write_text("\n".join([*PACKAGES, *shape.loader, shape.kernel]) + "\n", encoding="utf-8")
    (work / "debconf").write_text(_DEBCONF, encoding="utf-8")
    if not is_native(shape):
        return
    progress(f"configuring a {shape.architecture} machine's packages", 0, 0)
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _CHROOT, "userland", str(tree)]
    run_tool(command, timeout_s=_CONFIGURE_TIMEOUT_S, what="Configuring a machine's packages")


def is_native(shape: Shape) -> bool:
    """Tell whether this machine can run what belongs to machines of this shape."""
    return host_architecture() == shape.architecture


def _write_settings(shape: Shape, tree: Path) -> None:
    """Write the files that are the machine's administrator's, before the packages that read them."""
    for folder in ("dev", "proc", "sys", "run", "tmp"):
        (tree / folder).mkdir(exist_ok=True)
    (tree / "tmp").chmod(0o1777)
    for name, text in settings(shape).items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name, target, mode in (
        ("kernroll-seed", "usr/local/sbin/kernroll-seed", 0o755),
        ("kernroll-seed.service", "etc/systemd/system/kernroll-seed.service", 0o644),
    ):
        path = tree / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(GUEST_FILES / name, path)
        path.chmod(mode)


def settings(shape: Shape) -> dict[str, str]:
    """Return the machine's settings by their paths."""
    words = f"console={shape.console} panic=10 mitigations=off"
    mounts = f"UUID={ROOT_UUID} / ext4 errors=remount-ro 0 0\n"
    if shape.uefi:
        # On a busy machine an emulated one takes minutes to find its disks, and would end in an emergency shell.
        options = "umask=0077,x-systemd.device-timeout=15min"
        mounts += f"UUID={SYSTEM_ID[:4]}-{SYSTEM_ID[4:]} /boot/efi vfat {options} 0 0\n"
    # A UEFI firmware shows on the serial port what is written to its console.
    serial = 'GRUB_TERMINAL="serial"\nGRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"\n'
    terminal = "GRUB_TERMINAL=console\n" if shape.uefi else serial
    return {
        "etc/fstab": mounts,
        "etc/hostname": "kernroll\n",
        "etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost\n",
        # Empty, not absent: each machine gets its own from the number that QEMU gives it.
        "etc/machine-id": "",
        "etc/resolv.conf": "nameserver 10.0.2.3\n",
        "etc/systemd/network/10-kernroll.network": (
            "[Match]\nType=ether\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        ),
        "etc/default/grub.d/kernroll.cfg": (
            f'GRUB_CMDLINE_LINUX="{words}"\nGRUB_TIMEOUT=1\nGRUB_RECORDFAIL_TIMEOUT=1\n'
            f"{terminal}GRUB_DISABLE_OS_PROBER=true\n"
        ),
        "etc/apt/apt.conf.d/60kernroll": 'Unattended-Upgrade::Automatic-Reboot "false";\nAcquire::Languages "none";\n',
        # Everybody who connects comes from one address: sshd must not hold it against all when one leaves early.
        "etc/ssh/sshd_config.d/kernroll.conf": (
            "UseDNS no\nPrintMotd no\nPasswordAuthentication no\nPerSourcePenalties no\n"
        ),
        # Manuals and translations are nothing that a rollout looks at.
        "etc/dpkg/dpkg.cfg.d/kernroll": (
            "path-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\npath-exclude=/usr/share/doc/*\n"
            "path-include=/usr/share/doc/*/copyright\npath-exclude=/usr/share/info/*\n"
        ),
    }
