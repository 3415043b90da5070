"""What keeps the firmware from booting a kernel once and then the loader again, each with its cause and its remedy."""

import os
import re
from collections.abc import Iterator
from typing import Final

from agent.boot.firmware import copies, option, variables
from agent.boot.firmware.partition import esp
from agent.boot.host import Host
from agent.boot.systemd_boot.variables import FOLDER, are_read_only, are_there
from agent.boot.values import BootError, BootState, Entry, Refusal

# Another kernel and its initial RAM disk may be larger than those that are there.
_ROOM: Final = 1.5
_BITS: Final = "/sys/firmware/efi/fw_platform_size"
_NO_INITIAL: Final = re.compile(r"^# CONFIG_EFI_GENERIC_STUB_INITRD_CMDLINE_LOADER is not set$", re.MULTILINE)
_LOADS_INITIAL: Final = "CONFIG_EFI_GENERIC_STUB_INITRD_CMDLINE_LOADER"
# Pieces of a logical volume, by the end of their names, of which GRUB reads one, be it the newest or not.
_PIECES: Final = re.compile(r"_[rm]image_[0-9]+$|_(?:w?corig|cvol|cdata|tdata)$|(?<!-)-(?:tpool|cow)$")


def of_firmware(host: Host) -> Iterator[Refusal]:
    """Yield what speaks against the firmware and its variables."""
    if not are_there(host):
        yield Refusal(
            code="variables-missing",
            cause=f"GRUB cannot clear what is armed, and {FOLDER}, by which the firmware would, is empty",
            remedy=f"mount -t efivarfs efivarfs {FOLDER}, and see that the kernel was not booted with noefi or "
            "efi=noruntime; or put /boot on a plain partition of its own",
        )
        return
    if are_read_only(host):
        yield Refusal(
            code="variables-read-only",
            cause=f"{FOLDER} is mounted read-only: nothing can be armed or taken back",
            remedy=f"mount -o remount,rw {FOLDER}",
        )
    if (bits := (host.text(_BITS) or "64").strip()) != "64":
        yield Refusal(
            code="firmware-of-other-width",
            cause=f"the firmware has {bits} bits and starts no kernel of 64",
            remedy="put /boot on a partition of its own without LVM or RAID, so that GRUB can clear what is armed",
        )
    if variables.is_secure_boot(host):
        yield Refusal(
            code="firmware-verifies",
            cause="Secure Boot is on: GRUB cannot clear what is armed here, and the firmware would not start a kernel "
            "that is signed for shim",
            remedy="put /boot on a partition of its own without LVM or RAID, so that GRUB can clear what is armed, or "
            "switch Secure Boot off",
        )
    yield from _order(host)
    yield from _foreign(host)


def _order(host: Host) -> Iterator[Refusal]:
    """What boots after the one time must be what booted the host now."""
    order, current = variables.numbers(host, variables.ORDER), variables.number(host, variables.CURRENT)
    own = own_numbers(host)
    if inside := [one for one in order if one in own]:
        yield Refusal(
            code="trial-in-order",
            cause=f"somebody put {variables.name_of(inside[0])}, the entry for one boot, into the firmware's order: a "
            "kernel on trial would boot again",
            remedy="kernroll-boot disarm, and see who does that",
        )
    if not order:
        yield Refusal(
            code="order-missing",
            cause="the firmware has no BootOrder: what boots after the one time cannot be told",
            remedy="efibootmgr --bootorder with the number of GRUB's entry",
        )
    elif current is not None and current not in (*order, *own) and not copies.is_running(host):
        yield Refusal(
            code="booted-out-of-order",
            cause=f"the host was booted by {variables.name_of(current)}, which is not in the firmware's order: what "
            "boots it the next time cannot be told",
            remedy="reboot it once without choosing anything, or add that entry by efibootmgr --bootorder",
        )


def _foreign(host: Host) -> Iterator[Refusal]:
    pending = variables.number(host, variables.NEXT)
    if pending is not None and pending not in own_numbers(host):
        yield Refusal(
            code="next-of-another",
            cause=f"BootNext names {told(host, pending)}, and not what kernroll-boot has armed: somebody else wants "
            "that to boot once, an update of the firmware, say",
            remedy="reboot into it, or take it back: efibootmgr --delete-bootnext",
        )


def own_numbers(host: Host) -> list[int]:
    """Return the entries of the firmware's that start our copies."""
    start = copies.path("").lower()
    return [one for one, data in variables.options(host).items() if option.read(data).file.lower().startswith(start)]


def told(host: Host, number: int) -> str:
    """Return an entry of the firmware's in words."""
    data = variables.value(host, variables.name_of(number))
    label = "which is not there" if data is None else option.read(data).label
    return f"{variables.name_of(number)} ({label})"


def of_partition(host: Host, state: BootState) -> Iterator[Refusal]:
    """Yield what speaks against the EFI system partition, and against starting the running kernel from it."""
    try:
        found = esp(host)
    except BootError as error:
        yield Refusal(
            code="esp-unusable",
            cause=f"GRUB cannot clear what is armed, and the firmware finds no kernel for one boot: {error}",
            remedy="mount the partition by which the firmware boots the host at /boot/efi",
        )
        return
    if found.is_read_only:
        yield Refusal(
            code="esp-read-only",
            cause=f"{found.place} is mounted read-only: the kernel for one boot cannot be put there",
            remedy=f"mount -o remount,rw {found.place}",
        )
    try:
        entry = state.of_release(host.running_release)
    except BootError:
        # Which the loader's own refusals tell.
        return
    if why := why_not(host, entry):
        yield Refusal(
            code="kernel-not-startable",
            cause=f"GRUB cannot clear what is armed, and the firmware cannot start the running kernel: {why}",
            remedy="boot a kernel of the distribution's, or put /boot on a plain partition of its own",
        )
    if missing := copies.missing_room(host, found.place, int(_ROOM * copies.size_of(host, entry))):
        yield Refusal(
            code="no-room-on-esp",
            cause=f"{missing}: the firmware starts a kernel for one boot, and its initial RAM disk, from there",
            remedy="make the initial RAM disks smaller (MODULES=dep in /etc/initramfs-tools/initramfs.conf, or "
            "hostonly=yes for dracut), remove what nobody needs there, or make a larger partition",
        )


def why_not(host: Host, entry: Entry) -> str:
    """Return why the firmware cannot start an entry's kernel as GRUB would; empty when it can."""
    if why := copies.why_not_startable(host, entry):
        return why
    config = host.text(f"/boot/config-{entry.release}") or ""
    if len(entry.files) > 1 and _NO_INITIAL.search(config):
        return f"{entry.release} was built without {_LOADS_INITIAL} and takes no initial RAM disk from the firmware"
    try:
        copies.told(entry)
    except BootError as error:
        return str(error)
    return ""


def of_staleness(host: Host, environment: str) -> Iterator[Refusal]:
    """Yield why GRUB may read another copy of its environment than the one that was written last."""
    try:
        device = host.path(environment).stat().st_dev
    except OSError:
        # Which the loader's own refusals tell.
        return
    for folder in _below(host, f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"):
        if (missing := (host.text(f"{folder}/md/degraded") or "0").strip()) != "0":
            yield Refusal(
                code="environment-degraded",
                cause=f"the software RAID below {environment} lacks {missing} of its disks: GRUB may read the one that "
                "was left behind, with a former default",
                remedy="see mdadm --detail, and add or remove the disk",
            )
        name = (host.text(f"{folder}/dm/name") or "").strip()
        if _PIECES.search(name):
            yield Refusal(
                code="environment-behind-cache",
                cause=f"{environment} lies on the logical volume piece {name}: of a cache, a snapshot, a thin pool or "
                "LVM's own RAID GRUB may read what is not the newest",
                remedy="put /boot on a linear logical volume or a partition of its own",
            )


def _below(host: Host, folder: str) -> Iterator[str]:
    yield folder
    try:
        names = sorted(one.name for one in host.path(f"{folder}/slaves").iterdir())
    except OSError:
        return
    for one in names:
        yield from _below(host, f"{folder}/slaves/{one}")
