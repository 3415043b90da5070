"""An entry of the firmware's: what it is called, where its program lies, and what that is told.

Source: UEFI, "Load Options" (EFI_LOAD_OPTION) and "Device Path Protocol".
"""

import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

_HEAD: Final = struct.Struct("<IH")
_NODE: Final = struct.Struct("<BBH")
_ACTIVE: Final = 1
# Types and subtypes of a path's nodes.
_DISK, _FILE, _END = (4, 1), (4, 4), (0x7F, 0xFF)
# Number, start and size, signature, and what kinds of table and signature they are.
_DISK_BODY: Final = struct.Struct("<IQQ16sBB")
_GPT, _MBR = (2, 2), (1, 1)
_GUID_CHARACTERS: Final = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A partition as the firmware finds it again."""

    # "0f3a…-…" of a GPT, or "1a2b3c4d-01" of a master boot record, in small letters.
    uuid: str
    number: int
    # In the disk's own blocks.
    start: int
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What an entry says."""

    label: str
    # Whether the firmware takes it from its order.
    is_active: bool
    # Of its partition as in Partition; empty where it names none.
    partition: str
    # The program, empty where it names none.
    file: str


def made(label: str, partition: Partition, file: str, told: str) -> bytes:
    """Return an entry that starts a program, which is told a text. It is never taken from the order."""
    path = _disk(partition) + _node(_FILE, f"{file}\0".encode("utf-16-le")) + _node(_END, b"")
    head = _HEAD.pack(0, len(path)) + f"{label}\0".encode("utf-16-le")
    return head + path + f"{told}\0".encode("utf-16-le")


def read(data: bytes) -> Option:
    """Return what an entry says; of what cannot be read, nothing."""
    if len(data) < _HEAD.size:
        return Option(label="", is_active=False, partition="", file="")
    attributes, length = _HEAD.unpack_from(data)
    at = _HEAD.size
    while data[at : at + 2] not in (b"\0\0", b"") and at < len(data):
        at += 2
    label = data[_HEAD.size : at].decode("utf-16-le", errors="replace")
    partition = file = ""
    for kind, body in _nodes(data[at + 2 : at + 2 + length]):
        if kind == _DISK and len(body) == _DISK_BODY.size:
            partition = _uuid(body)
        elif kind == _FILE:
            file += body[: len(body) // 2 * 2].decode("utf-16-le", errors="replace").rstrip("\0")
    return Option(label=label, is_active=bool(attributes & _ACTIVE), partition=partition, file=file)


def _disk(partition: Partition) -> bytes:
    if len(partition.uuid) == _GUID_CHARACTERS:
        signature, kinds = UUID(partition.uuid).bytes_le, _GPT
    else:
        disk = int(partition.uuid.partition("-")[0], 16)
        signature, kinds = disk.to_bytes(16, "little"), _MBR
    return _node(_DISK, _DISK_BODY.pack(partition.number, partition.start, partition.blocks, signature, *kinds))


def _uuid(body: bytes) -> str:
    number, _, _, signature, *kinds = _DISK_BODY.unpack(body)
    if tuple(kinds) == _GPT:
        return str(UUID(bytes_le=signature))
    return f"{int.from_bytes(signature[:4], 'little'):08x}-{number:02x}"


def _node(kind: tuple[int, int], body: bytes) -> bytes:
    return _NODE.pack(*kind, _NODE.size + len(body)) + body


def _nodes(path: bytes) -> list[tuple[tuple[int, int], bytes]]:
    found, at = [], 0
    while at + _NODE.size <= len(path):
        kind, subkind, length = _NODE.unpack_from(path, at)
        if length < _NODE.size or (kind, subkind) == _END:
            break
        found.append(((kind, subkind), path[at + _NODE.size : at + length]))
        at += length
    return found
