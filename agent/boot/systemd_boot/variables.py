"""The EFI variables through which systemd-boot and the host talk. Source: the Boot Loader Interface, efivarfs."""

import os
import re
from dataclasses import dataclass
from typing import Final

from agent.boot.host import Host
from agent.boot.values import BrokenHost

FOLDER: Final = "/sys/firmware/efi/efivars"
_VENDOR: Final = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
# Before the value, in efivarfs.
_ATTRIBUTE_BYTES: Final = 4
_NON_VOLATILE: Final = 1
_VERSION: Final = re.compile(r"systemd-boot (\d{1,9})(?:\.(\d{1,9}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One that is set."""

    text: str
    # Whether it is still there after a reboot.
    persists: bool


def read(host: Host, name: str) -> Variable | None:
    """Return a variable that holds a text; None when it is not set. Raises BrokenHost when it is no text."""
    data = host.data(f"{FOLDER}/{name}-{_VENDOR}")
    # Of one that was opened and never written, efivarfs shows a file of no bytes, and the firmware knows nothing.
    if not data:
        return None
    if len(data) < _ATTRIBUTE_BYTES or len(data) % 2:
        raise BrokenHost(f"the EFI variable {name} has {len(data)} bytes, which is no text: remove it")
    attributes = int.from_bytes(data[:_ATTRIBUTE_BYTES], "little")
    text = data[_ATTRIBUTE_BYTES:].decode("utf-16-le", errors="replace").partition("\0")[0]
    return Variable(text=text, persists=bool(attributes & _NON_VOLATILE))


def text_of(host: Host, name: str) -> str:
    """Return a variable's text; empty when it is not set."""
    found = read(host, name)
    return "" if found is None else found.text


def version_of(loader_info: str) -> tuple[int, int]:
    """Return the version from "systemd-boot 257.13-1~deb13u1", as it calls itself; (0, 0) of other loaders."""
    found = _VERSION.match(loader_info)
    return (int(found[1]), int(found[2] or "0")) if found else (0, 0)


def are_there(host: Host) -> bool:
    """Whether the firmware's variables can be seen at all."""
    folder = host.path(FOLDER)
    return folder.is_dir() and any(folder.iterdir())


def are_read_only(host: Host) -> bool:
    """Whether they can be seen and not changed."""
    return bool(os.statvfs(host.path(FOLDER)).f_flag & os.ST_RDONLY)
