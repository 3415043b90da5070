"""A kernel and its initial RAM disks on the EFI system partition, where the firmware and the kernel's stub look."""

import hashlib
import os
import struct
from collections.abc import Mapping
from typing import Final

from agent.boot.host import Host
from agent.boot.values import BootError, BrokenHost, Entry

FOLDER: Final = "EFI/kernroll"
_KERNEL, _INITIAL = "kernel.efi", "initrd-{}.img"
# Folders and the file system's own tables.
_MORE_BYTES: Final = 1 << 20
_MIB: Final = 1 << 20
_BLOCK_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 64 << 10
_PE_AT: Final = 0x3C
_MACHINES: Final = {"x86_64": 0x8664, "aarch64": 0xAA64}
# Of x86's COMMAND_LINE_SIZE, the smallest of all.
_MOST_CHARACTERS: Final = 2047
# What GRUB would make something else of: quotes, escapes and variables.
_GRUBS_OWN: Final = frozenset("\"'\\$")
# Empty, or what a splash screen wants of GRUB's own graphics.
_DISPENSABLE: Final = frozenset({"$vt_handoff"})


def names(entry: Entry) -> dict[str, str]:
    """Return the names of the copies by those of the entry's files: the kernel first, as loaders have it."""
    kernel, *initial = entry.files
    return {kernel: _KERNEL, **{name: _INITIAL.format(place) for place, name in enumerate(initial)}}


def told(entry: Entry) -> str:
    """Return the command line by which the stub starts the copies. Raises BootError where GRUB's cannot be taken."""
    words = [one for one in entry.arguments if one not in _DISPENSABLE]
    if odd := [one for one in words if not _GRUBS_OWN.isdisjoint(one)]:
        raise BootError(
            f"the command line of {entry.release or entry.title} has {odd[0]}, of which GRUB makes something that the "
            "firmware would not: write it without quotes, backslashes and variables"
        )
    line = " ".join([*words, *(marker(one) for one in list(names(entry).values())[1:])])
    if len(line) > _MOST_CHARACTERS or not line.isascii():
        raise BootError(
            f"the command line of {entry.release or entry.title} has more than {_MOST_CHARACTERS} characters, or some "
            "that are not ASCII"
        )
    return line


def marker(name: str) -> str:
    """Return the word by which a command line names a copy."""
    return f"initrd={path(name)}"


def path(name: str) -> str:
    """Return a copy's path as the firmware writes it."""
    return "\\" + f"{FOLDER}/{name}".replace("/", "\\")


def is_running(host: Host) -> bool:
    """Whether the running kernel says that it was started from copies; one without a RAM disk never does."""
    return any(one.startswith(marker("")) for one in (host.text("/proc/cmdline") or "").split())


def why_not_startable(host: Host, entry: Entry) -> str:
    """Return why the firmware cannot start an entry's kernel; empty when it can."""
    if not entry.files:
        return f"the entry of {entry.release} names no kernel"
    name = entry.files[0]
    try:
        with host.path(name).open("rb") as file:
            head = file.read(_HEAD_BYTES)
        (at,) = struct.unpack_from("<I", head, _PE_AT)
        (machine,) = struct.unpack_from("<H", head, at + 4)
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    except struct.error:
        head = b""
    if head[:2] != b"MZ" or head[at : at + 4] != b"PE\0\0":
        return f"{name} is no program for a UEFI firmware: its kernel was built without CONFIG_EFI_STUB, or packed"
    if machine != _MACHINES.get(os.uname().machine):
        return f"{name} is a program for another kind of processor (0x{machine:x})"
    return ""


def missing_room(host: Host, place: str, sizes: int) -> str:
    """Return what is missing on the partition for that many bytes more; empty when nothing is."""
    found = os.statvfs(host.path(place))
    free = found.f_bavail * found.f_frsize + _taken(host, place)
    if free >= sizes + _MORE_BYTES:
        return ""
    return f"{place} has {free // _MIB} MiB left, and {-(-(sizes + _MORE_BYTES) // _MIB)} MiB are needed"


def size_of(host: Host, entry: Entry) -> int:
    """Return how many bytes an entry's files have."""
    found = (host.path(one) for one in entry.files)
    return sum(one.stat().st_size for one in found if one.is_file())


def put(host: Host, place: str, entry: Entry) -> None:
    """Copy an entry's files, durably. What of another kernel is there goes first: there may be no room for both."""
    remove(host, place)
    for source, name in names(entry).items():
        host.copy(source, f"{place}/{FOLDER}/{name}")


def remove(host: Host, place: str) -> None:
    """Remove all copies."""
    folder = host.path(f"{place}/{FOLDER}")
    if folder.is_dir():
        for one in sorted(folder.iterdir()):
            host.remove(f"{place}/{FOLDER}/{one.name}")


def digests(host: Host, entry: Entry) -> Mapping[str, str]:
    """Return the digests that the copies of an entry's files must have, by name. Takes a second for large ones."""
    return {name: digest(host, source) for source, name in names(entry).items()}


def changed(host: Host, place: str, wanted: Mapping[str, str]) -> str:
    """Return the first copy that is not as it was written; empty when all are."""
    for name, was in wanted.items():
        if digest(host, f"{place}/{FOLDER}/{name}") != was:
            return f"{place}/{FOLDER}/{name}"
    return ""


def digest(host: Host, name: str) -> str:
    """Return a file's sha256 in hex; empty when it cannot be read."""
    found = hashlib.sha256()
    try:
        with host.path(name).open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                found.update(block)
    except OSError:
        return ""
    return found.hexdigest()


def _taken(host: Host, place: str) -> int:
    try:
        return sum(one.stat().st_size for one in host.path(f"{place}/{FOLDER}").iterdir())
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise BrokenHost(f"{place}/{FOLDER} cannot be read: {error.strerror}") from error
