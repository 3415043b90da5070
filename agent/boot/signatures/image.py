"""Whether a kernel's file carries a signature: the certificate table of a PE file, as the firmware looks for it."""

import struct
from typing import Final

from agent.boot.host import Host
from agent.boot.values import BrokenHost

# PE/COFF: where the header begins, what it begins with, and how far behind that are the data directories.
_HEADER_AT, _SIGN, _COFF_BYTES = 0x3C, b"PE\0\0", 20
_DIRECTORIES: Final = {0x10B: 96, 0x20B: 112}
_CERTIFICATES, _DIRECTORY_BYTES = 4, 8
_MOST_BYTES: Final = 64 << 10


def is_signed(host: Host, name: str) -> bool:
    """Whether a file is an EFI program with signatures; whose they are is not looked at.

    Raises BrokenHost where it cannot be read.
    """
    try:
        with host.path(name).open("rb") as file:
            head = file.read(_MOST_BYTES)
            size = file.seek(0, 2)
    except OSError as error:
        raise BrokenHost(f"{name} cannot be read: {error.strerror}") from error
    try:
        offset, length = _certificates(head)
    except (struct.error, KeyError):
        return False
    return length > 0 and 0 < offset <= size - length


def _certificates(head: bytes) -> tuple[int, int]:
    """Return where the table of certificates is, and its length; zeros where there is none."""
    if head[:2] != b"MZ":
        return 0, 0
    (start,) = struct.unpack_from("<I", head, _HEADER_AT)
    if head[start : start + len(_SIGN)] != _SIGN:
        return 0, 0
    optional = start + len(_SIGN) + _COFF_BYTES
    (magic,) = struct.unpack_from("<H", head, optional)
    directories = optional + _DIRECTORIES[magic]
    (count,) = struct.unpack_from("<I", head, directories - 4)
    if count <= _CERTIFICATES:
        return 0, 0
    offset, length = struct.unpack_from("<II", head, directories + _CERTIFICATES * _DIRECTORY_BYTES)
    return offset, length
