"""Reads kernel images: which architecture and release one is, and the form of it that a hypervisor boots fastest."""

import bz2
import lzma
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Final, Protocol

from controller.adapters.local.named_files import size_text
from controller.adapters.local.tools import OutOfTime, Tool, missing_tool, tool_environment
from controller.domain.errors import InvalidInput, Permanent
from controller.domain.hosts.releases import checked_release
from controller.domain.printable import printable

# A vmlinux or a graphics driver with debugging symbols is some hundred MiB; a kernel that boots, or a driver of a disk,
# some ten at most.
MOST_IMAGE_BYTES: Final = 1 << 30
MOST_KERNEL_BYTES: Final = 512 << 20
MOST_MODULE_BYTES: Final = 256 << 20

_ELF_MACHINES = {0x3E: "x86_64", 0xB7: "arm64"}
_BANNER = re.compile(rb"Linux version (\S{1,256}) \(")
_LONGEST_BANNER = 512
_PIECE = 1 << 20
_PVH_NOTE = 18
# Kernels have some five segments, and their notes are some hundred bytes.
_MOST_SEGMENTS = 64
_MOST_NOTE_BYTES = 1 << 16
# What xz may ask for to decompress with; the kernel's own builds need 64 MiB.
_DICTIONARY_BYTES = 512 << 20
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelImage:
    """A kernel image that was understood."""

    architecture: str
    # uname -r of the kernel when it runs.
    release: str
    # What the hypervisor is given: vmlinux (x86_64) or a raw Image (arm64).
    boot: bytes


def read_image(data: bytes, name: str) -> KernelImage:
    """Return what an image file holds. `name` stands in the messages. Raises InvalidInput when it is not a kernel."""
    try:
        return _read(data, name)
    except (struct.error, IndexError, OverflowError) as error:
        raise InvalidInput(f"{name} is damaged or cut off: its headers point outside it.") from error


def _read(data: bytes, name: str) -> KernelImage:
    if data[0x202:0x206] == b"HdrS":
        return _read_bzimage(data, name)
    if data[:4] == b"\x7fELF":
        return _read_elf(data, name)
    if data[:2] == b"MZ" and data[4:8] == b"zimg":
        offset, length = struct.unpack_from("<II", data, 8)
        data = decompress(data[offset : offset + length], name)
    elif data[:2] == b"\x1f\x8b":
        data = decompress(data, name)
    if data[0x38:0x3C] == b"ARM\x64":
        return KernelImage(architecture="arm64", release=_release(data, name), boot=data)
    raise InvalidInput(
        f"{name} is not a kernel image: expected bzImage or vmlinux (x86_64), or Image or vmlinuz (arm64)."
    )


def _read_bzimage(data: bytes, name: str) -> KernelImage:
    setup_bytes = ((data[0x1F1] or 4) + 1) * 512
    version_at = struct.unpack_from("<H", data, 0x20E)[0] + 0x200
    words = data[version_at : version_at + 256].split(b"\0")[0].split(b" ")[0]
    if not words:
        raise InvalidInput(f"{name} is a bzImage without a version; build it again.")
    release = checked_release(words.decode(errors="replace"), name)
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = setup_bytes + offset
    vmlinux = decompress(data[start : start + length], name)
    if vmlinux[:4] != b"\x7fELF":
        raise InvalidInput(f"{name} is a bzImage that does not hold an ELF kernel.")
    # Self-decompression is slow in an emulated machine, so vmlinux is booted where the kernel can be entered directly.
    return KernelImage(architecture="x86_64", release=release, boot=vmlinux if has_direct_entry(vmlinux) else data)


def _read_elf(data: bytes, name: str) -> KernelImage:
    architecture = _ELF_MACHINES.get(struct.unpack_from("<H", data, 18)[0])
    if architecture is None:
        raise InvalidInput(f"{name} is an ELF file for another architecture than x86_64 and arm64.")
    if architecture == "arm64":
        raise InvalidInput(f"{name} is an arm64 vmlinux, which no boot loader starts; give arch/arm64/boot/Image.")
    if not has_direct_entry(data):
        raise InvalidInput(
            f"{name} is no kernel with a PVH entry (CONFIG_PVH); give arch/x86/boot/bzImage, or build with it."
        )
    return KernelImage(architecture=architecture, release=_release(data, name), boot=data)


def _release(data: bytes, name: str) -> str:
    # Piece by piece: one search over a gigabyte would let no other thread run meanwhile.
    searched = (_BANNER.search(data, at, at + _PIECE + _LONGEST_BANNER) for at in range(0, len(data), _PIECE))
    match = next(filter(None, searched), None)
    if match is None:
        raise InvalidInput(f"{name} does not say which Linux version it is; it is not a whole kernel image.")
    return checked_release(match[1].decode(errors="replace"), name)


def has_direct_entry(vmlinux: bytes) -> bool:
    """Tell whether a 64-bit ELF kernel has the PVH note that lets a hypervisor enter it directly."""
    table_at, entry_bytes, entries = struct.unpack_from("<Q", vmlinux, 32)[0], *struct.unpack_from("<HH", vmlinux, 54)
    for index in range(min(entries, _MOST_SEGMENTS)):
        header_at = table_at + index * entry_bytes
        (kind,) = struct.unpack_from("<I", vmlinux, header_at)
        if kind == 4:  # PT_NOTE
            offset, length = (
                struct.unpack_from("<Q", vmlinux, header_at + 8)[0],
                struct.unpack_from("<Q", vmlinux, header_at + 32)[0],
            )
            if _PVH_NOTE in _xen_notes(vmlinux[offset : offset + min(length, _MOST_NOTE_BYTES)]):
                return True
    return False


def _xen_notes(notes: bytes) -> set[int]:
    kinds, position = set(), 0
    while position + 12 <= len(notes):
        name_bytes, value_bytes, kind = struct.unpack_from("<III", notes, position)
        if notes[position + 12 : position + 15] == b"Xen":
            kinds.add(kind)
        position += 12 + (name_bytes + 3) // 4 * 4 + (value_bytes + 3) // 4 * 4
    return kinds


def decompress(payload: bytes, name: str, most_bytes: int = MOST_KERNEL_BYTES) -> bytes:
    """Return a compressed kernel's content; what follows the stream (the kernel adds its size) is ignored.

    Raises InvalidInput for damage and for more than `most_bytes`.
    """
    if payload[:2] == b"\x1f\x8b":
        return _whole(zlib.decompressobj(wbits=31), payload, name, most_bytes)
    if payload[:6] == b"\xfd7zXZ\0":
        return _whole(lzma.LZMADecompressor(lzma.FORMAT_XZ, _DICTIONARY_BYTES), payload, name, most_bytes)
    if payload[:3] == b"BZh":
        return _whole(bz2.BZ2Decompressor(), payload, name, most_bytes)
    if payload[:3] == b"\x5d\0\0":
        return _whole(lzma.LZMADecompressor(lzma.FORMAT_ALONE, _DICTIONARY_BYTES), payload, name, most_bytes)
    if payload[:4] == b"\x28\xb5\x2f\xfd":
        return _by_tool("zstd", payload[: _zstd_length(payload)], name, most_bytes)
    if payload[:4] == b"\x02\x21\x4c\x18":
        return _by_tool("lz4", payload[:-4], name, most_bytes)
    raise InvalidInput(f"{name} is compressed in a way that is not known here; build it with gzip, xz, zstd or lz4.")


def _by_tool(tool: str, payload: bytes, name: str, most_bytes: int) -> bytes:
    what = f"Decompressing {name}"
    try:
        with Tool([tool, "-dcq"], timeout_s=_TIMEOUT_S, environment=tool_environment(), stdin=payload) as running:
            content = running.printed(most_bytes)
            if content is None:
                raise _too_large(name, most_bytes)
            if running.code() != 0:
                said = printable(running.said.decode(errors="replace"), 200)
                raise InvalidInput(f"{name} is damaged: its compressed kernel cannot be read ({said}).")
    except FileNotFoundError as error:
        raise missing_tool(tool, what) from error
    except OutOfTime as error:
        raise Permanent(f"{what}: {tool} took longer than {_TIMEOUT_S:.0f} s and was ended.") from error
    return content


def _too_large(name: str, most_bytes: int) -> InvalidInput:
    return InvalidInput(f"{name} decompresses to more than {size_text(most_bytes)}, the most that is read.")


class _Decompressor(Protocol):
    """What Python's decompressors have in common."""

    @property
    def eof(self) -> bool:
        """Whether the compressed stream has ended."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Return what `data` holds, at most `max_length` bytes of it."""


def _whole(decompressor: _Decompressor, payload: bytes, name: str, most_bytes: int) -> bytes:
    try:
        content = decompressor.decompress(payload, most_bytes + 1)
    except (zlib.error, lzma.LZMAError, OSError) as error:
        raise InvalidInput(f"{name} is damaged: its compressed kernel cannot be read ({error}).") from error
    if len(content) > most_bytes:
        raise _too_large(name, most_bytes)
    if not decompressor.eof:
        raise InvalidInput(f"{name} is damaged: its compressed kernel is cut off.")
    return content


def _zstd_length(payload: bytes) -> int:
    """Return where the zstd frame ends: the tool takes what follows for another frame and fails."""
    # A missing descriptor is the tool's to name.
    descriptor = payload[4] if len(payload) > 4 else 0
    single_segment, has_checksum = descriptor >> 5 & 1, descriptor >> 2 & 1
    size_flag, dictionary_flag = descriptor >> 6, descriptor & 3
    size_bytes = (1 if single_segment else 0, 2, 4, 8)[size_flag]
    position = 5 + (0 if single_segment else 1) + (0, 1, 2, 4)[dictionary_flag] + size_bytes
    while True:
        header = int.from_bytes(payload[position : position + 3], "little")
        last, kind, length = header & 1, header >> 1 & 3, header >> 3
        position += 3 + (1 if kind == 1 else length)
        if last or position >= len(payload):
            return position + 4 * has_checksum
