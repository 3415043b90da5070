"""Reads kernel images: which architecture and release one is, and the form of it that a hypervisor boots fastest."""

import bz2
import lzma
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Protocol

from controller.adapters.tools import run_tool
from controller.domain.errors import InvalidInput

_ELF_MACHINES = {0x3E: "x86_64", 0xB7: "arm64"}
_BANNER = re.compile(rb"Linux version (\S+) \(")
_PVH_NOTE = 18
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
    release = data[version_at : version_at + 256].split(b"\0")[0].split(b" ")[0].decode(errors="replace")
    if not release:
        raise InvalidInput(f"{name} is a bzImage without a version; build it again.")
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
    match = _BANNER.search(data)
    if match is None:
        raise InvalidInput(f"{name} does not say which Linux version it is; it is not a whole kernel image.")
    return match[1].decode(errors="replace")


def has_direct_entry(vmlinux: bytes) -> bool:
    """Tell whether a 64-bit ELF kernel has the PVH note that lets a hypervisor enter it directly."""
    table_at, entry_bytes, entries = struct.unpack_from("<Q", vmlinux, 32)[0], *struct.unpack_from("<HH", vmlinux, 54)
    for index in range(entries):
        header_at = table_at + index * entry_bytes
        (kind,) = struct.unpack_from("<I", vmlinux, header_at)
        if kind == 4:  # PT_NOTE
            offset, length = (
                struct.unpack_from("<Q", vmlinux, header_at + 8)[0],
                struct.unpack_from("<Q", vmlinux, header_at + 32)[0],
            )
            if _PVH_NOTE in _xen_notes(vmlinux[offset : offset + length]):
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


def decompress(payload: bytes, name: str) -> bytes:
    """Return a compressed kernel's content; what follows the stream (the kernel adds its size) is ignored."""
    if payload[:2] == b"\x1f\x8b":
        return _whole(zlib.decompressobj(wbits=31), payload, name)
    if payload[:6] == b"\xfd7zXZ\0":
        return _whole(lzma.LZMADecompressor(lzma.FORMAT_XZ), payload, name)
    if payload[:3] == b"BZh":
        return _whole(bz2.BZ2Decompressor(), payload, name)
    if payload[:3] == b"\x5d\0\0":
        return _whole(lzma.LZMADecompressor(lzma.FORMAT_ALONE), payload, name)
    what = f"Decompressing {name}"
    if payload[:4] == b"\x28\xb5\x2f\xfd":
        return run_tool(["zstd", "-dcq"], timeout_s=_TIMEOUT_S, what=what, stdin=payload[: _zstd_length(payload)])
    if payload[:4] == b"\x02\x21\x4c\x18":
        return run_tool(["lz4", "-dcq"], timeout_s=_TIMEOUT_S, what=what, stdin=payload[:-4])
    raise InvalidInput(f"{name} is compressed in a way that is not known here; build it with gzip, xz, zstd or lz4.")


class _Decompressor(Protocol):
    """What Python's decompressors have in common."""

    @property
    def eof(self) -> bool:
        """Whether the compressed stream has ended."""

    def decompress(self, data: bytes, /) -> bytes:
        """Return what `data` holds."""


def _whole(decompressor: _Decompressor, payload: bytes, name: str) -> bytes:
    try:
        content = decompressor.decompress(payload)
    except (zlib.error, lzma.LZMAError, OSError) as error:
        raise InvalidInput(f"{name} is damaged: its compressed kernel cannot be read ({error}).") from error
    if not decompressor.eof:
        raise InvalidInput(f"{name} is damaged: its compressed kernel is cut off.")
    return content


def _zstd_length(payload: bytes) -> int:
    """Return where the zstd frame ends: the tool takes what follows for another frame and fails."""
    descriptor = payload[4]
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
