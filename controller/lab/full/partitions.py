"""Partition tables of a machine's disk: one partition for a BIOS, and with UEFI a second one for the firmware."""

import struct
import uuid
import zlib
from dataclasses import dataclass

from controller.lab.images import partition_table

SECTOR_BYTES = 512
# Before the first partition and behind the last one: both tables, and where a BIOS's boot loader goes.
MARGIN_BYTES = 2**20

_LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_EFI_SYSTEM = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
# Every machine's; they never see each other's disks.
_DISK = uuid.UUID("2f1b6c4e-0000-4000-8000-000000000010")
_ENTRIES, _ENTRY_BYTES, _HEADER_BYTES = 128, 128, 92
_TABLE_SECTORS = _ENTRIES * _ENTRY_BYTES // SECTOR_BYTES


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that belong at a place of the disk."""

    offset_bytes: int
    content: bytes


def bios_table(root_bytes: int) -> list[Piece]:
    """Return the master boot record of a disk with one partition."""
    return [Piece(0, partition_table(MARGIN_BYTES, root_bytes))]


def uefi_table(root_bytes: int, system_bytes: int) -> list[Piece]:
    """Return both GUID partition tables of a disk with the root partition and, behind it, the EFI system partition.

    Sizes are whole MiB. Source: UEFI specification, 5.3.
    """
    sectors = uefi_disk_bytes(root_bytes, system_bytes) // SECTOR_BYTES
    first, middle = MARGIN_BYTES // SECTOR_BYTES, (MARGIN_BYTES + root_bytes) // SECTOR_BYTES
    parts = ((_LINUX, first, middle - 1), (_EFI_SYSTEM, middle, middle + system_bytes // SECTOR_BYTES - 1))
    entries = b"".join(
        struct.pack("<16s16sQQQ72s", kind.bytes_le, _number(index), start, end, 0, b"")
        for index, (kind, start, end) in enumerate(parts, start=1)
    ).ljust(_ENTRIES * _ENTRY_BYTES, b"\0")
    protective = struct.pack("<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, sectors - 1)
    return [
        Piece(0, bytes(446) + protective + bytes(48) + b"\x55\xaa"),
        Piece(SECTOR_BYTES, _header(entries, own=1, other=sectors - 1, table=2, sectors=sectors)),
        Piece(2 * SECTOR_BYTES, entries),
        Piece((sectors - 1 - _TABLE_SECTORS) * SECTOR_BYTES, entries),
        Piece(
            (sectors - 1) * SECTOR_BYTES,
            _header(entries, own=sectors - 1, other=1, table=sectors - 1 - _TABLE_SECTORS, sectors=sectors),
        ),
    ]


def uefi_disk_bytes(root_bytes: int, system_bytes: int) -> int:
    """Return the size of the whole disk."""
    return root_bytes + system_bytes + 2 * MARGIN_BYTES


def _number(index: int) -> bytes:
    return uuid.uuid5(_DISK, str(index)).bytes_le


def _header(entries: bytes, *, own: int, other: int, table: int, sectors: int) -> bytes:
    usable = (2 + _TABLE_SECTORS, sectors - 2 - _TABLE_SECTORS)

    def packed(checksum: int) -> bytes:
        head = (b"EFI PART", 0x10000, _HEADER_BYTES, checksum, 0, own, other, *usable, _DISK.bytes_le)
        return struct.pack("<8sIIIIQQQQ16sQIII", *head, table, _ENTRIES, _ENTRY_BYTES, zlib.crc32(entries))

    return packed(zlib.crc32(packed(0)))
