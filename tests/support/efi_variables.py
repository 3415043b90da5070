"""EFI variables as OVMF keeps them in its file: a store in which nothing is changed, only added or marked as gone.

Source: UEFI Platform Initialization, volume 3; MdeModulePkg's VariableFormat.h.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

_HEADER_LENGTH_AT = 48
_STORE_HEADER_BYTES = 28
# Start, state, attributes, count, time, key, and the sizes of name and data; then the vendor.
_HEADER = struct.Struct("<HBBIQ16sIII16s")
_START = 0x55AA
_ADDED, _DELETED = 0x3F, 0xFD
# What still counts while another replaces it.
_LIVE = (_ADDED, 0x3E)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    at: int
    is_live: bool
    name: str
    vendor: UUID
    attributes: int
    data: bytes
    end: int


def variables(store: Path, vendor: str) -> dict[str, bytes]:
    """Return what is set of one vendor's, by name: attributes and data, as efivarfs shows them."""
    return {
        one.name: struct.pack("<I", one.attributes) + one.data
        for one in _places(store.read_bytes())
        if one.is_live and one.vendor == UUID(vendor)
    }


def replace(store: Path, vendor: str, wanted: dict[str, bytes]) -> None:
    """Let exactly these be set of one vendor's, as efivarfs shows them."""
    data = bytearray(store.read_bytes())
    found = list(_places(bytes(data)))
    for one in found:
        if one.is_live and one.vendor == UUID(vendor):
            data[one.at + 2] &= _DELETED
    at = found[-1].end if found else _first(bytes(data))
    for name, value in wanted.items():
        encoded = f"{name}\0".encode("utf-16-le")
        sizes = (len(encoded), len(value) - 4)
        head = (_START, _ADDED, 0, int.from_bytes(value[:4], "little"), 0, b"\0" * 16, 0, *sizes)
        record = _HEADER.pack(*head, UUID(vendor).bytes_le) + encoded + value[4:]
        assert set(data[at : at + len(record)]) == {0xFF}, "the store is full"
        data[at : at + len(record)] = record
        at += _aligned(len(record))
    store.write_bytes(data)


def _first(data: bytes) -> int:
    return _aligned(struct.unpack_from("<H", data, _HEADER_LENGTH_AT)[0] + _STORE_HEADER_BYTES)


def _places(data: bytes) -> Iterator[_Place]:
    at = _first(data)
    while True:
        start, state, _, attributes, _, _, _, name, size, vendor = _HEADER.unpack_from(data, at)
        if start != _START:
            return
        body = at + _HEADER.size
        end = body + name + size
        yield _Place(
            at=at,
            is_live=state in _LIVE,
            name=data[body : body + name].decode("utf-16-le").rstrip("\0"),
            vendor=UUID(bytes_le=vendor),
            attributes=attributes,
            data=data[body + name : end],
            end=_aligned(end),
        )
        at = _aligned(end)


def _aligned(number: int) -> int:
    return -(-number // 4) * 4
