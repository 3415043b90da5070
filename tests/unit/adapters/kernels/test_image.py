"""Kernel images are recognised, and the form that boots directly is taken out of them."""

import contextlib
import gzip
import lzma
import struct
import subprocess
import threading
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controller.adapters.kernels.image import decompress, has_direct_entry, read_image
from controller.domain.errors import InvalidInput

RELEASE = "7.1.13+deb13-cloud"


def elf(*, machine: int = 0x3E, pvh: bool = True) -> bytes:
    """Make an ELF file with one note segment and a kernel's banner."""
    note = struct.pack("<III", 4, 8, 18 if pvh else 5) + b"Xen\0" + bytes(8)
    program = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(note), len(note), 4)
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    )
    return header + program + note + f"Linux version {RELEASE} (builder@host) #1\0".encode()


def bzimage(payload: bytes, release: str = RELEASE) -> bytes:
    """Make a bzImage around a compressed kernel, with the kernel's size after it as real ones have."""
    setup = bytearray(512 * 5)
    setup[0x1F1] = 4
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x20E, 0x300)
    setup[0x500 : 0x500 + len(release) + 6] = f"{release} (b@h)".encode()
    struct.pack_into("<II", setup, 0x248, 16, len(payload) + 4)
    return bytes(setup) + bytes(16) + payload + struct.pack("<I", 123456)


def arm64_image(release: str = RELEASE) -> bytes:
    """Make the start of a raw arm64 Image."""
    return bytes(0x38) + b"ARM\x64" + bytes(64) + f"Linux version {release} (b@h)".encode()


def zstd(data: bytes, *options: str) -> bytes:
    """Compress with the tool that the store decompresses with."""
    return subprocess.run(["zstd", "-cq", *options], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstd], ids=["gzip", "xz", "zstd"])
def test_a_bzimage_gives_its_vmlinux(pack: Callable[[bytes], bytes]) -> None:
    image = read_image(bzimage(pack(elf())), "vmlinuz")
    assert (image.architecture, image.release, image.boot) == ("x86_64", RELEASE, elf())


def test_a_bzimage_without_direct_entry_is_booted_as_it_is() -> None:
    data = bzimage(gzip.compress(elf(pvh=False)))
    assert read_image(data, "vmlinuz").boot == data


@pytest.mark.parametrize("options", [(), ("--no-check",), ("-19",), ("--no-content-size",)])
@pytest.mark.parametrize(
    "data", [b"", b"a", b"a" * 400_000, bytes(range(256)) * 2000], ids=["empty", "one", "run", "blocks"]
)
def test_what_follows_a_zstd_stream_is_ignored(data: bytes, options: tuple[str, ...]) -> None:
    assert decompress(zstd(data, *options) + b"\x01\x02\x03\x04", "kernel") == data


def test_a_vmlinux_is_taken_as_it_is() -> None:
    image = read_image(elf(), "vmlinux")
    assert (image.architecture, image.release, image.boot) == ("x86_64", RELEASE, elf())


def test_an_arm64_image_may_be_raw_compressed_or_an_efi_program() -> None:
    raw = arm64_image()
    packed = gzip.compress(raw)
    efi = b"MZ\0\0zimg" + struct.pack("<II", 64, len(packed)) + bytes(48) + packed
    for data in (raw, packed, efi):
        image = read_image(data, "Image")
        assert (image.architecture, image.release, image.boot) == ("arm64", RELEASE, raw)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"root:x:0:0", "not a kernel image"),
        (b"", "not a kernel image"),
        (elf(pvh=False), "PVH"),
        (elf(machine=0xB7), "arch/arm64/boot/Image"),
        (elf(machine=0xF3), "another architecture"),
        (elf().replace(b"Linux version", b"Linus version"), "which Linux version"),
        (bzimage(gzip.compress(b"not an ELF", mtime=0)), "does not hold an ELF"),
        (bzimage(gzip.compress(elf(), mtime=0)[:50]), "damaged"),
        (bzimage(lzma.compress(elf())[:50]), "damaged"),
        (gzip.compress(arm64_image(), mtime=0)[:-9], "cut off"),
        (gzip.compress(b"a" * 100, mtime=0), "not a kernel image"),
        (bzimage(b"\x89LZO and so on"), "not known here"),
        (bzimage(b"\xfd7zXZ\0 broken"), "damaged"),
    ],
)
def test_what_is_no_bootable_kernel_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as raised:
        read_image(data, "the-file")
    assert "the-file" in str(raised.value)


def test_a_direct_entry_is_found_among_other_notes() -> None:
    assert has_direct_entry(elf())
    assert not has_direct_entry(elf(pvh=False))


def test_a_banner_is_found_wherever_it_stands() -> None:
    start = arm64_image()[:64]
    for before in (2**20 - 70, 2**20 - 1, 2**20, 2**20 + 1, 2**21 - 30):
        image = start.ljust(before, b"L") + f"Linux version {RELEASE} (x@y)".encode() + bytes(2**20)
        assert read_image(image, "Image").release == RELEASE


def test_others_have_their_turn_while_a_banner_is_looked_for() -> None:
    turns, done = 0, threading.Event()

    def other() -> None:
        nonlocal turns
        while not done.wait(0.001):
            turns += 1

    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(InvalidInput, match="does not say which Linux version"):
        read_image(arm64_image()[:64] + b"L" * (64 << 20), "Image")
    done.set()
    thread.join()
    assert turns >= 10


@example(where=33, value=b"\0" * 6 + b"\x80", length=58)
@given(where=st.integers(0, 5000), value=st.binary(max_size=8), length=st.integers(0, 5000))
def test_damage_of_any_kind_is_reported_as_such(where: int, value: bytes, length: int) -> None:
    for whole in (bzimage(gzip.compress(elf())), elf(), b"MZ\0\0zimg" + struct.pack("<II", 64, 99) + bytes(100)):
        damaged = (whole[:where] + value + whole[where + len(value) :])[:length]
        with contextlib.suppress(InvalidInput):
            read_image(damaged, "vmlinuz")
