"""The EFI system partition by which the firmware boots the host: where it is mounted, and how the firmware finds it."""

import json
import re
from dataclasses import dataclass
from typing import Final

from agent.boot.firmware import option, variables
from agent.boot.firmware.option import Partition
from agent.boot.host import Host
from agent.boot.values import BootError, BrokenHost

_USUAL_PLACES: Final = ("/boot/efi", "/efi", "/boot")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{8}-[0-9a-f]{2}")
_DEVICE: Final = re.compile(r"[0-9]{1,9}:[0-9]{1,9}")
# The kernel counts sectors of this size, whatever the disk's own is.
_SECTOR_BYTES: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Esp:
    """One that is mounted."""

    # "/boot/efi".
    place: str
    partition: Partition
    is_read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mount:
    place: str
    device: str
    uuid: str
    is_read_only: bool


def esp(host: Host) -> Esp:
    """Return it. Raises BootError where it is not mounted, or which it is cannot be told."""
    mounts, wanted = _mounts(host), _booted_from(host)
    if wanted:
        found = [one for one in mounts if one.uuid == wanted]
        if not found:
            raise BootError(
                f"the firmware booted this host from the partition {wanted}, which is not mounted: mount "
                f"/dev/disk/by-partuuid/{wanted} at /boot/efi, and write that to /etc/fstab"
            )
    else:
        found = [one for one in mounts if one.place in _USUAL_PLACES]
        if not found:
            raise BootError("no EFI system partition is mounted at /boot/efi, /efi or /boot: mount it, by /etc/fstab")
        if len({one.uuid for one in found}) > 1:
            raise BootError(
                f"{', '.join(one.place for one in found)} are EFI system partitions, and the firmware does not say "
                "from which it booted: leave only that mounted"
            )
    # Of several mounts of one partition the usual place first.
    one = min(found, key=lambda mount: (mount.place not in _USUAL_PLACES, mount.place))
    return Esp(place=one.place, partition=_partition(host, one), is_read_only=one.is_read_only)


def _booted_from(host: Host) -> str:
    """Return the partition from which the firmware started what booted the host; empty where it does not tell."""
    found, entries = variables.numbers(host, variables.CURRENT), variables.options(host)
    # That of a kernel on trial is gone once it is blessed.
    named = (one for one in (*found, *variables.numbers(host, variables.ORDER)) if one in entries)
    first = next(named, None)
    return "" if first is None else option.read(entries[first]).partition


def _mounts(host: Host) -> list[_Mount]:
    for place in _USUAL_PLACES:
        # Some are mounted by being looked at.
        host.path(f"{place}/EFI").exists()
    try:
        told = host.run("findmnt", "--list", "--json", "--types", "vfat", "--output", "TARGET,MAJ:MIN,PARTUUID,OPTIONS")
        listed = json.loads(told)["filesystems"]
        return [
            _Mount(
                place=str(one["target"]),
                device=str(one["maj:min"]).strip(),
                uuid=str(one["partuuid"] or "").lower(),
                is_read_only="ro" in str(one["options"]).split(","),
            )
            for one in listed
        ]
    except BrokenHost as error:
        # It fails, too, when there is nothing to tell.
        raise BootError(
            f"no file system of the kind that an EFI system partition has is mounted: mount it at /boot/efi ({error})"
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise BrokenHost(f"what findmnt says cannot be read ({error!r}): it is too old, or no findmnt") from error


def _partition(host: Host, mount: _Mount) -> Partition:
    if not _UUID.fullmatch(mount.uuid) or not _DEVICE.fullmatch(mount.device):
        raise BootError(
            f"{mount.place} does not lie on a partition that the firmware could find again: a software RAID, say. Make "
            "an EFI system partition of its own"
        )
    folder = f"/sys/dev/block/{mount.device}"
    texts = [host.text(f"{folder}/{name}") for name in ("partition", "start", "size")]
    block = host.text(f"{folder}/../queue/logical_block_size") or str(_SECTOR_BYTES)
    try:
        number, start, size = (int(one or "") for one in texts)
        each = int(block) // _SECTOR_BYTES
        return Partition(uuid=mount.uuid, number=number, start=start // each, blocks=size // each)
    except (ValueError, ZeroDivisionError) as error:
        raise BrokenHost(f"{folder} does not say where the partition of {mount.place} lies") from error
