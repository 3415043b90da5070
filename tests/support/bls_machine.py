"""A machine that boots by GRUB as Fedora has it, as far as files go: Debian's tools by the names that they have there.

No Debian release that is known here has Fedora's GRUB, so that grub.cfg and entries are written by hand, as they are
there in what matters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boot_machine import OTHER, RUNNING
from grub_disk import PARTITION_BYTES
from grub_machine import GrubMachine, bare_machine

MACHINE_ID = "3f4e5d6c7b8a49586776859403a2b1c0"
# Stands in the place of a machine id at the beginning of entries' names.
TOKEN = "kernroll"
_CONFIGURATION = """\
### BEGIN /etc/grub.d/00_header ###
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${saved_entry}"
fi
set timeout=5
### END /etc/grub.d/00_header ###
### BEGIN /etc/grub.d/01_users ###
if [ -n "${GRUB2_PASSWORD}" ]; then
  set superusers="root"
fi
### END /etc/grub.d/01_users ###
### BEGIN /etc/grub.d/08_fallback_counting ###
if [ "${boot_counter}" = "0" ]; then
  set default=1
fi
### END /etc/grub.d/08_fallback_counting ###
### BEGIN /etc/grub.d/10_linux ###
set kernelopts="root=/dev/sda2 ro "
insmod blscfg
blscfg
### END /etc/grub.d/10_linux ###
### BEGIN /etc/grub.d/12_menu_auto_hide ###
if [ "${menu_show_once}" ]; then
  set timeout=60
fi
### END /etc/grub.d/12_menu_auto_hide ###
### BEGIN /etc/grub.d/30_uefi-firmware ###
menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {
\tfwsetup
}
### END /etc/grub.d/30_uefi-firmware ###
"""
# Before that, what Fedora's header does, and a console that is kept.
_TO_SERIAL = """\
serial --unit=0 --speed=115200
terminal_output serial
load_env
"""


class BlsMachine(GrubMachine):
    """One such machine. Commands run in its namespace."""

    place = "/boot/grub2/grubenv"
    arguments = "root=/dev/sda2 ro panic=10"
    token = MACHINE_ID

    def offer(self, release: str) -> None:
        """Do what kernel-install does there, the new default included."""
        lines = (
            f"title Fedora Linux ({release})\\nversion {release}\\nlinux /vmlinuz-{release}\\n"
            f"initrd /initrd.img-{release} $tuned_initrd\\noptions {self.arguments} $tuned_params\\n"
            "grub_users $grub_users\\ngrub_arg --unrestricted\\ngrub_class fedora\\n"
        )
        self.sh(
            f"printf '{lines}' > /boot/loader/entries/{self.entry_of(release)}.conf\n"
            "if grep -qx UPDATEDEFAULT=yes /etc/sysconfig/kernel; then "
            f"grub2-editenv {self.place} set saved_entry={self.entry_of(release)}; fi"
        )

    def environment(self) -> dict[str, str]:
        """See GrubMachine."""
        lines = self.tool("grub2-editenv", self.place, "list").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def set(self, *assignments: str) -> None:
        """See GrubMachine."""
        self.tool("grub2-editenv", self.place, "set", *assignments)

    def booted(self, *, clears: bool) -> None:
        """See BootMachine."""
        if clears:
            self.tool("grub2-editenv", self.place, "unset", "next_entry")

    def forget(self) -> None:
        """See BootMachine."""
        self.sh(f"echo UPDATEDEFAULT=yes > /etc/sysconfig/kernel; grub2-editenv {self.place} unset saved_entry")

    def entry_of(self, release: str) -> str:
        """See BootMachine."""
        return f"{self.token}-{release}"

    def settle(self, configuration: str = _CONFIGURATION) -> None:
        """Let it be as Fedora's installer leaves it, without a kernel."""
        self.sh(
            "ln -s grub-editenv /usr/bin/grub2-editenv; ln -s grub-probe /usr/sbin/grub2-probe\n"
            "rm /usr/sbin/update-grub\n"
            "rm -rf /boot/grub; mkdir -p /boot/grub2/i386-pc /boot/loader/entries /etc/sysconfig\n"
            f"cat > /boot/grub2/grub.cfg <<'END'\n{configuration}END\n"
            f"echo image > /boot/grub2/i386-pc/core.img; grub2-editenv {self.place} create\n"
            "printf 'GRUB_DEFAULT=saved\\nGRUB_CMDLINE_LINUX=\"panic=10\"\\n' > /etc/default/grub\n"
            "printf 'UPDATEDEFAULT=yes\\nDEFAULTKERNEL=kernel-core\\n' > /etc/sysconfig/kernel\n"
        )


@contextmanager
def bls_machine(directory: Path) -> Iterator[BlsMachine]:
    """Yield a machine that runs RUNNING and has OTHER, with entries as kernel-install writes them there."""
    with bare_machine(directory) as bare:
        machine = BlsMachine(bare.root, bare.pid)
        machine.settle()
        for release in (OTHER, RUNNING, "0-rescue"):
            machine.install(release)
        yield machine


@contextmanager
def booting_bls_machine(directory: Path, disk: Path) -> Iterator[BlsMachine]:
    """Yield a machine whose /boot is the disk, from which GRUB 2.14 boots entries; without a kernel.

    Its entries are named by a word: GRUB 2.14 takes a machine id that begins with a digit for a position.
    """
    with bare_machine(directory) as bare:
        machine = BlsMachine(bare.root, bare.pid)
        machine.take(disk, PARTITION_BYTES)
        machine.token = TOKEN
        machine.arguments = "console=ttyS0 panic=2 mitigations=off"
        configuration = _CONFIGURATION.replace("insmod blscfg\n", "")
        machine.settle(_TO_SERIAL + configuration.replace("set timeout=5", "set timeout=0"))
        machine.sh("touch /boot/grub2/i386-pc/blsuki.mod")
        yield machine
