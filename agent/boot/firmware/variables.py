"""The firmware's own EFI variables: what it boots, in which order, and what once. Source: UEFI, "Boot Manager"."""

import re
from typing import Final

from agent.boot.host import Host
from agent.boot.systemd_boot.variables import FOLDER
from agent.boot.values import BootError, BrokenHost

VENDOR: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
NEXT, CURRENT, ORDER = "BootNext", "BootCurrent", "BootOrder"
# Before the value, in efivarfs: it is kept, and seen before and after the kernel has begun.
_ATTRIBUTES: Final = (7).to_bytes(4, "little")
_ATTRIBUTE_BYTES: Final = 4
_NUMBER_BYTES: Final = 2
_OPTION: Final = re.compile(rf"Boot([0-9A-F]{{4}})-{VENDOR}")
_MOST_NUMBERS: Final = 1 << 16


def name_of(number: int) -> str:
    """Return what the firmware calls the entry of this number."""
    return f"Boot{number:04X}"


def value(host: Host, name: str) -> bytes | None:
    """Return a variable's value; None when it is not set. Raises BrokenHost when it cannot be read."""
    data = host.data(_path(name))
    # Of one that was opened and never written, efivarfs shows a file of no bytes, and the firmware knows nothing.
    return None if not data else data[_ATTRIBUTE_BYTES:]


def numbers(host: Host, name: str) -> tuple[int, ...]:
    """Return the numbers of entries that a variable holds; none when it is not set."""
    found = value(host, name) or b""
    if len(found) % _NUMBER_BYTES:
        raise BrokenHost(f"the EFI variable {name} has {len(found)} bytes, which are no numbers: see efibootmgr")
    return tuple(int.from_bytes(found[at : at + 2], "little") for at in range(0, len(found), _NUMBER_BYTES))


def number(host: Host, name: str) -> int | None:
    """Return the number of the entry that a variable names; None when it is not set."""
    return next(iter(numbers(host, name)), None)


def options(host: Host) -> dict[int, bytes]:
    """Return every entry of the firmware's by its number."""
    try:
        names = sorted(one.name for one in host.path(FOLDER).iterdir())
    except OSError as error:
        raise BrokenHost(f"{FOLDER} cannot be read: {error.strerror}") from error
    found = [int(match[1], 16) for one in names if (match := _OPTION.fullmatch(one))]
    return {one: told for one in found if (told := value(host, name_of(one))) is not None}


def unused(host: Host) -> int:
    """Return the lowest number that no entry has, nor the order, in which it would be a default."""
    taken = {*options(host), *numbers(host, ORDER)}
    return next(one for one in range(_MOST_NUMBERS) if one not in taken)


def set_to(host: Host, name: str, wanted: bytes) -> None:
    """Let a variable have a value, and read it back. Raises BootError where the firmware does not take it."""
    if (found := value(host, name)) == wanted:
        return
    if found is not None:
        remove(host, name)
    try:
        host.write_variable(_path(name), _ATTRIBUTES + wanted)
    except BrokenHost as error:
        raise BootError(
            f"the firmware does not take the EFI variable {name} ({error}): its memory may be full (remove entries "
            "that nobody needs with efibootmgr, or records in /sys/fs/pstore), or not be changed from here"
        ) from error
    if (found := value(host, name)) != wanted:
        raise BootError(f"the EFI variable {name} holds {_shown(found)} where {_shown(wanted)} was written")


def remove(host: Host, name: str) -> None:
    """Let a variable not be set any more, and see that it is not."""
    if value(host, name) is None:
        return
    host.remove(_path(name))
    if value(host, name) is not None:
        raise BootError(f"the EFI variable {name} is still there after it was removed: see efibootmgr")


def set_number(host: Host, name: str, wanted: int) -> None:
    """Let a variable name an entry. Raises as set_to."""
    set_to(host, name, wanted.to_bytes(_NUMBER_BYTES, "little"))


def is_secure_boot(host: Host) -> bool:
    """Whether the firmware itself starts signed programs only, whatever shim was told."""
    return value(host, "SecureBoot") == b"\1"


def _path(name: str) -> str:
    return f"{FOLDER}/{name}-{VENDOR}"


def _shown(data: bytes | None) -> str:
    return "nothing" if data is None else f"{data[:8].hex()} ({len(data)} bytes)"
