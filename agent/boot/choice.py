"""Which loader a host boots by: what booted it says so itself, and only where nothing does, what lies on its disk."""

from agent.boot.firmware import loader as firmware
from agent.boot.grub import bls_loader as bls
from agent.boot.grub import loader as grub
from agent.boot.host import Host
from agent.boot.port import Loader
from agent.boot.systemd_boot import loader as systemd_boot
from agent.boot.values import BootError

_KNOWN = (
    "GRUB with /boot/grub/grub.cfg, grub-editenv and update-grub is, or with /boot/grub2/grub.cfg, grub2-editenv and "
    "blscfg, and systemd-boot with bootctl; install grub2-common or systemd-boot, or leave this host out"
)


def loader_of(host: Host) -> Loader:
    """Return the host's boot loader; raises BootError for one that is not known here."""
    info = systemd_boot.loader_info(host)
    if info.startswith("systemd-boot"):
        return systemd_boot.SystemdBoot(host)
    if grub.is_there(host):
        return firmware.suited(host, grub.Grub(host))
    if bls.is_there(host):
        return firmware.suited(host, bls.BlsGrub(host))
    # It says itself what is wrong with it: not mounted, or not what booted the host.
    if systemd_boot.is_there(host):
        return systemd_boot.SystemdBoot(host)
    raise BootError(f"{f'booted by {info}: ' if info else ''}no boot loader that is known here: {_KNOWN}")
