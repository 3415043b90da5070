"""The disks of full machines: what their firmware and their kernel read of the partition tables."""

import struct
import zlib
from dataclasses import dataclass

import pytest

from controller.domain.errors import InvalidInput
from controller.lab.full.partitions import MARGIN_BYTES, SECTOR_BYTES, bios_table, uefi_disk_bytes, uefi_table
from controller.lab.full.shapes import SHAPES, shape_named
from controller.lab.full.userland import SYSTEM_ID, settings

_ROOT, _SYSTEM = 64 * 2**20, 32 * 2**20


@dataclass(frozen=True)
class Table:
    """A GUID partition table as its reader finds it."""

    own: int
    other: int
    usable: tuple[int, int]
    partitions: list[tuple[str, int, int]]


def read_table(disk: bytes, sector: int) -> Table:
    """Read one as firmware does: both checksums must be right."""
    head = disk[sector * SECTOR_BYTES :][:92]
    signature, _, size, checksum, _, own, other, first, last, _, at, count, each, of_entries = struct.unpack(
        "<8sIIIIQQQQ16sQIII", head
    )
    assert (signature, size) == (b"EFI PART", 92)
    assert checksum == zlib.crc32(head[:16] + bytes(4) + head[20:])
    entries = disk[at * SECTOR_BYTES :][: count * each]
    assert of_entries == zlib.crc32(entries)
    partitions = []
    for start in range(0, len(entries), each):
        kind, begin, end = struct.unpack("<16s16xQQ", entries[start : start + 48])
        if any(kind):
            partitions.append((kind.hex(), begin, end))
    return Table(own=own, other=other, usable=(first, last), partitions=partitions)


def test_both_tables_of_a_uefi_disk_say_the_same_and_lie_outside_the_partitions() -> None:
    disk = bytearray(uefi_disk_bytes(_ROOT, _SYSTEM))
    for piece in uefi_table(_ROOT, _SYSTEM):
        disk[piece.offset_bytes : piece.offset_bytes + len(piece.content)] = piece.content
    last = len(disk) // SECTOR_BYTES - 1
    main, spare = read_table(bytes(disk), 1), read_table(bytes(disk), last)
    assert (main.own, main.other, spare.own, spare.other) == (1, last, last, 1)
    assert main.partitions == spare.partitions
    (root, system) = main.partitions
    assert root[1] * SECTOR_BYTES == MARGIN_BYTES
    assert (root[2] + 1 - root[1]) * SECTOR_BYTES == _ROOT
    assert system[1] == root[2] + 1
    assert (system[2] + 1 - system[1]) * SECTOR_BYTES == _SYSTEM
    assert system[0] == "28732ac11ff8d211ba4b00a0c93ec93b"
    assert main.usable[0] <= root[1]
    assert system[2] <= main.usable[1]
    assert disk[510:512] == b"\x55\xaa"


def test_the_disk_of_a_bios_machine_has_one_partition() -> None:
    (piece,) = bios_table(_ROOT)
    kind, start, sectors = piece.content[446 + 4], *struct.unpack_from("<II", piece.content, 446 + 8)
    assert (piece.offset_bytes, kind, start * 512, sectors * 512) == (0, 0x83, MARGIN_BYTES, _ROOT)


@pytest.mark.parametrize("name", SHAPES)
def test_only_a_uefi_machine_mounts_an_efi_system_partition(name: str) -> None:
    shape = SHAPES[name]
    mounted = f"UUID={SYSTEM_ID[:4]}-{SYSTEM_ID[4:]} /boot/efi vfat" in settings(shape)["etc/fstab"]
    assert mounted == shape.uefi == ("uefi" in name)
    assert name.startswith(shape.architecture)


def test_an_unknown_shape_is_told_with_those_that_are_known() -> None:
    with pytest.raises(InvalidInput, match=r"x86_64-bios-grub, .*arm64-uefi-grub"):
        shape_named("vax")
