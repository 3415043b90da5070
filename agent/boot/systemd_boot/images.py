"""What a kernel's file says of itself: a unified kernel image by its sections, a bare one by its header."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# A kernel's name is short, and so is all that is read here.
_MOST_BYTES: Final = 1 << 16
_MOST_SECTIONS: Final = 96
_HEADER_BYTES: Final = 0x20000
_PE_OFFSET_AT: Final = 0x3C
_SECTION_BYTES: Final = 40
# The x86 boot protocol: where "HdrS" stands, and the pointer to the kernel's name.
_HDRS_AT, _NAME_AT, _NAME_BASE = 0x202, 0x20E, 0x200
_RELEASE: Final = re.compile(rb"[0-9][0-9A-Za-z.+~_-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unified:
    """A unified kernel image. Of several profiles in one file the first."""

    # Empty where it does not say.
    release: str
    os_release: str
    arguments: tuple[str, ...]


def read_unified(path: Path) -> Unified | None:
    """Return what a unified kernel image says; None for another file, which systemd-boot offers not at all."""
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        places = _sections(head)
        found = {}
        for name in (".osrel", ".uname", ".cmdline"):
            offset, size = places.get(name, (0, 0))
            file.seek(offset)
            found[name] = file.read(min(size, _MOST_BYTES)).rstrip(b"\0").decode(errors="replace").strip()
    if not found[".osrel"]:
        return None
    return Unified(release=found[".uname"], os_release=found[".osrel"], arguments=tuple(found[".cmdline"].split()))


def _sections(head: bytes) -> dict[str, tuple[int, int]]:
    """Return where each section lies and how long it is; of one name the first."""
    at = int.from_bytes(head[_PE_OFFSET_AT : _PE_OFFSET_AT + 4], "little")
    if head[:2] != b"MZ" or head[at : at + 4] != b"PE\0\0":
        return {}
    count = int.from_bytes(head[at + 6 : at + 8], "little")
    table = at + 24 + int.from_bytes(head[at + 20 : at + 22], "little")
    found: dict[str, tuple[int, int]] = {}
    for number in range(min(count, _MOST_SECTIONS)):
        one = head[table + number * _SECTION_BYTES : table + (number + 1) * _SECTION_BYTES]
        if len(one) < _SECTION_BYTES:
            break
        name = one[:8].rstrip(b"\0").decode(errors="replace")
        virtual, raw = (int.from_bytes(one[start : start + 4], "little") for start in (8, 16))
        found.setdefault(name, (int.from_bytes(one[20:24], "little"), min(virtual, raw)))
    return found


def release_of(path: Path) -> str:
    """Return the release that an x86 kernel's own header names; empty when it names none."""
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    if head[_HDRS_AT : _HDRS_AT + 4] != b"HdrS":
        return ""
    at = _NAME_BASE + int.from_bytes(head[_NAME_AT : _NAME_AT + 2], "little")
    found = _RELEASE.match(head, at)
    return found[0].decode() if found else ""
